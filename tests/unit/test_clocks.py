import pytest

from exporter.clocks import PLAUSIBLE_MS, Clocks

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("clocks", "earliest_ms", "latest_ms", "difference_s"),
    [
        (Clocks(NOW_MS), NOW_MS, NOW_MS, None),
        (Clocks(NOW_MS, NOW_MS - 5_000), NOW_MS - 5_000, NOW_MS, -5),
        (Clocks(NOW_MS, NOW_MS + 5_000), NOW_MS, NOW_MS + 5_000, 5),
        (Clocks(NOW_MS, 1_000), NOW_MS, NOW_MS, 1 - NOW_MS / 1000),
        (Clocks(0, NOW_MS), NOW_MS, NOW_MS, NOW_MS / 1000),
        (Clocks(NOW_MS, PLAUSIBLE_MS - 1), NOW_MS, NOW_MS, (PLAUSIBLE_MS - 1 - NOW_MS) / 1000),
        (Clocks(7, 3), 7, 7, -0.004),
    ],
)
def test_a_clock_that_was_never_set_is_not_asked(
    clocks: Clocks, earliest_ms: int, latest_ms: int, difference_s: float | None
) -> None:
    assert (clocks.earliest_ms, clocks.latest_ms, clocks.difference_s) == (earliest_ms, latest_ms, difference_s)
