"""When increments are exposed: new series are held at 0, idle ones sleep."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mlflow_trace_exporter.counting.release import SeriesSettings
from mlflow_trace_exporter.domain.objectives import Objective, Objectives
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.settings.config import Buckets
from tests.support.builders import METER
from tests.support.rig import HOUR_MS, INTERVAL_MS, MINUTE_MS, TRACES, Rig, cells
from tests.support.simulated import EPOCH_MS, SimulatedMlflow

HELD = SeriesSettings(zero_hold_s=30, ttl_ms=2 * HOUR_MS)


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> Rig:
    held: Rig = make_rig(mlflow, series=HELD)
    return held


def old_traces(mlflow: SimulatedMlflow, count: int) -> None:
    """Traces that are counted at first sight."""
    for _ in range(count):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS - HOUR_MS)


def test_a_new_series_is_shown_at_0_for_the_hold_and_then_at_its_value(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 7)
    shown = []
    for _ in range(4):
        rig.tick()
        shown.append(rig.traces)
    assert shown == [0, 0, 7, 7]
    assert rig.total("mlflow_trace_input_tokens_total") == 7
    assert rig.total("mlflow_trace_duration_seconds") == 7 + 0, "a bucket, and a sum of 0"


@pytest.mark.parametrize("finalized", [True, False])
def test_a_new_series_is_held_while_its_first_trace_is_pending(
    rig: Rig, mlflow: SimulatedMlflow, finalized: bool
) -> None:
    """The hold and the wait until the trace is final run at the same time."""
    rig.tick()
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, finalized=finalized)
    rig.tick()
    assert ("chatbot", "production") in rig.reading.running
    rig.tick()
    rig.tick(INTERVAL_MS - 1)
    assert rig.traces == 0
    rig.wait(1)
    assert rig.traces == 1


def test_the_series_of_a_trace_without_labels_are_not_begun_before_it_is_counted(
    rig: Rig, mlflow: SimulatedMlflow
) -> None:
    """Its spans came before its tags: MLflow shows the trace without an environment for a moment."""
    rig.tick()
    trace = mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, finalized=False)
    mlflow.change(trace, tags={})
    rig.tick()
    mlflow.change(trace, tags=trace.tags, finalized=True)
    rig.run(2 * MINUTE_MS)
    assert {labels[1] for labels in rig.labels()} == {"production"}
    assert list(rig.reading.running) == [("chatbot", "production")]


def test_all_series_of_a_label_set_exist_while_it_is_held(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 1)
    rig.tick()
    held = set(cells(rig.published[-1]))
    rig.settle()
    assert set(cells(rig.published[-1])) == held
    assert {cell.labels[-1] for cell in held if cell.family == "mlflow_trace_duration_seconds"} == {"ok", "error"}


def test_increments_during_the_hold_are_exposed_with_the_rest(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 7)
    for _ in range(2):
        mlflow.trace(start_ms=0)  # counted by the second poll
    rig.run(2 * INTERVAL_MS)
    assert rig.traces == 0
    rig.tick()
    assert rig.traces == 9


def test_a_known_series_is_not_held_again(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 7)
    rig.settle()
    old_traces(mlflow, 1)
    rig.run(2 * MINUTE_MS)
    assert rig.traces == 8
    rig.restart()
    assert rig.traces == 8, "nor after a restart: exposed values must not be withdrawn"


def test_a_series_that_is_held_at_a_restart_is_held_from_there(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 7)
    rig.tick()
    rig.restart()
    assert rig.traces == 0
    rig.tick()
    assert rig.traces == 0
    rig.tick()
    assert rig.traces == 7


def test_a_series_without_increments_sleeps_and_returns_at_the_value_it_slept_with(
    rig: Rig, mlflow: SimulatedMlflow
) -> None:
    old_traces(mlflow, 7)
    rig.run(2 * HOUR_MS - MINUTE_MS, every_ms=MINUTE_MS)
    assert rig.traces == 7
    rig.run(2 * MINUTE_MS, every_ms=MINUTE_MS)
    assert not rig.labels(), "it is no longer exposed"
    rig.restart()
    assert not rig.labels()
    old_traces(mlflow, 2)
    rig.run(2 * MINUTE_MS, every_ms=INTERVAL_MS)
    shown = [each.totals[TRACES].values() for each in rig.published if each.totals.get(TRACES)]
    totals = [sum(value for (value,) in values) for values in shown]
    assert totals[:2] == [7, 7]
    assert totals[-1] == 9


def test_metrics_about_the_exporter_are_always_exposed(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 1)
    rig.run(5 * HOUR_MS, every_ms=10 * MINUTE_MS)
    assert {family for family, series in rig.published[-1].totals.items() if series} == {
        "mlflow_trace_exporter_changed_after_count_total",
        "mlflow_trace_exporter_corrected_after_count_total",
        "mlflow_trace_exporter_duplicate_reads_total",
        "mlflow_trace_exporter_label_overflow_total",
        "mlflow_trace_exporter_late_traces_total",
        "mlflow_trace_exporter_ledger_resets_total",
        "mlflow_trace_exporter_left_out_traces_total",
        "mlflow_trace_exporter_reopened_total",
    }


def test_nothing_sleeps_while_the_time_is_unknown(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 7)
    rig.settle()
    mlflow.clock_ms += 5 * HOUR_MS
    rig.restart()
    assert rig.traces == 7


OBJECTIVES_APART = [
    Objectives((Objective(environment="production", error_ratio=0.05, latency_s=5.0, latency_ratio=0.95),)),
    Objectives((Objective(environment="production", error_ratio=0.05),)),
]
SLOW = "mlflow_trace_slow_total"


def with_objectives(objectives: Objectives) -> Meter:
    edges = Buckets()
    families = trace_families(edges.duration_seconds, edges.tokens, objectives=objectives)
    return replace(METER, families=families, objectives=objectives)


def slow_traces(mlflow: SimulatedMlflow, count: int) -> None:
    for _ in range(count):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS - HOUR_MS, duration_ms=6_000)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("sleeps", [False, True])
def test_a_counter_whose_objective_goes_and_comes_back_never_falls(
    rig: Rig, mlflow: SimulatedMlflow, sleeps: bool, restarts: bool
) -> None:
    """The values at rest are those that were exposed, even if the current configuration would not expose them."""
    latency, none = map(with_objectives, OBJECTIVES_APART)
    shown: list[float] = []

    def run(for_ms: int, every_ms: int = MINUTE_MS) -> None:
        for _ in range(for_ms // every_ms):
            rig.tick(every_ms)
            shown.extend(value for (value,) in rig.published[-1].totals.get(SLOW, {}).values())

    rig.reload(latency)
    slow_traces(mlflow, 7)
    run(5 * MINUTE_MS)
    rig.reload(none)
    slow_traces(mlflow, 1)
    run(3 * HOUR_MS if sleeps else 5 * MINUTE_MS)
    if restarts:
        rig.restart()
    if sleeps:
        assert not rig.labels(SLOW), "it sleeps with its group"
    slow_traces(mlflow, 1)
    run(5 * MINUTE_MS)
    rig.reload(latency)
    run(MINUTE_MS)
    slow_traces(mlflow, 1)
    run(5 * MINUTE_MS)
    assert shown[0] == 0
    assert shown == sorted(shown)
    assert shown[-1] == 8
    rig.run(3 * HOUR_MS, every_ms=10 * MINUTE_MS)
    assert not rig.labels(SLOW)
    shown.clear()
    slow_traces(mlflow, 1)
    run(4 * MINUTE_MS, every_ms=INTERVAL_MS)
    assert (shown[0], shown[-1]) == (8, 9), "it returns at the value it slept with"


def test_a_counter_that_is_held_when_its_objective_goes_is_not_shown_early(rig: Rig, mlflow: SimulatedMlflow) -> None:
    latency, none = map(with_objectives, OBJECTIVES_APART)
    rig.reload(latency)
    slow_traces(mlflow, 7)
    rig.tick()
    rig.reload(none)
    rig.tick(1_000)
    assert rig.total(SLOW) == 0
    rig.settle()
    assert rig.total(SLOW) == 7
