"""When the increments of a series are shown.

PromQL sees an increase only between two scrapes: a series that appears with the value 7 has an increase() of 0. So a
new series is shown at 0 first, for ``zero_hold``, and only then with its value. A series that got no increments for
``ttl`` is not shown any more; when it gets one again it comes back with the value that it slept with, and is held in
the same way. Both hold for all series about the same traces together: a *group*, which is their label values. An
example, with a hold of 30 s, scrapes every 15 s, and 7 traces of a version that was never seen:

    12:00:00  the traces are counted; shown: 0       12:00:10  scraped: 0
    12:00:15  2 more are counted; shown: 0           12:00:25  scraped: 0
    12:00:30  shown: 9                               12:00:40  scraped: 9, an increase of 9

What a group is allowed to show is stored in the ledger before it is shown. Else a restart would hold what has been
shown already, and PromQL would take that for a reset.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from mlflow_trace_exporter.counting.ledger_totals import GroupState, Stage, Totals
from mlflow_trace_exporter.domain.admission import Group
from mlflow_trace_exporter.metrics.meter import Cell, TraceFamily


@dataclass(frozen=True, slots=True)
class SeriesSettings:
    """``zero_hold_s``: how long a new series is held; 0 shows it at once. ``ttl_ms``: after how long without increments
    a series is not shown any more."""

    zero_hold_s: float
    ttl_ms: int


def to_release(
    groups: Mapping[Group, GroupState], held_since_s: Mapping[Group, float], now_s: float, zero_hold_s: float
) -> list[Group]:
    """The groups that were held for long enough; ``held_since_s`` is when they were shown first by this process."""
    return [
        group
        for group, state in groups.items()
        if state.stage is Stage.HELD and now_s - held_since_s.get(group, now_s) >= zero_hold_s
    ]


def to_sleep(groups: Mapping[Group, GroupState], now_ms: int, ttl_ms: int) -> set[Group]:
    """The groups that got no increments for too long."""
    return {
        group for group, state in groups.items() if state.stage is Stage.RELEASED and now_ms - state.active_ms >= ttl_ms
    }


class Gate:
    """Lets pass what may be shown. ``clock_s`` is a monotonic clock in seconds.

    It keeps what it has read of the ledger, and reads again only what has changed: at 100,000 series to read all of
    them at each poll would be felt in scrapes. What sleeps it forgets. What a group shows is what the ledger has of it,
    not what the families of the present configuration would make of it: a family may have applied to it before.
    """

    def __init__(
        self, totals: Totals, families: Iterable[TraceFamily], settings: SeriesSettings, clock_s: Callable[[], float]
    ) -> None:
        """Raises PollError if the ledger cannot be read."""
        self._totals = totals
        self._settings = settings
        self._clock_s = clock_s
        self._held_since_s: dict[Group, float] = {}
        self._lengths = {family.name: len(family.labels) for family in families if family.is_of_groups}
        self._slept: dict[Group, Mapping[Cell, float]] = {}
        """What is shown of the groups that are held."""
        self.groups: Mapping[Group, GroupState] = totals.groups()
        """Those that are shown, as of the last look."""
        self._values: dict[Group, dict[Cell, float]] = {}
        """The totals of each group that is shown; of the empty one those that are not about traces."""
        self._take(totals.all())

    def totals(self, changes: Mapping[Cell, float], now_ms: int | None) -> dict[Cell, float]:
        """The totals as they may be shown from now on. ``changes``: what was added to them since the last look;
        ``now_ms``: Unix ms, None while that is not known for sure."""
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
        """In how many seconds something more may be shown; infinite if nothing is held."""
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
