from dataclasses import replace

import pytest

from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.horizon import (
    AHEAD_MS,
    BUCKET_MS,
    Horizon,
    Kind,
    Pass,
    Window,
    after_page,
    begin,
    complete,
    due,
    first_closing_ms,
    forget,
    taken_back,
)
from tests.support.builders import LIMITS

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TUESDAY_MS = 20_000 * DAY_MS
NOON_MS = TUESDAY_MS + 12 * HOUR_MS


def clock(hours: int, minutes: int, seconds: int = 0, day: int = 0) -> int:
    return TUESDAY_MS + day * DAY_MS + hours * HOUR_MS + minutes * MINUTE_MS + seconds * 1000


NOW_MS = clock(12, 7, 15)
NOW = Clocks(NOW_MS)
HORIZON = Horizon(0, fresh_ms=clock(12, 7), closed_ms=clock(9, 50), retired_ms=clock(11, 50, day=-1))


def window(horizon: Horizon, kind: Kind, now_ms: int = NOW_MS, end_filter: bool = True) -> Window:
    return begin(horizon, kind, Clocks(now_ms), LIMITS, end_filter).under_way[kind].window


def test_the_example_of_the_module() -> None:
    two_days_ahead = clock(12, 7, 15, day=2)
    assert window(HORIZON, Kind.FRESH) == Window(clock(10, 7), two_days_ahead, clock(12, 5))
    assert window(HORIZON, Kind.CLOSING) == Window(clock(9, 50), clock(10, 0))
    assert window(HORIZON, Kind.RETIRING) == Window(clock(11, 50, day=-1), clock(12, 0, day=-1))
    for kind in (Kind.CLOSING, Kind.RETIRING):
        assert due(HORIZON, kind, Clocks(clock(12, 5)), LIMITS)
        assert not due(HORIZON, kind, Clocks(clock(12, 5) - 1), LIMITS)


@pytest.mark.parametrize("origin_ms", [clock(12, 7, 15), clock(12, 10), clock(12, 10) - 1])
def test_when_start_times_are_first_closed(origin_ms: int) -> None:
    horizon = replace(Horizon.at(origin_ms), fresh_ms=origin_ms)
    first_ms = first_closing_ms(horizon, LIMITS)
    assert first_ms is not None
    assert due(horizon, Kind.CLOSING, Clocks(first_ms), LIMITS)
    assert not due(horizon, Kind.CLOSING, Clocks(first_ms - 1), LIMITS)
    assert first_closing_ms(HORIZON, LIMITS) is None


def test_a_complete_closing_pass_closes_what_it_read_and_a_retiring_one_retires_it() -> None:
    closing = complete(begin(HORIZON, Kind.CLOSING, NOW, LIMITS), Kind.CLOSING, LIMITS)
    assert closing == replace(HORIZON, closed_ms=clock(10, 0))
    retiring = complete(begin(HORIZON, Kind.RETIRING, NOW, LIMITS), Kind.RETIRING, LIMITS)
    assert retiring == replace(HORIZON, retired_ms=clock(12, 0, day=-1))


def test_the_first_pass_reads_everything_and_closes_and_retires_all_that_is_old_enough() -> None:
    begun = begin(Horizon.at(7), Kind.FRESH, NOW, LIMITS)
    assert begun.under_way[Kind.FRESH].window == Window(7, NOW_MS + AHEAD_MS)
    assert complete(begun, Kind.FRESH, LIMITS) == Horizon(7, NOW_MS, clock(10, 0), clock(12, 0, day=-1))


def test_counting_from_now_closes_nothing_at_once() -> None:
    done = complete(begin(Horizon.at(NOW_MS), Kind.FRESH, NOW, LIMITS), Kind.FRESH, LIMITS)
    assert done == Horizon(NOW_MS, NOW_MS, NOW_MS, NOW_MS)
    assert not due(done, Kind.CLOSING, NOW, LIMITS)


def test_a_pass_by_end_time_closes_nothing() -> None:
    done = complete(begin(HORIZON, Kind.FRESH, NOW, LIMITS), Kind.FRESH, LIMITS)
    assert done == replace(HORIZON, fresh_ms=NOW_MS)


