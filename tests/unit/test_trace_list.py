"""Which traces a page is asked for, and which it shows."""

from collections.abc import Iterator
from typing import Any

import pytest

from exporter import runbook, trace_list
from exporter.objectives import Objective, Objectives
from exporter.trace import ORPHAN_MS, State, TraceRecord
from exporter.trace_list import HOUR_MS, MAX_LOOKED_AT, MAX_ROWS, Kind, Question
from tests.builders import RULES, record

NOW_MS = 1_790_000_000_000
OBJECTIVES = Objectives((Objective("production", latency_s=5.0),))
STAGING = {"environment": "staging", "app_version": "1.5.0"}


def ask(**query: str) -> Question:
    return Question.parse(query.items(), RULES.names, NOW_MS)


def found(question: Question, *records: TraceRecord) -> list[str]:
    return [each.trace_id for each in trace_list.answer(question, records, RULES, OBJECTIVES)]


def test_an_hour_of_everything_is_asked_for_unless_it_is_said() -> None:
    question = ask()
    assert (question.kind, question.labels, question.terms(OBJECTIVES)) == (None, {}, [])
    assert question.start_ms == NOW_MS - HOUR_MS
    assert question.end_ms > NOW_MS, "clocks of applications may be ahead"


def test_all_that_can_be_said() -> None:
    question = ask(environment="production", version="", status="error", start="1789990000", end="1789990060.5")
    assert question == Question({"environment": "production"}, [], Kind.ERROR, 1_789_990_000_000, 1_789_990_060_500)
    assert question.terms(OBJECTIVES) == ["trace.status = 'ERROR'"]
    assert ask(experiment="chatbot").experiment == "chatbot"
    assert ask(status="in_progress").terms(OBJECTIVES) == ["trace.status != 'OK'", "trace.status != 'ERROR'"]


def test_mlflow_looks_for_what_is_slower_than_the_least_objective() -> None:
    strict = Objectives(
        (Objective("production", latency_s=5.0), Objective("chat-*", latency_s=0.5), Objective("batch"))
    )
    assert ask(status="slow").terms(strict) == ["trace.execution_time_ms > 500"]
    assert ask(status="slow").terms(Objectives()) == []


def test_what_is_asked_for_is_cleaned_like_a_label() -> None:
    question = ask(environment=" 本番　環境\n", version=" other ", trace_name="x" * 200, experiment="\u3000padded ")
    assert question.labels == {"environment": "本番　環境", "trace_name": "x" * 128, "experiment": "padded"}
    assert (question.others, question.experiment) == (["version"], "padded")
    named = [
        record(trace_id="tr-1", name="x" * 128, tags={"environment": "本番　環境"}),
        record(trace_id="tr-2", name="x" * 999, tags={"environment": "\t本番　環境"}),
        record(trace_id="tr-3", name="x" * 127, tags={"environment": "本番　環境"}),
    ]
    assert found(ask(environment="本番　環境", trace_name="x" * 128), *named) == ["tr-1", "tr-2"]
    controlled = record(tags={"environment": "a\0b"})
    assert found(ask(environment="a\N{REPLACEMENT CHARACTER}b"), controlled) == ["tr-1"]
    assert found(ask(environment="a\0b"), controlled) == ["tr-1"]


