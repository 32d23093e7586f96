"""What a metric over traces is, and how traces add to it. Pure.

The families themselves are the rows of two tables: families.py has the totals, which the ledger keeps, in cells, so
that they survive a restart; status.py has what the exporter says of itself, which begins anew with each process.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.utils import floatToGoString

from mlflow_trace_exporter.domain.admission import Admission, Caps, Group
from mlflow_trace_exporter.domain.labels import PLACE_LABELS, TRACE_LABELS, VERSION_LABELS, LabelRules, Labels
from mlflow_trace_exporter.domain.objectives import Objectives
from mlflow_trace_exporter.domain.trace import PLAIN_ID, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic, traffic_of
from mlflow_trace_exporter.domain.triage import Batch, Place

SUM = "sum"
"""The part of a histogram that holds the sum of what was observed; its other parts are its buckets."""


class Cell(NamedTuple):
    """One stored number: a counter's value, one bucket of a histogram (what fell between the edge before and this one,
    not cumulative), or a histogram's sum.

    ``labels`` are the values of the family's label names, in their order. ``part`` is "" for a counter, else ``SUM`` or
    the bucket's upper edge as Prometheus writes it.
    """

    family: str
    labels: tuple[str, ...]
    part: str = ""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A trace that fell into a bucket: its id, what was observed of it, and when it ended (Unix seconds)."""

    trace_id: str
    value: float
    timestamp_s: float


Observations = Iterable[tuple[str, float]]
"""Pairs of the value of a family's own label ("" where it has none) and an amount."""


@dataclass(frozen=True, slots=True)
class TraceFamily:
    """A counter or, where it has bucket edges, a histogram over traces.

    ``own_label`` is a label that this family has beyond ``labels``, with all the values it can take: a series for each
    of them exists from the first trace on, so that a counter of errors is there before the first error.
    ``applies`` says for which groups there are series; None for all.
    """

    name: str
    help: str
    observe: Callable[[TraceRecord, Labels], Observations]
    labels: tuple[str, ...] = TRACE_LABELS
    own_label: tuple[str, tuple[str, ...]] | None = None
    edges: tuple[float, ...] = ()
    has_exemplars: bool = False
    applies: Callable[[Group], bool] | None = None

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

    def is_of(self, group: Group) -> bool:
        """Whether it has series for a group."""
        return len(self.labels) == len(group) and (self.applies is None or self.applies(group))

    @property
    def is_of_groups(self) -> bool:
        """Whether it is about traces of a group, and not about the exporter's own work."""
        return self.labels[: len(PLACE_LABELS)] == PLACE_LABELS

    @property
    def series_per_group(self) -> int:
        """How many series it has for each group."""
        own_values = len(self.own_label[1]) if self.own_label else 1
        return own_values * (len(self.buckets) + 2 if self.edges else 1)  # a sum and a count beside the buckets

    def cells_of(self, group: Group) -> Iterable[Cell]:
        """Every cell that this family has for a group: none where it has no series for it."""
        if not self.is_of(group):
            return
        for own in self.own_label[1] if self.own_label else ("",):
            for part in self.parts:
                yield Cell(self.name, self._with_own(group, own), part)

    def increments(self, record: TraceRecord, labels: Labels) -> Iterable[tuple[Cell, float]]:
        """What one trace adds to which cells."""
        for own, amount in self.observe(record, labels):
            series = self._with_own(tuple(labels[name] for name in self.labels), own)
            if self.edges:
                bucket = self.buckets[bisect_left(self.edges, amount)]  # an upper edge belongs to its bucket
                yield Cell(self.name, series, bucket), 1
                yield Cell(self.name, series, SUM), amount
            else:
                yield Cell(self.name, series), amount

    def _with_own(self, values: tuple[str, ...], own: str) -> tuple[str, ...]:
        return values if self.own_label is None else (*values, own)


