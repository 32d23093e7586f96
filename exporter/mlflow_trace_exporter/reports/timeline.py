"""Traces and their latency over time, in slices whose length follows from the times of the traces. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.quantiles import Quantiles
from mlflow_trace_exporter.domain.trace import State, TraceRecord

MAX_SLICES = 100
"""A chart of more slices than this cannot be read."""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

STEPS_MS = (
    *(MINUTE_MS * minutes for minutes in (1, 5, 15, 30)),
    *(HOUR_MS * hours for hours in (1, 3, 6, 12)),
    *(DAY_MS * days for days in (1, 7)),
    *(14 * DAY_MS << doublings for doublings in range(13)),
)
"""The possible lengths of slices. Each is a multiple of the one before, so that slices can be merged into longer ones.
The longest ones suffice for all the years that ``datetime`` supports."""

MONDAY_MS = 4 * DAY_MS
"""The first Monday in Unix time. Slices begin at a multiple of their length after it."""

EXACT_UP_TO = 2_000
"""The number of durations that a slice keeps. Beyond it, its quantiles are estimates, see ``Quantiles``."""

SPARSE = 4
"""If the traces are in less than one part of so many of the time asked for, only that part has slices."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The traces that started in [start, start + step of the timeline). Durations are in seconds, and None if no trace
    has one. ``exact``: whether they are exact, or within 1 % of the exact ones."""

    start: datetime
    traces: int
    errors: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    exact: bool


@dataclass(slots=True)
class _Sum:
    traces: int = 0
    errors: int = 0
    durations: Quantiles = field(default_factory=lambda: Quantiles(EXACT_UP_TO))

    def add(self, record: TraceRecord) -> None:
        self.traces += 1
        self.errors += record.state is State.ERROR
        if record.duration_s is not None:
            self.durations.add(record.duration_s)

    def merge(self, other: "_Sum") -> None:
        self.traces += other.traces
        self.errors += other.errors
        self.durations.merge(other.durations)

    def slice(self, start_ms: int) -> Slice:
        quantile = self.durations.reader()
        return Slice(
            utc(start_ms),
            self.traces,
            self.errors,
            quantile(0.5),
            quantile(0.95),
            quantile(0.99),
            self.durations.is_exact,
        )


class Timeline:
    """Adds up traces by their start, in any order.

    The slices are one minute long at first. When there would be more than MAX_SLICES of them, they are merged into
    longer ones, so that memory is bounded and the times of the traces need not be known in advance.
    """

    def __init__(self) -> None:
        self._steps = iter(STEPS_MS)
        self._step_ms = next(self._steps)
        self._sums: dict[int, _Sum] = {}

    @property
    def step(self) -> timedelta:
        """The length of each slice."""
        return timedelta(milliseconds=self._step_ms)

    def add(self, record: TraceRecord) -> None:
        """Add one finished trace."""
        found = self._sums.get(self._begin(record.start_ms))
        if found is None:
            self._reach(record.start_ms, *self._ends())
            found = self._sums.setdefault(self._begin(record.start_ms), _Sum())
        found.add(record)

    def slices(self, since_ms: int, until_ms: int) -> tuple[Slice, ...]:
        """The slices in order of time, without gaps. None if there are no traces.

        They cover [since_ms, until_ms), so that a time without traces can be seen. But if the traces are in less than a
        quarter of that, the slices cover only the traces: of a year, somebody may have traces of the last week.
        """
        if not self._sums:
            return ()
        first_ms, last_ms = min(self._sums), max(self._sums)
        if (last_ms + self._step_ms - first_ms) * SPARSE >= until_ms - since_ms:
            self._reach(since_ms, until_ms - 1, first_ms, last_ms)
            first_ms, last_ms = min(first_ms, since_ms), max(last_ms, until_ms - 1)
        return tuple(self._covering(first_ms, last_ms))

    def _covering(self, first_ms: int, last_ms: int) -> Iterator[Slice]:
        for start_ms in range(self._begin(first_ms), last_ms + 1, self._step_ms):
            yield self._sums.get(start_ms, _Sum()).slice(start_ms)

    def _begin(self, at_ms: int) -> int:
        """When the slice of a moment begins."""
        return at_ms - (at_ms - MONDAY_MS) % self._step_ms

    def _ends(self) -> tuple[int, ...]:
        """When the first and the last slice begin; nothing if there are none."""
        return (min(self._sums), max(self._sums)) if self._sums else ()

    def _reach(self, *moments_ms: int) -> None:
        """Merge slices until there are few enough from the earliest to the latest of these moments."""
        first_ms, last_ms = min(moments_ms), max(moments_ms)
        while self._begin(last_ms) - self._begin(first_ms) >= MAX_SLICES * self._step_ms:
            self._step_ms = next(self._steps)
            before, self._sums = self._sums, {}
            for start_ms, each in before.items():
                self._sums.setdefault(self._begin(start_ms), _Sum()).merge(each)
