"""The totals of the groups that are not asleep, kept in memory. Pure.

The ledger has only one writer, so this copy stays up to date without queries. It is immutable: each change makes a new
``Awake``, which shares everything that did not change with the previous one and replaces it after COMMIT.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from mlflow_trace_exporter.domain.groups import NO_GROUP, Group
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.metrics.model import Cell, TraceFamily
from mlflow_trace_exporter.metrics.series import BySeries, Draft, Numbers, SeriesTotals


class Stage(IntEnum):
    """How a group is exposed (see release.py): at the values it slept with, at its current values, or not at all."""

    HELD = 0
    RELEASED = 1
    ASLEEP = 2


@dataclass(frozen=True, slots=True)
class GroupState:
    """When a group last had increments (Unix ms), and how it is exposed."""

    active_ms: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class Stored:
    """A series in the ledger: its current numbers, and those with which it last fell asleep (0 if it never did)."""

    family: str
    labels: LabelValues
    numbers: Numbers
    slept: Numbers


@dataclass(frozen=True, slots=True)
class Awake:
    """The totals of the groups that are not asleep, and of the series that are not about groups.

    ``groups``: the groups that are not asleep. ``shown``: the exposed numbers of the series of ``families``. A series
    stays, even if its group would not get it under the current configuration. ``held``: the current numbers of the
    groups that are exposed at earlier ones. ``first_ms``: when the first trace of each version started (Unix ms), by
    VERSION_LABELS; None if that is not known.
    """

    families: tuple[TraceFamily, ...] = ()
    groups: Mapping[Group, GroupState] = field(default_factory=dict)
    shown: SeriesTotals = field(default_factory=dict)
    held: SeriesTotals = field(default_factory=dict)
    first_ms: Mapping[LabelValues, int | None] = field(default_factory=dict)

    def has(self, cell: Cell) -> bool:
        """Whether the series of a cell is shown, and so in the ledger."""
        return cell.labels in self.shown.get(cell.family, ())

    def series_of(self, groups: Iterable[Group]) -> Iterator[tuple[str, LabelValues]]:
        """The family and labels of each shown series of these groups."""
        for group in groups:
            for family in self.families:
                shown = self.shown.get(family.name, {})
                yield from ((family.name, labels) for labels in family.labels_of(group) if labels in shown)

    def with_amounts(self, amounts: BySeries[Mapping[str, float]]) -> "Awake":
        """A copy with ``amounts`` (by part) added to the series that are awake."""
        shown, held = Draft(self.shown), Draft(self.held)
        for family in self.families:
            parts = family.parts
            for labels, added in amounts.get(family.name, {}).items():
                if self._is_awake(group := family.group_of(labels)):
                    series = (held if self._is_held(group) else shown).of(family.name)
                    before = series.get(labels, (0,) * len(parts))
                    series[labels] = tuple(
                        number + added.get(part, 0) for part, number in zip(parts, before, strict=True)
                    )
        return replace(self, shown=shown.result(), held=held.result())

    def with_active(self, active_ms: Mapping[Group, int], first_ms: Mapping[LabelValues, int]) -> "Awake":
        """A copy with the times of increments to groups and versions. A group that was asleep is held."""
        stages = {group: self.groups[group].stage if group in self.groups else Stage.HELD for group in active_ms}
        states = {group: GroupState(ms, stages[group]) for group, ms in active_ms.items()}
        firsts = {version: _earlier(self.first_ms.get(version, ms), ms) for version, ms in first_ms.items()}
        return replace(self, groups={**self.groups, **states}, first_ms={**self.first_ms, **firsts})

    def with_series(self, stored: Iterable[Stored]) -> "Awake":
        """A copy with series from the ledger. Series of groups that are asleep are ignored."""
        shown, held = Draft(self.shown), Draft(self.held)
        families = {family.name: family for family in self.families}
        for each in stored:
            group = families[each.family].group_of(each.labels)
            if self._is_held(group):
                shown.of(each.family)[each.labels] = each.slept
                held.of(each.family)[each.labels] = each.numbers
            elif self._is_awake(group):
                shown.of(each.family)[each.labels] = each.numbers
        return replace(self, shown=shown.result(), held=held.result())

    def with_stages(self, released: Collection[Group], asleep: Collection[Group]) -> "Awake":
        """A copy in which held groups are released and other groups fall asleep."""
        shown, held = Draft(self.shown), Draft(self.held)
        for name, labels in self.series_of(released):
            shown.of(name)[labels] = held.of(name).pop(labels)
        for name, labels in self.series_of(asleep):
            del shown.of(name)[labels]
        groups = {group: state for group, state in self.groups.items() if group not in asleep}
        groups |= {group: replace(groups[group], stage=Stage.RELEASED) for group in released}
        return replace(self, groups=groups, shown=shown.result(), held=held.result())

    def _is_awake(self, group: Group) -> bool:
        return group == NO_GROUP or group in self.groups

    def _is_held(self, group: Group) -> bool:
        return group in self.groups and self.groups[group].stage is Stage.HELD


def _earlier(before_ms: int | None, ms: int) -> int | None:
    return None if before_ms is None else min(before_ms, ms)
