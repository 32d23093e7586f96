"""One exporter hands over to another at a time: `poll.until` of the first is `poll.start` of the second."""

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.ledger.place import Place
from mlflow_trace_exporter.metrics.families import LATE
from tests.support.builders import METER_WITH_ALL
from tests.support.rig import DAY_MS, HOUR_MS, IN_MEMORY, INTERVAL_MS, MINUTE_MS, Rig
from tests.support.simulated import EPOCH_MS, SimulatedMlflow

T_MS = 37 * MINUTE_MS + 1_234
"""When the second one takes over, after EPOCH_MS: inside a bucket, a minute and a second."""


class _Exact(Rig):
    """A rig whose `poll.start` is a time."""

    def start(self, opened: Callable[[Place], Ledger] = open_ledger) -> None:
        self._settings = replace(self._settings, origin_is_exact=True)
        super().start(opened)


class Handover:
    """Two exporters of one MLflow, each with a ledger of its own."""

    def __init__(self, mlflow: SimulatedMlflow, folder: Path) -> None:
        self.mlflow = mlflow
        self._folder = folder
        self.old = Rig(mlflow, folder / "old.db", meter=METER_WITH_ALL)
        self.new: Rig | None = None

    def begin(self) -> Rig:
        """Start the second one."""
        self.new = _Exact(self.mlflow, self._folder / "new.db", origin_ms=EPOCH_MS + T_MS, meter=METER_WITH_ALL)
        return self.new

    def run(self, for_ms: int, every_ms: int = INTERVAL_MS) -> None:
        for _ in range(for_ms // every_ms):
            assert self.old.tick(every_ms)
            assert self.new is None or self.new.tick(0)

    def close(self) -> None:
        for rig in (self.old, *([self.new] if self.new else [])):
            rig.ledger.close()


@pytest.fixture
def both(mlflow: SimulatedMlflow) -> Iterator[Handover]:
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        handover = Handover(mlflow, Path(folder))
        yield handover
        handover.close()


def assert_healthy(rig: Rig) -> None:
    reading = rig.reading
    assert (reading.unaccounted, reading.unaccounted_assessments, reading.behind) == (0, 0, False)
    lag_s = rig.mlflow.clock_ms / 1000 - reading.complete_until_s
    assert lag_s < 2 * 3600 + 300 + 1200 + 600, "start times after its end are complete, too"
    assert reading.audited_until_s is not None
    assert rig.mlflow.clock_ms / 1000 - reading.audited_until_s < 150


@pytest.mark.parametrize("seed", range(3))
def test_each_trace_is_counted_by_exactly_one(both: Handover, mlflow: SimulatedMlflow, seed: int) -> None:
    """Also those that become visible late, or are assessed late, and those of the very millisecond."""
    chance = random.Random(seed)
    starts = [T_MS - 1, T_MS, T_MS + 1, *(int(chance.uniform(0, 2 * T_MS)) for _ in range(150))]
    for start_ms in starts:
        late_ms = chance.choice([0, 5_000, HOUR_MS, 7 * HOUR_MS])
        mlflow.trace(start_ms, 1_000, visible_after_ms=start_ms + 1_000 + late_ms)
    both.run(20 * MINUTE_MS)
    both.old.reload(until_ms=EPOCH_MS + T_MS)
    both.run(19 * MINUTE_MS)
    both.begin()
    both.run(3 * HOUR_MS, MINUTE_MS)
    for rig in (both.old, both.new):
        assert rig is not None
        assert_healthy(rig)
    both.run(30 * HOUR_MS, 5 * MINUTE_MS)
    both.run(10 * MINUTE_MS)
    assert both.new is not None
    before = sum(each < T_MS for each in starts)
    assert (both.old.traces, both.new.traces) == (before, len(starts) - before)
    assert_healthy(both.old)
    assert_healthy(both.new)
    assert both.old.total(LATE) > 0, "late ones were among them"


def test_assessments_are_counted_by_the_one_that_counts_the_trace(both: Handover, mlflow: SimulatedMlflow) -> None:
    traces = [mlflow.trace(start_ms) for start_ms in (T_MS - 1_000, T_MS + 1_000)]
    both.old.reload(until_ms=EPOCH_MS + T_MS)
    both.run(T_MS + 5 * MINUTE_MS, MINUTE_MS)
    new = both.begin()
    both.run(5 * MINUTE_MS)
    for trace in traces:
        mlflow.assess(trace)
    both.run(30 * MINUTE_MS)
    assert (both.old.total("mlflow_trace_assessments_total"), new.total("mlflow_trace_assessments_total")) == (1, 1)
    assert_healthy(both.old)
    assert_healthy(new)


@pytest.mark.parametrize("early_ms", [1_000, 30 * MINUTE_MS, 3 * DAY_MS])
def test_an_exporter_that_is_started_too_early_waits(mlflow: SimulatedMlflow, both: Handover, early_ms: int) -> None:
    """Without that it would count traces that the other one counts, too."""
    mlflow.clock_ms = EPOCH_MS + T_MS - early_ms
    both.old.reload(until_ms=EPOCH_MS + T_MS)
    mlflow.trace(T_MS - 500)
    mlflow.trace(T_MS)
    new = both.begin()
    for _ in range(2):
        new.tick(0)
        both.old.tick(0)
    mlflow.clock_ms = EPOCH_MS + T_MS + 1_000
    both.run(5 * MINUTE_MS)
    assert (both.old.traces, new.traces) == (1, 1)


def test_a_clock_that_is_behind_does_not_count_what_the_other_one_counts(
    mlflow: SimulatedMlflow, both: Handover
) -> None:
    mlflow.clock_ms = EPOCH_MS + T_MS + 1_000
    mlflow.server_error_ms = -20_000
    mlflow.trace(T_MS - 10_000)
    new = both.begin()
    both.run(5 * MINUTE_MS)
    assert (both.old.traces, new.traces) == (1, 0)


def test_after_its_end_an_exporter_reads_no_new_traces(both: Handover, mlflow: SimulatedMlflow) -> None:
    """For a day, MLflow would otherwise send each new trace to both of them, several times."""
    both.old.reload(until_ms=EPOCH_MS + T_MS)
    mlflow.clock_ms = EPOCH_MS + T_MS + HOUR_MS
    for number in range(2_000):
        mlflow.trace(T_MS + HOUR_MS - number)
    both.old.tick()
    before = mlflow.requests
    both.old.tick()
    assert mlflow.requests - before <= 3


@pytest.mark.parametrize(("until_ms", "is_late"), [(T_MS, False), (T_MS - 2 * MINUTE_MS, True)])
def test_an_end_that_has_passed_already_is_reported(
    both: Handover, mlflow: SimulatedMlflow, caplog: pytest.LogCaptureFixture, until_ms: int, is_late: bool
) -> None:
    mlflow.trace(T_MS - MINUTE_MS)
    mlflow.clock_ms = EPOCH_MS + T_MS
    both.run(2 * MINUTE_MS)
    with caplog.at_level(logging.WARNING):
        both.old.reload(until_ms=EPOCH_MS + until_ms)
    assert ("poll.until is too early" in caplog.text) == is_late


@pytest.mark.parametrize("is_shard", [True, False])
def test_a_shard_without_experiments_raises_no_alert(mlflow: SimulatedMlflow, both: Handover, is_shard: bool) -> None:
    """MlflowTraceExporterNoProgress would fire after six hours. Without shards, a selector is wrong, and it should."""
    selected, mlflow.selected = mlflow.selected, {}
    both.old.reload(is_shard=is_shard)
    seen = set()
    for _ in range(3):
        both.run(HOUR_MS, 10 * MINUTE_MS)
        seen.add(both.old.reading.complete_until_s)
    assert len(seen) == (3 if is_shard else 1)
    assert not both.old.reading.behind
    mlflow.selected = selected
    mlflow.trace(mlflow.clock_ms - EPOCH_MS)
    both.run(10 * MINUTE_MS)
    assert both.old.traces == 1


@pytest.mark.parametrize(("earlier_ms", "is_told"), [(0, False), (HOUR_MS, True)])
def test_a_ledger_that_is_older_than_the_start_is_reported(
    mlflow: SimulatedMlflow, both: Handover, caplog: pytest.LogCaptureFixture, earlier_ms: int, is_told: bool
) -> None:
    """It is that of an earlier number of shards, and would read again what others have counted since."""
    mlflow.clock_ms = EPOCH_MS + T_MS + MINUTE_MS
    new = both.begin()
    new.run(2 * MINUTE_MS)
    with caplog.at_level(logging.WARNING):
        new.reload(origin_ms=EPOCH_MS + T_MS + earlier_ms)
    assert ("poll.start has no effect" in caplog.text) == is_told
