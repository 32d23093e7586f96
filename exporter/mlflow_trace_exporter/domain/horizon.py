"""Decides which traces to read next, and which start times are complete. Pure arithmetic on Unix ms: no I/O, no clock.

A trace carries its START time but becomes visible only after its END. A reader that asks for "everything newer than the
last trace I saw" misses every trace that ran longer than its neighbours. So each start time is read three times, by
three kinds of passes over a range of start times. This example has a lateness L of 2 h, an audit horizon D of 24 h, a
margin of 5 min and an overlap of 2 min. It is Tuesday, 12:07:15, and the last fresh pass started at 12:07:00:

    fresh     start in [10:07:00, Thursday 12:07:15), end >= 12:05:00     what ended since then: at every tick
    closing   start in [09:50, 10:00)                                     due since 10:00 + L + margin = 12:05
    retiring  start in [Monday 11:50, Monday 12:00)                       due since 12:00 + D + margin = 12:05

The fresh pass makes reading fast. The other two make it reliable. A pass is *full* if it filters by start time only. A
full pass over [a, b) that started at t has seen everything that was visible at t. When it is complete, start times are

    closed up to   t - L - margin, or b: every trace that became visible within L of its start is known
    retired up to  t - D - margin, or b: likewise within D; earlier start times are not read again

whichever is earlier, rounded down to a bucket of ten minutes. There is never a gap: a pass that begins after
``closed_ms`` does not move it. Neither mark moves because of a clock alone. The margin allows for applications whose
clock is behind.

The time t comes from clocks that can be wrong. If a clock was a week ahead, the marks that it set would keep new traces
unread for a week. So a mark that is later than the clocks allow now is moved back (``taken_back``). This requires the
ids of the traces that are read again, so an id is forgotten only under two conditions: its start has been retired for
an hour of the monotonic clock, and traces are known that started D after it. A trace whose id is forgotten must not be
read again, because it would be counted twice.

A pass moves forward by start time, page by page. Its position is stored in the same transaction as the counts of each
page. A pass that is interrupted (by an error, a stop or a crash) resumes where it stopped and keeps its start time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from mlflow_trace_exporter.domain.clocks import Clocks

BUCKET_MS = 600_000
"""The step in which start times are closed and retired."""

AHEAD_MS = 2 * 24 * 3_600_000
"""How far ahead of ours the clock of a traced application may be."""

STAND_S = 3_600.0
"""How long a start time must have been retired before the ids of its traces are forgotten."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The guaranteed limits. A trace that becomes visible within ``lateness_ms`` (L) of its start is counted by the
    closing pass at the latest, one that does so within ``audit_horizon_ms`` (D) by the retiring pass. ``margin_ms``:
    how far an application's clock may be behind. ``overlap_ms``: how far a fresh pass overlaps the one before."""

    lateness_ms: int
    audit_horizon_ms: int
    margin_ms: int
    overlap_ms: int


@dataclass(frozen=True, slots=True)
class Window:
    """Traces that start in [lo_ms, hi_ms) and, if ``ended_after_ms`` is set, end at that time or later."""

    lo_ms: int
    hi_ms: int
    ended_after_ms: int | None = None


