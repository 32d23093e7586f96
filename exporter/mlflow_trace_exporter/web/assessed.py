"""The assessments that traces on a page are asked for. Pure."""

from collections.abc import Iterator, Mapping

from mlflow_trace_exporter.domain.assessments import Assessment
from mlflow_trace_exporter.domain.labels import Labels
from mlflow_trace_exporter.domain.trace import TraceRecord


def has_assessment(record: TraceRecord, asked: Labels) -> bool:
    """Whether a trace has an assessment with these values of ASSESSMENT_NAMES. One that is overridden does not count,
    as on MLflow's pages."""
    return any(all(_has(each, *item) for item in asked.items()) for each in record.valid_assessments)


def _has(assessment: Assessment, name: str, wanted: str) -> bool:
    match name:
        case "assessment":
            return assessment.name == wanted
        case "source":
            return assessment.source == wanted
    if isinstance(assessment.value, float):
        return assessment.value == _number(wanted)
    return assessment.value == wanted


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def texts(record: TraceRecord, asked: Mapping[str, str]) -> Iterator[str]:
    """The assessments of a trace as texts: those with the name that is asked for, or all."""
    for each in record.valid_assessments:
        if asked.get("assessment") in (None, each.name):
            yield f"{each.name} {_value(each)} ({each.source})"


def _value(assessment: Assessment) -> str:
    if assessment.failed:
        return "failed"
    return f"{assessment.value:g}" if isinstance(assessment.value, float) else str(assessment.value)
