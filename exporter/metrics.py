"""The metrics: what each is called, what it means, and how a trace adds to it. Pure.

A metric family is one row of a table below and is declared nowhere else. ``trace_families`` are totals over traces:
the ledger keeps them, in cells, so that they survive a restart. ``STATUS_FAMILIES`` describe the exporter itself
and begin anew with each process.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prometheus_client.utils import floatToGoString

from exporter.labels import TRACE_LABELS, UNKNOWN, LabelRules
from exporter.trace import Cost, State, TokenUsage, TraceRecord

SUM = "sum"
"""The part of a histogram that holds the sum of what was observed; its other parts are its buckets."""

VISIBILITY_EDGES_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0, 86400.0)


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


def measure(families: Sequence[TraceFamily], rules: LabelRules, records: Iterable[TraceRecord]) -> dict[Cell, float]:
    """What these traces add, by cell; a cell to which nothing is added yet is there with 0."""
    amounts: dict[Cell, float] = {}
    known: set[tuple[str, ...]] = set()
    for record in records:
        labels = rules.values(record)
        if (values := tuple(labels.values())) not in known:
            known.add(values)
            for family in families:
                for cell in family.cells(labels):
                    amounts.setdefault(cell, 0)
        for family in families:
            for cell, amount in family.increments(record, labels):
                amounts[cell] += amount
    return amounts


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


MISSING_FIELDS = ("token_usage", "cost", "user", "session", "environment", "version")


def _missing(record: TraceRecord, labels: Mapping[str, str]) -> Observations:
    present = {
        "token_usage": record.usage,
        "cost": record.cost,
        "user": record.user,
        "session": record.session,
        "environment": labels["environment"] != UNKNOWN,
        "version": labels["version"] != UNKNOWN,
    }
    return [(name, 1) for name in MISSING_FIELDS if present[name] in (None, "", False)]


def _duration(record: TraceRecord, _: Mapping[str, str]) -> Observations:
    status = "error" if record.state is State.ERROR else "ok"
    return [] if record.duration_s is None else [(status, record.duration_s)]


def _tokens_per_trace(record: TraceRecord, _: Mapping[str, str]) -> Observations:
    usage = record.usage or TokenUsage()
    return [(kind, count) for kind, count in (("input", usage.input), ("output", usage.output)) if count is not None]


def _visibility_delay(record: TraceRecord, _: Mapping[str, str]) -> Observations:
    return [] if record.end_ms is None else [("", max(0, record.seen_ms - record.end_ms) / 1000)]


def _tokens(field: str) -> Callable[[TraceRecord, Mapping[str, str]], Observations]:
    return lambda record, _: [("", getattr(record.usage or TokenUsage(), field) or 0)]


def _cost(field: str) -> Callable[[TraceRecord, Mapping[str, str]], Observations]:
    return lambda record, _: [("", getattr(record.cost or Cost(), field) or 0)]


def trace_families(duration_edges_s: tuple[float, ...], token_edges: tuple[float, ...]) -> tuple[TraceFamily, ...]:
    """The table of all totals over traces, with the histogram edges that the configuration chooses."""
    return (
        TraceFamily(
            "mlflow_traces_total",
            "Finished traces, from polls of MLflow.",
            lambda *_: [("", 1)],
        ),
        TraceFamily(
            "mlflow_trace_errors_total",
            "Finished traces whose state is ERROR, from polls of MLflow.",
            lambda record, _: [("", int(record.state is State.ERROR))],
        ),
        TraceFamily(
            "mlflow_trace_duration_seconds",
            "Duration of finished traces as MLflow recorded it, from polls of MLflow.",
            _duration,
            own_label=("status", ("ok", "error")),
            edges=duration_edges_s,
        ),
        TraceFamily(
            "mlflow_trace_input_tokens_total",
            "Input tokens of finished traces, cached ones included, from polls of MLflow.",
            _tokens("input"),
        ),
        TraceFamily(
            "mlflow_trace_output_tokens_total",
            "Output tokens of finished traces, from polls of MLflow.",
            _tokens("output"),
        ),
        TraceFamily(
            "mlflow_trace_cache_read_input_tokens_total",
            "Input tokens read from the provider's cache, a subset of the input tokens, from polls of MLflow.",
            _tokens("cache_read_input"),
        ),
        TraceFamily(
            "mlflow_trace_cache_creation_input_tokens_total",
            "Input tokens written to the provider's cache, a subset of the input tokens, from polls of MLflow.",
            _tokens("cache_creation_input"),
        ),
        TraceFamily(
            "mlflow_tokens_per_trace",
            "Tokens of one finished trace, of those that have a token usage, from polls of MLflow.",
            _tokens_per_trace,
            own_label=("kind", ("input", "output")),
            edges=token_edges,
        ),
        TraceFamily(
            "mlflow_trace_input_cost_usd_total",
            "Cost of the input of finished traces in USD, as MLflow worked it out, from polls of MLflow.",
            _cost("input_usd"),
        ),
        TraceFamily(
            "mlflow_trace_output_cost_usd_total",
            "Cost of the output of finished traces in USD, as MLflow worked it out, from polls of MLflow.",
            _cost("output_usd"),
        ),
        TraceFamily(
            "mlflow_traces_missing_total",
            "Finished traces that lack a field (or have it in a form that cannot be read), from polls of MLflow.",
            _missing,
            own_label=("field", MISSING_FIELDS),
        ),
        TraceFamily(
            "mlflow_trace_visibility_delay_seconds",
            "Time from the end of a trace to the poll of MLflow that counted it.",
            _visibility_delay,
            labels=("experiment", "environment"),
            edges=VISIBILITY_EDGES_S,
        ),
    )


@dataclass(frozen=True, slots=True)
class Build:
    """Versions of the parts of this process."""

    version: str
    python_version: str
    mlflow_version: str


@dataclass(frozen=True, slots=True)
class Status:
    """What the exporter knows of its own work since it started. None means not known yet, and is not exposed."""

    build: Build
    poll_errors: Mapping[str, int]
    mlflow_up: bool | None = None
    polls: int = 0
    poll_duration_s: float | None = None
    last_success_s: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What may be exposed: totals that are committed, and the state of the exporter at that moment."""

    totals: Mapping[Cell, float]
    status: Status


