"""Decides what to do with each trace that was read: count it, check it again later, or ignore it. Pure.

When is a trace counted? An SDK sends the spans and the trace itself in two requests, in either order. Between the two,
MLflow shows a trace that has ended but has no tags yet, or one that is marked as finalized (since MLflow 3.12) while
MLflow still computes its tokens, cost and session from the spans. A trace that arrives over OTLP changes with every
batch of spans and is never marked. So neither the state nor the mark shows that a trace is complete. Only the absence
of changes does: a marked trace is counted when it has not changed for ``FILL_MS``, a trace without the mark when it has
not changed for ``SETTLE_MS``. The same applies to a trace with tokens but no cost, because the cost comes last. Labels
have to be right by then. Amounts do not: later increases are added, see growth.py.

A marked trace that ended more than ``RETRY_MS`` ago is counted at once, because an SDK has given up sending by then.
Otherwise every trace of a past month would have to be read twice.

A trace that arrived over OTLP stays in progress for good if the parent of its root span belongs to another service:
MLflow waits for a root span that never arrives. Its duration distinguishes it from a running call. MLflow computes the
duration from ended spans, and a call that an SDK started has none. The next span of a running call may take minutes to
arrive, so such a trace is counted when it has not changed for ``ORPHAN_MS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from mlflow_trace_exporter.domain.assessed import Assessed
from mlflow_trace_exporter.domain.growth import Change, Counted, change_of, checksum, checksum_of
from mlflow_trace_exporter.domain.labels import UNKNOWN
from mlflow_trace_exporter.domain.trace import ORPHAN_MS, State, TraceRecord

FILL_MS = 8_000
"""How long a marked trace must not change before it is counted."""

SETTLE_MS = 15_000
"""The same for a trace without the mark, or with tokens but no cost."""

RETRY_MS = 900_000
"""MLflow's SDKs retry an export for 500 s, and their clock may be a few minutes behind."""

GIVE_UP_MS = 7 * 24 * 3_600_000
"""How long to wait for a trace to end. Crashed applications leave traces that never do."""

LONGEST_BACKOFF_MS = 600_000

LONGEST_WAIT_MS = 2 * RETRY_MS
"""The longest time until a pending trace is checked again."""

LOOKED_AT_MS = 24 * 3_600_000
"""A trace is given up only by a check that is due, and not overdue by more than this. A later check means that the
exporter was down or that the clock jumped, and a clock alone must not end anything."""


