"""Limits which label values become series. Pure.

Label values come from clients. A mistake in an application, such as a request id in the name of a trace, could create a
million series; nothing but these caps prevents that. A trace whose value would exceed a cap is still counted, with the
label value ``other``.

The admitted values are those of the groups that are exposed, so they survive a restart as the groups do. When a group
goes to sleep its values make room for others. Otherwise old versions would use up the cap for good.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.labels import PLACE_LABELS, UNKNOWN, Labels

OTHER = "other"
"""Replaces a label value that is not admitted."""


@dataclass(frozen=True, slots=True)
class Caps:
    """``values``: the maximum number of values per label, except for those ``of_label``. ``series``: the maximum number
    of series in total."""

    values: int
    series: int
    of_label: Mapping[str, int] = field(default_factory=dict)

    def of(self, label: str) -> int:
        """The maximum number of values of a label."""
        return self.of_label.get(label, self.values)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The group in which something is counted, its labels, and the names of the labels whose value became ``other``."""

    group: Group
    labels: Labels
    overflowed: tuple[str, ...]


class Admission:
    """Admits label values in addition to those of the groups in ``shown``. ``series_of`` returns the number of series
    that a group has."""

    def __init__(self, shown: Iterable[Group], caps: Caps, series_of: Callable[[Group], int]) -> None:
        self._caps = caps
        self._series_of = series_of
        self._groups: set[Group] = set()
        self._admitted: dict[Group, Admitted] = {}
        self._values: defaultdict[str, set[str]] = defaultdict(lambda: {UNKNOWN, OTHER})
        self.series = 0
        """The number of series that the groups have."""
        for group in shown:
            self._add(group)

    @property
    def groups(self) -> Set[Group]:
        """All groups, with those that were admitted."""
        return self._groups

    def admit(self, labels: Labels, names: tuple[str, ...]) -> Admitted:
        """The labels to count something with in series that have labels of these ``names``, given its own labels."""
        own = Group(names, tuple(labels[name] for name in names))
        found = self._admitted.get(own) or self._admit(own)
        if not found.overflowed:  # of these there are no more than groups
            self._admitted[own] = found
        return found

    def _admit(self, own: Group) -> Admitted:
        group = self._fitting(own)
        changed = zip(own.names, group.values, own.values, strict=True)
        overflowed = tuple(name for name, value, before in changed if value != before)
        return Admitted(group, group.labels, overflowed)

    def place(self, labels: Labels) -> tuple[str, str]:
        """The labels ``experiment`` and ``environment`` for a trace that is not counted (yet)."""
        experiment, environment = self.admit(labels, PLACE_LABELS).group.values
        return experiment, environment

    def _fitting(self, own: Group) -> Group:
        group = Group(own.names, tuple(map(self._value, own.names, own.values)))
        if group in self._groups:
            return group
        if self.series + self._cost(group) > self._caps.series:
            group = Group(own.names, (OTHER,) * len(own.names))  # may exceed the cap, but there is only one of it
        self._add(group)
        return group

    def _value(self, name: str, value: str) -> str:
        known = self._values[name]
        # unknown and other do not count towards the cap
        return value if value in known or len(known) - 2 < self._caps.of(name) else OTHER

    def _cost(self, group: Group) -> int:
        return sum(self._series_of(each) for each in {group, group.place} - self._groups)

    def _add(self, group: Group) -> None:
        self.series += self._cost(group)
        self._groups |= {group, group.place}
        for name, value in zip(group.names, group.values, strict=True):
            self._values[name].add(value)
