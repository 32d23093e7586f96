"""Decides when the increments of a series are exposed.

PromQL sees an increase only between two scrapes: the increase() of a series that first appears at 7 is 0. So a new
series is held at 0 for ``zero_hold`` before its value is exposed. A series without increments for ``ttl`` goes to sleep
and is no longer exposed. With the next increment it returns at the value at which it went to sleep, and is held there
in the same way. Both rules apply to a *group*, which is all series about the same traces and is identified by their
label values. Example: a hold of 30 s, a scrape every 15 s, and 7 traces of a new version:

    12:00:00  7 traces are counted; exposed: 0       12:00:10  scraped: 0
    12:00:15  2 more are counted; exposed: 0         12:00:25  scraped: 0
    12:00:30  exposed: 9                             12:00:40  scraped: 9, an increase of 9

The stage of a group is stored in the ledger before it is exposed. Otherwise a restart would hold values that have
already been exposed, and PromQL would treat that as a counter reset.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.ledger.awake import GroupState, Stage
from mlflow_trace_exporter.ledger.totals import Totals


@dataclass(frozen=True, slots=True)
class SeriesSettings:
    """``zero_hold_s``: how long a new series is held; 0 exposes it at once. ``ttl_ms``: how long a series without
    increments is exposed."""

    zero_hold_s: float
    ttl_ms: int


def to_release(
    groups: Mapping[Group, GroupState], held_since_s: Mapping[Group, float], now_s: float, zero_hold_s: float
) -> list[Group]:
    """The groups that were held long enough. ``held_since_s``: when this process first exposed them."""
    return [
        group
        for group, state in groups.items()
        if state.stage is Stage.HELD and now_s - held_since_s.get(group, now_s) >= zero_hold_s
    ]


def to_sleep(groups: Mapping[Group, GroupState], now_ms: int, ttl_ms: int) -> set[Group]:
    """The groups without increments for ``ttl_ms``."""
    return {
        group for group, state in groups.items() if state.stage is Stage.RELEASED and now_ms - state.active_ms >= ttl_ms
    }


class Gate:
    """Decides about the groups of a ledger. ``clock_s`` is a monotonic clock in seconds."""

    def __init__(self, totals: Totals, settings: SeriesSettings, clock_s: Callable[[], float]) -> None:
        self._totals = totals
        self._settings = settings
        self._clock_s = clock_s
        self._held_since_s: dict[Group, float] = {}

    def look(self, now_ms: int | None) -> None:
        """Release groups, or put them to sleep, if it is time. ``now_ms``: the time in Unix ms, None if it is not
        reliably known yet. Raises PollError if the ledger cannot store it."""
        released = to_release(self._totals.groups(), self._held_since_s, self._clock_s(), self._settings.zero_hold_s)
        asleep = set() if now_ms is None else to_sleep(self._totals.groups(), now_ms, self._settings.ttl_ms)
        if released or asleep:
            self._totals.stage(released, asleep)
        now_s = self._clock_s()
        self._held_since_s = {
            group: self._held_since_s.get(group, now_s)
            for group, state in self._totals.groups().items()
            if state.stage is Stage.HELD
        }

    def next_release_s(self) -> float:
        """In how many seconds the next group may be released; infinite if none is held."""
        held = self._held_since_s.values()
        return max(0.0, min(held) + self._settings.zero_hold_s - self._clock_s()) if held else inf
