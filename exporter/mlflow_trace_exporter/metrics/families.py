"""The table of all metrics over traces: name, help text, and what a trace adds. Pure.

Each metric family is one row here and is declared nowhere else.
"""

from collections.abc import Callable
from dataclasses import replace

from mlflow_trace_exporter.domain.labels import PLACE_LABELS, TRACE_LABELS, UNKNOWN, LabelRules, Labels
from mlflow_trace_exporter.domain.objectives import Objectives
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.metrics.assessments import assessment_families
from mlflow_trace_exporter.metrics.inside import inside_families
from mlflow_trace_exporter.metrics.meter import Increments
from mlflow_trace_exporter.metrics.model import Cell, Observations, TraceFamily, cost, tokens

VISIBILITY_EDGES_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0, 86400.0)

TRACES = "mlflow_traces_total"
MISSING = "mlflow_traces_missing_total"
ABANDONED = "mlflow_traces_abandoned_total"
LATE = "mlflow_trace_exporter_late_traces_total"
DUPLICATES = "mlflow_trace_exporter_duplicate_reads_total"
CHANGED = "mlflow_trace_exporter_changed_after_count_total"
CORRECTED = "mlflow_trace_exporter_corrected_after_count_total"
REOPENED = "mlflow_trace_exporter_reopened_total"
CHANGED_ASSESSMENTS = "mlflow_trace_exporter_changed_assessments_total"
LEDGER_RESETS = "mlflow_trace_exporter_ledger_resets_total"
NO_OBJECTIVES = Objectives()
LABELS_BY_DEFAULT = LabelRules()

DIFFERING = "mlflow_trace_exporter_differing_traces_total"
OVERFLOW = "mlflow_trace_exporter_label_overflow_total"
LEFT_OUT = "mlflow_trace_exporter_left_out_traces_total"

MISSING_FIELDS = ("token_usage", "cost", "user", "session", "environment", "version", "duration")
MISSING_SPANS = "spans"
"""The further field of MISSING if spans are read."""

_CACHED = "Most MLflow integrations also count cached tokens as input tokens, but mlflow.claude_code does not."


def missing_fields(record: TraceRecord, labels: Labels, rules: LabelRules) -> list[str]:
    """The fields of MISSING_FIELDS that a trace with these labels lacks. A default is no value of the trace."""
    present = {
        "token_usage": record.usage is not None,
        "cost": record.cost is not None,
        "user": bool(record.user),
        "session": bool(record.session),
        "environment": _has_label("environment", record, labels, rules),
        "version": _has_label("version", record, labels, rules),
        "duration": record.duration_ms is not None,
    }
    return [name for name in MISSING_FIELDS if not present[name]]


def _has_label(name: str, record: TraceRecord, labels: Labels, rules: LabelRules) -> bool:
    return labels[name] != UNKNOWN and (name not in rules.defaults or rules.has(name, record))


def _missing(rules: LabelRules, with_spans: bool) -> Callable[[TraceRecord, Labels], Observations]:
    def observe(record: TraceRecord, labels: Labels) -> Observations:
        fields = missing_fields(record, labels, rules)
        return [(name, 1) for name in (*fields, *([MISSING_SPANS] if with_spans and record.inside is None else []))]

    return observe


def _duration(record: TraceRecord, _: Labels) -> Observations:
    status = "error" if record.state is State.ERROR else "ok"
    return [] if record.duration_s is None else [(status, record.duration_s)]


def _slow(objectives: Objectives) -> Callable[[TraceRecord, Labels], Observations]:
    def observe(record: TraceRecord, labels: Labels) -> Observations:
        latency_s = objectives.latency_s(labels["experiment"], labels["environment"])
        if latency_s is None:
            return []
        return [("", int(record.duration_s is not None and record.duration_s > latency_s))]

    return observe


def _tokens_per_trace(record: TraceRecord, _: Labels) -> Observations:
    usage = record.usage or TokenUsage()
    return [(kind, count) for kind, count in (("input", usage.input), ("output", usage.output)) if count is not None]


