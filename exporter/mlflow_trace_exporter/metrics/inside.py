"""The table of all metrics over what is inside traces: calls of models, and other spans. Pure.

Each metric family is one row here and is declared nowhere else.
"""

from collections.abc import Collection, Iterator

from mlflow_trace_exporter.domain.calls import labels_of
from mlflow_trace_exporter.domain.labels import (
    CALL_ERROR_LABELS,
    CALL_LABELS,
    STEP_LABELS,
    VERSION_LABELS,
    Labels,
)
from mlflow_trace_exporter.domain.spans import Call, Inside, Step
from mlflow_trace_exporter.metrics.model import Observations, Part, TraceFamily, cost, tokens

CALL_DURATION = "mlflow_llm_call_duration_seconds"
CALL_ERRORS = "mlflow_llm_call_errors_total"
STEP_DURATION = "mlflow_span_duration_seconds"


def inside_parts(inside: Inside, of_trace: Labels, step_types: Collection[str]) -> Iterator[Part]:
    """What is counted of the inside of a trace. ``of_trace``: the labels of the series that count the trace."""
    version = {name: of_trace[name] for name in VERSION_LABELS}
    for call in inside.calls:
        labels = {**version, **labels_of(call)}
        yield Part(CALL_LABELS, labels, call, call.end_ms)
        if call.failed:
            yield Part(CALL_ERROR_LABELS, labels, call, call.end_ms)
    for step in inside.steps:
        if step.span_type in step_types:
            yield Part(STEP_LABELS, {**version, **labels_of(step)}, step, step.end_ms)


def _duration(what: Call | Step, _: Labels) -> Observations:
    return [] if what.duration_s is None else [("error" if what.failed else "ok", what.duration_s)]


def _first_chunk(call: Call, _: Labels) -> Observations:
    return [] if call.first_chunk_s is None else [("", call.first_chunk_s)]


def inside_families(
    duration_edges_s: tuple[float, ...], first_chunk_edges_s: tuple[float, ...]
) -> tuple[TraceFamily, ...]:
    """The table of all metrics over what is inside traces, with the histogram edges of the configuration."""
    return (
        TraceFamily(
            CALL_DURATION,
            "Duration of calls of models, from the spans of finished traces.",
            _duration,
            labels=CALL_LABELS,
            own_label=("status", ("ok", "error")),
            edges=duration_edges_s,
            has_exemplars=True,
        ),
        TraceFamily(
            CALL_ERRORS,
            "Failed calls of models by the type of the error, from the spans of finished traces.",
            lambda *_: [("", 1)],
            labels=CALL_ERROR_LABELS,
        ),
        TraceFamily(
            "mlflow_llm_time_to_first_chunk_seconds",
            "Time from the start of a streamed call to its first chunk, from the spans of finished traces.",
            _first_chunk,
            labels=CALL_LABELS,
            edges=first_chunk_edges_s,
        ),
        TraceFamily(
            "mlflow_llm_input_tokens_total",
            "Input tokens of calls of models, from the spans of finished traces.",
            tokens("input"),
            labels=CALL_LABELS,
        ),
        TraceFamily(
            "mlflow_llm_output_tokens_total",
            "Output tokens of calls of models, from the spans of finished traces.",
            tokens("output"),
            labels=CALL_LABELS,
        ),
        TraceFamily(
            "mlflow_llm_cache_read_input_tokens_total",
            "Tokens that calls of models read from the provider's cache, from the spans of finished traces.",
            tokens("cache_read_input"),
            labels=CALL_LABELS,
        ),
        TraceFamily(
            "mlflow_llm_cache_creation_input_tokens_total",
            "Tokens that calls of models wrote to the provider's cache, from the spans of finished traces.",
            tokens("cache_creation_input"),
            labels=CALL_LABELS,
        ),
        TraceFamily(
            "mlflow_llm_input_cost_usd_total",
            "Input cost of calls of models in USD, including costs that MLflow does not split, from the spans of"
            " finished traces.",
            cost("input_usd"),
            labels=CALL_LABELS,
        ),
        TraceFamily(
            "mlflow_llm_output_cost_usd_total",
            "Output cost of calls of models in USD, from the spans of finished traces.",
            cost("output_usd"),
            labels=CALL_LABELS,
        ),
        TraceFamily(
            STEP_DURATION,
            "Duration of tools, retrievers, agents and other spans that are not calls of models, from the spans of"
            " finished traces.",
            _duration,
            labels=STEP_LABELS,
            own_label=("status", ("ok", "error")),
            edges=duration_edges_s,
            has_exemplars=True,
        ),
    )
