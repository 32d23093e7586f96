"""Traces that a page is asked for by what was said about them."""

import re
from typing import Any

import pytest

from mlflow_trace_exporter.domain.assessments import CODE, LLM_JUDGE
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.labels import (
    ALL_ASSESSMENT_LABELS,
    ASSESSMENT_SOURCE_LABELS,
    ASSESSMENT_VALUE_LABELS,
    LabelRules,
    LabelSource,
)
from mlflow_trace_exporter.domain.objectives import Objective, Objectives, Quality
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.errors import NotUnderstoodError, PollError, Reason
from mlflow_trace_exporter.tracking.mlflow_pages import MlflowPages
from mlflow_trace_exporter.tracking.query import assessment_term
from mlflow_trace_exporter.web import trace_list, trace_page
from mlflow_trace_exporter.web.trace_list import Question
from mlflow_trace_exporter.web.trace_page import Found
from mlflow_trace_exporter.web.trace_search import understands
from tests.support.builders import RULES, assessment, record

NOW_MS = 1_790_000_000_000
NO_OBJECTIVES = Objectives()
TRACES = tuple(
    record(trace_id=name, start_ms=NOW_MS - 60_000, seen_ms=NOW_MS, assessments=assessments)
    for name, assessments in {
        "yes": (assessment("correctness", "yes", LLM_JUDGE),),
        "no": (assessment("correctness", "no", LLM_JUDGE), assessment("tone", "kind")),
        "both": (assessment("correctness", "yes", LLM_JUDGE), assessment("correctness", "no")),
        "overridden": (
            assessment("correctness", "no", valid=False),
            assessment("correctness", "yes", assessment_id="a-2"),
        ),
        "score": (assessment("relevance", 0.5, CODE),),
        "failed": (assessment("relevance", None, CODE, failed=True),),
        "none": (),
    }.items()
)


def ask(rules: LabelRules = RULES, **query: str) -> Question:
    return Question.parse(query.items(), rules.names, NOW_MS)


def found(rules: LabelRules = RULES, objectives: Objectives = NO_OBJECTIVES, /, **query: str) -> list[str]:
    records = trace_list.answer(ask(rules, **query), TRACES, rules, objectives, frozenset({Traffic.APPLICATION}))
    return [each.trace_id for each in records]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"assessment": "correctness"}, ["yes", "no", "both", "overridden"]),
        ({"assessment": "correctness", "value": "no"}, ["no", "both"]),
        ({"assessment": " correctness\n", "value": " no "}, ["no", "both"]),
        ({"assessment": "correctness", "value": "no", "source": "human"}, ["both"]),
        ({"assessment": "tone", "value": "no"}, []),
        ({"value": "kind"}, ["no"]),
        ({"assessment": "relevance"}, ["score", "failed"]),
        ({"assessment": "relevance", "value": "0.50"}, ["score"]),
        ({"assessment": "relevance", "value": "high"}, []),
        ({"source": "code"}, ["score", "failed"]),
        ({"assessment": "other"}, [each.trace_id for each in TRACES]),
        ({"assessment": "correctness", "environment": "staging"}, []),
    ],
)
def test_one_assessment_has_to_have_all_that_is_asked_for(query: dict[str, str], expected: list[str]) -> None:
    assert found(RULES, NO_OBJECTIVES, **query) == expected


def test_ratings_are_those_of_the_quality_objective() -> None:
    quality = (
        Quality(assessment="correctness", ratio=0.9, good=frozenset({"yes"})),
        Quality(assessment="relevance", ratio=0.9, at_least=0.6),
    )
    objectives = Objectives((Objective(environment="production", quality=quality),))
    assert found(RULES, objectives, rating="bad") == ["no", "both", "score"]
    assert found(RULES, objectives, rating="bad", assessment="correctness") == ["no", "both"]
    assert found(RULES, objectives, rating="good") == ["yes", "both", "overridden"], "a failed one has no rating"
    assert found(RULES, NO_OBJECTIVES, rating="good") == [], "without an objective nothing is known"
    with pytest.raises(ValueError, match="rating 'poor': must be one of good, bad"):
        ask(rating="poor")


def test_a_label_of_traces_hides_what_has_its_name() -> None:
    rules = LabelRules(extra=(("value", (LabelSource("tag", "environment"),)),))
    assert found(rules, value="production") == [each.trace_id for each in TRACES]
    assert found(rules, value="no") == []
    assert not ask(rules, value="other").asks_for_assessments(rules)
    assert ask(value="other").asks_for_assessments(RULES)


