"""Selects the traces of a page by their assessments. Pure."""

from collections.abc import Callable, Iterator, Mapping

from mlflow_trace_exporter.domain.assessments import Assessment
from mlflow_trace_exporter.domain.labels import ASSESSMENT_NAMES, Labels
from mlflow_trace_exporter.domain.objectives import Quality
from mlflow_trace_exporter.domain.trace import TraceRecord

RATINGS = ("good", "bad")
PARAMETERS = (*ASSESSMENT_NAMES, "rating")
"""The query parameters that select traces by assessment."""

QualityOf = Callable[[str], Quality | None]
"""Returns the quality objective of a trace for the assessments of a name."""


def has_assessment(record: TraceRecord, asked: Labels, quality_of: QualityOf) -> bool:
    """Whether a trace has an assessment with these values of PARAMETERS. One that is overridden does not count, as on
    MLflow's pages."""
    return any(all(_has(each, *item, quality_of) for item in asked.items()) for each in record.valid_assessments)


def _has(assessment: Assessment, name: str, wanted: str, quality_of: QualityOf) -> bool:
    match name:
        case "rating":
            quality = quality_of(assessment.name)
            if quality is None or assessment.value is None:
                return False
            return quality.is_met_by(assessment.value) is (wanted == "good")
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
