"""What to do with traces that were read: count them now, look again later, or nothing. Pure.

When is a trace final? An SDK sends the spans and the trace itself in two requests, in either order. Between them
MLflow shows a trace that has ended but has no tags yet, or one that it has marked as finalized (from 3.12 on) but whose
tokens, cost and session it is still adding up from the spans. One that comes over OTLP changes with every batch of
spans and has no mark. So neither its state nor the mark says that a trace is complete; that it no longer changes does.
A trace is counted once it was seen in the same form over ``FILL_MS`` if it has the mark, and over ``SETTLE_MS`` if not,
or if it has tokens but no cost: the cost is the last to come, on a busy server many seconds later.

Only a trace with the mark that ended before ``RETRY_MS`` is counted at first sight, because an SDK has given up sending
by then. Without this, every trace of a past month would have to be read twice.

A trace that came over OTLP stays in progress for good if its root span has a parent elsewhere: MLflow waits for a root
that it will never get. What tells it from a call that still runs is its duration, which MLflow works out from spans
that have ended; a call that an SDK started has none. The next span of a call that runs may take minutes to come, so
such a trace is counted once it has not changed for ``ORPHAN_MS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple
from zlib import crc32

from mlflow_trace_exporter.domain.trace import ORPHAN_MS, State, TraceRecord

FILL_MS = 10_000
SETTLE_MS = 60_000
RETRY_MS = 900_000
"""SDKs of MLflow retry an export for 500 s, and their clock may be some minutes behind."""

GIVE_UP_MS = 7 * 24 * 3_600_000
"""How long to wait for a trace to end. Applications that died leave traces which never do."""

LONGEST_BACKOFF_MS = 600_000

LONGEST_WAIT_MS = 2 * RETRY_MS
"""No trace is put off for longer than this."""

LOOKED_AT_MS = 24 * 3_600_000
"""A trace is given up only by a look that is due, and no more overdue than this. One that is later was missed: we
were away, or the clock has just jumped, and a clock alone must not end anything."""


class Place(NamedTuple):
    """The labels ``experiment`` and ``environment`` of a trace, and whether its kind of traffic is counted."""

    experiment: str
    environment: str
    counts: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """A trace that was seen but is not final. ``running``: it is in progress, and of traffic that counts. ``first_ms``:
    when it was first seen; ``changed_ms``: since when it has the form whose checksum is ``form``; ``next_ms``: when to
    look again."""

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
    """What the ledger knows of some ids: which are pending, and which are done with, by a checksum of what they were
    counted with (None if they were given up)."""

    done: Mapping[str, int | None]
    pending: Mapping[str, Pending]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be stored in one transaction.

    ``counted``: to count now. ``pending``: to look at again. ``abandoned``: never ended, to be given up. ``gone``: ids
    that need no more looking at. ``changed``: counted before, and different now. ``duplicates``: how many were read
    again that were done with. ``late``: how many were first seen when their start was closed.
    ``reopened``: how often start times were opened again.
    """

    counted: tuple[TraceRecord, ...] = ()
    pending: tuple[Pending, ...] = ()
    abandoned: tuple[Pending, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[TraceRecord, ...] = ()
    duplicates: int = 0
    late: int = 0
    reopened: int = 0


class Verdict(Enum):
    """What becomes of a trace that is not done with."""

    COUNT = "count"
    WAIT = "wait"
    GIVE_UP = "give up"


def triage(
    records: Sequence[TraceRecord], known: Known, closed_ms: int, place_of: Callable[[TraceRecord], Place]
) -> Batch:
    """Sort out traces as they were read, each id once. ``closed_ms``: up to which start times are closed."""
    again = [record for record in records if record.trace_id in known.done]
    looked_at = [
        (record, look_at(record, known.pending.get(record.trace_id), place_of(record)))
        for record in records
        if record.trace_id not in known.done
    ]
    verdicts = [(judge(record, known.pending.get(at.trace_id), at), record, at) for record, at in looked_at]
    return Batch(
        counted=tuple(
            replace(record, seen_ms=at.first_ms) for verdict, record, at in verdicts if verdict is Verdict.COUNT
        ),
        pending=tuple(at for verdict, _, at in verdicts if verdict is Verdict.WAIT),
        abandoned=tuple(at for verdict, _, at in verdicts if verdict is Verdict.GIVE_UP),
        gone=tuple(
            at.trace_id for verdict, _, at in verdicts if verdict is not Verdict.WAIT and at.trace_id in known.pending
        ),
        changed=tuple(record for record in again if known.done[record.trace_id] not in (None, amounts_of(record))),
        duplicates=len(again),
        late=sum(record.start_ms < closed_ms for record, at in looked_at if at.trace_id not in known.pending),
    )


def unseen(pending: Sequence[Pending], now_ms: int) -> Batch:
    """What to do with traces that are due and cannot be looked at now: try later, or in the end give up."""
    given_up = tuple(each for each in pending if _waited_long(each, each, now_ms))
    return Batch(
        pending=tuple(replace(each, next_ms=now_ms + LONGEST_BACKOFF_MS) for each in pending if each not in given_up),
        abandoned=given_up,
        gone=tuple(each.trace_id for each in given_up),
    )


def look_at(record: TraceRecord, before: Pending | None, place: Place) -> Pending:
    """What is known of a trace once it was looked at again, or for the first time (``before`` None).

    One that runs is looked at after an eighth of the time for which it has been known, one that has ended when it could
    be final.
    """
    form, seen_ms = _form(record), record.seen_ms
    first_ms = min(before.first_ms, seen_ms) if before else seen_ms  # later only by a clock that was ahead
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
    """What becomes of a trace; one that has ended but never comes to rest is counted as it is in the end."""
    waited_long = _waited_long(before, at, record.seen_ms)
    if record.state is State.IN_PROGRESS and not record.ended():
        return Verdict.GIVE_UP if waited_long else Verdict.WAIT
    sent = record.finalized and record.seen_ms - (record.end_ms or record.start_ms) >= RETRY_MS
    settled = record.seen_ms - at.changed_ms >= _settle_ms(record)
    return Verdict.COUNT if sent or settled or waited_long else Verdict.WAIT


def _waited_long(before: Pending | None, at: Pending, now_ms: int) -> bool:
    """Whether a trace, ``before`` a look and ``at`` it, has been pending for so long that it must be done with now."""
    overdue_ms = 0 if before is None else now_ms - before.next_ms
    return now_ms - at.first_ms >= GIVE_UP_MS and 0 <= overdue_ms < LOOKED_AT_MS


def amounts_of(record: TraceRecord) -> int:
    """A checksum of what a trace is counted with."""
    return _checksum(record.state, record.start_ms, record.duration_ms, record.usage, record.cost)


def _settle_ms(record: TraceRecord) -> int:
    if record.state is State.IN_PROGRESS:
        return ORPHAN_MS
    cost_to_come = record.usage is not None and record.cost is None
    return FILL_MS if record.finalized and not cost_to_come else SETTLE_MS


def _form(record: TraceRecord) -> int:
    tags, metadata = sorted(record.tags.items()), sorted(record.metadata.items())
    return _checksum(amounts_of(record), record.finalized, record.name, tags, metadata)


def _checksum(*values: object) -> int:
    return crc32(repr(values).encode("utf-8", "backslashreplace"))