def _visibility_delay(record: TraceRecord, _: Labels) -> Observations:
    return [] if record.end_ms is None else [("", max(0, record.seen_ms - record.end_ms) / 1000)]


def _nothing(*_: object) -> Observations:
    """For families that count events, see ``events``."""
    return ()


def trace_families(
    duration_edges_s: tuple[float, ...],
    token_edges: tuple[float, ...],
    rules: LabelRules = LABELS_BY_DEFAULT,
    objectives: Objectives = NO_OBJECTIVES,
    with_spans: bool = False,
    score_edges: tuple[float, ...] = (),
) -> tuple[TraceFamily, ...]:
    """The table of all metrics over traces, with the histogram edges, the labels and the objectives of the
    configuration. ``with_spans``: and over what is inside them. ``score_edges``: and over their assessments; () if
    these are not counted."""
    table = _table(objectives.with_edges(duration_edges_s), token_edges, rules, objectives, with_spans)
    of_traces = (replace(each, labels=rules.names) if each.labels == TRACE_LABELS else each for each in table)
    first_chunk_edges_s = objectives.with_first_chunk_edges(duration_edges_s)
    return (
        *of_traces,
        *(inside_families(duration_edges_s, first_chunk_edges_s) if with_spans else ()),
        *(assessment_families(score_edges, objectives) if score_edges else ()),
        *((_changed_assessments(),) if score_edges else ()),
    )


def _table(
    duration_edges_s: tuple[float, ...],
    token_edges: tuple[float, ...],
    rules: LabelRules,
    objectives: Objectives,
    with_spans: bool,
) -> tuple[TraceFamily, ...]:
    return (
        TraceFamily(
            TRACES,
            "Finished traces, from polls of MLflow.",
            lambda *_: [("", 1)],
        ),
        TraceFamily(
            "mlflow_trace_errors_total",
            "Finished traces whose state is ERROR, from polls of MLflow.",
            lambda record, _: [("", int(record.state is State.ERROR))],
        ),
        TraceFamily(
            "mlflow_trace_slow_total",
            "Finished traces slower than their latency objective, from polls of MLflow.",
            _slow(objectives),
            applies=lambda group: objectives.latency_s(*group.place.values) is not None,
        ),
        TraceFamily(
            "mlflow_trace_duration_seconds",
            "Duration of finished traces as MLflow recorded it, from polls of MLflow.",
            _duration,
            own_label=("status", ("ok", "error")),
            edges=duration_edges_s,
            has_exemplars=True,
        ),
        TraceFamily(
            "mlflow_trace_input_tokens_total",
            f"Input tokens of finished traces, including totals that MLflow does not split, from polls of MLflow."
            f" {_CACHED}",
            tokens("input"),
        ),
        TraceFamily(
            "mlflow_trace_output_tokens_total",
            "Output tokens of finished traces, from polls of MLflow.",
            tokens("output"),
        ),
        TraceFamily(
            "mlflow_trace_cache_read_input_tokens_total",
            f"Tokens read from the provider's cache, from polls of MLflow. {_CACHED}",
            tokens("cache_read_input"),
        ),
        TraceFamily(
            "mlflow_trace_cache_creation_input_tokens_total",
            f"Tokens written to the provider's cache, from polls of MLflow. {_CACHED}",
            tokens("cache_creation_input"),
        ),
        TraceFamily(
            "mlflow_tokens_per_trace",
            "Tokens per finished trace, for traces with token usage, from polls of MLflow.",
            _tokens_per_trace,
            own_label=("kind", ("input", "output")),
            edges=token_edges,
        ),
        TraceFamily(
            "mlflow_trace_input_cost_usd_total",
            "Input cost of finished traces in USD, including costs that MLflow does not split, from polls of MLflow.",
            cost("input_usd"),
        ),
        TraceFamily(
            "mlflow_trace_output_cost_usd_total",
            "Output cost of finished traces in USD, as computed by MLflow, from polls of MLflow.",
            cost("output_usd"),
        ),
        TraceFamily(
            MISSING,
            "Finished traces that lack a field or have an unreadable value for it, from polls of MLflow.",
            _missing(rules, with_spans),
            own_label=("field", (*MISSING_FIELDS, *([MISSING_SPANS] if with_spans else []))),
        ),
        TraceFamily(
            "mlflow_trace_visibility_delay_seconds",
            "Time from the end of a trace to the first poll of MLflow that saw it.",
            _visibility_delay,
            labels=PLACE_LABELS,
            edges=VISIBILITY_EDGES_S,
        ),
        TraceFamily(
            ABANDONED,
            "Traces given up because they did not end within a week, from polls of MLflow.",
            _nothing,
            labels=PLACE_LABELS,
        ),
        TraceFamily(
            LATE,
            "Traces that became visible after their start time was closed. They are counted.",
            _nothing,
            labels=(),
        ),
        TraceFamily(
            DUPLICATES,
            "Reads of traces that were already counted. They add nothing unless a trace has grown.",
            _nothing,
            labels=(),
        ),
        TraceFamily(
            CHANGED,
            "Changes to counted traces that could not be added to the counters, or only in part, such as fewer tokens.",
            _nothing,
            labels=(),
        ),
        TraceFamily(
            CORRECTED,
            "Changes to counted traces that were added to the counters, such as more tokens or an error.",
            _nothing,
            labels=(),
        ),
        TraceFamily(
            REOPENED,
            "How often start times were reopened, because a clock was ahead or because poll.lateness or"
            " poll.audit_horizon was raised.",
            _nothing,
            labels=(),
        ),
        TraceFamily(
            LEDGER_RESETS,
            "Damaged ledgers that were set aside. Each one reset all counters to zero.",
            _nothing,
            labels=(),
        ),
        TraceFamily(
            OVERFLOW,
            "Counted traces with a label value replaced by `other` because of labels.max_values or series.limit.",
            _nothing,
            labels=("label",),
        ),
        TraceFamily(
            LEFT_OUT,
            "Finished traces that are not counted because mlflow.traffic does not include their class.",
            _nothing,
            labels=("class",),
        ),
        *([_differing()] if with_spans else []),
    )


