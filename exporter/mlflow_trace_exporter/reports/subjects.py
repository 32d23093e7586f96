"""What the rows of a report are about: traces, or calls of models or other spans inside them. Pure."""

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from mlflow_trace_exporter.domain.calls import labels_of
from mlflow_trace_exporter.domain.labels import CALL_ERROR_LABELS, STEP_LABELS, VERSION_LABELS, Labels
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.errors import ArgumentError

Unit = Literal["traces", "calls", "spans"]

OF_CALLS = CALL_ERROR_LABELS[len(VERSION_LABELS) :]
"""The dimensions of calls of models."""

OF_SPANS = STEP_LABELS[len(VERSION_LABELS) :]
"""The dimensions of other spans."""


class Subject(NamedTuple):
    """One of the things that a report adds up. ``labels``: its own dimensions, besides those of its trace."""

    failed: bool
    duration_s: float | None
    usage: TokenUsage | None = None
    cost: Cost | None = None
    labels: Labels = MappingProxyType({})


def unit_of(by: Sequence[str]) -> Unit:
    """What a report by these dimensions is about. Raises ArgumentError if that is not clear."""
    of_calls, of_spans = ([name for name in by if name in names] for names in (OF_CALLS, OF_SPANS))
    if of_calls and of_spans:
        raise ArgumentError("by", f"{of_calls[0]} and {of_spans[0]} are of different spans, so use only one of them")
    return "calls" if of_calls else "spans" if of_spans else "traces"


def of_trace(record: TraceRecord) -> Subject:
    """A trace as the subject of a report."""
    return Subject(record.state is State.ERROR, record.duration_s, record.usage, record.cost)


def subjects(record: TraceRecord, unit: Unit) -> Iterator[Subject]:
    """A trace, or what is inside it."""
    if unit == "traces":
        yield of_trace(record)
    elif record.inside is not None and unit == "calls":
        for call in record.inside.calls:
            labels = {"error_type": "", **labels_of(call)}
            yield Subject(call.failed, call.duration_s, call.usage, call.cost, labels)
    elif record.inside is not None:
        for step in record.inside.steps:
            yield Subject(step.failed, step.duration_s, labels=labels_of(step))
