"""The real poller and the real ledger on a simulated MLflow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, process_time
from typing import Any

from mlflow_trace_exporter.counting import assessment_auditor, auditor, poller, reader, span_reader
from mlflow_trace_exporter.counting.poller import Clock, Poller
from mlflow_trace_exporter.counting.reader import PollSettings
from mlflow_trace_exporter.counting.release import SeriesSettings
from mlflow_trace_exporter.domain.horizon import Limits
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.ledger.place import Place
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.model import Cell
from mlflow_trace_exporter.metrics.status import Reading, Snapshot, Status
from tests.support.builders import BUILD, LIMITS, METER
from tests.support.simulated import SimulatedMlflow

INTERVAL_MS = 15_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ASSESSMENTS_MS = 7 * DAY_MS
AT_ONCE = SeriesSettings(zero_hold_s=0, ttl_ms=365 * DAY_MS)
TRACES = "mlflow_traces_total"
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder for ledgers: SQLite waits for the disk at each commit, on which nothing that a rig shows depends."""


def cells(snapshot: Snapshot) -> dict[Cell, float]:
    """The totals of a snapshot, one by one."""
    return {
        Cell(family.name, labels, part): number
        for family in snapshot.families
        for labels, numbers in snapshot.totals.get(family.name, {}).items()
        for part, number in zip(family.parts, numbers, strict=True)
    }


_WITH_LIMITS = (assessment_auditor, auditor, poller, reader, span_reader)
"""Modules that look at the clock while they poll."""


@contextmanager
def _on_a_machine_of_its_own() -> Iterator[None]:
    """Let polls have their limits in time of the processor, for one that stands still has done nothing wrong. A clock
    that a test has put there stays."""
    changed = [names for names in map(vars, _WITH_LIMITS) if names["monotonic"] is monotonic]
    for names in changed:
        names["monotonic"] = process_time
    try:
        yield
    finally:
        for names in changed:
            names["monotonic"] = monotonic


class Rig:
    """One process after another on the same ledger. ``published`` is what the present one has published."""

    def __init__(
        self,
        mlflow: SimulatedMlflow,
        place: Place,
        origin_ms: int = 0,
        interval_s: float = INTERVAL_MS / 1000,
        limits: Limits = LIMITS,
        series: SeriesSettings = AT_ONCE,
        meter: Meter = METER,
    ) -> None:
        self.mlflow = mlflow
        self.published: list[Snapshot] = []
        self.place = place
        self._meter = meter
        self._settings = PollSettings(interval_s, limits, origin_ms, series, ASSESSMENTS_MS)
        self.start()

    def start(self, opened: Callable[[Place], Ledger] = open_ledger) -> None:
        """Begin a process."""
        self.published.clear()
        self.ledger = opened(self.place)
        self._open_poller(Status.begin(BUILD))

    def reload(self, meter: Meter | None = None, **settings: Any) -> None:
        """Use another configuration from now on; ``settings`` are fields of PollSettings."""
        self._meter = meter or self._meter
        self._settings = replace(self._settings, **settings)
        self._open_poller(self.poller.status)

    def _open_poller(self, status: Status) -> None:
        self.ledger.totals.adopt(self._meter.families)
        clock = Clock(self.mlflow.own_ms, lambda: self.mlflow.clock_ms / 1000)
        with _on_a_machine_of_its_own():
            self.poller = Poller(self.mlflow, self.ledger, self._meter, self.publish, self._settings, status, clock)

    @property
    def path(self) -> Path:
        """The file of the ledger, if it is one."""
        assert isinstance(self.place, Path)
        return self.place

    def publish(self, snapshot: Snapshot) -> None:
        """What the poller does with a snapshot."""
        self.published.append(snapshot)

    def restart(self) -> None:
        """End the process and begin the next."""
        self.ledger.close()
        self.start()

    def tick(self, after_ms: int = INTERVAL_MS) -> bool:
        """Let time pass, then poll once."""
        self.mlflow.clock_ms += after_ms
        with _on_a_machine_of_its_own():
            return self.poller.tick()

    def wait(self, for_ms: int) -> None:
        """Let time pass without a poll, and do what is due between two polls."""
        self.mlflow.clock_ms += for_ms
        with _on_a_machine_of_its_own():
            self.poller.between_polls()

    def run(self, for_ms: int, every_ms: int = INTERVAL_MS) -> None:
        """Poll over some time."""
        for _ in range(for_ms // every_ms):
            assert self.tick(every_ms)

    def settle(self) -> None:
        """Poll until what is there and has ended is final."""
        self.run(6 * INTERVAL_MS)

    @property
    def traces(self) -> float:
        """What mlflow_traces_total shows, over all its series."""
        return self.total(TRACES)

    def total(self, family: str) -> float:
        """What a counter shows, over all its series."""
        return sum(sum(numbers) for numbers in self.published[-1].totals.get(family, {}).values())

    def labels(self, family: str = TRACES) -> set[tuple[str, ...]]:
        """The label values of a counter's series that are not 0."""
        return {labels for labels, numbers in self.published[-1].totals.get(family, {}).items() if any(numbers)}

    @property
    def reading(self) -> Reading:
        reading = self.published[-1].status.reading
        assert reading is not None
        return reading
