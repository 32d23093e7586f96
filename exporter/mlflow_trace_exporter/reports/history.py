"""Converts the traces in MLflow to samples in OpenMetrics format. Pure.

The samples are those that `serve` would have exposed at each step: the same series, with cumulative counters and
histograms, so that rate(), increase() and histogram_quantile() are correct for the past. A trace is added at its end.
As in `serve`, a series is first written at 0 (or at its last value, after a pause) one step before it increases.

MLflow returns traces by start time, but they are needed by end time. A step can be written when all traces that start
before it have been read. Only traces that have started but not ended by then are held in memory, besides the totals.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count

from mlflow_trace_exporter.domain.assessed import assessed
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.domain.objectives import Objective
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.metrics import exposition
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.model import Cell
from mlflow_trace_exporter.metrics.series import series_totals
from mlflow_trace_exporter.metrics.status import STATUS_FAMILIES, Build, Reading, Status, StatusFamily

GAUGES = ("mlflow_objective_", "mlflow_trace_version_first_seen_timestamp_seconds")
"""Status metrics of `serve` that can be derived for the past."""

EOF = "# EOF\n"


@dataclass(frozen=True, slots=True)
class Span:
    """The time range [since_ms, until_ms) of start times, and the interval ``step_ms`` between samples."""

    since_ms: int
    until_ms: int
    step_ms: int

    @property
    def first_ms(self) -> int:
        """The first step. It is after since_ms, so that another history can end there."""
        return (self.since_ms // self.step_ms + 1) * self.step_ms

    @property
    def last_ms(self) -> int:
        """The last step. Traces that end after it are counted there."""
        return self.until_ms // self.step_ms * self.step_ms

    def step_of(self, ms: int) -> int:
        """The first step at or after ``ms``, within the range."""
        return min(max(-(-ms // self.step_ms) * self.step_ms, self.first_ms), self.last_ms)

    def before(self, at_ms: int) -> int:
        """The time of the sample that precedes a new series at ``at_ms``: one step earlier or, if that is before the
        history, halfway between its start and ``at_ms``."""
        earlier_ms = at_ms - self.step_ms
        return earlier_ms if earlier_ms > self.since_ms else (self.since_ms + at_ms) // 2


@dataclass(slots=True)
class Written:
    """What has been written so far."""

    samples: int = 0
    traces: int = 0
    groups: set[Group] = field(default_factory=set)


class History:
    """Converts traces, which must come in the order of their start. ``target``: the labels that a scrape would add (job
    and instance). ``ttl_ms``: series disappear after this time without traces. ``workspaces``: those of the server."""

    def __init__(
        self, meter: Meter, span: Span, target: Mapping[str, str], ttl_ms: int, workspaces: Collection[str] = ()
    ) -> None:
        self.written = Written()
        self._meter, self._span, self._ttl_ms = meter, span, ttl_ms
        self._workspaces = workspaces
        self._families = tuple(each for each in meter.exposed if each.labels in (meter.rules.names, *meter.part_labels))
        self._target = ",".join(f'{name}="{_escaped(value)}"' for name, value in target.items())
        self._admission = meter.admission(())
        self._running: list[tuple[int, int, TraceRecord]] = []
        self._numbers = count()  # makes each heap entry unique, so that records are never compared
        self._totals: dict[Cell, float] = {}
        self._shown: dict[Group, tuple[str, ...]] = {}
        self._active_ms: dict[Group, int] = {}
        self._first_ms: dict[LabelValues, int] = {}
        self._gauges: tuple[str, ...] = ()

    def lines(self, records: Iterable[TraceRecord]) -> Iterator[str]:
        """The whole output, in pieces."""
        metrics = chain(
            exposition.trace_metrics(self._families, {}), exposition.status_metrics(_gauges(), _status({}, {}))
        )
        yield "".join(f"{line}\n" for line in exposition.lines(metrics)[0])
        at_ms: int | None = None
        for record in records:
            if at_ms is None:
                at_ms = self._span.step_of(record.start_ms)
            while at_ms < min(record.start_ms, self._span.last_ms):
                yield from self._step(at_ms)
                at_ms += self._span.step_ms
            end_ms = record.start_ms if record.end_ms is None else record.end_ms
            heapq.heappush(self._running, (end_ms, next(self._numbers), record))
        while at_ms is not None and at_ms <= self._span.last_ms:
            yield from self._step(at_ms)
            at_ms += self._span.step_ms
        assert not self._running, "the last step takes all"
        yield EOF

    def _step(self, at_ms: int) -> Iterator[str]:
        """The samples of one step, after adding the traces that ended by then."""
        ended = []
        while self._running and (self._running[0][0] <= at_ms or at_ms == self._span.last_ms):
            ended.append(heapq.heappop(self._running)[2])
        grown = self._add(ended, at_ms) if ended else {}
        yield from (self._samples(lines, self._span.before(at_ms)) for lines in grown.values())
        self._let_sleep(at_ms)
        yield from (self._samples(lines, at_ms) for lines in (*self._shown.values(), self._gauges) if lines)

    def _add(self, ended: list[TraceRecord], at_ms: int) -> dict[Group, tuple[str, ...]]:
        """Count traces. Returns the new series with their values before these traces."""
        opinions = tuple(filter(None, (assessed(record, {}) for record in ended)))
        increments = self._meter.measure(Batch(counted=tuple(ended), assessed=opinions), self._admission)
        groups = [group for group in increments.groups if not group.is_place]
        for group in groups:
            for cell in self._cells(group):
                self._totals.setdefault(cell, 0)
        begun = {group: self._rendered(group) for group in groups if group not in self._shown}
        for cell, amount in increments.amounts.items():
            if cell in self._totals:
                self._totals[cell] += amount
        for group in groups:
            self._shown[group] = self._rendered(group)
            self._active_ms[group] = at_ms
        for version, first_ms in increments.first_ms.items():
            self._first_ms[version] = min(first_ms, self._first_ms.get(version, first_ms))
        self.written.traces += len(ended)
        self.written.groups.update(groups)
        if begun:
            self._render_gauges()
        return begun

    def _let_sleep(self, at_ms: int) -> None:
        asleep = [group for group in self._shown if at_ms - self._active_ms[group] > self._ttl_ms]
        for group in asleep:
            del self._shown[group]
        if asleep:
            self._admission = self._meter.admission(self._shown)
            self._render_gauges()

    def _render_gauges(self) -> None:
        versions = {group.version for group in self._shown}
        first_seen_s = {version: self._first_ms[version] / 1000 for version in sorted(versions)}
        status = _status(self._meter.objectives.by_place(self._shown), first_seen_s)
        metrics = exposition.status_metrics(_gauges(), status, self._workspaces)
        self._gauges = self._targeted(exposition.lines(metrics)[1])

    def _cells(self, group: Group) -> Iterator[Cell]:
        for family in self._families:
            yield from family.cells_of(group)

    def _rendered(self, group: Group) -> tuple[str, ...]:
        totals = series_totals(self._families, {cell: self._totals[cell] for cell in self._cells(group)})
        metrics = exposition.trace_metrics(self._families, totals, self._workspaces)
        return self._targeted(exposition.lines(metrics)[1])

    def _targeted(self, lines: Iterable[str]) -> tuple[str, ...]:
        """Add the target labels to samples. All of these samples have labels already."""
        return tuple(line.replace("{", f"{{{self._target},", 1) for line in lines)

    def _samples(self, lines: tuple[str, ...], at_ms: int) -> str:
        self.written.samples += len(lines)
        end = f" {at_ms / 1000:.15g}\n"
        return end.join(lines) + end


def _gauges() -> list[StatusFamily]:
    return [family for family in STATUS_FAMILIES if family.name.startswith(GAUGES)]


def _status(objectives: Mapping[LabelValues, Objective], first_seen_s: Mapping[LabelValues, float]) -> Status:
    """A status with only these values set."""
    reading = Reading(
        experiments=(),
        objectives=objectives,
        interval_s=0,
        complete_until_s=0,
        behind=False,
        pending=0,
        running={},
        first_seen_s=first_seen_s,
        series=0,
        series_limit=0,
        ledger_bytes=0,
        features={},
        audit_supported=None,
        audited_until_s=None,
        unaccounted=None,
    )
    return Status(Build("", "", ""), {}, reading=reading)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
