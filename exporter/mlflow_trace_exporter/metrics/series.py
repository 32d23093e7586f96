"""Totals and exemplars by series. Pure.

Nothing here is modified in place. A change makes new mappings for the families that it concerns, and shares the others.
So a comparison with ``is`` shows whether a series, or a whole family, is unchanged.
"""

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.metrics.model import Cell, Exemplar, TraceFamily, later

T = TypeVar("T")

BySeries = Mapping[str, Mapping[LabelValues, T]]
"""A value for each series, by the name of its family and its labels."""

Numbers = tuple[float, ...]
"""The numbers of a series, in the order of ``TraceFamily.parts``."""

SeriesTotals = BySeries[Numbers]

Exemplars = Mapping[str, Exemplar]
"""The exemplars of a series by bucket."""

SeriesExemplars = BySeries[Exemplars]


class Draft(Generic[T]):
    """Collects changes to ``before``, which itself does not change."""

    def __init__(self, before: BySeries[T]) -> None:
        self._before = before
        self._changed: dict[str, dict[LabelValues, T]] = {}

    def of(self, family: str) -> dict[LabelValues, T]:
        """The series of a family, which the caller may modify."""
        if family not in self._changed:
            self._changed[family] = dict(self._before.get(family, {}))
        return self._changed[family]

    def result(self) -> BySeries[T]:
        """``before`` with the changes; the same object if there are none."""
        return {**self._before, **self._changed} if self._changed else self._before


def by_series(cells: Iterable[tuple[Cell, T]]) -> dict[str, dict[LabelValues, dict[str, T]]]:
    """Group pairs of a cell and its value by family, labels and part."""
    series: dict[str, dict[LabelValues, dict[str, T]]] = {}
    for cell, value in cells:
        series.setdefault(cell.family, {}).setdefault(cell.labels, {})[cell.part] = value
    return series


def series_totals(families: Iterable[TraceFamily], cells: Mapping[Cell, float]) -> SeriesTotals:
    """The totals of these families from cells. A part without a cell is 0."""
    found, parts = by_series(cells.items()), {family.name: family.parts for family in families}
    return {
        name: {labels: tuple(numbers.get(part, 0) for part in parts[name]) for labels, numbers in series.items()}
        for name, series in found.items()
        if name in parts
    }


def samples_of_groups(families: Iterable[TraceFamily], totals: SeriesTotals) -> int:
    """The number of samples about traces: what Prometheus counts as series."""
    of_groups = (family for family in families if family.is_of_groups)
    return sum(len(totals.get(family.name, ())) * family.samples_per_series for family in of_groups)


def with_exemplars(before: SeriesExemplars, new: Mapping[Cell, Exemplar], shown: SeriesTotals) -> SeriesExemplars:
    """The latest exemplar of each bucket, for series that are ``shown``."""
    draft = Draft(before)
    for name, series in by_series(new.items()).items():
        for labels, found in series.items():
            exemplars = draft.of(name).get(labels, {})
            latest = {bucket: later(each, exemplars.get(bucket)) for bucket, each in found.items()}
            draft.of(name)[labels] = {**exemplars, **latest}
    for name, exposed in draft.result().items():
        for labels in exposed.keys() - shown.get(name, {}).keys():
            del draft.of(name)[labels]
    return draft.result()


def at_least(totals: SeriesTotals, floor: SeriesTotals) -> SeriesTotals:
    """The totals, of which no number is lower than that of ``floor``; the same object if none is."""
    draft = Draft(totals)
    for family, series in floor.items():
        for labels, before in series.items():
            now = totals.get(family, {}).get(labels, (0,) * len(before))
            if any(number < earlier for number, earlier in zip(now, before, strict=True)):
                draft.of(family)[labels] = tuple(map(max, now, before))
    return draft.result()
