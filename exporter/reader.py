"""The reader: reads MLflow, has what it reads counted in the ledger, and checks that nothing is missing.

A tick is a fresh pass, a look at the pending traces that are due, and one chore of those that are due by turns: closing
or retiring start times, or an audit. So a tick with nothing new costs one request, two with a chore, and a third where
the list of experiments is asked for.
"""

import logging
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from time import monotonic

from exporter.admission import Admission
from exporter.audit import Span, closed_span, missing, open_span
from exporter.clocks import Clocks
from exporter.errors import PollError, Reason
from exporter.experiments import Experiment
from exporter.families import events
from exporter.features import Feature
from exporter.horizon import (
    BUCKET_MS,
    STAND_S,
    Horizon,
    Kind,
    Limits,
    Window,
    after_page,
    begin,
    complete,
    due,
    first_closing_ms,
    forget,
    taken_back,
)
from exporter.labels import VERSION_LABELS
from exporter.ledger import Ledger, Origin
from exporter.metrics import Cell, Exemplar, Meter, later
from exporter.moments import text
from exporter.release import SeriesSettings
from exporter.source import Source, can_be_asked_for
from exporter.status import Reading
from exporter.trace import TraceRecord
from exporter.triage import Batch, Pending, triage, unseen

log = logging.getLogger(__name__)

PENDING_AT_ONCE = 500
"""How many traces are looked at again in one transaction: what MLflow gives in one answer."""

AUDIT_OPEN_EVERY_MS = 60_000
AUDIT_CLOSED_EVERY_MS = 600_000


class Chore(Enum):
    """What is done now and then."""

    CLOSE = "close"
    RETIRE = "retire"
    AUDIT_OPEN = "audit of open start times"
    AUDIT_CLOSED = "audit of closed start times"