def test_a_pass_by_end_time_closes_nothing_after_the_lateness_was_raised_either() -> None:
    """Traces that became visible late during downtime ended before the end time of such a pass."""
    longer = replace(LIMITS, lateness_ms=3 * HOUR_MS)
    before = Horizon(0, fresh_ms=clock(12, 5), closed_ms=clock(10, 0), retired_ms=0)
    begun = begin(before, Kind.FRESH, Clocks(clock(15, 0)), longer)
    assert begun.under_way[Kind.FRESH].window.lo_ms <= before.closed_ms
    assert complete(begun, Kind.FRESH, longer).closed_ms == before.closed_ms


def test_a_full_pass_over_part_of_what_is_open_closes_nothing() -> None:
    gap = replace(HORIZON, under_way={Kind.FRESH: Pass(NOW_MS, HORIZON.closed_ms + 1, Window(NOW_MS, NOW_MS + 1))})
    assert complete(gap, Kind.FRESH, LIMITS).closed_ms == HORIZON.closed_ms


@pytest.mark.parametrize("away_ms", [2 * HOUR_MS + 1, 50 * HOUR_MS])
def test_after_a_long_downtime_all_open_start_times_are_read_and_closed(away_ms: int) -> None:
    now_ms = HORIZON.fresh_ms + away_ms if HORIZON.fresh_ms else 0
    begun = begin(HORIZON, Kind.FRESH, Clocks(now_ms), LIMITS)
    assert begun.under_way[Kind.FRESH].window == Window(HORIZON.closed_ms, now_ms + AHEAD_MS)
    closed_ms = complete(begun, Kind.FRESH, LIMITS).closed_ms
    assert now_ms - 2 * HOUR_MS - LIMITS.margin_ms - BUCKET_MS < closed_ms <= now_ms - 2 * HOUR_MS - LIMITS.margin_ms


def test_after_our_clock_was_ahead_all_open_start_times_are_read() -> None:
    ahead = replace(HORIZON, fresh_ms=NOW_MS + DAY_MS)
    assert window(ahead, Kind.FRESH) == Window(HORIZON.closed_ms, NOW_MS + AHEAD_MS)


def test_without_search_by_end_time_all_open_start_times_are_read() -> None:
    assert window(HORIZON, Kind.FRESH, end_filter=False) == Window(HORIZON.closed_ms, NOW_MS + AHEAD_MS)


def test_a_pass_by_end_time_restarts_if_the_server_does_not_support_it_any_more() -> None:
    cut_short = after_page(begin(HORIZON, Kind.FRESH, NOW, LIMITS), Kind.FRESH, NOW_MS)
    assert window(cut_short, Kind.FRESH, end_filter=False) == Window(HORIZON.closed_ms, NOW_MS + AHEAD_MS)


def test_nothing_before_the_origin_or_what_is_retired_is_read() -> None:
    fresh_ms = clock(12, 7)
    young = Horizon(clock(12, 3), fresh_ms, clock(12, 3), clock(12, 3))
    assert window(young, Kind.FRESH).lo_ms == clock(12, 3)


def test_an_interrupted_pass_resumes_and_covers_what_was_visible_when_it_began() -> None:
    cut_short = after_page(begin(Horizon.at(0), Kind.FRESH, NOW, LIMITS), Kind.FRESH, 5_000)
    assert cut_short.fresh_ms is None
    resumed = begin(cut_short, Kind.FRESH, Clocks(NOW_MS + DAY_MS), LIMITS)
    assert resumed.under_way[Kind.FRESH].window == Window(5_000, NOW_MS + AHEAD_MS)
    done = complete(resumed, Kind.FRESH, LIMITS)
    assert (done.fresh_ms, done.closed_ms) == (NOW_MS, clock(10, 0))


def test_a_pass_under_way_skips_start_times_retired_in_the_meantime() -> None:
    both = begin(begin(Horizon.at(0), Kind.FRESH, NOW, LIMITS), Kind.CLOSING, NOW, LIMITS)
    done = complete(both, Kind.FRESH, LIMITS)
    assert done.under_way[Kind.CLOSING].window.lo_ms == done.retired_ms == clock(12, 0, day=-1)


