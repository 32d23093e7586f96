"""Which traces to read next, and what is known to be complete. Pure arithmetic on Unix milliseconds: no I/O, no clock.

A trace carries its START time but becomes visible only after its END, so "everything newer than the last one I saw"
loses every trace that ran longer than its neighbours. So start times are read three times, each time by a pass over a
range of them. With a lateness L of 2 h, an audit horizon D of 24 h, a margin of 5 min and an overlap of 2 min, at
12:07:15 on a Tuesday, the last fresh pass having started at 12:07:00:

    fresh     start in [10:07:00, Thursday 12:07:15), end >= 12:05:00     what ended since then: at every tick
    closing   start in [09:50, 10:00)                                     is due since 10:00 + L + margin = 12:05
    retiring  start in [Monday 11:50, Monday 12:00)                       is due since 12:00 + D + margin = 12:05

The fresh pass makes it quick, the other two make it certain. A pass is *full* if it asks for starts alone, and a full
pass over [a, b) that started at t has seen whatever was visible at t. So once it is complete:

    closed up to   t - L - margin, or b: every trace that was visible within L of its start is known
    retired up to  t - D - margin, or b: likewise within D; nothing before it is read again

in whole buckets of ten minutes, and never with a gap: a pass that begins after ``closed_ms`` does not move it. No clock
moves either mark by itself. The margin is for applications whose clock is behind.

The time t comes from clocks that can be wrong, and marks made by a clock that was a week ahead would keep everything
unread for a week. So a mark that is ahead of what the clocks allow now is taken back (``taken_back``), and the ids that
this needs are kept: an id is forgotten only when its start has been retired for an hour of a clock that nobody sets,
and when traces are known that started D after it. What is forgotten cannot be read again, or it would count twice.

A pass moves forward by start time, page by page, and its position is stored with the counts of each page. A pass that
is cut short (by an error, a stop, a crash) is taken up where it was left, with the time at which it started.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from mlflow_trace_exporter.domain.clocks import Clocks

BUCKET_MS = 600_000
"""Start times are closed and retired in steps of this."""

AHEAD_MS = 2 * 24 * 3_600_000
"""How far ahead of ours the clock of a traced application may be."""

STAND_S = 3_600.0
"""For how long a start time must have been retired before the ids of its traces are forgotten."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is promised. ``lateness_ms`` (L) and ``audit_horizon_ms`` (D): how long after its start a trace may become
    visible to be counted by the closing and by the retiring pass. ``margin_ms``: how far an application's clock may be
    behind. ``overlap_ms``: how far the fresh pass reaches back behind the start of the last one."""

    lateness_ms: int
    audit_horizon_ms: int
    margin_ms: int
    overlap_ms: int


@dataclass(frozen=True, slots=True)
class Window:
    """Traces that start in [lo_ms, hi_ms) and, where ``ended_after_ms`` is set, end at it or later."""

    lo_ms: int
    hi_ms: int
    ended_after_ms: int | None = None


class Kind(Enum):
    """What a pass is for."""

    FRESH = "fresh"
    CLOSING = "closing"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass under way: when it started, where, and the window that it still has to read."""

    started_ms: int
    from_ms: int
    window: Window


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far reading has come; stored in the ledger in the same transaction as the counts it belongs to.

    ``origin_ms``: traces that started earlier are never counted. ``fresh_ms``: when the last complete fresh pass
    started, None before the first. ``closed_ms`` and ``retired_ms``: see the module. ``under_way``: passes that have
    begun and are not complete. ``forgotten_ms``: the ids of traces that started earlier are forgotten.
    """

    origin_ms: int
    fresh_ms: int | None
    closed_ms: int
    retired_ms: int
    under_way: Mapping[Kind, Pass] = field(default_factory=dict)
    forgotten_ms: int = 0

    @property
    def readable_ms(self) -> int:
        """From which start times on traces can be read without counting one twice. A bucket after what is forgotten:
        should a start move by less than that after it was counted, its id is still known at its new place."""
        return max(self.origin_ms, self.forgotten_ms + BUCKET_MS)

    @classmethod
    def at(cls, origin_ms: int) -> "Horizon":
        """The horizon before anything is read."""
        return cls(origin_ms, None, origin_ms, origin_ms)


def due(horizon: Horizon, kind: Kind, now: Clocks, limits: Limits) -> bool:
    """Whether there is something to read for a pass of this kind."""
    return kind in horizon.under_way or _window(horizon, kind, now, limits) is not None


def begin(horizon: Horizon, kind: Kind, now: Clocks, limits: Limits, end_filter: bool = True) -> Horizon:
    """The horizon with this pass under way: the one that was cut short, or else, where one is due, a new one.

    ``end_filter``: whether the server can be asked by end time. If not then every fresh pass is a full one.
    """
    cut_short = horizon.under_way.get(kind)
    if cut_short and (end_filter or cut_short.window.ended_after_ms is None):
        return horizon
    window = _window(horizon, kind, now, limits)
    if kind is Kind.FRESH and not end_filter:
        window = _everything_open(horizon, now)
    return horizon if window is None else _with(horizon, kind, Pass(now.earliest_ms, window.lo_ms, window))


def after_page(horizon: Horizon, kind: Kind, next_lo_ms: int) -> Horizon:
    """The horizon once a page is read: the pass under way goes on at ``next_lo_ms``."""
    at = horizon.under_way[kind]
    return _with(horizon, kind, replace(at, window=replace(at.window, lo_ms=next_lo_ms)))


def complete(horizon: Horizon, kind: Kind, limits: Limits) -> Horizon:
    """The horizon once the last page of the pass under way is read. The one place where start times are closed."""
    done = horizon.under_way[kind]
    closed_ms, retired_ms = horizon.closed_ms, horizon.retired_ms
    if done.window.ended_after_ms is None:
        if done.from_ms <= closed_ms:
            closed_ms = max(closed_ms, _covered(done, limits.lateness_ms, limits))
        if done.from_ms <= retired_ms:
            retired_ms = max(retired_ms, min(closed_ms, _covered(done, limits.audit_horizon_ms, limits)))
    return Horizon(
        horizon.origin_ms,
        done.started_ms if kind is Kind.FRESH else horizon.fresh_ms,
        closed_ms,
        retired_ms,
        {other: _from(retired_ms, each) for other, each in horizon.under_way.items() if other is not kind},
        horizon.forgotten_ms,
    )


def first_closing_ms(horizon: Horizon, limits: Limits) -> int | None:
    """From when on start times can be closed for the first time; None once some are."""
    if horizon.closed_ms > horizon.origin_ms:
        return None
    return _bucket(horizon.origin_ms) + BUCKET_MS + limits.lateness_ms + limits.margin_ms


def taken_back(horizon: Horizon, latest_ms: int, newest_ms: int, limits: Limits) -> Horizon:
    """The horizon without what cannot be true if no clock is past ``latest_ms``; the same horizon if all of it can.

    A mark is ahead if the pass that set it would have to start after ``latest_ms``: because a clock was ahead then, or
    because L or D has been raised since. When that pass really started no clock can say any more, but not before the
    latest start of the traces that are counted (``newest_ms``): ``closed_ms`` goes back to where a pass of then would
    have set it. ``retired_ms`` goes back as far as ids are kept. Whatever was under way begins again with a full pass.
    """
    ahead = (
        horizon.origin_ms > latest_ms + limits.margin_ms
        or horizon.closed_ms > max(horizon.readable_ms, latest_ms - limits.lateness_ms)
        or horizon.retired_ms > max(horizon.readable_ms, latest_ms - limits.audit_horizon_ms)
        or any(each.started_ms > latest_ms + limits.margin_ms for each in horizon.under_way.values())
    )
    if not ahead:
        return horizon
    origin_ms = min(horizon.origin_ms, latest_ms)
    floor_ms = replace(horizon, origin_ms=origin_ms).readable_ms
    read_ms = min(latest_ms, newest_ms)
    closed_ms = min(horizon.closed_ms, max(floor_ms, _bucket(read_ms - limits.lateness_ms - limits.margin_ms)))
    return Horizon(origin_ms, None, closed_ms, min(horizon.retired_ms, floor_ms), {}, horizon.forgotten_ms)


def forget(horizon: Horizon, stood_ms: int, newest_ms: int, limits: Limits) -> Horizon:
    """The horizon once ids are forgotten: up to ``stood_ms``, which has been retired for STAND_S, and not unless a
    trace is known that started D later (``newest_ms`` is the latest start that is known)."""
    retired_ms = min(stood_ms, newest_ms - limits.audit_horizon_ms - limits.margin_ms)
    return replace(horizon, forgotten_ms=max(horizon.forgotten_ms, retired_ms - BUCKET_MS))


def _from(retired_ms: int, under_way: Pass) -> Pass:
    """The pass without what has been retired: its ids are forgotten, so it would be counted again."""
    window = under_way.window
    return replace(under_way, window=replace(window, lo_ms=max(window.lo_ms, retired_ms)))


def _covered(done: Pass, visible_within_ms: int, limits: Limits) -> int:
    return _bucket(min(done.window.hi_ms, done.started_ms - visible_within_ms - limits.margin_ms))


def _window(horizon: Horizon, kind: Kind, now: Clocks, limits: Limits) -> Window | None:
    match kind:
        case Kind.FRESH:
            return _fresh_window(horizon, now, limits)
        case Kind.CLOSING:
            window = Window(horizon.closed_ms, _bucket(now.earliest_ms - limits.lateness_ms - limits.margin_ms))
        case Kind.RETIRING:
            hi_ms = _bucket(now.earliest_ms - limits.audit_horizon_ms - limits.margin_ms)
            window = Window(horizon.retired_ms, min(hi_ms, horizon.closed_ms))
    return window if window.lo_ms < window.hi_ms else None


def _fresh_window(horizon: Horizon, now: Clocks, limits: Limits) -> Window:
    """Full the first time, after a long time away, and after a clock was ahead: the end times that were asked for then
    meant nothing."""
    fresh_ms = horizon.fresh_ms
    if fresh_ms is None or not 0 <= now.earliest_ms - fresh_ms <= limits.lateness_ms:
        return _everything_open(horizon, now)
    lo_ms = max(horizon.closed_ms, fresh_ms - limits.lateness_ms)
    return Window(lo_ms, now.latest_ms + AHEAD_MS, fresh_ms - limits.overlap_ms)


def _everything_open(horizon: Horizon, now: Clocks) -> Window:
    return Window(horizon.closed_ms, now.latest_ms + AHEAD_MS)


def _bucket(ms: int) -> int:
    return ms // BUCKET_MS * BUCKET_MS


def _with(horizon: Horizon, kind: Kind, under_way: Pass) -> Horizon:
    return replace(horizon, under_way={**horizon.under_way, kind: under_way})
