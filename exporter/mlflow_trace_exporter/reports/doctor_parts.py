"""What `doctor` says about parts of traces, whether or not the exporter is configured to count them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.reports import doctor_assessments, inside
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.tracking.span_source import with_inside
from mlflow_trace_exporter.wiring import open_meter


class Part(NamedTuple):
    """What to change, one or two sentences per item, and the facts, one per line."""

    advice: Sequence[str]
    findings: Sequence[str]


def read_parts(source: MlflowSource, counted: Sequence[TraceRecord], settings: Config) -> Iterator[Part]:
    """What there is to say about the parts of traces that would be counted. Raises PollError."""
    if not counted:
        return
    if source.features().get(Feature.SPANS):
        yield _inside(source, counted, settings)
    yield _assessments(counted, settings)


def _inside(source: MlflowSource, counted: Sequence[TraceRecord], settings: Config) -> Part:
    counting = settings.model_copy(update={"spans": settings.spans.model_copy(update={"enabled": True})})
    found = inside.sample(list(with_inside(source.spans, counted)), open_meter(counting))
    return Part([*inside.advice(found)], [*inside.findings(found, settings.spans.enabled)])


def _assessments(counted: Sequence[TraceRecord], settings: Config) -> Part:
    enabled = settings.assessments.enabled
    counting = settings.model_copy(update={"assessments": settings.assessments.model_copy(update={"enabled": True})})
    found = doctor_assessments.sample(counted, open_meter(counting))
    return Part([*doctor_assessments.advice(found, enabled)], [*doctor_assessments.findings(found, enabled)])