def test_new_traces_are_searched_up_to_the_later_clock() -> None:
    behind = Clocks(own_ms=NOW_MS, server_ms=NOW_MS - 3 * DAY_MS)
    begun = begin(HORIZON, Kind.FRESH, behind, LIMITS).under_way[Kind.FRESH]
    assert begun == Pass(NOW_MS - 3 * DAY_MS, HORIZON.closed_ms, Window(HORIZON.closed_ms, NOW_MS + AHEAD_MS))
    assert not due(HORIZON, Kind.CLOSING, behind, LIMITS)


KEPT = replace(HORIZON, forgotten_ms=clock(10, 40, day=-1))


def test_marks_of_a_clock_that_was_a_week_ahead_are_taken_back_as_far_as_ids_are_kept() -> None:
    ahead = complete(begin(KEPT, Kind.FRESH, Clocks(NOW_MS + 7 * DAY_MS), LIMITS), Kind.FRESH, LIMITS)
    assert ahead.closed_ms == clock(10, 0, day=7)
    back = taken_back(ahead, NOW_MS, NOW_MS, LIMITS)
    assert back == Horizon(0, None, clock(10, 0), clock(10, 50, day=-1), {}, KEPT.forgotten_ms)
    assert window(back, Kind.FRESH) == Window(clock(10, 0), NOW_MS + AHEAD_MS), "a full pass"


def test_what_became_visible_while_a_clock_was_ahead_is_not_closed() -> None:
    """The pass ran an hour ago, and the last trace that it counted had just started."""
    ahead = complete(begin(KEPT, Kind.FRESH, Clocks(NOW_MS + 7 * DAY_MS), LIMITS), Kind.FRESH, LIMITS)
    assert taken_back(ahead, NOW_MS + HOUR_MS, NOW_MS, LIMITS).closed_ms == clock(10, 0)
    assert taken_back(ahead, NOW_MS + HOUR_MS, 0, LIMITS).closed_ms == KEPT.readable_ms


@pytest.mark.parametrize("by_ms", [0, 1, LIMITS.margin_ms, -LIMITS.margin_ms])
def test_marks_that_a_clock_allows_stay(by_ms: int) -> None:
    done = complete(begin(KEPT, Kind.CLOSING, NOW, LIMITS), Kind.CLOSING, LIMITS)
    assert taken_back(done, NOW_MS + by_ms, NOW_MS, LIMITS) is done


def test_a_pass_that_began_by_a_clock_that_was_ahead_restarts() -> None:
    begun = begin(KEPT, Kind.FRESH, Clocks(NOW_MS + DAY_MS), LIMITS)
    assert taken_back(begun, NOW_MS, NOW_MS, LIMITS).under_way == {}


def test_an_origin_by_a_clock_that_was_ahead_becomes_now() -> None:
    ahead = complete(
        begin(Horizon.at(NOW_MS + DAY_MS), Kind.FRESH, Clocks(NOW_MS + DAY_MS), LIMITS), Kind.FRESH, LIMITS
    )
    assert taken_back(ahead, NOW_MS, NOW_MS, LIMITS) == Horizon(NOW_MS, None, NOW_MS, NOW_MS)


def test_longer_limits_reopen_start_times_as_far_as_ids_are_kept() -> None:
    before = Horizon(0, NOW_MS, clock(11, 40), clock(10, 30), {}, forgotten_ms=clock(9, 0))
    longer = replace(LIMITS, lateness_ms=HOUR_MS, audit_horizon_ms=DAY_MS)
    back = taken_back(before, NOW_MS, NOW_MS, longer)
    assert (back.closed_ms, back.retired_ms) == (clock(11, 0), clock(9, 10))
    assert taken_back(back, NOW_MS, NOW_MS, longer) is back


def test_ids_are_forgotten_a_bucket_behind_what_is_retired_and_not_by_a_clock_alone() -> None:
    assert forget(KEPT, KEPT.retired_ms, NOW_MS, LIMITS).forgotten_ms == clock(11, 40, day=-1)
    assert forget(KEPT, KEPT.retired_ms, clock(11, 0), LIMITS).forgotten_ms == clock(10, 45, day=-1)
    assert forget(KEPT, clock(10, 0, day=7), NOW_MS, LIMITS).forgotten_ms == clock(11, 52, 15, day=-1)
    assert forget(KEPT, KEPT.retired_ms, 0, LIMITS) == KEPT, "never backwards"
