"""Reads assessments from MLflow's JSON. Pure.

Only feedback is read, not expectations and references to issues. Of its texts only the name and short values are kept:
what people and judges write can quote what users said.
"""

import msgspec

from mlflow_trace_exporter.domain.admission import OTHER
from mlflow_trace_exporter.domain.assessments import CODE, HUMAN, LLM_JUDGE, Assessment
from mlflow_trace_exporter.domain.growth import checksum_of
from mlflow_trace_exporter.domain.labels import UNKNOWN, clean
from mlflow_trace_exporter.tracking.amounts import MAX_AMOUNT, amount

MAX_WORD_LENGTH = 40
MAX_WORDS = 3
"""A longer text, or one of more words, is free text. It is counted with the value ``other``."""

ALL = 0
"""Stands for all forms in a count that does not distinguish them."""

_SOURCES = {"HUMAN": HUMAN, "LLM_JUDGE": LLM_JUDGE, "AI_JUDGE": LLM_JUDGE, "CODE": CODE}

_JUDGE_COST = "mlflow.assessment.judgeCost"


class _Source(msgspec.Struct, frozen=True, gc=False):
    source_type: object = None


class _Feedback(msgspec.Struct, gc=False):
    value: object = None
    error: object = None


class _Assessment(msgspec.Struct, gc=False):
    assessment_id: str
    assessment_name: str
    feedback: _Feedback
    source: _Source = _Source()
    metadata: object = None
    valid: object = None


def assessments_of(found: object) -> tuple[Assessment, ...]:
    """The feedback in a list of assessments, each id once. What is not as expected is left out."""
    pieces = found if isinstance(found, list) else []
    by_id = {each.assessment_id: each for each in map(_assessment, pieces) if each is not None}
    return tuple(by_id.values())


def form_of(name: str, value: object) -> int:
    """The ``Assessment.form`` of a feedback. Numbers that are equal have the same form, as 4 and 4.0 in JSON."""
    return checksum_of(name, _comparable(value))


def _assessment(piece: object) -> Assessment | None:
    try:
        found = msgspec.convert(piece, _Assessment)
        found.assessment_id.encode()  # raises if it cannot be stored
    except ValueError:
        return None
    feedback = found.feedback
    metadata = found.metadata if isinstance(found.metadata, dict) else {}
    return Assessment(
        assessment_id=found.assessment_id,
        name=clean(found.assessment_name),
        source=_SOURCES.get(str(found.source.source_type), UNKNOWN),
        value=None if feedback.error else _value(feedback.value),
        form=form_of(found.assessment_name, feedback.value),
        failed=bool(feedback.error),
        cost_usd=_cost(metadata.get(_JUDGE_COST)),
        valid=found.valid is not False,
    )


def _value(value: object) -> str | float:
    """A score as a number. Everything else as a label value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        is_word = len(value) <= MAX_WORD_LENGTH and len(value.split()) <= MAX_WORDS
        return clean(value) if is_word else OTHER
    score = amount(value)
    if score is not None:
        return float(score)
    return UNKNOWN if value is None else OTHER


def _cost(text: object) -> float | None:
    try:
        return amount(float(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def _comparable(value: object) -> object:
    match value:
        case bool() | str() | None:
            return value
        case int() | float():
            return float(value) if abs(value) <= MAX_AMOUNT else repr(value)
        case list():
            return [_comparable(each) for each in value]
        case dict():
            return sorted((key, _comparable(each)) for key, each in value.items())
    return None
