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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from mlflow_trace_exporter.counting.ledger_totals import GroupState, Stage, Totals
from mlflow_trace_exporter.domain.admission import Group
from mlflow_trace_exporter.metrics.meter import Cell, TraceFamily


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
    """Holds totals back until they may be exposed. ``clock_s`` is a monotonic clock in seconds.

    It caches the totals and reads only changes from the ledger, because reading 100,000 series at each poll would slow
    down scrapes. Groups that are asleep are not cached. A group exposes all series that the ledger has of it, even if
    the families of the current configuration no longer apply to it.
    """

    def __init__(
        self, totals: Totals, families: Iterable[TraceFamily], settings: SeriesSettings, clock_s: Callable[[], float]
    ) -> None:
        """Load all totals. Raises PollError if the ledger cannot be read."""
        self._totals = totals
        self._settings = settings
        self._clock_s = clock_s
        self._held_since_s: dict[Group, float] = {}
        self._lengths = {family.name: len(family.labels) for family in families if family.is_of_groups}
        self._slept: dict[Group, Mapping[Cell, float]] = {}
        """The values that held groups expose."""
        self.groups: Mapping[Group, GroupState] = totals.groups()
        """The exposed groups at the last update."""
        self._values: dict[Group, dict[Cell, float]] = {}
        """The totals of each exposed group. The empty group has the totals that are not about traces."""
        self._take(totals.all())

    def totals(self, changes: Mapping[Cell, float], now_ms: int | None) -> dict[Cell, float]:
        """The totals that may be exposed from now on. ``changes``: the amounts added since the last call. ``now_ms``:
        the time in Unix ms, None if it is not reliably known yet."""
        changed = [
            cell for cell, amount in changes.items() if amount or cell not in self._values.get(self._group_of(cell), {})
        ]
        self.groups = self._totals.groups()
        self._take(self._totals.values(changed))
        self._stage(now_ms)
        self._note_held()
        shown: dict[Cell, float] = {}
        for group, values in self._values.items():
            shown.update(values)
            shown.update(self._slept.get(group, {}))
        return shown

    def next_release_s(self) -> float:
        """In how many seconds the next group may be released; infinite if none is held."""
        held = self._held_since_s.values()
        return max(0.0, min(held) + self._settings.zero_hold_s - self._clock_s()) if held else inf

    def _take(self, totals: Mapping[Cell, float]) -> None:
        for cell, value in totals.items():
            group = self._group_of(cell)
            if not group or group in self.groups:
                self._values.setdefault(group, {})[cell] = value

    def _group_of(self, cell: Cell) -> Group:
        return cell.labels[: self._lengths.get(cell.family, 0)]

    def _stage(self, now_ms: int | None) -> None:
        released = to_release(self.groups, self._held_since_s, self._clock_s(), self._settings.zero_hold_s)
        asleep = set() if now_ms is None else to_sleep(self.groups, now_ms, self._settings.ttl_ms)
        if not (released or asleep):
            return
        self._totals.stage(released, asleep, [cell for group in asleep for cell in self._values.get(group, ())])
        for group in asleep:
            self._values.pop(group, None)
        self.groups = self._totals.groups()

    def _note_held(self) -> None:
        now_s = self._clock_s()
        held = [group for group, state in self.groups.items() if state.stage is Stage.HELD]
        self._held_since_s = {group: self._held_since_s.get(group, now_s) for group in held}
        self._slept = {
            group: self._slept.get(group) or self._totals.slept(self._values.get(group, ())) for group in held
        }