@dataclass(frozen=True, slots=True)
class StatusFamily:
    """A counter or gauge about the exporter itself. ``read`` gives pairs of label values and a value."""

    name: str
    type: Literal["counter", "gauge"]
    help: str
    read: Callable[[Status], Iterable[tuple[tuple[str, ...], float]]]
    label_names: tuple[str, ...] = ()


def _known(value: float | None) -> list[tuple[tuple[str, ...], float]]:
    return [] if value is None else [((), float(value))]


STATUS_FAMILIES = (
    StatusFamily(
        "mlflow_up",
        "gauge",
        "Whether MLflow answered the last poll (1) or not (0).",
        lambda status: _known(status.mlflow_up),
    ),
    StatusFamily(
        "mlflow_trace_exporter_build_info",
        "gauge",
        "Always 1; the labels say which versions run.",
        lambda status: [
            ((status.build.version, status.build.python_version, status.build.mlflow_version), 1),
        ],
        ("version", "python_version", "mlflow_version"),
    ),
    StatusFamily(
        "mlflow_trace_exporter_polls_total",
        "counter",
        "Polls of MLflow that ended, well or not.",
        lambda status: [((), status.polls)],
    ),
    StatusFamily(
        "mlflow_trace_exporter_poll_errors_total",
        "counter",
        "Polls of MLflow that failed, by reason.",
        lambda status: [((reason,), count) for reason, count in status.poll_errors.items()],
        ("reason",),
    ),
    StatusFamily(
        "mlflow_trace_exporter_poll_duration_seconds",
        "gauge",
        "How long the last poll of MLflow took.",
        lambda status: _known(status.poll_duration_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_last_successful_poll_timestamp_seconds",
        "gauge",
        "When the last successful poll of MLflow ended, in Unix seconds.",
        lambda status: _known(status.last_success_s),
    ),
)
