"""Polls that count a steady stream of new traces of many label sets, on a simulated MLflow."""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mlflow_trace_exporter.domain.admission import Caps
from mlflow_trace_exporter.ledger.place import Place
from mlflow_trace_exporter.tracking.experiments import Experiment
from tests.support.builders import FAMILIES, LIMITS, METER, record
from tests.support.rig import INTERVAL_MS, Rig
from tests.support.simulated import CHATBOT, SimulatedMlflow

T = TypeVar("T")

SERIES = sum(family.series_per_group for family in FAMILIES if len(family.labels) > 2)
"""The series of one label set."""
ENDED_MS = 500
"""How long before a poll its new traces end."""
KEPT_MS = 600_000
"""How long the simulated MLflow keeps traces: until they are no longer read, so that its own work stays small."""
OVERFLOW = "mlflow_trace_exporter_label_overflow_total"


class MeasuredMlflow(SimulatedMlflow):
    """A simulated MLflow that adds up in ``spent_s`` the CPU seconds of its own work and of all ``measured`` calls."""

    def __init__(self) -> None:
        super().__init__()
        self.spent_s = 0.0

    def scan(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        pages = super().scan(*arguments, **named)
        while (page := self.measured(lambda: next(pages, None))) is not None:
            yield page

    def get(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        found = super().get(*arguments, **named)
        while (part := self.measured(lambda: next(found, None))) is not None:
            yield part

    def counts(self, *arguments: Any, **named: Any) -> Any:
        return self.measured(lambda: super(MeasuredMlflow, self).counts(*arguments, **named))

    def measured(self, call: Callable[[], T]) -> T:
        began_s = time.process_time()
        try:
            return call()
        finally:
            self.spent_s += time.process_time() - began_s


class Traffic:
    """A poller, and traces with so many label sets that they have about ``samples`` samples. After ``settle``, each
    poll counts as many traces as are added before it."""

    def __init__(self, samples: int, directory: Path, experiments: int = 1, place: Place | None = None) -> None:
        self._label_sets = max(1, samples // SERIES // experiments * experiments)
        self._experiments = [CHATBOT, *(_experiment(number) for number in range(2, experiments + 1))]
        self._numbers = itertools.count()
        self._ids = random.Random(3)
        self.mlflow = MeasuredMlflow()
        self.mlflow.selected = {each.experiment_id: each for each in self._experiments}
        meter = replace(METER, caps=Caps(values=1_000, series=2 * SERIES * self._label_sets))
        self.rig = Rig(self.mlflow, place or directory / "ledger.db", origin_ms=self.mlflow.clock_ms, meter=meter)
        self.polls = 0
        self._add(self._label_sets)
        self.rig.settle()
        assert self.rig.traces == self._label_sets == len(self.rig.labels()), "each label set has a trace"
        assert not self.rig.total(OVERFLOW), "each label set has series of its own"

    def settle(self, new: int) -> None:
        """Poll until each poll counts the same number of traces, and the overlap is full."""
        for _ in range(2 + LIMITS.overlap_ms // INTERVAL_MS):
            self._tick(new)

    def poll(self, new: int) -> None:
        """Add ``new`` traces, and poll. The poll counts the same number: these, or those of an earlier poll."""
        before = self.rig.traces
        self._tick(new)
        counted = self.rig.traces - before
        assert counted == new, f"a poll counts {counted} traces, and {new} are new each time"
        self.polls += 1

    def _tick(self, new: int) -> None:
        self.mlflow.measured(lambda: self._move_on(new))
        assert self.rig.tick(), "a poll fails"
        del self.rig.published[:-1]

    def _move_on(self, new: int) -> None:
        self._add(new)
        for old in [each for each in self.mlflow.traces.values() if each.start_ms < self.mlflow.clock_ms - KEPT_MS]:
            self.mlflow.delete(old)

    def _add(self, count: int) -> None:
        for number in itertools.islice(self._numbers, count):
            at = number % self._label_sets
            experiment, rest = self._experiments[at % len(self._experiments)], at // len(self._experiments)
            self.mlflow.add(
                record(
                    trace_id=f"tr-{self._ids.getrandbits(128):032x}",
                    experiment_id=experiment.experiment_id,
                    experiment=experiment.name,
                    start_ms=self.mlflow.clock_ms + INTERVAL_MS - ENDED_MS - 1_500,
                    name=f"name {rest // 50}",
                    tags={"environment": "production", "app_version": f"1.{rest % 50}"},
                ),
                INTERVAL_MS - ENDED_MS,
            )


def _experiment(number: int) -> Experiment:
    return Experiment(str(number), f"chatbot-{number}", CHATBOT.created_ms)
