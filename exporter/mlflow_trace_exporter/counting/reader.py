"""The reader: reads traces from MLflow, has them counted, and checks that none is missing.

A tick consists of a fresh pass, a check of the pending traces that are due, and one due chore in turn: a closing pass,
a retiring pass, or an audit of traces or assessments. So a tick without new traces needs one request. A chore needs
more, and refreshing the list of experiments one. Between two ticks, pending traces are checked as soon as they are
due.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic

from mlflow_trace_exporter.counting.assessment_auditor import AssessmentAuditor, Late
from mlflow_trace_exporter.counting.auditor import Auditor, Scope
from mlflow_trace_exporter.counting.origins import Origins
from mlflow_trace_exporter.counting.recent import Recent
from mlflow_trace_exporter.counting.release import SeriesSettings
from mlflow_trace_exporter.counting.span_reader import SpanReader
from mlflow_trace_exporter.counting.tally import Tally
from mlflow_trace_exporter.domain.activity import Who
from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.horizon import (
    BUCKET_MS,
    STAND_S,
    Horizon,
    Kind,
    Limits,
    Window,
    after_page,
    assessed_until,
    begin,
    complete,
    due,
    first_closing_ms,
    forget,
    taken_back,
)
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.domain.moments import text
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Pending
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.metrics.families import ABANDONED
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.series import samples_of_groups
from mlflow_trace_exporter.metrics.status import Reading
from mlflow_trace_exporter.tracking.experiments import Experiment, created_s
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.source import Lookup, Source, can_be_asked_for

log = logging.getLogger(__name__)

PENDING_AT_ONCE = 500
"""How many pending traces are checked in one transaction: the number that MLflow returns in one response."""

CHECK_AGAIN_S = 5.0
"""When a check between two polls is tried again after an error."""

Chore = Kind | Scope | Late
"""Periodic work: a closing or retiring pass, or an audit."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """Settings for polling. ``interval_s`` also limits the time of a chore per tick, so that new traces do not wait
    longer (a started step of an audit is always finished).
    ``origin_ms``: traces that started earlier are not counted. It is used for a new ledger, which then stores it.
    ``origin_is_exact``: another exporter counts the traces before it, so a clock that has not reached it yet is right.
    ``assessments_ms``: how long after its start the assessments of a trace are counted.
    ``until_ms``: traces that start at this time or later are not counted, because another exporter counts them.
    ``is_shard``: others read the other experiments, so it is no mistake if there are none."""

    interval_s: float
    limits: Limits
    origin_ms: int
    series: SeriesSettings
    assessments_ms: int
    until_ms: int | None = None
    origin_is_exact: bool = False
    is_shard: bool = False


class Reader:
    """Reads from ``source`` into ``ledger``. ``go_on`` is called after each stored page. If it returns False the tick
    ends."""

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
        """Retired marks whose ids may not be forgotten yet, with the times (``clock_s``) at which they were noted."""
        spans = None if meter.step_types is None else SpanReader(source)
        self.tally = Tally(ledger, meter, settings.origin_ms, spans)
        self._origins = Origins(ledger, settings.until_ms)
        self._said_early = False
        self._say_mistakes()
        self._auditor = Auditor(source, ledger, self.tally, self._origins, settings.limits, go_on)
        self._assessment_auditor = AssessmentAuditor(source, ledger, self.tally, self._origins, go_on, clock_s)
        self._experiments: Mapping[str, Experiment] = {}
        self._features: Mapping[Feature, bool] = {}
        self._recent = Recent()
        self._next_check_s = inf
        self._clock_difference_s: float | None = None
        self._said_readable = False
        self._has_backlog = False
        self._turns: deque[Chore] = deque((Kind.CLOSING, Kind.RETIRING, *Scope, *Late))

    def tick(self) -> None:
        """Read new traces and do due work. Raises PollError; pages that are already stored remain stored."""
        self._next_check_s = inf  # until this tick succeeds, there is nothing to do before the next one
        now = self._source.clocks()
        self.tally.now_ms, self._clock_difference_s = now.earliest_ms, now.difference_s
        if self._is_early(now):
            return
        self._begin(now)
        if not self._experiments:  # like downtime: traces that arrive now are read once there are experiments
            return
        self._features = self._source.features()
        if not self._read(Kind.FRESH, now) or not self._look_again(now.earliest_ms):
            return
        deadline_s = monotonic() + self._settings.interval_s
        self._auditor.compare(deadline_s)
        chore = self._next_chore(now)
        if isinstance(chore, Kind):
            self._read(chore, now, deadline_s)
        elif isinstance(chore, Scope):
            self._auditor.ask(chore, now, self._experiments)
        elif chore is not None:
            self._assessment_auditor.audit(chore, now, self._experiments, deadline_s)
        self._forget()
        self._forget_assessments(now)
        self._ledger.active.forget(min(now.earliest_ms, self._ledger.newest_ms()))  # not by a clock alone
        self._schedule_check()

    def next_check_s(self) -> float:
        """In how many seconds ``check_pending`` has something to do; infinite if not before the next tick."""
        return max(0.0, self._next_check_s - self._clock_s())

    def check_pending(self) -> None:
        """Check the pending traces that are due now. Raises PollError as ``tick`` does. Then they are due again in
        CHECK_AGAIN_S."""
        self._next_check_s = self._clock_s() + CHECK_AGAIN_S
        self.tally.refresh()
        if self._look_again(self._source.clocks().earliest_ms):
            self._schedule_check()

    def _schedule_check(self) -> None:
        next_ms = self._ledger.next_check_ms()
        wait_s = inf if next_ms is None else max(0, next_ms - self._source.clocks().earliest_ms) / 1000
        self._next_check_s = self._clock_s() + wait_s

    def reading(self) -> Reading:
        """The progress of reading. Raises PollError if the ledger cannot be read."""
        totals = self._ledger.totals
        groups, series = totals.groups(), totals.shown()
        shown = {group.version for group in groups}
        none_running = dict.fromkeys(series.get(ABANDONED, ()), 0)  # in all places where traces were seen
        first_ms = first_closing_ms(self._horizon, self._settings.limits)
        return Reading(
            experiments=tuple(sorted(each.unique_name for each in self._experiments.values())),
            objectives=self._meter.objectives.by_place(groups),
            interval_s=self._settings.interval_s,
            complete_until_s=self._complete_until_ms() / 1000,
            behind=self._is_behind() or self._has_backlog,
            pending=self._ledger.pending(),
            running={**none_running, **self._ledger.running()},
            first_seen_s={labels: ms / 1000 for labels, ms in totals.first_seen().items() if labels in shown},
            series=samples_of_groups(self._meter.exposed, series),
            series_limit=self._meter.caps.series,
            ledger_bytes=self._ledger.size_bytes(),
            features={feature.value: has for feature, has in self._features.items()},
            audit_supported=self._features.get(Feature.TRACE_METRICS),
            audited_until_s=None if self._auditor.audited_ms is None else self._auditor.audited_ms / 1000,
            unaccounted=self._auditor.unaccounted,
            unaccounted_assessments=self._unaccounted_assessments(),
            clock_difference_s=self._clock_difference_s,
            created_s=created_s(self._experiments.values(), {group.values[0] for group in groups}),
            counts_from_s=self._horizon.origin_ms / 1000,
            first_complete_s=None if first_ms is None else first_ms / 1000,
            workspaces=self._source.workspaces(),
            active_users=self._active(Who.USER, groups),
            active_sessions=self._active(Who.SESSION, groups),
        )

    def _active(self, who: Who, groups: Iterable[Group]) -> Mapping[LabelValues, int]:
        """How many users or sessions were active in each place that is exposed, in each window before the last tick
        that reached MLflow: nothing is known of the time after it."""
        now_ms = self.tally.now_ms or self._horizon.fresh_ms
        if not self._meter.with_active or now_ms is None:
            return {}
        places = {group.place.values for group in groups}
        return self._ledger.active.counts(who, places, now_ms)

    def _unaccounted_assessments(self) -> int | None:
        is_audited = self._meter.with_assessments and self._features.get(Feature.ASSESSMENT_METRICS, False)
        return self._assessment_auditor.unaccounted if is_audited else None

    def _complete_until_ms(self) -> int:
        """The closed mark. A shard without experiments has no traces that it could miss."""
        if self._settings.is_shard and not self._experiments and self.tally.now_ms is not None:
            return max(self._horizon.closed_ms, self.tally.now_ms - self._settings.limits.lateness_ms)
        return self._horizon.closed_ms

    def _is_behind(self) -> bool:
        """Whether the last complete fresh pass or the closed mark is further back than in normal operation."""
        horizon, limits, interval_ms = self._horizon, self._settings.limits, self._settings.interval_s * 1000
        if self.tally.now_ms is None or not self._experiments:
            return False
        if horizon.fresh_ms is None or self.tally.now_ms - horizon.fresh_ms > limits.overlap_ms + interval_ms:
            return True
        return (
            self.tally.now_ms - horizon.closed_ms
            > limits.lateness_ms + limits.margin_ms + 2 * BUCKET_MS + 8 * interval_ms
        )

    def _say_mistakes(self) -> None:
        """Log if traces are counted that another exporter counts as well."""
        settings, newest_ms = self._settings, self._ledger.newest_ms()
        if settings.until_ms is not None and newest_ms >= settings.until_ms:
            log.warning(
                "poll.until is too early: traces that started later are counted, and will be counted again by the next"
                " exporter; choose a later time for both",
                extra={"until": text(settings.until_ms), "newest": text(newest_ms)},
            )
        if settings.origin_is_exact and self._horizon.origin_ms < settings.origin_ms:
            log.warning(
                "poll.start has no effect: this ledger counts from an earlier time; if another exporter has counted"
                " since, use a new ledger",
                extra={"start": text(settings.origin_ms), "counts_from": text(self._horizon.origin_ms)},
            )

    def _is_early(self, now: Clocks) -> bool:
        """Whether the time from which an empty ledger counts has not come yet."""
        origin_ms = self._settings.origin_ms
        is_early = (
            self._settings.origin_is_exact and self._horizon == Horizon.at(origin_ms) and now.earliest_ms < origin_ms
        )
        if is_early and not self._said_early:
            log.info("waiting for poll.start", extra={"start": text(origin_ms)})
        self._said_early = is_early
        return is_early

    def _begin(self, now: Clocks) -> None:
        self.tally.refresh()
        if self._horizon == Horizon.at(self._horizon.origin_ms) and self._horizon.origin_ms > now.earliest_ms:
            self.tally.commit(Horizon.at(now.earliest_ms))  # nothing is read yet, and our clock was ahead before
        self._take_back(now.latest_ms)
        before, self._experiments = self._experiments, self._source.experiments()
        if before.keys() - self._experiments.keys():
            self._recent.clear()  # MLflow's counts no longer include what is known of these experiments
        self._origins.learn(self._experiments, now, self._horizon, self._settings.limits.overlap_ms)

    def _take_back(self, latest_ms: int) -> None:
        """Move marks back that are ahead of the clocks. Raises PollError if the clocks are behind everything that the
        ledger knows: traces could then be counted already, or be too old to be counted."""
        before, limits = self._horizon, self._settings.limits
        newest_ms = self._ledger.newest_ms()
        begun_ms = before.origin_ms if newest_ms else 0
        kept_ms = max(before.forgotten_ms, begun_ms)
        if kept_ms > latest_ms + limits.margin_ms:
            raise PollError(
                Reason.CLOCK,
                f"the clocks of MLflow and this machine show {text(latest_ms)} UTC or earlier, but the ledger can only"
                f" count traces from {text(kept_ms)} UTC on; correct the clocks, or set another ledger.path if they are"
                " right",
            )
        after = taken_back(before, latest_ms, newest_ms, limits)
        if after is not before:
            log.warning(
                "start times are reopened: a clock was ahead, or poll.lateness or poll.audit_horizon was raised",
                extra={"complete_until": text(before.closed_ms), "complete_until_now": text(after.closed_ms)},
            )
            self._retired.clear()
            self._recent.clear()
            self._auditor.forget_unaccounted()
            self.tally.commit(after, reopened=1)
        if not self._said_readable and after.readable_ms > max(after.origin_ms, latest_ms - limits.audit_horizon_ms):
            log.warning(
                "poll.audit_horizon is longer than ids were kept: older traces that become visible now are reported as"
                " unaccounted but not counted",
                extra={"older_than": text(after.readable_ms)},
            )
        self._said_readable = True

    def _forget(self) -> None:
        """Forget the ids of traces whose start has been retired for STAND_S, by the monotonic clock."""
        now_s, stood_ms = self._clock_s(), None
        if not self._retired or self._retired[-1][1] != self._horizon.retired_ms:
            self._retired.append((now_s, self._horizon.retired_ms))
        while self._retired and now_s - self._retired[0][0] >= STAND_S:
            stood_ms = self._retired.popleft()[1]
        if stood_ms is not None:
            after = forget(self._horizon, stood_ms, self._ledger.newest_ms(), self._settings.limits)
            if after != self._horizon:
                self.tally.commit(after)

    def _forget_assessments(self, now: Clocks) -> None:
        """Forget the assessments of traces that started too long ago. A clock alone does not do that: a trace must have
        started so much later. While assessments are not counted, all that start times are closed for are forgotten.
        Those of pending traces are counted together with them."""
        horizon, newest_ms = self._horizon, self._ledger.newest_ms()
        until_ms = min(now.earliest_ms, newest_ms) - self._settings.assessments_ms
        if not self._meter.with_assessments:
            until_ms = min(horizon.closed_ms, newest_ms)
        if assessed_until(horizon, until_ms) == horizon:  # as in nearly every tick
            return
        first_ms = self._ledger.first_pending_ms()
        after = assessed_until(horizon, until_ms if first_ms is None else min(until_ms, first_ms))
        if after != horizon:
            self.tally.commit(after)

    def _next_chore(self, now: Clocks) -> Chore | None:
        if self._horizon.fresh_ms is None:
            return None
        found = next((chore for chore in self._turns if self._is_due(chore, now)), None)
        if found is not None:
            self._turns.remove(found)
            self._turns.append(found)
        return found

    def _is_due(self, chore: Chore, now: Clocks) -> bool:
        if isinstance(chore, Kind):
            return due(self._horizon, chore, now, self._settings.limits)
        if isinstance(chore, Late):
            can_count = self._meter.with_assessments and self._features.get(Feature.ASSESSMENT_METRICS, False)
            return can_count and self._assessment_auditor.is_due(chore, now)
        return self._features.get(Feature.TRACE_METRICS, False) and self._auditor.is_due(chore, now)

    def _read(self, kind: Kind, now: Clocks, deadline_s: float | None = None) -> bool:
        """Read a pass. Returns whether it is complete. An interrupted pass resumes where it stopped."""
        limits = self._settings.limits
        horizon = begin(self._horizon, kind, now, limits, self._features.get(Feature.END_TIME_FILTER, True))
        if kind not in horizon.under_way:  # a fresh pass has just covered it
            return True
        window = self._origins.part(horizon.under_way[kind].window)
        late_until_s = monotonic() + self._settings.interval_s if kind is Kind.FRESH else inf
        for page in self._source.scan(window, known=self._known(window)) if window else ():
            moves_on = page.next_lo_ms > horizon.under_way[kind].window.lo_ms  # a millisecond is read in one tick
            horizon = after_page(horizon, kind, page.next_lo_ms)
            self._store(self._origins.counted(page.records), horizon, late_until_s=late_until_s)
            if not self._go_on() or (moves_on and deadline_s is not None and monotonic() > deadline_s):
                return False
        self.tally.commit(complete(horizon, kind, limits))
        return True

    def _known(self, window: Window) -> Sequence[tuple[int, str]]:
        """The traces of the window that need not be read again. A pass by start time alone reads everything."""
        if window.ended_after_ms is None:
            return ()
        return self._recent.inside(window, self._source.clocks().earliest_ms)

    def _look_again(self, now_ms: int) -> bool:
        """Check the pending traces that are due, as many as time permits, the latest first, so that new traces do not
        wait for a backlog. Returns whether to continue."""
        deadline_s = monotonic() + self._settings.interval_s
        self._has_backlog = False
        due_now = self._ledger.due(now_ms)
        parts = [due_now[at : at + PENDING_AT_ONCE] for at in range(0, len(due_now), PENDING_AT_ONCE)]
        lookups = [self._lookup(part) for part in parts]
        for part, lookup, by_id in zip(parts, lookups, self._source.get(lookups), strict=True):
            asked = set(lookup.trace_ids)
            others = [each for each in part if each.trace_id not in asked]
            found = [*by_id, *self._find_by_start(others)]
            there = {record.trace_id for record in found}
            gone = [each for each in lookup.trace_ids if each not in there]
            self._has_backlog = not self._store(found, self._horizon, gone, deadline_s)
            if unfound := [each for each in others if each.trace_id not in there]:
                self.tally.store_unseen(unfound, now_ms)
            if not self._go_on():
                return False
            if monotonic() > deadline_s:
                self._has_backlog |= part is not parts[-1]
                break
        return True

    def _lookup(self, pending: Sequence[Pending]) -> Lookup:
        """The lookup of those pending traces that MLflow can look up. One whose start has moved too far to be found is
        read again by the next pass."""
        return Lookup.of([each for each in pending if self._can_ask_for(each)])

    def _find_by_start(self, pending: Sequence[Pending]) -> list[TraceRecord]:
        """Find pending traces that MLflow cannot look up by id. Other traces with the same start are not returned,
        because their ids may be forgotten."""
        wanted = {each.trace_id for each in pending}
        starts_ms = sorted({each.start_ms for each in pending if each.experiment_id in self._experiments})
        pages = (page for start_ms in starts_ms for page in self._source.scan(Window(start_ms, start_ms + 1)))
        return [record for page in pages for record in page.records if record.trace_id in wanted]

    def _can_ask_for(self, pending: Pending) -> bool:
        """Whether MLflow can look up the trace by id, so that a trace that is not found is deleted. A trace of an
        experiment that is not selected may reappear with its experiment."""
        return pending.experiment_id in self._experiments and can_be_asked_for(pending.trace_id)

    def _store(
        self,
        records: Sequence[TraceRecord],
        horizon: Horizon,
        gone: Sequence[str] = (),
        spans_until_s: float | None = None,
        late_until_s: float = inf,
    ) -> bool:
        is_whole = self.tally.store(records, horizon, gone, spans_until_s, late_until_s)
        self._recent.forget(gone)
        if self._features.get(Feature.END_TIME_FILTER, True) and self.tally.now_ms is not None:
            self._recent.note(records, self.tally.now_ms - self._settings.limits.overlap_ms)
        return is_whole

    @property
    def _horizon(self) -> Horizon:
        return self.tally.horizon
