"""Finds assessments that were added or changed after their traces were counted, and reads those traces again.

MLflow cannot search by the time of an assessment. But it can count them by name and value in a range of start times. A
range where its counts and those of the ledger differ is split, down to steps of ten minutes, and such a step is read
again. The ledger then no longer counts those that are gone. What MLflow still has more (assessments of traces that are
not counted yet, for example) is remembered, so that the step is not read again and again.

While judges work, the steps of the last hours change all the time, and reading all of them again each minute would cost
MLflow more than all new traces. So there is a rest after each step, in proportion to the traces that were read. The
step that was read longest ago comes first.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from time import monotonic

from mlflow_trace_exporter.counting.audit import is_time, split
from mlflow_trace_exporter.counting.origins import Origins
from mlflow_trace_exporter.counting.tally import Tally
from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Window
from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.tracking.assessment_parsing import ALL
from mlflow_trace_exporter.tracking.source import Source

REST_S = 0.004
"""The rest for each trace that was read again. So these are at most 250 per second, about a twentieth of what one
worker of MLflow can return."""

SAVED_S = 60.0
"""How much rest can be taken in advance: a few small steps are read without a rest in between."""


class Late(Enum):
    """Which start times are compared: the open ones, or those before."""

    RECENT = "recent"
    OLDER = "older"


_EVERY_MS = {Late.RECENT: 60_000, Late.OLDER: 600_000}


class AssessmentAuditor:
    """Compares counts of assessments. ``go_on`` is called after each stored page. If it returns False the work ends,
    and goes on the next time where it ended."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        tally: Tally,
        origins: Origins,
        go_on: Callable[[], bool],
        clock_s: Callable[[], float],
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._tally = tally
        self._origins = origins
        self._go_on = go_on
        self._clock_s = clock_s
        self._begun_ms: dict[Late, int] = {}
        self._left: dict[Late, list[Window]] = {late: [] for late in Late}
        self._suspects: dict[int, Window] = {}
        """The steps to read again, by number."""
        self._read_s: dict[int, float] = {}
        """When each step was last read (``clock_s``)."""
        self._rests_until_s = -math.inf
        self._explained: dict[int, _Explained] = {}

    @property
    def unaccounted(self) -> int:
        """How many assessments MLflow counts that the ledger does not know, even after reading their traces again."""
        return sum((+each.remainder).total() for each in self._explained.values())

    def is_due(self, late: Late, now: Clocks) -> bool:
        """Whether there is something to compare or to read."""
        return bool(self._left[late] or (self._suspects and not self._rests()) or self._is_time(late, now))

    def audit(self, late: Late, now: Clocks, experiment_ids: Collection[str], deadline_s: float) -> None:
        """Compare ranges, the latest first, and read steps again, until the deadline (monotonic clock)."""
        if not self._left[late] and self._is_time(late, now):
            self._begun_ms[late] = now.earliest_ms
            self._left[late].append(self._window(late, now))
            self._forget()
        while self._left[late] and monotonic() < deadline_s:
            self._compare(late, experiment_ids)
        while self._suspects and not self._rests() and monotonic() < deadline_s:
            at = min(self._suspects, key=lambda each: (self._read_s.get(each, -math.inf), -each))
            if not self._look_at(at, experiment_ids):
                return

    def _compare(self, late: Late, experiment_ids: Collection[str]) -> None:
        """Compare the next range that is left."""
        window = self._left[late].pop()
        is_step = window.hi_ms - window.lo_ms <= BUCKET_MS
        try:
            there = self._there(window, experiment_ids, is_step)
        except PollError:
            if not is_step:  # MLflow can take too long to count a range
                self._left[late] += split(window, BUCKET_MS)
            raise
        if not self._differs(there, window):
            return
        if is_step:
            self._suspects[window.lo_ms // BUCKET_MS] = window
        else:
            self._left[late] += split(window, BUCKET_MS)

    def _look_at(self, at: int, experiment_ids: Collection[str]) -> bool:
        """Read a step again if it still differs. Returns whether it is done with."""
        step, self._read_s[at] = self._suspects[at], self._clock_s()  # if it cannot be read, others come first
        there = self._there(step, experiment_ids, is_step=True)
        if there is not None and self._differs(there, step):
            if not self._read_again(step):
                return False
            here = self._ledger.assessment_counts(step)
            self._explained[at] = _Explained(here, there.more_than(here))
        del self._suspects[at]
        return True

    def _differs(self, there: "_There | None", window: Window) -> bool:
        here = self._ledger.assessment_counts(window)
        return there is None or there.more_than(here) != self._explained_in(window)

    def _is_time(self, late: Late, now: Clocks) -> bool:
        return is_time(self._begun_ms.get(late), _EVERY_MS[late], now.earliest_ms)

    def _rests(self) -> bool:
        return self._clock_s() < self._rests_until_s

    def _read_again(self, step: Window) -> bool:
        """Read all traces of a step. Of retired start times only the assessments are counted, because the ids of their
        traces may be forgotten."""
        is_retired = step.lo_ms < self._tally.horizon.retired_ms
        there: set[str] = set()
        for page in self._source.scan(step):
            records = self._origins.counted(page.records)
            there.update(each.assessment_id for record in records for each in record.assessments)
            self._rests_until_s = max(self._rests_until_s, self._clock_s() - SAVED_S) + REST_S * len(page.records)
            if is_retired:
                self._tally.store_assessments(records)
            else:
                self._tally.store(records, self._tally.horizon)
            if not self._go_on():
                return False
        self._ledger.forget_forms(step, there)
        return True

    def _window(self, late: Late, now: Clocks) -> Window:
        horizon = self._tally.horizon
        if late is Late.RECENT:
            return Window(horizon.closed_ms, max(horizon.closed_ms, now.latest_ms) + BUCKET_MS)
        return Window(min(max(horizon.origin_ms, horizon.assessed_ms), horizon.closed_ms), horizon.closed_ms)

    def _there(self, window: Window, experiment_ids: Collection[str], is_step: bool) -> "_There | None":
        """MLflow's counts. If it cannot tell them by value, only their sum for a step, and None for a longer range."""
        counts = self._count_there(window, experiment_ids, by_value=True)
        if counts is not None:
            return _There(counts, by_value=True)
        if not is_step:
            return None
        total = self._count_there(window, experiment_ids, by_value=False)
        return None if total is None else _There(total, by_value=False)

    def _count_there(self, window: Window, experiment_ids: Collection[str], by_value: bool) -> Counter[int] | None:
        counts: Counter[int] = Counter()
        for part, ids in self._origins.since(window, experiment_ids):
            found = self._source.assessment_counts(part, ids, by_value)
            if found is None:
                return None
            counts += found
        return counts

    def _explained_in(self, window: Window) -> Counter[int]:
        """What MLflow had more in the steps of a window when they were last read. It is forgotten where the ledger has
        counted any since, because they may be the same."""
        steps = range(window.lo_ms // BUCKET_MS, -(-window.hi_ms // BUCKET_MS))
        found: Counter[int] = Counter()
        for at, explained in [(at, each) for at, each in self._explained.items() if at in steps]:
            step = Window(max(at * BUCKET_MS, window.lo_ms), min((at + 1) * BUCKET_MS, window.hi_ms))
            if self._ledger.assessment_counts(step) == explained.here:
                found.update(explained.remainder)
            else:
                del self._explained[at]
        return less(found, Counter())

    def _forget(self) -> None:
        first = self._tally.horizon.assessed_ms // BUCKET_MS
        self._explained = {at: each for at, each in self._explained.items() if at >= first and each.remainder}
        self._read_s = {at: at_s for at, at_s in self._read_s.items() if at >= first}
        self._suspects = {at: step for at, step in self._suspects.items() if at >= first}


@dataclass(frozen=True, slots=True)
class _Explained:
    """By how much MLflow's counts of a step exceeded those of the ledger, ``here``, after it was read."""

    here: Counter[int]
    remainder: Counter[int]


@dataclass(frozen=True, slots=True)
class _There:
    """MLflow's counts of the assessments in a range of start times: ``by_value``, or only of ALL."""

    counts: Counter[int]
    by_value: bool

    def more_than(self, here: Counter[int]) -> Counter[int]:
        """By how much they exceed those of the ledger."""
        return less(self.counts, here if self.by_value else Counter({ALL: here.total()}))


def less(one: Counter[int], other: Counter[int]) -> Counter[int]:
    """The differences that are not 0."""
    return Counter({form: one[form] - other[form] for form in {*one, *other} if one[form] != other[form]})
