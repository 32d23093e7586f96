"""What the rows of a report are about: traces, their assessments, or calls of models or other spans inside them.
Pure."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from mlflow_trace_exporter.domain.calls import labels_of
from mlflow_trace_exporter.domain.labels import (
    ASSESSMENT_SOURCE_LABELS,
    CALL_ERROR_LABELS,
    STEP_LABELS,
    VERSION_LABELS,
    Labels,
)
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.errors import ArgumentError

Unit = Literal["traces", "calls", "spans", "assessments"]

OF_CALLS = CALL_ERROR_LABELS[len(VERSION_LABELS) :]
"""The dimensions of calls of models."""

OF_SPANS = STEP_LABELS[len(VERSION_LABELS) :]
"""The dimensions of other spans."""

OF_ASSESSMENTS = ASSESSMENT_SOURCE_LABELS[len(VERSION_LABELS) :]
"""The dimensions of assessments."""

OF_PARTS: Mapping[Unit, tuple[str, ...]] = {"calls": OF_CALLS, "spans": OF_SPANS, "assessments": OF_ASSESSMENTS}
"""The dimensions of everything that is a part of a trace."""


class Subject(NamedTuple):
    """One of the things that a report adds up. ``labels``: its own dimensions, besides those of its trace."""

    failed: bool
    duration_s: float | None
    usage: TokenUsage | None = None
    cost: Cost | None = None
    labels: Labels = MappingProxyType({})


def unit_of(by: Sequence[str]) -> Unit:
    """What a report by these dimensions is about. Raises ArgumentError if that is not clear."""
    asked = {unit: name for unit, names in OF_PARTS.items() for name in reversed(by) if name in names}
    if len(asked) > 1:
        one, other, *_ = asked.values()
        raise ArgumentError("by", f"{one} and {other} are of different parts of a trace, so use only one of them")
    return next(iter(asked), "traces")


def of_trace(record: TraceRecord) -> Subject:
    """A trace as the subject of a report."""
    return Subject(record.state is State.ERROR, record.duration_s, record.usage, record.cost)


def subjects(record: TraceRecord, unit: Unit) -> Iterator[Subject]:
    """A trace, or what is inside it. Assessments are no subjects, see ``OpinionTally``."""
    if unit == "traces":
        yield of_trace(record)
    elif record.inside is not None and unit == "calls":
        for call in record.inside.calls:
            labels = {"error_type": "", **labels_of(call)}
            yield Subject(call.failed, call.duration_s, call.usage, call.cost, labels)
    elif record.inside is not None:
        for step in record.inside.steps:
            yield Subject(step.failed, step.duration_s, labels=labels_of(step))
