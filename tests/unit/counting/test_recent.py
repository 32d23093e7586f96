from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlflow_trace_exporter.counting.recent import GROWING_AGAIN_MS, Recent
from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.tracking.features import Feature
from tests.support.builders import LIMITS, record
from tests.support.rig import HOUR_MS, INTERVAL_MS, MINUTE_MS, Rig
from tests.support.simulated import EPOCH_MS, SimulatedMlflow

START_MS, END_MS, SEEN_MS = 1_000, 2_500, 5_000
EVERYTHING = Window(0, 10_000, 0)


def recent(**fields: Any) -> Recent:
    found = Recent()
    found.note([record(**fields)], 0)
    return found


def test_a_complete_trace_need_not_be_read_again_while_passes_reach_back_to_it() -> None:
    found = recent()
    for now_ms in (SEEN_MS, 10**12):
        assert found.inside(Window(START_MS, 10_000, END_MS), now_ms) == [(START_MS, "tr-1")]


@pytest.mark.parametrize("window", [Window(0, 10_000, END_MS + 1), Window(START_MS + 1, 10_000, 0)])
def test_what_no_later_pass_reaches_back_to_is_forgotten(window: Window) -> None:
    found = recent()
    assert not found.inside(window, SEEN_MS)
    assert not found.inside(EVERYTHING, SEEN_MS)
    older = Recent()
    older.note([record()], END_MS + 1)
    assert not older.inside(EVERYTHING, SEEN_MS), "it is not even remembered"


@pytest.mark.parametrize("lacks", [{"finalized": False}, {"cost": None}, {"usage": None}])
def test_a_trace_that_may_grow_is_read_again_now_and_then(lacks: dict[str, Any]) -> None:
    found = recent(**lacks)
    assert found.inside(EVERYTHING, SEEN_MS + GROWING_AGAIN_MS - 1)
    assert not found.inside(EVERYTHING, SEEN_MS + GROWING_AGAIN_MS)
    found.note([record(seen_ms=SEEN_MS + GROWING_AGAIN_MS, **lacks)], 0)
    assert found.inside(EVERYTHING, SEEN_MS + GROWING_AGAIN_MS)


def test_a_running_trace_is_always_read() -> None:
    assert not recent(state=State.IN_PROGRESS).inside(EVERYTHING, SEEN_MS)


def test_traces_are_ordered_by_start_and_can_be_forgotten() -> None:
    found = Recent()
    found.note((record(trace_id=f"tr-{number}", start_ms=start_ms) for number, start_ms in enumerate((7, 5, 6))), 0)
    assert found.inside(EVERYTHING, SEEN_MS) == [(5, "tr-1"), (6, "tr-2"), (7, "tr-0")]
    found.forget(["tr-1", "tr-9"])
    assert found.inside(EVERYTHING, SEEN_MS) == [(6, "tr-2"), (7, "tr-0")]
    found.clear()
    assert not found.inside(EVERYTHING, SEEN_MS)


def remembered(rig: Rig) -> int:
    """How many traces the reader of a rig keeps in memory."""
    return len(rig.poller._reader._recent._reads)


def test_a_long_catch_up_is_not_kept_in_memory(make_rig: Callable[..., Rig], mlflow: SimulatedMlflow) -> None:
    for minute in range(600):
        mlflow.trace(start_ms=-minute * MINUTE_MS - HOUR_MS)
    rig = make_rig(mlflow)
    rig.tick()
    assert (rig.traces, remembered(rig)) == (600, 0)


@pytest.mark.parametrize("ahead_ms", [0, HOUR_MS])
@pytest.mark.parametrize("lacks", [frozenset(), frozenset({Feature.END_TIME_FILTER})])
def test_memory_is_flat(
    make_rig: Callable[..., Rig], mlflow: SimulatedMlflow, lacks: frozenset[Feature], ahead_ms: int
) -> None:
    """Also if a server cannot filter by end, and if ends are in the future because a duration is wrong."""
    mlflow.lacks = set(lacks)
    rig = make_rig(mlflow, limits=replace(LIMITS, lateness_ms=20 * MINUTE_MS))
    most = 0
    for _ in range(4 * 60):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, duration_ms=ahead_ms * 24)
        rig.tick(MINUTE_MS)
        most = max(most, remembered(rig))
    assert most <= (0 if lacks else 3 if ahead_ms == 0 else 40)


def test_a_pending_trace_that_a_look_up_does_not_find_is_read_again_when_it_is_there(
    rig: Rig, mlflow: SimulatedMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read replica lags behind, or an experiment was deleted and restored."""
    mlflow.lacks = {Feature.TRACE_METRICS}
    rig.tick()
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    rig.tick()
    with monkeypatch.context() as patched:
        patched.setattr(mlflow, "get", lambda lookups: iter([list[TraceRecord]() for _ in lookups]))
        rig.wait(INTERVAL_MS)
    assert rig.reading.pending == 0
    rig.tick()
    rig.wait(INTERVAL_MS)
    assert rig.traces == 1