def _differing() -> TraceFamily:
    return TraceFamily(
        DIFFERING,
        "Traces whose calls of models do not add up to the tokens or the cost that MLflow reports for the trace.",
        _nothing,
        labels=("amount",),
    )


def _changed_assessments() -> TraceFamily:
    return TraceFamily(
        CHANGED_ASSESSMENTS,
        "Assessments that were edited or overridden after they were counted. The new ones are counted as well.",
        _nothing,
        labels=(),
    )


def events(batch: Batch, increments: Increments) -> dict[Cell, float]:
    """The amounts that a batch adds to the totals in addition to its counted traces."""
    amounts: dict[Cell, float] = {
        Cell(LATE, ()): batch.late,
        Cell(DUPLICATES, ()): batch.duplicates,
        Cell(CHANGED, ()): sum(each.is_beyond_correction for each in batch.changed),
        Cell(CORRECTED, ()): sum(each.grew and not each.is_beyond_correction for each in batch.changed),
        Cell(REOPENED, ()): batch.reopened,
        **{Cell(OVERFLOW, (label,)): count for label, count in increments.overflowed.items()},
        **{Cell(LEFT_OUT, (traffic.value,)): count for traffic, count in increments.left_out.items()},
        **{Cell(DIFFERING, (amount,)): count for amount, count in increments.differing.items()},
    }
    if increments.changed_assessments is not None:
        amounts[Cell(CHANGED_ASSESSMENTS, ())] = increments.changed_assessments
    for each in batch.abandoned:
        cell = Cell(ABANDONED, (each.experiment, each.environment))
        amounts[cell] = amounts.get(cell, 0) + 1
    return amounts
