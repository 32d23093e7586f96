"""Parsing MLflow's assessments."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.assessments import Assessment
from mlflow_trace_exporter.tracking.assessment_parsing import assessments_of, form_of

SENT: dict[str, Any] = {
    "assessment_id": "a-1",
    "assessment_name": "correctness",
    "source": {"source_type": "LLM_JUDGE", "source_id": "gpt-4o"},
    "feedback": {"value": "yes"},
    "rationale": "what the user said",
    "metadata": {"mlflow.assessment.judgeCost": "0.0012"},
    "valid": True,
}


def parsed(**fields: Any) -> Assessment:
    (found,) = assessments_of([{**SENT, **fields}])
    return found


def test_a_feedback_as_mlflow_sends_it() -> None:
    form = form_of("correctness", "yes")
    assert parsed() == Assessment("a-1", "correctness", "llm_judge", "yes", form, cost_usd=0.0012)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "true"),
        (False, "false"),
        (" Not relevant\n", "Not relevant"),
        ("👍", "👍"),
        ("", "unknown"),
        (None, "unknown"),
        (0, 0.0),
        (4, 4.0),
        (0.75, 0.75),
        ("x" * 41, "other"),
        ("the answer was wrong", "other"),
        (-0.5, "other"),
        (1e300, "other"),
        (float("inf"), "other"),
        (float("nan"), "other"),
        (["a", 1], "other"),
        ({"a": 1}, "other"),
    ],
)
def test_values(value: object, expected: str | float) -> None:
    found = parsed(feedback={"value": value}).value
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("source", "expected"),
    [("HUMAN", "human"), ("CODE", "code"), ("AI_JUDGE", "llm_judge"), ("SOMETHING", "unknown"), (None, "unknown")],
)
def test_sources(source: object, expected: str) -> None:
    assert parsed(source={"source_type": source}).source == expected


def test_a_scorer_that_failed_has_no_value() -> None:
    found = parsed(feedback={"value": "no", "error": {"error_code": "RATE_LIMIT", "error_message": "secret"}})
    assert (found.value, found.failed) == (None, True)
    assert "secret" not in repr(found)


@pytest.mark.parametrize("cost", ["-1", "nan", "inf", "x", "", None, 3, ["1"]])
def test_an_odd_cost_is_unknown(cost: object) -> None:
    assert parsed(metadata={"mlflow.assessment.judgeCost": cost}).cost_usd is None


def test_what_is_overridden_is_not_valid() -> None:
    assert not parsed(valid=False).valid
    assert parsed(valid=None).valid, "servers before 3.2 do not say"


def test_names_are_cleaned_but_not_in_the_form() -> None:
    found = parsed(assessment_name=" a\tb ")
    assert (found.name, found.form) == ("a\ufffdb", form_of(" a\tb ", "yes"))


def test_expectations_issues_and_odd_pieces_are_left_out() -> None:
    others = ({"expectation": {"value": "x"}}, {"issue": {"issue_name": "x"}}, {"feedback": "x"}, {"feedback": None})
    without = {key: value for key, value in SENT.items() if key != "feedback"}
    assert assessments_of([{**without, **other} for other in others]) == ()
    odd: list[object] = [None, 1, "x", [], {}, {**SENT, "assessment_id": 1}, {**SENT, "assessment_id": "\ud800"}]
    assert len(assessments_of([*odd, SENT, SENT])) == 1, "each id once"
    assert assessments_of({"a": 1}) == assessments_of(None) == assessments_of("x") == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_value_has_a_form_that_json_does_not_change(value: object) -> None:
    """The search returns values as JSON, the counts as JSON in a text."""
    assert form_of("name", json.loads(json.dumps(value))) == form_of("name", value)
    assert parsed(feedback={"value": value}).form == form_of("correctness", value)


def test_forms_tell_names_and_values_apart_but_not_4_and_4_point_0() -> None:
    forms = [form_of(name, value) for name in ("a", "b") for value in ("4", 4, True, "true", None, [4], {"4": 4})]
    assert len(set(forms)) == len(forms)
    assert form_of("a", [4, {"b": 4}]) == form_of("a", [4.0, {"b": 4.0}])
    assert form_of("a", {"x": 1, "y": 2}) == form_of("a", {"y": 2, "x": 1})
