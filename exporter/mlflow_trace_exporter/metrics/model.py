"""What a metric over traces is, and what one trace adds to it. Pure.

The metric families are the rows of two tables. families.py has the totals over traces. The ledger stores them in cells,
so they survive a restart. status.py has the metrics about the exporter itself, which start again with each process.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client.utils import floatToGoString

from mlflow_trace_exporter.domain.groups import NO_GROUP, Group
from mlflow_trace_exporter.domain.labels import PLACE_LABELS, TRACE_LABELS, Labels
from mlflow_trace_exporter.domain.trace import PLAIN_ID, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

SUM = "sum"
"""The part of a histogram that holds the sum of the observations; its other parts are its buckets."""


class Cell(NamedTuple):
    """One stored number: the value of a counter, one bucket of a histogram (not cumulative: only the observations
    between the previous edge and this one), or the sum of a histogram.

    ``labels`` are the values of the family's label names, in order. ``part`` is "" for a counter, otherwise ``SUM`` or
    the upper edge of the bucket in Prometheus notation.
    """

    family: str
    labels: tuple[str, ...]
    part: str = ""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A trace in a bucket: its id, the observed value, and when it ended (Unix seconds)."""

    trace_id: str
    value: float
    timestamp_s: float


Observations = Sequence[tuple[str, float]]
"""Pairs of the value of the family's own label ("" if it has none) and an amount."""


class Part(NamedTuple):
    """Something to count besides the trace itself, and its labels. Those of ``names`` are the labels of the series that
    count it. ``end_ms``: when it ended (Unix ms), if that is known."""

    names: tuple[str, ...]
    labels: Labels
    what: object
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TraceFamily:
    """A counter, or a histogram if it has bucket edges, over traces or over parts of them.

    ``labels`` tell what it is about. ``observe`` gets a trace or a part of one, and the labels of its series.
    ``own_label`` is a label that this family has in addition, with all its possible values. A series for
    each value exists from the first trace on, so the error counter exists before the first error.
    ``applies`` decides which groups have series; None: all groups.
    """

    name: str
    help: str
    observe: Callable[[Any, Labels], Observations]
    labels: tuple[str, ...] = TRACE_LABELS
    own_label: tuple[str, tuple[str, ...]] | None = None
    edges: tuple[float, ...] = ()
    has_exemplars: bool = False
    applies: Callable[[Group], bool] | None = None
    buckets: tuple[str, ...] = field(init=False)
    """The upper edges of the buckets in Prometheus notation; empty for a counter."""

    def __post_init__(self) -> None:
        edges = (*self.edges, float("inf")) if self.edges else ()
        object.__setattr__(self, "buckets", tuple(map(floatToGoString, edges)))

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of all labels, in the order of ``Cell.labels``."""
        return self.labels if self.own_label is None else (*self.labels, self.own_label[0])

    @property
    def parts(self) -> tuple[str, ...]:
        """The ``Cell.part`` of each number in a series."""
        return (*self.buckets, SUM) if self.edges else ("",)

    def is_of(self, group: Group) -> bool:
        """Whether this family has series for a group."""
        return self.labels == group.names and (self.applies is None or self.applies(group))

    @property
    def is_of_groups(self) -> bool:
        """Whether this family is about the traces of a group and not about the exporter's own work."""
        return self.labels[: len(PLACE_LABELS)] == PLACE_LABELS

    @property
    def samples_per_series(self) -> int:
        """The number of samples of a series: for a histogram, its buckets, a sum and a count."""
        return len(self.edges) + 3 if self.edges else 1

    @property
    def series_per_group(self) -> int:
        """The number of series per group, as Prometheus counts them: one for each sample."""
        return (len(self.own_label[1]) if self.own_label else 1) * self.samples_per_series

    def group_of(self, labels: tuple[str, ...]) -> Group:
        """The group of the series with these labels; NO_GROUP if this family is not about groups."""
        return Group(self.labels, labels[: len(self.labels)]) if self.is_of_groups else NO_GROUP

    def labels_of(self, group: Group) -> Iterable[tuple[str, ...]]:
        """The labels of all series that a group can have in this family; none if the family has other labels."""
        if self.labels == group.names:
            for own in self.own_label[1] if self.own_label else ("",):
                yield self._with_own(group.values, own)

    def cells_of(self, group: Group) -> Iterable[Cell]:
        """All cells of this family for a group; none if it has no series for it."""
        if self.is_of(group):
            for labels in self.labels_of(group):
                for part in self.parts:
                    yield Cell(self.name, labels, part)

    def cell(self, group: Group, own: str, part: str) -> Cell:
        """A cell of a group, or of its place if this family is about places."""
        return Cell(self.name, self._with_own(group.values[: len(self.labels)], own), part)

    def bucket_of(self, value: float) -> str:
        """The bucket of an observation. Upper edges are inclusive."""
        return self.buckets[bisect_left(self.edges, value)]

    def growth(self, before: TraceRecord, after: TraceRecord, labels: Labels) -> Observations:
        """What to observe in addition to ``before``, which was counted, now that the trace has grown to ``after``. A
        histogram that already has an observation of the trace gets none, because the observation cannot move."""
        counted = dict(self.observe(before, labels))
        now = self.observe(after, labels)
        if self.edges:
            return [each for each in now if each[0] not in counted] if len(now) > len(counted) else ()
        return [(own, amount - counted.get(own, 0)) for own, amount in now]

    def _with_own(self, values: tuple[str, ...], own: str) -> tuple[str, ...]:
        return values if self.own_label is None else (*values, own)


def tokens(field: str) -> Callable[[Any, Labels], Observations]:
    """Observes a field of the token usage of a trace or call."""
    return lambda what, _: [("", getattr(what.usage or _NO_USAGE, field) or 0)]


def cost(field: str) -> Callable[[Any, Labels], Observations]:
    """Observes a field of the cost of a trace or call."""
    return lambda what, _: [("", getattr(what.cost or _NO_COST, field) or 0)]


_NO_USAGE, _NO_COST = TokenUsage(), Cost()

MAX_EXEMPLAR_LENGTH = 128 - len("trace_id")
"""OpenMetrics limits the names and values of an exemplar's labels to 128 characters."""


def exemplar_of(record: TraceRecord, value: float, end_ms: int | None) -> Exemplar | None:
    """The exemplar of something in a finished trace that ended at ``end_ms`` (Unix ms). None if the id of the trace is
    too long or needs quoting, or if the end is unknown or in the future, because Prometheus would reject later
    exemplars as out of order."""
    plain = PLAIN_ID.fullmatch(record.trace_id) and len(record.trace_id) <= MAX_EXEMPLAR_LENGTH
    if not plain or end_ms is None or end_ms > record.seen_ms:
        return None
    return Exemplar(record.trace_id, value, end_ms / 1000)


def later(one: Exemplar, other: Exemplar | None) -> Exemplar:
    """The later exemplar: Prometheus accepts the exemplars of a series only in order of time."""
    return one if other is None or one.timestamp_s > other.timestamp_s else other


def histogram_quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """The ``q`` quantile of ``buckets``: pairs of an upper edge and a cumulative count. The last edge is infinite. None
    if all counts are 0.

    It works like the PromQL function of the same name. It interpolates linearly inside a bucket, and the first bucket
    begins at 0. A quantile in the infinite bucket is the highest finite edge.
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
