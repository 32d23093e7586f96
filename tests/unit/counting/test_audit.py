from mlflow_trace_exporter.counting.audit import Span, closed_span, missing, open_span
from mlflow_trace_exporter.domain.horizon import AHEAD_MS, BUCKET_MS, Horizon, Window
from tests.support.builders import LIMITS

DAY_MS = 86_400_000
HORIZON = Horizon(0, fresh_ms=4 * DAY_MS, closed_ms=4 * DAY_MS - BUCKET_MS, retired_ms=3 * DAY_MS)


def test_open_starts_are_compared_by_the_minute_up_to_those_of_clocks_that_are_ahead() -> None:
    assert open_span(HORIZON, 4 * DAY_MS) == Span(Window(HORIZON.closed_ms, 4 * DAY_MS + AHEAD_MS), 60_000)


def test_closed_starts_are_compared_by_the_bucket_and_as_far_back_again_as_the_audit_horizon() -> None:
    assert closed_span(HORIZON, LIMITS) == Span(Window(2 * DAY_MS, HORIZON.closed_ms), BUCKET_MS)


def test_nothing_before_the_origin_is_compared() -> None:
    young = Horizon.at(4 * DAY_MS + 7)
    assert closed_span(young, LIMITS).window.lo_ms == young.origin_ms
    assert open_span(young, young.origin_ms).step(4 * DAY_MS) == Window(young.origin_ms, 4 * DAY_MS + 60_000)


def test_missing_is_what_mlflow_has_more_of() -> None:
    assert missing({0: 5, 60: 3, 120: 1, 180: 2}, {0: 5, 60: 1, 120: 9}) == {60: 2, 180: 2}
