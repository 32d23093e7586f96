"""Which traces to read next. Pure arithmetic on Unix milliseconds: no I/O, and no clock of its own.

A trace carries its START time but becomes visible only after its END, so "everything newer than the last one I saw"
loses every trace that ran longer than its neighbours. The fresh pass asks by END time instead, inside a range of start
times that keeps the question cheap (MLflow's index is on the start). An example, with a lateness of 2 h and the overlap
of 120 s:

    the last complete pass started at 12:00:00; it is now 12:00:15
    start in [10:00:00, two days from now)   calls that ran for up to two hours
    end   >= 11:58:00                        what ended, or became visible, while the last pass was under way

What is read twice because of the overlap is recognised by its id in the ledger.

A pass moves forward by start time, page by page, and its position is stored with the counts of each page. A pass that
is cut short (by an error, a stop, a crash) is therefore taken up where it was left, and only a complete pass moves
``fresh_ms``.
"""

from dataclasses import dataclass, replace

from exporter.trace import SETTLE_MS

OVERLAP_MS = 2 * SETTLE_MS
"""How far the question by end time reaches back behind the start of the last complete pass. A trace that a pass leaves
alone because it has not settled ended less than SETTLE_MS before it was read, so the next pass reads it again."""

AHEAD_MS = 2 * 24 * 3_600_000
"""How far ahead of ours the clock of a traced application may be."""


@dataclass(frozen=True, slots=True)
class Window:
    """Traces that start in [lo_ms, hi_ms) and, where ``ended_after_ms`` is set, end at it or later."""

    lo_ms: int
    hi_ms: int
    ended_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FreshPass:
    """A fresh pass under way: when it started, and what it still has to read."""

    started_ms: int
    window: Window


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far reading has come; stored in the ledger in the same transaction as the counts it belongs to.

    ``origin_ms``: traces that started earlier are never counted. ``fresh_ms``: when the last complete fresh pass
    started, None before the first. ``under_way``: the pass that has begun and is not complete.
    """

    origin_ms: int
    fresh_ms: int | None = None
    under_way: FreshPass | None = None


def begin_pass(horizon: Horizon, now_ms: int, lateness_ms: int) -> Horizon:
    """The horizon with a fresh pass under way: the one that was cut short, or else a new one from ``now_ms``."""
    if horizon.under_way is not None:
        return horizon
    return replace(horizon, under_way=FreshPass(now_ms, _fresh_window(horizon, now_ms, lateness_ms)))


def _fresh_window(horizon: Horizon, now_ms: int, lateness_ms: int) -> Window:
    hi_ms = now_ms + AHEAD_MS
    if horizon.fresh_ms is None:
        return Window(horizon.origin_ms, hi_ms)
    lo_ms = max(horizon.origin_ms, min(horizon.fresh_ms, now_ms) - lateness_ms)
    if horizon.fresh_ms > now_ms:  # our clock was ahead, so the end times that it asked for meant nothing
        return Window(lo_ms, hi_ms)
    return Window(lo_ms, hi_ms, horizon.fresh_ms - OVERLAP_MS)


def after_page(horizon: Horizon, next_lo_ms: int) -> Horizon:
    """The horizon once a page is read: the pass under way goes on at ``next_lo_ms``."""
    assert horizon.under_way is not None, "a page belongs to a pass"
    window = replace(horizon.under_way.window, lo_ms=next_lo_ms)
    return replace(horizon, under_way=replace(horizon.under_way, window=window))


def complete_pass(horizon: Horizon) -> Horizon:
    """The horizon once the last page of the pass under way is read."""
    assert horizon.under_way is not None, "only a pass that has begun can end"
    return replace(horizon, fresh_ms=horizon.under_way.started_ms, under_way=None)
