"""What a metric over traces is, and how traces add to it. Pure.

The families themselves are the rows of two tables: families.py has the totals, which the ledger keeps, in cells, so
that they survive a restart; status.py has what the exporter says of itself, which begins anew with each process.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.utils import floatToGoString

from exporter.labels import TRACE_LABELS, LabelRules
from exporter.trace import TraceRecord

SUM = "sum"
"""The part of a histogram that holds the sum of what was observed; its other parts are its buckets."""


Group = tuple[str, ...]
"""The values of the labels that all series about the same traces share: of ``TraceFamily.labels``, without its own."""


class Cell(NamedTuple):
    """One stored number: a counter's value, one bucket of a histogram (what fell between the edge before and this one,
    not cumulative), or a histogram's sum.

    ``labels`` are the values of the family's label names, in their order. ``part`` is "" for a counter, else ``SUM`` or
    the bucket's upper edge as Prometheus writes it.
    """

    family: str
    labels: tuple[str, ...]
    part: str = ""


Observations = Iterable[tuple[str, float]]
"""Pairs of the value of a family's own label ("" where it has none) and an amount."""


@dataclass(frozen=True, slots=True)
class TraceFamily:
    """A counter or, where it has bucket edges, a histogram over traces.

    ``own_label`` is a label that this family has beyond ``labels``, with all the values it can take: a series for each
    of them exists from the first trace on, so that a counter of errors is there before the first error.
    """

    name: str
    help: str
    observe: Callable[[TraceRecord, Mapping[str, str]], Observations]
    labels: tuple[str, ...] = TRACE_LABELS
    own_label: tuple[str, tuple[str, ...]] | None = None
    edges: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of all its labels, in the order of ``Cell.labels``."""
        return self.labels if self.own_label is None else (*self.labels, self.own_label[0])

    @property
    def buckets(self) -> tuple[str, ...]:
        """The upper edges of its buckets as Prometheus writes them; empty for a counter."""
        return tuple(floatToGoString(edge) for edge in (*self.edges, float("inf"))) if self.edges else ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The ``Cell.part`` of each number of one of its series."""
        return (*self.buckets, SUM) if self.edges else ("",)

    def cells(self, labels: Mapping[str, str]) -> Iterable[Cell]:
        """Every cell that this family has for traces with these labels."""
        values = self._values(labels)
        for own in self.own_label[1] if self.own_label else ("",):
            for part in self.parts:
                yield Cell(self.name, self._with_own(values, own), part)

    def increments(self, record: TraceRecord, labels: Mapping[str, str]) -> Iterable[tuple[Cell, float]]:
        """What one trace adds to which cells."""
        values = self._values(labels)
        for own, amount in self.observe(record, labels):
            series = self._with_own(values, own)
            if self.edges:
                bucket = self.buckets[bisect_left(self.edges, amount)]  # an upper edge belongs to its bucket
                yield Cell(self.name, series, bucket), 1
                yield Cell(self.name, series, SUM), amount
            else:
                yield Cell(self.name, series), amount

    def _values(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(labels[name] for name in self.labels)

    def _with_own(self, values: tuple[str, ...], own: str) -> tuple[str, ...]:
        return values if self.own_label is None else (*values, own)


@dataclass(frozen=True, slots=True)
class Meter:
    """What traces add to the totals, with the labels that the configuration chooses."""

    families: tuple[TraceFamily, ...]
    rules: LabelRules

    def amounts(self, records: Iterable[TraceRecord]) -> dict[Cell, float]:
        """What these traces add, by cell; a cell to which nothing is added yet is there with 0."""
        amounts: dict[Cell, float] = {}
        known: set[tuple[str, ...]] = set()
        for record in records:
            labels = self.rules.values(record)
            if (values := tuple(labels.values())) not in known:
                known.add(values)
                for family in self.families:
                    for cell in family.cells(labels):
                        amounts.setdefault(cell, 0)
            for family in self.families:
                for cell, amount in family.increments(record, labels):
                    amounts[cell] += amount
        return amounts

    def groups(self, records: Iterable[TraceRecord]) -> set[Group]:
        """The groups that get increments from these traces."""
        names = {family.labels for family in self.families if family.labels}
        return {tuple(labels[name] for name in group) for labels in map(self.rules.values, records) for group in names}

    def place(self, record: TraceRecord) -> tuple[str, str]:
        """The labels ``experiment`` and ``environment`` of a trace."""
        labels = self.rules.values(record)
        return labels["experiment"], labels["environment"]


def histogram_quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The ``q`` quantile of pairs of an upper edge and a cumulative count, the last edge infinite; None without counts.

    As Prometheus' function of the same name does it: linear inside a bucket, the first of which begins at 0; a quantile
    in the infinite bucket is given as the highest finite edge.
    """
    total = buckets[-1][1] if buckets else 0
    if not total:
        return None
    rank, below_edge, below_count = q * total, 0.0, 0.0
    for edge, count in buckets:
        if count >= rank and count > below_count:
            inside = (rank - below_count) / (count - below_count)
            return below_edge if edge == float("inf") else below_edge + (edge - below_edge) * inside
        below_edge, below_count = edge, count
    return None
