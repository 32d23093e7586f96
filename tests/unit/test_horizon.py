from exporter.horizon import AHEAD_MS, OVERLAP_MS, Horizon, Window, after_page, begin_pass, complete_pass

HOUR_MS = 3_600_000
NOON_MS = 12 * HOUR_MS
LATENESS_MS = 2 * HOUR_MS


def window_of(horizon: Horizon) -> Window:
    assert horizon.under_way is not None
    return horizon.under_way.window


def test_first_pass_reads_everything_since_the_origin() -> None:
    begun = begin_pass(Horizon(origin_ms=7), NOON_MS, LATENESS_MS)
    assert window_of(begun) == Window(7, NOON_MS + AHEAD_MS, ended_after_ms=None)


def test_next_pass_reads_what_ended_since_the_last_one_began_less_the_overlap() -> None:
    begun = begin_pass(Horizon(0, fresh_ms=NOON_MS), NOON_MS + 15_000, LATENESS_MS)
    assert window_of(begun) == Window(10 * HOUR_MS, NOON_MS + 15_000 + AHEAD_MS, NOON_MS - OVERLAP_MS)


def test_nothing_before_the_origin_is_read() -> None:
    begun = begin_pass(Horizon(NOON_MS - 5, fresh_ms=NOON_MS), NOON_MS + 15_000, LATENESS_MS)
    assert window_of(begun).lo_ms == NOON_MS - 5


def test_after_a_long_outage_the_window_reaches_back_to_before_it() -> None:
    begun = begin_pass(Horizon(0, fresh_ms=NOON_MS), NOON_MS + 50 * HOUR_MS, LATENESS_MS)
    assert window_of(begun).lo_ms == 10 * HOUR_MS
    assert window_of(begun).ended_after_ms == NOON_MS - OVERLAP_MS


def test_after_our_clock_was_ahead_everything_since_the_lateness_is_read() -> None:
    now_ms = NOON_MS - HOUR_MS
    begun = begin_pass(Horizon(0, fresh_ms=NOON_MS), now_ms, LATENESS_MS)
    assert window_of(begun) == Window(now_ms - LATENESS_MS, now_ms + AHEAD_MS, ended_after_ms=None)


def test_a_pass_cut_short_goes_on_where_it_was_and_only_a_complete_one_counts() -> None:
    begun = begin_pass(Horizon(0), NOON_MS, LATENESS_MS)
    cut_short = after_page(begun, 5_000)
    assert cut_short.fresh_ms is None

    resumed = begin_pass(cut_short, NOON_MS + HOUR_MS, LATENESS_MS)
    assert window_of(resumed) == Window(5_000, NOON_MS + AHEAD_MS)

    done = complete_pass(resumed)
    assert done == Horizon(0, fresh_ms=NOON_MS), "it covers what was there when it began, not when it was resumed"
