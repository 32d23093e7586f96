"""The table of all metrics over assessments. Pure.

Each metric family is one row here and is declared nowhere else.
"""

from collections.abc import Callable, Iterator

from mlflow_trace_exporter.domain.assessed import Added
from mlflow_trace_exporter.domain.assessments import Assessment
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.labels import (
    ASSESSMENT_LABELS,
    ASSESSMENT_SCORE_LABELS,
    ASSESSMENT_SOURCE_LABELS,
    ASSESSMENT_VALUE_LABELS,
    VERSION_LABELS,
    Labels,
)
from mlflow_trace_exporter.domain.objectives import Objectives
from mlflow_trace_exporter.metrics.model import Observations, Part, TraceFamily

ASSESSMENTS = "mlflow_trace_assessments_total"
SCORES = "mlflow_trace_assessment_score"
ASSESSMENT_ERRORS = "mlflow_trace_assessment_errors_total"
ASSESSMENT_COST = "mlflow_trace_assessment_cost_usd_total"
RATINGS = "mlflow_trace_assessment_ratings_total"
ASSESSED = "mlflow_traces_assessed_total"


def assessment_parts(added: Added, of_trace: Labels) -> Iterator[Part]:
    """What is counted of an assessment. ``of_trace``: the labels of the series that count its trace."""
    each = added.assessment
    version = {name: of_trace[name] for name in VERSION_LABELS}
    labels = {**version, "assessment": each.name, "source": each.source}
    yield Part(ASSESSMENT_LABELS, labels, added)
    yield Part(ASSESSMENT_SOURCE_LABELS, labels, each)
    if isinstance(each.value, str):
        yield Part(ASSESSMENT_VALUE_LABELS, {**labels, "value": each.value}, each)
    elif each.value is not None:
        yield Part(ASSESSMENT_SCORE_LABELS, labels, each)


def assessment_families(score_edges: tuple[float, ...], objectives: Objectives) -> tuple[TraceFamily, ...]:
    """The table of all metrics over assessments, with the histogram edges and the objectives of the configuration."""
    return (
        TraceFamily(
            ASSESSED,
            "Finished traces with an assessment of this name that has a value, from polls of MLflow.",
            lambda added, _: [("", int(added.is_first))],
            labels=ASSESSMENT_LABELS,
        ),
        TraceFamily(
            ASSESSMENTS,
            "Assessments of finished traces that are words or truth values, from polls of MLflow.",
            lambda *_: [("", 1)],
            labels=ASSESSMENT_VALUE_LABELS,
        ),
        TraceFamily(
            SCORES,
            "Assessments of finished traces that are numbers, from polls of MLflow.",
            _score,
            labels=ASSESSMENT_SCORE_LABELS,
            edges=score_edges,
        ),
        TraceFamily(
            RATINGS,
            "Assessments of finished traces that have a quality objective, by whether they meet it, from polls of"
            " MLflow.",
            _ratings(objectives),
            labels=ASSESSMENT_LABELS,
            own_label=("rating", ("good", "bad")),
            applies=_has_objective(objectives),
        ),
        TraceFamily(
            ASSESSMENT_ERRORS,
            "Assessments of finished traces whose scorer failed, from polls of MLflow.",
            lambda assessment, _: [("", int(assessment.failed))],
            labels=ASSESSMENT_SOURCE_LABELS,
        ),
        TraceFamily(
            ASSESSMENT_COST,
            "Cost of assessments by judges in USD, from polls of MLflow.",
            lambda added, _: [("", added.assessment.cost_usd or 0)],
            labels=ASSESSMENT_LABELS,
        ),
    )


def _score(assessment: Assessment, _: Labels) -> Observations:
    return [("", assessment.value)] if isinstance(assessment.value, float) else []


def _ratings(objectives: Objectives) -> Callable[[Added, Labels], Observations]:
    def observe(added: Added, labels: Labels) -> Observations:
        quality = objectives.quality(labels["experiment"], labels["environment"], labels["assessment"])
        if quality is None or added.assessment.value is None:
            return []
        return [("good" if quality.is_met_by(added.assessment.value) else "bad", 1)]

    return observe


def _has_objective(objectives: Objectives) -> Callable[[Group], bool]:
    def applies(group: Group) -> bool:
        labels = group.labels
        return objectives.quality(labels["experiment"], labels["environment"], labels["assessment"]) is not None

    return applies
