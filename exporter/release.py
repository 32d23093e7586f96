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

from exporter.admission import Group
from exporter.ledger import GroupState, Ledger, Stage
from exporter.metrics import Cell, TraceFamily


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
    """Lets pass what may be shown. ``clock_s`` is a monotonic clock in seconds."""

    def __init__(self, families: Iterable[TraceFamily], settings: SeriesSettings, clock_s: Callable[[], float]) -> None:
        self._group_lengths = {family.name: len(family.labels) for family in families}
        self._settings = settings
        self._clock_s = clock_s
        self._held_since_s: dict[Group, float] = {}

    def totals(self, ledger: Ledger, now_ms: int | None) -> dict[Cell, float]:
        """The totals as they may be shown from now on. ``now_ms``: Unix ms, None while that is not known for sure."""
        groups, values = ledger.groups(), ledger.totals()
        released = to_release(groups, self._held_since_s, self._clock_s(), self._settings.zero_hold_s)
        asleep = set() if now_ms is None else to_sleep(groups, now_ms, self._settings.ttl_ms)
        if released or asleep:
            ledger.stage(released, asleep, [cell for cell in values if self._group(cell) in asleep])
            groups = ledger.groups()
        self._note_held(groups)
        slept = ledger.slept()
        stages = {group: state.stage for group, state in groups.items()}
        shown: dict[Cell, float] = {}
        for cell, value in values.items():
            stage = stages.get(self._group(cell), Stage.RELEASED)  # what is not about traces is always shown
            if stage is not Stage.ASLEEP:
                shown[cell] = value if stage is Stage.RELEASED else slept.get(cell, 0)
        return shown

    def next_release_s(self) -> float:
        """In how many seconds something more may be shown; infinite if nothing is held."""
        held = self._held_since_s.values()
        return max(0.0, min(held) + self._settings.zero_hold_s - self._clock_s()) if held else inf

    def _group(self, cell: Cell) -> Group:
        return cell.labels[: self._group_lengths.get(cell.family, 0)]

    def _note_held(self, groups: Mapping[Group, GroupState]) -> None:
        now_s = self._clock_s()
        held = [group for group, state in groups.items() if state.stage is Stage.HELD]
        self._held_since_s = {group: self._held_since_s.get(group, now_s) for group in held}
