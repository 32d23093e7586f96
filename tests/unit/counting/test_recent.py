from typing import Any

import pytest

from mlflow_trace_exporter.counting.recent import GROWING_AGAIN_MS, Recent
from mlflow_trace_exporter.domain.trace import State
from tests.support.builders import record

END_MS = 2_500
SEEN_MS = 5_000


def recent(**fields: Any) -> Recent:
    found = Recent()
    found.note([record(**fields)])
    return found


def test_a_complete_trace_need_not_be_read_again_while_passes_reach_back_to_it() -> None:
    found = recent()
    assert found.ended_since(END_MS, SEEN_MS) == found.ended_since(END_MS, 10**12) == [(1_000, "tr-1")]
    assert not found.ended_since(END_MS + 1, SEEN_MS)
    assert not found.ended_since(0, SEEN_MS), "it is forgotten"


@pytest.mark.parametrize("lacks", [{"finalized": False}, {"cost": None}, {"usage": None}])
def test_a_trace_that_may_grow_is_read_again_now_and_then(lacks: dict[str, Any]) -> None:
    found = recent(**lacks)
    assert found.ended_since(0, SEEN_MS + GROWING_AGAIN_MS - 1)
    assert not found.ended_since(0, SEEN_MS + GROWING_AGAIN_MS)
    found.note([record(seen_ms=SEEN_MS + GROWING_AGAIN_MS, **lacks)])
    assert found.ended_since(0, SEEN_MS + GROWING_AGAIN_MS)


def test_a_running_trace_is_always_read() -> None:
    assert not recent(state=State.IN_PROGRESS).ended_since(0, SEEN_MS)


def test_traces_are_ordered_by_start() -> None:
    found = Recent()
    found.note(record(trace_id=f"tr-{number}", start_ms=start_ms) for number, start_ms in enumerate((7, 5, 6)))
    assert found.ended_since(0, SEEN_MS) == [(5, "tr-1"), (6, "tr-2"), (7, "tr-0")]
    found.clear()
    assert not found.ended_since(0, SEEN_MS)