@dataclass(frozen=True, slots=True)
class Increments:
    """What a batch adds to the totals.

    ``groups`` are those that get increments. ``first_ms`` is the earliest start (Unix ms) of a trace by VERSION_LABELS.
    ``overflowed`` counts traces by the label whose value was not admitted,
    and ``left_out`` those that are not counted, by the kind of their traffic.
    """

    amounts: Mapping[Cell, float] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    first_ms: Mapping[Group, int] = field(default_factory=dict)
    exemplars: Mapping[Cell, Exemplar] = field(default_factory=dict)
    overflowed: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[Traffic, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Meter:
    """What traces add to the totals, with the labels, the kinds of traffic and the objectives of the configuration."""

    families: tuple[TraceFamily, ...]
    rules: LabelRules
    caps: Caps
    traffic: frozenset[Traffic]
    objectives: Objectives

    def admission(self, shown: Iterable[Group]) -> Admission:
        """What decides on new label values, beside those of the groups that are shown."""
        return Admission(self.rules.names, shown, self.caps, self._series_of)

    def place(self, record: TraceRecord, admission: Admission) -> Place:
        """Where a trace belongs that is not counted yet."""
        return Place(*admission.place(self.rules.values(record)), traffic_of(record) in self.traffic)

    def measure(self, batch: Batch, admission: Admission) -> Increments:
        """What a batch adds; a cell to which nothing is added yet is there with 0."""
        waiting = (*(each for each in batch.pending if each.running), *batch.abandoned)
        groups: dict[Group, None] = {(each.experiment, each.environment): None for each in waiting}  # an ordered set
        overflowed, left_out = Counter(dict.fromkeys(self.rules.names, 0)), Counter(dict.fromkeys(Traffic, 0))
        increments: list[tuple[Cell, float]] = []
        first_ms: dict[Group, int] = {}
        exemplars: dict[Cell, Exemplar] = {}
        for record in batch.counted:
            traffic = traffic_of(record)
            if traffic not in self.traffic:
                left_out[traffic] += 1
                continue
            admitted = admission.admit(self.rules.values(record))
            overflowed.update(admitted.overflowed)
            group = tuple(admitted.labels.values())
            groups |= dict.fromkeys((group, group[: len(PLACE_LABELS)]))
            version = group[: len(VERSION_LABELS)]
            first_ms[version] = min(record.start_ms, first_ms.get(version, record.start_ms))
            for family in self.families:
                for cell, amount in family.increments(record, admitted.labels):
                    increments.append((cell, amount))
                    if family.has_exemplars and cell.part != SUM and (exemplar := exemplar_of(record)):
                        exemplars[cell] = later(exemplar, exemplars.get(cell))
        amounts: dict[Cell, float] = dict.fromkeys(self._cells(groups), 0)
        for cell, amount in increments:
            amounts[cell] += amount
        return Increments(amounts, tuple(groups), first_ms, exemplars, overflowed, left_out)

    def _cells(self, groups: Iterable[Group]) -> Iterable[Cell]:
        for group in groups:
            for family in self.families:
                yield from family.cells_of(group)

    def _series_of(self, group: Group) -> int:
        return sum(family.series_per_group for family in self.families if family.is_of(group))


MAX_EXEMPLAR_LENGTH = 128 - len("trace_id")
"""OpenMetrics allows 128 characters for the names and values of an exemplar's labels."""


def exemplar_of(record: TraceRecord) -> Exemplar | None:
    """A finished trace as an exemplar. None where its id is too long, or odd, or where its end is not in the past: what
    comes after it would then be out of order for Prometheus."""
    plain = PLAIN_ID.fullmatch(record.trace_id) and len(record.trace_id) <= MAX_EXEMPLAR_LENGTH
    if not plain or record.duration_s is None or record.end_ms is None or record.end_ms > record.seen_ms:
        return None
    return Exemplar(record.trace_id, record.duration_s, record.end_ms / 1000)


def later(one: Exemplar, other: Exemplar | None) -> Exemplar:
    """The one of the trace that ended later: Prometheus takes the exemplars of a series in the order of their time."""
    return one if other is None or one.timestamp_s > other.timestamp_s else other


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