class Kind(Enum):
    """The kinds of passes, see the module."""

    FRESH = "fresh"
    CLOSING = "closing"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass under way: when it started, the start time at which it began, and the window that it still has to read."""

    started_ms: int
    from_ms: int
    window: Window


@dataclass(frozen=True, slots=True)
class Horizon:
    """The progress of reading, stored in the ledger in the same transaction as the counts it belongs to.

    ``origin_ms``: traces that started earlier are never counted. ``fresh_ms``: when the last complete fresh pass
    started, None before the first. ``closed_ms`` and ``retired_ms``: see the module. ``under_way``: passes that have
    begun and are not complete. ``forgotten_ms``: the ids of traces that started earlier are forgotten. ``assessed_ms``:
    assessments of traces that started earlier are not counted any more, and their ids are forgotten.
    """

    origin_ms: int
    fresh_ms: int | None
    closed_ms: int
    retired_ms: int
    under_way: Mapping[Kind, Pass] = field(default_factory=dict)
    forgotten_ms: int = 0
    assessed_ms: int = 0

    @property
    def readable_ms(self) -> int:
        """Traces that start at this time or later can be read without counting one twice. It is one bucket after
        ``forgotten_ms``: if the start of a counted trace moves by less than that, its id is still known."""
        return max(self.origin_ms, self.forgotten_ms + BUCKET_MS)

    @classmethod
    def at(cls, origin_ms: int) -> "Horizon":
        """The horizon before anything has been read."""
        return cls(origin_ms, None, origin_ms, origin_ms)


def due(horizon: Horizon, kind: Kind, now: Clocks, limits: Limits) -> bool:
    """Whether a pass of this kind has something to read."""
    return kind in horizon.under_way or _window(horizon, kind, now, limits) is not None


def begin(horizon: Horizon, kind: Kind, now: Clocks, limits: Limits, end_filter: bool = True) -> Horizon:
    """The horizon with this pass under way: the interrupted one if there is one, otherwise a new one if it is due.

    ``end_filter``: whether the server can filter by end time. If it cannot, every fresh pass is a full one.
    """
    cut_short = horizon.under_way.get(kind)
    if cut_short and (end_filter or cut_short.window.ended_after_ms is None):
        return horizon
    window = _window(horizon, kind, now, limits)
    if kind is Kind.FRESH and not end_filter:
        window = _everything_open(horizon, now)
    return horizon if window is None else _with(horizon, kind, Pass(now.earliest_ms, window.lo_ms, window))


def after_page(horizon: Horizon, kind: Kind, next_lo_ms: int) -> Horizon:
    """The horizon after a page: the pass under way continues at ``next_lo_ms``."""
    at = horizon.under_way[kind]
    return _with(horizon, kind, replace(at, window=replace(at.window, lo_ms=next_lo_ms)))


def complete(horizon: Horizon, kind: Kind, limits: Limits) -> Horizon:
    """The horizon after the last page of the pass under way. This is the only place where start times are closed."""
    done = horizon.under_way[kind]
    closed_ms, retired_ms = horizon.closed_ms, horizon.retired_ms
    if done.window.ended_after_ms is None:
        if done.from_ms <= closed_ms:
            closed_ms = max(closed_ms, _covered(done, limits.lateness_ms, limits))
        if done.from_ms <= retired_ms:
            retired_ms = max(retired_ms, min(closed_ms, _covered(done, limits.audit_horizon_ms, limits)))
    return replace(
        horizon,
        fresh_ms=done.started_ms if kind is Kind.FRESH else horizon.fresh_ms,
        closed_ms=closed_ms,
        retired_ms=retired_ms,
        under_way={other: _from(retired_ms, each) for other, each in horizon.under_way.items() if other is not kind},
    )


def first_closing_ms(horizon: Horizon, limits: Limits) -> int | None:
    """The earliest time at which start times can be closed; None if some are closed already."""
    if horizon.closed_ms > horizon.origin_ms:
        return None
    return _bucket(horizon.origin_ms) + BUCKET_MS + limits.lateness_ms + limits.margin_ms


def taken_back(horizon: Horizon, latest_ms: int, newest_ms: int, limits: Limits) -> Horizon:
    """The horizon with marks that are too late moved back; the same horizon if none is. No clock has passed
    ``latest_ms``.

    A mark is too late if the pass that set it would have started after ``latest_ms``. Then a clock was ahead, or L or D
    has been raised since. When that pass really started is unknown, but it was not before the latest start of the
    counted traces (``newest_ms``), so ``closed_ms`` moves back to where a pass at that time would have set it.
    ``retired_ms`` moves back as far as ids are kept. All passes under way are replaced by a full pass.

    Example: on a Tuesday at 12:00 the clocks were a week ahead for a minute, and a pass closed start times up to the
    next Tuesday, 09:50. At 12:01 the latest counted trace started at 11:58. With L = 2 h and a margin of 5 min,
    ``closed_ms`` moves back to 11:58 - 2 h 5 min in whole buckets, which is this Tuesday, 09:50.
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
    return replace(
        horizon,
        origin_ms=origin_ms,
        fresh_ms=None,
        closed_ms=closed_ms,
        retired_ms=min(horizon.retired_ms, floor_ms),
        under_way={},
    )


def forget(horizon: Horizon, stood_ms: int, newest_ms: int, limits: Limits) -> Horizon:
    """The horizon after forgetting ids: up to ``stood_ms``, which has been retired for STAND_S, but only where a trace
    is known that started D later (``newest_ms`` is the latest known start)."""
    retired_ms = min(stood_ms, newest_ms - limits.audit_horizon_ms - limits.margin_ms)
    return replace(horizon, forgotten_ms=max(horizon.forgotten_ms, retired_ms - BUCKET_MS))


def assessed_until(horizon: Horizon, ms: int) -> Horizon:
    """The horizon after the time in which traces that started before ``ms`` can be assessed has ended."""
    return replace(horizon, assessed_ms=max(horizon.assessed_ms, _bucket(ms)))


def _from(retired_ms: int, under_way: Pass) -> Pass:
    """The pass without retired start times: their ids may be forgotten, so their traces would be counted again."""
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
    """A full window the first time, after a long downtime, and after a clock was ahead, because the end times of the
    previous pass were wrong then."""
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