_PASSES = {Chore.CLOSE: Kind.CLOSING, Chore.RETIRE: Kind.RETIRING}
_AUDITS = {Chore.AUDIT_OPEN: AUDIT_OPEN_EVERY_MS, Chore.AUDIT_CLOSED: AUDIT_CLOSED_EVERY_MS}


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How to poll. ``interval_s`` is also how long a chore may take at a time, so that new traces need not wait for it
    longer (one step of an audit is always finished).
    ``origin_ms``: traces that started earlier are not counted; used where the ledger is new, and kept in it from then
    on."""

    interval_s: float
    limits: Limits
    origin_ms: int
    series: SeriesSettings


@dataclass(frozen=True, slots=True)
class _Audit:
    """An audit under way: what MLflow counted, by step, and how far start times were closed and retired then."""

    chore: Chore
    begun_ms: int
    marks: tuple[int, int]
    span: Span
    there: Mapping[int, int]


class Reader:
    """Reads from ``source`` into ``ledger``. ``go_on`` is asked after each page that is stored: False ends the tick."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        meter: Meter,
        settings: PollSettings,
        go_on: Callable[[], bool],
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._meter = meter
        self._settings = settings
        self._go_on = go_on
        self._clock_s = clock_s
        self._retired: deque[tuple[float, int]] = deque()
        """Up to where start times are retired, and since when by ``clock_s``, until their ids may be forgotten."""
        self._horizon = ledger.horizon() or Horizon.at(settings.origin_ms)
        if ledger.horizon() is None:  # from here on a restart counts from the same moment
            ledger.commit(self._horizon)
        self._experiments: Mapping[str, Experiment] = {}
        self._origins: Mapping[str, Origin] = {}
        self._features: Mapping[Feature, bool] = {}
        self.now_ms: int | None = None
        """When the last tick began, by the earlier clock; None before the first that reached MLflow."""
        self._clock_difference_s: float | None = None
        self._said_readable = False
        self.changes: dict[Cell, float] = {}
        """What was added to which totals, or was to be, until somebody has looked at them."""
        self.exemplars: dict[Cell, Exemplar] = {}
        """For each bucket the trace that was counted in it and ended last, of those that this process counted."""
        self._turns = deque(Chore)
        self._audit: _Audit | None = None
        self._audit_begun_ms: dict[Chore, int] = {}
        self._audited_ms: int | None = None
        self._unaccounted: dict[Chore, Mapping[int, int]] = {}

    def tick(self) -> None:
        """Read what is new and do what is due. Raises PollError; what is stored until then stays stored."""
        now = self._source.clocks()
        self.now_ms, self._clock_difference_s = now.earliest_ms, now.difference_s
        self._begin(now)
        if not self._experiments:  # as good as being away: what comes meanwhile is read when there are some
            return
        self._features = self._source.features()
        if not self._read(Kind.FRESH, now) or not self._look_again(now.earliest_ms):
            return
        deadline_s = monotonic() + self._settings.interval_s
        self._finish_audit(deadline_s)
        chore = self._next_chore(now)
        if chore in _PASSES:
            self._read(_PASSES[chore], now, deadline_s)
        elif chore in _AUDITS:
            self._begin_audit(chore, now)
        self._forget()

    def keep_exemplars(self, cells: Container[Cell]) -> None:
        """Forget the exemplars of other cells."""
        self.exemplars = {cell: exemplar for cell, exemplar in self.exemplars.items() if cell in cells}

    def reading(self) -> Reading:
        """How complete the ledger is. Raises PollError if the ledger cannot be read."""
        groups = self._ledger.groups()
        shown = {group[: len(VERSION_LABELS)] for group in groups}
        first_ms = first_closing_ms(self._horizon, self._settings.limits)
        return Reading(
            experiments=tuple(sorted(each.name for each in self._experiments.values())),
            objectives=self._meter.objectives.by_environment(group[1] for group in groups),
            interval_s=self._settings.interval_s,
            complete_until_s=self._horizon.closed_ms / 1000,
            behind=self._is_behind(),
            pending=self._ledger.pending(),
            running=self._ledger.running(),
            first_seen_s={labels: ms / 1000 for labels, ms in self._ledger.first_seen().items() if labels in shown},
            series=self._meter.admission(groups).series,
            series_limit=self._meter.caps.series,
            ledger_bytes=self._ledger.size_bytes(),
            features={feature.value: has for feature, has in self._features.items()},
            audit_supported=self._features.get(Feature.TRACE_METRICS),
            audited_until_s=None if self._audited_ms is None else self._audited_ms / 1000,
            unaccounted=sum(sum(found.values()) for found in self._unaccounted.values()) if self._unaccounted else None,
            clock_difference_s=self._clock_difference_s,
            counts_from_s=self._horizon.origin_ms / 1000,
            first_complete_s=None if first_ms is None else first_ms / 1000,
        )

    def _is_behind(self) -> bool:
        """Whether the last complete fresh pass, or what is closed, is longer ago than the work at hand explains."""
        horizon, limits, interval_ms = self._horizon, self._settings.limits, self._settings.interval_s * 1000
        if self.now_ms is None or not self._experiments:
            return False
        if horizon.fresh_ms is None or self.now_ms - horizon.fresh_ms > limits.overlap_ms + interval_ms:
            return True
        return self.now_ms - horizon.closed_ms > limits.lateness_ms + limits.margin_ms + 2 * BUCKET_MS + 8 * interval_ms

    def _begin(self, now: Clocks) -> None:
        self._horizon = self._ledger.horizon() or self._horizon
        if self._horizon == Horizon.at(self._horizon.origin_ms) and self._horizon.origin_ms > now.earliest_ms:
            self._commit(Horizon.at(now.earliest_ms))  # nothing is read yet, and our clock was ahead when it began
        self._take_back(now.latest_ms)
        self._experiments = self._source.experiments()
        self._know_experiments(now)

    def _take_back(self, latest_ms: int) -> None:
        """See that no mark is ahead of the clocks. Raises PollError where the clocks are behind all that the ledger
        knows: what is read then could be counted already, or be older than what counts."""
        before, limits = self._horizon, self._settings.limits
        newest_ms = self._ledger.newest_ms()
        begun_ms = before.origin_ms if newest_ms else 0
        kept_ms = max(before.forgotten_ms, begun_ms)
        if kept_ms > latest_ms + limits.margin_ms:
            raise PollError(
                Reason.CLOCK,
                f"MLflow's clock and this machine's say at most {text(latest_ms)} UTC, but the ledger knows what it has"
                f" counted from {text(kept_ms)} UTC on only; set the clocks, or set another ledger.path if they are"
                " right",
            )
        after = taken_back(before, latest_ms, newest_ms, limits)
        if after is not before:
            log.warning(
                "start times are opened again: a clock was ahead, or poll.lateness or poll.audit_horizon is longer now",
                extra={"complete_until": text(before.closed_ms), "complete_until_now": text(after.closed_ms)},
            )
            self._retired.clear()
            self._unaccounted.clear()  # some of it can be read now
            self._commit(after, Batch(reopened=1))
        if not self._said_readable and after.readable_ms > max(after.origin_ms, latest_ms - limits.audit_horizon_ms):
            log.warning(
                "poll.audit_horizon is longer than ids were kept: older traces that become visible now are told as"
                " unaccounted, and not counted",
                extra={"older_than": text(after.readable_ms)},
            )
        self._said_readable = True

    def _forget(self) -> None:
        """Forget the ids of traces whose start has been retired for long enough, by a clock that nobody sets."""
        now_s, stood_ms = self._clock_s(), None
        if not self._retired or self._retired[-1][1] != self._horizon.retired_ms:
            self._retired.append((now_s, self._horizon.retired_ms))
        while self._retired and now_s - self._retired[0][0] >= STAND_S:
            stood_ms = self._retired.popleft()[1]
        if stood_ms is not None:
            after = forget(self._horizon, stood_ms, self._ledger.newest_ms(), self._settings.limits)
            if after != self._horizon:
                self._commit(after)

    def _know_experiments(self, now: Clocks) -> None:
        """Keep where each experiment begins: with the ledger, with itself if it is new, or else now."""
        self._origins = self._origins or self._ledger.origins()
        ahead = {key: each for key, each in self._origins.items() if each.origin_ms > now.latest_ms + BUCKET_MS}
        if ahead:  # by a clock that was
            self._ledger.add_origins({key: replace(each, origin_ms=now.latest_ms) for key, each in ahead.items()})
            self._origins = self._ledger.origins()
        new = [each for each in self._experiments.values() if not self._is_known(each)]
        for each in new:
            if each.experiment_id in self._origins and self._was_there(each):
                raise PollError(
                    Reason.LEDGER,
                    f"the ledger is of another MLflow server, whose experiment {each.experiment_id} is not the"
                    f" {each.name!r} of this one; set another ledger.path, or move the ledger away",
                )
        if new:
            self._ledger.add_origins(
                {
                    each.experiment_id: Origin(each.created_ms, now.earliest_ms if self._was_there(each) else 0)
                    for each in new
                }
            )
            self._origins = self._ledger.origins()

    def _is_known(self, experiment: Experiment) -> bool:
        known = self._origins.get(experiment.experiment_id)
        return known is not None and known.created_ms == experiment.created_ms

    def _was_there(self, experiment: Experiment) -> bool:
        """Whether it was there at the last fresh pass, and not selected: what it has by now was left out on purpose."""
        fresh_ms = self._horizon.fresh_ms
        return fresh_ms is not None and experiment.created_ms < fresh_ms - self._settings.limits.overlap_ms

    def _next_chore(self, now: Clocks) -> Chore | None:
        if self._horizon.fresh_ms is None:
            return None
        found = next((chore for chore in self._turns if self._is_due(chore, now)), None)
        if found is not None:
            self._turns.remove(found)
            self._turns.append(found)
        return found

    def _is_due(self, chore: Chore, now: Clocks) -> bool:
        if chore in _PASSES:
            return due(self._horizon, _PASSES[chore], now, self._settings.limits)
        last_ms = self._audit_begun_ms.get(chore)
        supported = self._features.get(Feature.TRACE_METRICS, False)
        return supported and (last_ms is None or not 0 <= now.earliest_ms - last_ms < _AUDITS[chore])

    def _read(self, kind: Kind, now: Clocks, deadline_s: float | None = None) -> bool:
        """Whether the pass was read to its end; it is taken up again where it was left."""
        limits = self._settings.limits
        horizon = begin(self._horizon, kind, now, limits, self._features.get(Feature.END_TIME_FILTER, True))
        if kind not in horizon.under_way:  # a fresh pass has just done it
            return True
        for page in self._source.scan(horizon.under_way[kind].window):
            moves_on = page.next_lo_ms > horizon.under_way[kind].window.lo_ms  # a millisecond is read in one go
            horizon = after_page(horizon, kind, page.next_lo_ms)
            self._store(page.records, horizon)
            if not self._go_on() or (moves_on and deadline_s is not None and monotonic() > deadline_s):
                return False
        self._commit(complete(horizon, kind, limits))
        return True

    def _look_again(self, now_ms: int) -> bool:
        """Read the pending traces that are due, as many as time permits. Whether to go on."""
        deadline_s = monotonic() + self._settings.interval_s
        due_now = self._ledger.due(now_ms)
        for at in range(0, len(due_now), PENDING_AT_ONCE):
            some = due_now[at : at + PENDING_AT_ONCE]
            askable = [each.trace_id for each in some if self._can_ask_for(each)]
            others = [each for each in some if each.trace_id not in askable]
            found = [*(self._source.get(askable) if askable else ()), *self._find_by_start(others)]
            there = {record.trace_id for record in found}
            self._store(found, self._horizon, gone=[trace_id for trace_id in askable if trace_id not in there])
            if unfound := [each for each in others if each.trace_id not in there]:
                self._give_up(unseen(unfound, now_ms))
            if not self._go_on():
                return False
            if monotonic() > deadline_s:
                break
        return True

    def _find_by_start(self, pending: Sequence[Pending]) -> list[TraceRecord]:
        """Those of these traces that are there, of which MLflow cannot be asked by id. Others of the same start are not
        among them: their ids may be forgotten."""
        wanted = {each.trace_id for each in pending}
        starts_ms = sorted({each.start_ms for each in pending if each.experiment_id in self._experiments})
        pages = (page for start_ms in starts_ms for page in self._source.scan(Window(start_ms, start_ms + 1)))
        return [record for page in pages for record in page.records if record.trace_id in wanted]

    def _give_up(self, batch: Batch) -> None:
        """Store what cannot be looked at. Its places were admitted when it was seen, and may have slept since."""
        admission = self._meter.admission(self._ledger.groups())
        abandoned = []
        for each in batch.abandoned:
            experiment, environment = admission.place({"experiment": each.experiment, "environment": each.environment})
            abandoned.append(replace(each, experiment=experiment, environment=environment))
        self._commit(self._horizon, replace(batch, abandoned=tuple(abandoned)), admission)

    def _can_ask_for(self, pending: Pending) -> bool:
        """Whether it is deleted if it is not found. Else it may be there again when its experiment is."""
        return pending.experiment_id in self._experiments and can_be_asked_for(pending.trace_id)

    def _begin_audit(self, chore: Chore, now: Clocks) -> None:
        """Ask MLflow for its counts, to compare them after the next fresh pass: now what is new would seem missing."""
        self._audit_begun_ms[chore] = now.earliest_ms
        span = (
            open_span(self._horizon, now.latest_ms)
            if chore is Chore.AUDIT_OPEN
            else closed_span(self._horizon, self._settings.limits)
        )
        groups: dict[int, list[str]] = {}  # by where they begin, mostly all at the same
        for experiment_id in self._experiments:
            groups.setdefault(max(span.window.lo_ms, self._origins[experiment_id].origin_ms), []).append(experiment_id)
        there: dict[int, int] = {}
        for lo_ms, experiment_ids in groups.items():
            window = replace(span.window, lo_ms=lo_ms)
            if window.lo_ms < window.hi_ms:
                for at_ms, count in self._source.counts(window, span.step_ms, experiment_ids).items():
                    there[at_ms] = there.get(at_ms, 0) + count
        self._audit = _Audit(chore, now.earliest_ms, self._marks(), span, there)

    def _finish_audit(self, deadline_s: float) -> None:
        """Compare the counts that MLflow gave at the last tick, unless the marks that they were asked by have moved."""
        audit, self._audit = self._audit, None
        if audit is None or audit.marks != self._marks():
            return
        explained = self._unaccounted.get(audit.chore, {})
        before = missing(audit.there, self._count_here(audit.span))
        suspects = [at_ms for at_ms, count in before.items() if explained.get(at_ms) != count]
        unread = {at_ms for at_ms in suspects if not self._read_again(audit.span, at_ms, deadline_s)}
        after = missing(audit.there, self._count_here(audit.span)) if suspects else before
        self._unaccounted[audit.chore] = {at_ms: count for at_ms, count in after.items() if at_ms not in unread}
        if audit.chore is Chore.AUDIT_OPEN and not unread:
            self._audited_ms = audit.begun_ms
        more = sum(self._unaccounted[audit.chore].values()) - sum(explained.values())
        if more > 0:
            log.warning("MLflow counts traces that cannot be read, or not any more", extra={"traces": more})

    def _marks(self) -> tuple[int, int]:
        return self._horizon.closed_ms, self._horizon.retired_ms

    def _count_here(self, span: Span) -> Mapping[int, int]:
        """What the ledger knows by step; of what is retired, what it knew."""
        retired_ms = self._horizon.retired_ms
        held = replace(span.window, hi_ms=min(span.window.hi_ms, retired_ms))
        kept = replace(span.window, lo_ms=max(span.window.lo_ms, retired_ms))
        return {**self._ledger.retired_counts(held), **self._ledger.counts(kept, span.step_ms)}

    def _read_again(self, span: Span, at_ms: int, deadline_s: float) -> bool:
        """Whether one step was read to its end. What is retired cannot be: its ids are forgotten."""
        step = span.step(at_ms)
        if step.hi_ms <= self._horizon.retired_ms:
            return True
        if monotonic() > deadline_s:
            return False
        for page in self._source.scan(step):
            self._store(page.records, self._horizon)
            if not self._go_on():
                return False
        return True

    def _store(self, records: Sequence[TraceRecord], horizon: Horizon, gone: Sequence[str] = ()) -> None:
        ours = [record for record in records if record.start_ms >= self._origin_ms(record)]
        known = self._ledger.known([record.trace_id for record in ours])
        admission = self._meter.admission(self._ledger.groups())
        batch = triage(ours, known, horizon.closed_ms, lambda record: self._meter.place(record, admission))
        self._commit(horizon, replace(batch, gone=(*batch.gone, *gone)), admission)
        log.debug(
            "page read",
            extra={"traces": len(records), "counted": len(batch.counted), "pending": len(batch.pending)},
        )
        if batch.late:
            log.info("traces became visible late", extra={"traces": batch.late})
        for each in batch.abandoned:
            log.warning("gave up on a trace that does not end", extra={"trace_id": each.trace_id})

    def _origin_ms(self, record: TraceRecord) -> int:
        origin = self._origins.get(record.experiment_id)
        return 0 if origin is None else origin.origin_ms

    def _commit(self, horizon: Horizon, batch: Batch | None = None, admission: Admission | None = None) -> None:
        """Without ``admission`` the batch holds no trace to count."""
        batch = batch or Batch()
        increments = self._meter.measure(batch, admission or self._meter.admission(()))
        amounts = {**increments.amounts, **events(batch, increments)}
        for cell, amount in amounts.items():
            self.changes[cell] = self.changes.get(cell, 0) + amount
        active_ms = dict.fromkeys(increments.groups, self.now_ms or 0)
        self._ledger.commit(horizon, batch, amounts, active_ms, increments.first_ms)
        self._horizon = horizon
        for cell, exemplar in increments.exemplars.items():
            self.exemplars[cell] = later(exemplar, self.exemplars.get(cell))