class Place(NamedTuple):
    """The labels ``experiment`` and ``environment`` of a trace, and whether its kind of traffic is counted."""

    experiment: str
    environment: str
    counts: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """A trace that was seen but is not final. ``running``: it is in progress, and its traffic is counted.
    ``first_ms``: when it was first seen. ``changed_ms``: when it was first seen in its current form, whose checksum is
    ``form``. ``next_ms``: when to check it again."""

    trace_id: str
    start_ms: int
    experiment_id: str
    experiment: str
    environment: str
    running: bool
    first_ms: int
    changed_ms: int
    next_ms: int
    form: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows about some ids: the traces that are done with, and those that are pending."""

    done: Mapping[str, Counted]
    pending: Mapping[str, Pending]


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes of one transaction.

    ``counted``: traces to count now. ``pending``: traces to check again. ``ended``: the pending traces that have ended
    and have their labels, so that their series can be exposed at 0 before they are counted. ``abandoned``: traces to
    give up because they never ended. ``gone``: ids that are no longer pending. ``changed``: traces that were done with
    and are different now. ``duplicates``: how many traces were read again after they were done with. ``late``: how many
    traces were first seen after their start time was closed. ``reopened``: how often start times were reopened.
    ``assessed``: what is new about assessments.
    """

    counted: tuple[TraceRecord, ...] = ()
    pending: tuple[Pending, ...] = ()
    ended: tuple[TraceRecord, ...] = ()
    abandoned: tuple[Pending, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    duplicates: int = 0
    late: int = 0
    reopened: int = 0
    assessed: tuple[Assessed, ...] = ()

    def counting(self, records: Sequence[TraceRecord], later: Mapping[str, Pending]) -> "Batch":
        """This batch with only ``records`` counted now, which are its own with more about them. Its other traces to
        count stay pending as they are, or as in ``later`` (by id)."""
        waiting = {record.trace_id for record in self.counted} - {record.trace_id for record in records}
        return replace(
            self,
            counted=tuple(records),
            pending=(*self.pending, *later.values()),
            gone=tuple(trace_id for trace_id in self.gone if trace_id not in waiting),
        )


class Verdict(Enum):
    """The decision on a trace that is not done with."""

    COUNT = "count"
    WAIT = "wait"
    GIVE_UP = "give up"


def triage(
    records: Sequence[TraceRecord],
    known: Known,
    closed_ms: int,
    place_of: Callable[[TraceRecord], Place],
    counts: bool = True,
) -> Batch:
    """Decide on traces, each id once. Start times before ``closed_ms`` are closed. If not ``counts``, final traces are
    not counted yet, but due for a check at once."""
    again = [record for record in records if record.trace_id in known.done]
    new = [record for record in records if record.trace_id not in known.done]
    at_once = [record for record in new if counts and record.trace_id not in known.pending and _was_sent(record)]
    counted_at_once = {record.trace_id for record in at_once}
    looked_at = [
        (record, look_at(record, known.pending.get(record.trace_id), place_of(record)))
        for record in new
        if record.trace_id not in counted_at_once
    ]
    verdicts = [(judge(record, known.pending.get(at.trace_id), at), record, at) for record, at in looked_at]
    if not counts:
        verdicts = [_deferred(*each) for each in verdicts]
    waiting = [(record, at) for verdict, record, at in verdicts if verdict is Verdict.WAIT]
    changes = (change_of(record, known.done[record.trace_id]) for record in again)
    return Batch(
        counted=(
            *at_once,
            *(replace(record, seen_ms=at.first_ms) for verdict, record, at in verdicts if verdict is Verdict.COUNT),
        ),
        pending=tuple(at for _, at in waiting),
        ended=tuple(record for record, at in waiting if _has_labels(record, at)),
        abandoned=tuple(at for verdict, _, at in verdicts if verdict is Verdict.GIVE_UP),
        gone=tuple(
            at.trace_id for verdict, _, at in verdicts if verdict is not Verdict.WAIT and at.trace_id in known.pending
        ),
        changed=tuple(filter(None, changes)),
        duplicates=len(again),
        late=sum(record.start_ms < closed_ms for record in new if record.trace_id not in known.pending),
    )


def _deferred(verdict: Verdict, record: TraceRecord, at: Pending) -> tuple[Verdict, TraceRecord, Pending]:
    if verdict is not Verdict.COUNT:
        return verdict, record, at
    return Verdict.WAIT, record, replace(at, next_ms=min(at.next_ms, record.seen_ms))


def unseen(pending: Sequence[Pending], now_ms: int) -> Batch:
    """Decide on traces that are due but cannot be checked now: try later, or give up if it has been too long."""
    given_up = tuple(each for each in pending if _waited_long(each, each, now_ms))
    return Batch(
        pending=tuple(replace(each, next_ms=now_ms + LONGEST_BACKOFF_MS) for each in pending if each not in given_up),
        abandoned=given_up,
        gone=tuple(each.trace_id for each in given_up),
    )


def look_at(record: TraceRecord, before: Pending | None, place: Place) -> Pending:
    """The state of a trace after a check; ``before`` is its state after the previous check, None for the first.

    A running trace is checked again after an eighth of the time since it was first seen. An ended trace is checked when
    it may be final.
    """
    form, seen_ms = _form(record), record.seen_ms
    first_ms = min(before.first_ms, seen_ms) if before else seen_ms  # later only if a clock was ahead
    changed_ms = min(before.changed_ms, seen_ms) if before and before.form == form else seen_ms
    running = record.state is State.IN_PROGRESS
    backoff_ms = min(max((seen_ms - first_ms) // 8, FILL_MS), LONGEST_BACKOFF_MS)
    return Pending(
        trace_id=record.trace_id,
        start_ms=record.start_ms,
        experiment_id=record.experiment_id,
        experiment=place.experiment,
        environment=place.environment,
        running=running and place.counts,
        first_ms=first_ms,
        changed_ms=changed_ms,
        next_ms=seen_ms + backoff_ms if running else changed_ms + _settle_ms(record),
        form=form,
    )


def judge(record: TraceRecord, before: Pending | None, at: Pending) -> Verdict:
    """Decide on one trace. An ended trace that keeps changing is counted in its last form in the end."""
    waited_long = _waited_long(before, at, record.seen_ms)
    if record.state is State.IN_PROGRESS and not record.ended():
        return Verdict.GIVE_UP if waited_long else Verdict.WAIT
    settled = record.seen_ms - at.changed_ms >= _settle_ms(record)
    return Verdict.COUNT if _was_sent(record) or settled or waited_long else Verdict.WAIT


def _was_sent(record: TraceRecord) -> bool:
    """Whether a trace is complete for certain, because it ended so long ago that its SDK no longer sends anything."""
    return record.finalized and record.ended() and record.seen_ms - (record.end_ms or record.start_ms) >= RETRY_MS


def _waited_long(before: Pending | None, at: Pending, now_ms: int) -> bool:
    """Whether a trace has been pending for so long that it must be decided now; ``before`` and ``at`` are its states
    before and after the check."""
    overdue_ms = 0 if before is None else now_ms - before.next_ms
    return now_ms - at.first_ms >= GIVE_UP_MS and 0 <= overdue_ms < LOOKED_AT_MS


def _has_labels(record: TraceRecord, at: Pending) -> bool:
    """Whether a pending trace has ended and has its labels, which arrive together with the mark."""
    return record.state is not State.IN_PROGRESS and (record.finalized or at.environment != UNKNOWN)


def _settle_ms(record: TraceRecord) -> int:
    if record.state is State.IN_PROGRESS:
        return ORPHAN_MS
    cost_to_come = record.usage is not None and record.cost is None
    return FILL_MS if record.finalized and not cost_to_come else SETTLE_MS


def _form(record: TraceRecord) -> int:
    tags, metadata = sorted(record.tags.items()), sorted(record.metadata.items())
    return checksum_of(checksum(record), record.finalized, record.name, tags, metadata)