def test_a_trace_that_has_ended_is_not_in_progress_whatever_mlflow_calls_it() -> None:
    """Its root span has a remote parent, so MLflow waits for its end for good."""
    orphan = record(trace_id="tr-o", state=State.IN_PROGRESS, seen_ms=2_500 + ORPHAN_MS)
    young = record(trace_id="tr-y", state=State.IN_PROGRESS, seen_ms=2_499 + ORPHAN_MS)
    running = record(trace_id="tr-r", state=State.IN_PROGRESS, duration_ms=None, seen_ms=10**12)
    assert found(ask(status="in_progress"), orphan, young, running) == ["tr-y", "tr-r"]
    assert found(ask(), orphan, running) == ["tr-o", "tr-r"]
    page = trace_list.write(ask(), [orphan, running], RULES, "http://mlflow").decode()
    assert '<td class="name">ok</td>' in page
    assert '<td class="name">in progress</td>' in page


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"user": "bob"}, "'user' cannot be asked for; there are status, start, end, experiment, environment, version"),
        ({"status": "bad"}, "status 'bad': there are error, slow, in_progress"),
        ({"start": "yesterday"}, "start 'yesterday': write Unix seconds"),
        ({"end": "nan"}, "end 'nan': write Unix seconds"),
        ({"end": "1e300"}, "end '1e300': write Unix seconds"),
    ],
)
def test_what_makes_no_sense_is_told(query: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ask(**query)


def test_labels_are_those_of_the_metrics() -> None:
    traces = [record(trace_id="tr-1"), record(trace_id="tr-2", tags=STAGING), record(trace_id="tr-3", name="billing")]
    assert found(ask(environment="production"), *traces) == ["tr-1", "tr-3"]
    assert found(ask(environment="production", trace_name="billing"), *traces) == ["tr-3"]
    assert found(ask(version="other"), *traces) == ["tr-1", "tr-2", "tr-3"], "any version may be counted as other"


def test_slow_is_slower_than_the_objective_where_there_is_one() -> None:
    durations: tuple[tuple[str, Any, dict[str, str] | None], ...] = (
        ("tr-edge", 5_000, None),
        ("tr-slow", 5_001, None),
        ("tr-none", None, None),
        ("tr-staging", 90_000, STAGING),
    )
    traces = [record(trace_id=key, duration_ms=ms, **({"tags": tags} if tags else {})) for key, ms, tags in durations]
    assert found(ask(status="slow"), *traces) == ["tr-slow"]


def test_the_state_is_looked_at_again() -> None:
    """MLflow finds more than is asked for where it does not know a state."""
    traces = [record(trace_id=state.value, state=state) for state in State]
    assert found(ask(status="in_progress"), *traces) == ["IN_PROGRESS"]
    assert found(ask(status="error"), *traces) == ["ERROR"]
    assert found(ask(), *traces) == [state.value for state in State]


def test_no_more_is_taken_than_is_shown_or_can_be_looked_at() -> None:
    taken = 0

    def endless(**fields: Any) -> Iterator[TraceRecord]:
        nonlocal taken
        while True:
            taken += 1
            yield record(trace_id=f"tr-{taken}", **fields)

    assert len(trace_list.answer(ask(), endless(), RULES, OBJECTIVES)) == taken == MAX_ROWS
    taken = 0
    assert trace_list.answer(ask(environment="production"), endless(tags=STAGING), RULES, OBJECTIVES) == []
    assert taken == MAX_LOOKED_AT


def test_the_page_leads_to_each_trace_and_escapes_what_they_say() -> None:
    question = ask(environment="<b>", status="error")
    trace = record(trace_id="tr-<i>", state=State.ERROR, name="<script>", experiment_id="7", start_ms=NOW_MS)
    page = trace_list.write(question, [trace], RULES, "http://mlflow").decode()
    assert '<a href="http://mlflow/#/experiments/7/traces/tr-%3Ci%3E" rel="noreferrer">tr-&lt;i&gt;</a>' in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>&lt;b&gt;</b>" in page
    assert "experiments/7/traces?startTimeLabel=CUSTOM&amp;startTime=" in page
    assert "the version can be any" in trace_list.write(ask(version="other"), [], RULES, "http://mlflow").decode()
    assert "There are none" in trace_list.write(question, [], RULES, "http://mlflow").decode()


def test_the_runbook_has_an_id_for_each_heading() -> None:
    page = runbook.page().decode()
    assert '<h3 id="mlflowerrorbudgetburn">MlflowErrorBudgetBurn</h3>' in page
    assert page.count("<h3 id=") == page.count("<h3")
