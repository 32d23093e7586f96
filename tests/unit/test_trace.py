import pytest

from exporter.trace import FILL_MS, SETTLE_MS, State
from tests.builders import record


@pytest.mark.parametrize(
    ("state", "finalized", "age_ms", "final"),
    [
        (State.OK, True, FILL_MS - 1, False),
        (State.OK, True, FILL_MS, True),
        (State.ERROR, True, FILL_MS, True),
        (State.IN_PROGRESS, True, 10 * SETTLE_MS, False),
        (State.OK, False, SETTLE_MS - 1, False),
        (State.OK, False, SETTLE_MS, True),
        (State.ERROR, False, SETTLE_MS, True),
        (State.OK, False, -SETTLE_MS, False),
    ],
)
def test_when_a_trace_is_final(state: State, finalized: bool, age_ms: int, final: bool) -> None:
    end_ms = 2_500
    assert record(state=state, finalized=finalized, seen_ms=end_ms + age_ms).final is final


def test_a_cost_that_is_still_to_come_is_waited_for() -> None:
    end_ms = 2_500
    assert not record(cost=None, seen_ms=end_ms + SETTLE_MS - 1).final
    assert record(cost=None, seen_ms=end_ms + SETTLE_MS).final
    assert record(usage=None, cost=None, seen_ms=end_ms + FILL_MS).final, "without tokens there is none to come"


def test_without_a_duration_the_start_decides() -> None:
    assert not record(finalized=False, duration_ms=None, seen_ms=1_000 + SETTLE_MS - 1).final
    assert record(finalized=False, duration_ms=None, seen_ms=1_000 + SETTLE_MS).final
