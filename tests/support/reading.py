"""An exporter in the process of the test, which polls when the test says so, on a real MLflow server."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow_trace_exporter.counting.poller import Clock, Poller
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.metrics.model import SUM
from mlflow_trace_exporter.metrics.status import Snapshot, Status
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.wiring import now_ms, open_meter, open_source, poll_settings
from tests.support.builders import BUILD
from tests.support.rig import TRACES, cells
from tests.support.waiting import HANG_S

PATIENT = f"{HANG_S:.0f}s"
"""A timeout that no busy machine reaches."""


class Read:
    """An exporter in this process that reads an experiment from its beginning. ``sections`` are those of its
    configuration."""

    def __init__(self, uri: str, experiment: str, directory: Path, timeout: str, **sections: Any) -> None:
        settings = Config.model_validate(
            {
                "mlflow": {"tracking_uri": uri, "experiments": experiment, "timeout": timeout},
                "poll": {"interval": "1s", "start": "earliest"},
                "series": {"zero_hold": "0s"},
                **sections,
            }
        )
        meter = open_meter(settings)
        self.ledger = open_ledger(directory / "ledger.db")
        self.ledger.totals.adopt(meter.families)
        self.published: list[Snapshot] = []
        self.poller = Poller(
            open_source(settings),
            self.ledger,
            meter,
            self.published.append,
            poll_settings(settings),
            Status.begin(BUILD),
            Clock(now_ms),
        )

    def until(self, is_there: Callable[[], bool], what: str, timeout_s: float = HANG_S) -> "Read":
        """Poll until that is so."""
        deadline_s = time.monotonic() + timeout_s
        while not is_there():
            is_late = time.monotonic() > deadline_s  # it polls once more, because this process may stand still
            self.poller.tick()
            assert not is_late, f"{what}; {self.published[-1].status.failure}, {self.ledger.pending()} wait"
        return self

    def all(self, traces: int) -> "Read":
        """Poll until so many traces are counted."""
        return self.until(lambda: self.sums(TRACES)[()] == traces, f"{traces} are counted")

    def sums(self, family: str, *labels: int, part: str | None = None) -> Counter[tuple[str, ...]]:
        """The sums of a family over all labels but those at these places; of a histogram, how many observations."""
        found: Counter[tuple[str, ...]] = Counter()
        for cell, value in cells(self.published[-1]).items():
            if cell.family == family and (cell.part == part if part else cell.part != SUM) and value:
                found[tuple(cell.labels[at] for at in labels)] += value  # type: ignore[assignment]  # a float for cost
        return found


@contextmanager
def reading(uri: str, experiment: str, directory: Path, timeout: str = PATIENT, **sections: Any) -> Iterator[Read]:
    """An exporter for the time of a block."""
    read = Read(uri, experiment, directory, timeout, **sections)
    try:
        yield read
    finally:
        read.ledger.close()