@pytest.mark.parametrize(
    ("asked", "term"),
    [
        ({"assessment": "correctness", "value": "no"}, "feedback.`correctness` LIKE '%no%'"),
        ({"assessment": "my check.v2", "source": "human"}, "feedback.`my check.v2` LIKE '%%'"),
        ({"assessment": "relevance", "value": "0.5"}, "feedback.`relevance` LIKE '%%'"),
        ({"assessment": "tone", "value": "it's"}, "feedback.`tone` LIKE '%%'"),
        ({"assessment": "tone", "value": "unknown"}, "feedback.`tone` LIKE '%%'"),
        ({"assessment": "it's"}, None),
        ({"assessment": "a`b"}, None),
        ({"assessment": "Name", "value": "no"}, None),
        ({"assessment": "unknown", "value": "no"}, None),
        ({"assessment": "x" * 128}, None),
        ({"value": "no"}, None),
        ({}, None),
    ],
)
def test_mlflow_searches_for_names_and_words_that_it_compares_as_we_do(asked: dict[str, str], term: str | None) -> None:
    assert assessment_term(asked) == term


def test_what_mlflow_searches_for_is_part_of_each_search() -> None:
    question = ask(assessment="correctness", version="1.4.0", status="error")
    for search in question.searches(RULES, Objectives(), more=["feedback.`correctness` LIKE '%%'"]):
        assert "feedback.`correctness` LIKE '%%'" in search
        assert len(search) == 3


class Server:
    """A source that has no trace, and may not answer."""

    def __init__(self, error: PollError | None = None) -> None:
        self._error = error
        self.asked: list[tuple[Window, tuple[str, ...]]] = []

    def newest(self, window: Window, *terms: str, experiment: str | None = None) -> Any:  # noqa: ARG002 - as Source has it
        self.asked.append((window, terms))
        if self._error is not None:
            raise self._error
        return iter(())


def test_a_term_is_tried_before_it_is_used() -> None:
    server = Server()
    assert understands(server, "feedback.`a` LIKE '%%'")
    assert server.asked == [(Window(0, 0), ("feedback.`a` LIKE '%%'",))]
    assert not understands(Server(NotUnderstoodError(Reason.CONFIGURATION, "no such entity")), "feedback.`a` LIKE '%%'")
    with pytest.raises(PollError, match="slow"):
        understands(Server(PollError(Reason.TIMEOUT, "slow")), "x")


def write(question: Question, *records: TraceRecord, known: dict[str, list[str]] | None = None) -> str:
    return trace_page.write(question, Found(records), RULES, MlflowPages("http://mlflow"), known or {}).decode()


def test_each_row_shows_what_was_said() -> None:
    page = write(ask(assessment="correctness", value="no"), TRACES[1], TRACES[2], TRACES[3])
    shown = re.findall(r'<td class="name" title="([^"]*)">\1</td>\n<td>', page)
    assert shown == [
        "correctness no (llm_judge)",
        "correctness yes (llm_judge), correctness no (human)",
        "correctness yes (human)",
    ]
    assert "value of an assessment <b>no</b>" in page
    assert "correctness no (llm_judge), tone kind (human)" in write(ask(value="no"), TRACES[1])
    of_all = write(ask(source="code"), TRACES[4], TRACES[5])
    assert "relevance 0.5 (code)" in of_all
    assert "relevance failed (code)" in of_all
    assert "assessments" not in write(ask(), TRACES[1])


def test_what_was_said_is_only_text() -> None:
    trace = record(assessments=(assessment("<script>", "<b>"),))
    page = write(ask(assessment="<script>"), trace)
    assert "<script>" not in page
    assert "&lt;script&gt; &lt;b&gt; (human)" in page


def test_the_form_has_fields_where_there_are_assessments() -> None:
    groups = [
        Group(names, tuple({"assessment": name, "source": "human", "value": "no"}.get(each, "x") for each in names))
        for name, sets in {"correctness": ALL_ASSESSMENT_LABELS[:3], "relevance": ALL_ASSESSMENT_LABELS[3:]}.items()
        for names in sets
    ]
    groups += [Group(ASSESSMENT_SOURCE_LABELS, ("x", "x", "x", "relevance", "code"))]
    known = trace_page.values_of((ASSESSMENT_VALUE_LABELS, ASSESSMENT_SOURCE_LABELS, RULES.names), groups)
    page = write(ask(), known=known)
    assert re.findall(r'<datalist id="assessment-values">(.*?)</datalist>', page) == [
        '<option value="correctness"><option value="relevance">'
    ]
    assert 'name="source"' in page
    assert '<option value="no">' in page
    assert 'name="assessment"' not in write(ask())
    asked = write(ask(assessment="correctness", value="other"))
    assert '<input name="assessment" type="text" value="correctness">' in asked
    assert '<input name="value" type="text" value="other">' in asked
    assert '<option value="bad" selected>' in write(ask(rating="bad"))
