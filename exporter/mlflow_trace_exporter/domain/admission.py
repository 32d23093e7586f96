"""Limits which label values become series. Pure.

Label values come from clients. A mistake in an application, such as a request id in the name of a trace, could create a
million series; nothing but these caps prevents that. A trace whose value would exceed a cap is still counted, with the
label value ``other``.

The admitted values are those of the groups that are exposed, so they survive a restart as the groups do. When a group
goes to sleep its values make room for others. Otherwise old versions would use up the cap for good.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import starmap

from mlflow_trace_exporter.domain.labels import PLACE_LABELS, UNKNOWN, Labels

OTHER = "other"
"""Replaces a label value that is not admitted."""

Group = tuple[str, ...]
"""The label values that all series about the same traces share: those of all labels, or of PLACE_LABELS only."""


@dataclass(frozen=True, slots=True)
class Caps:
    """``values``: the maximum number of values per label. ``series``: the maximum number of series in total."""

    values: int
    series: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The group in which a trace is counted, its labels, and the names of the labels whose value became ``other``."""

    group: Group
    labels: Labels
    overflowed: tuple[str, ...]


class Admission:
    """Admits label values in addition to those of the groups in ``shown``. A group holds label values in the order of
    ``names``, or only the first of them. ``series_of`` returns the number of series that a group has."""

    def __init__(
        self, names: Sequence[str], shown: Iterable[Group], caps: Caps, series_of: Callable[[Group], int]
    ) -> None:
        self._names = tuple(names)
        self._caps = caps
        self._series_of = series_of
        self._groups: set[Group] = set()
        self._admitted: dict[Group, Admitted] = {}
        self._values: tuple[set[str], ...] = tuple({UNKNOWN, OTHER} for _ in names)
        self.series = 0
        """The number of series that the groups have."""
        for group in shown:
            self._add(group)

    @property
    def groups(self) -> Set[Group]:
        """All groups, with those that were admitted."""
        return self._groups

    def admit(self, labels: Labels) -> Admitted:
        """The labels to count a trace with, given its own labels."""
        own = self._values_of(labels, self._names)
        found = self._admitted.get(own) or self._admit(own)
        if not found.overflowed:  # of these there are no more than groups
            self._admitted[own] = found
        return found

    def _admit(self, own: Group) -> Admitted:
        group = self._fitting(own)
        names = [name for name, value, before in zip(self._names, group, own, strict=True) if value != before]
        return Admitted(group, dict(zip(self._names, group, strict=True)), tuple(names))

    def place(self, labels: Labels) -> tuple[str, str]:
        """The labels ``experiment`` and ``environment`` for a trace that is not counted (yet)."""
        experiment, environment = self._fitting(self._values_of(labels, PLACE_LABELS))
        return experiment, environment

    def _values_of(self, labels: Labels, names: Sequence[str]) -> Group:
        return tuple(labels[name] for name in names)

    def _fitting(self, own: Group) -> Group:
        group = tuple(starmap(self._value, enumerate(own)))
        if group in self._groups:
            return group
        if self.series + self._cost(group) > self._caps.series:
            group = (OTHER,) * len(own)  # may exceed the cap, because there is only one such group
        self._add(group)
        return group

    def _value(self, at: int, value: str) -> str:
        known = self._values[at]
        # unknown and other do not count towards the cap
        return value if value in known or len(known) - 2 < self._caps.values else OTHER

    def _cost(self, group: Group) -> int:
        return sum(self._series_of(each) for each in _with_place(group) - self._groups)

    def _add(self, group: Group) -> None:
        self.series += self._cost(group)
        self._groups |= _with_place(group)
        for known, value in zip(self._values, group, strict=False):  # a place has only the first labels
            known.add(value)


def _with_place(group: Group) -> set[Group]:
    return {group, group[: len(PLACE_LABELS)]}
