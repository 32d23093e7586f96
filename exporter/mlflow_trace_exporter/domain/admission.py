"""Which label values become series. Pure.

Labels come from what clients write, so nothing else keeps a mistake in an application (a request id as the name of a
trace) from making a million series. What would pass a cap is counted all the same, with the value ``other``.

The values that are admitted are those of the groups that are shown. So they survive a restart, as the groups do; and
the values of groups that sleep make room for others, or the versions of the past would use up the cap for good.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import starmap

from mlflow_trace_exporter.domain.labels import PLACE_LABELS, UNKNOWN, Labels

OTHER = "other"
"""The value of a label whose own value is not admitted."""

Group = tuple[str, ...]
"""The values of the labels that all series about the same traces share: of all labels, or of PLACE_LABELS only."""


@dataclass(frozen=True, slots=True)
class Caps:
    """``values``: how many values each label can have. ``series``: how many series there can be in all."""

    values: int
    series: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The labels that a trace is counted with, and the names of those that have not the trace's own value."""

    labels: Labels
    overflowed: tuple[str, ...]


class Admission:
    """Admits label values beside those of the groups ``shown``, which are a trace's labels in the order of ``names``,
    or the first of them. ``series_of``: how many series a group makes."""

    def __init__(
        self, names: Sequence[str], shown: Iterable[Group], caps: Caps, series_of: Callable[[Group], int]
    ) -> None:
        self._names = tuple(names)
        self._caps = caps
        self._series_of = series_of
        self._groups: set[Group] = set()
        self._values: tuple[set[str], ...] = tuple({UNKNOWN, OTHER} for _ in names)
        self.series = 0
        """How many series the groups make."""
        for group in shown:
            self._add(group)

    def admit(self, labels: Labels) -> Admitted:
        """The labels to count a trace with that has these."""
        own = self._values_of(labels, self._names)
        group = self._fitting(own)
        names = [name for name, value, before in zip(self._names, group, own, strict=True) if value != before]
        return Admitted(dict(zip(self._names, group, strict=True)), tuple(names))

    def place(self, labels: Labels) -> tuple[str, str]:
        """The labels ``experiment`` and ``environment`` for a trace that is not counted, or not yet."""
        experiment, environment = self._fitting(self._values_of(labels, PLACE_LABELS))
        return experiment, environment

    def _values_of(self, labels: Labels, names: Sequence[str]) -> Group:
        return tuple(labels[name] for name in names)

    def _fitting(self, own: Group) -> Group:
        group = tuple(starmap(self._value, enumerate(own)))
        if group in self._groups:
            return group
        if self.series + self._cost(group) > self._caps.series:
            group = (OTHER,) * len(own)  # of which there is one only, so it can pass the cap
        self._add(group)
        return group

    def _value(self, at: int, value: str) -> str:
        known = self._values[at]
        # unknown and other are no values of anybody's
        return value if value in known or len(known) - 2 < self._caps.values else OTHER

    def _cost(self, group: Group) -> int:
        return sum(self._series_of(each) for each in _with_place(group) - self._groups)

    def _add(self, group: Group) -> None:
        self.series += self._cost(group)
        self._groups |= _with_place(group)
        for known, value in zip(self._values, group, strict=False):  # a place has the first labels only
            known.add(value)


def _with_place(group: Group) -> set[Group]:
    return {group, group[: len(PLACE_LABELS)]}
