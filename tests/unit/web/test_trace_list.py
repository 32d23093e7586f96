"""Which traces a page is asked for, and which it shows."""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from mlflow_trace_exporter.domain.calls import inside
from mlflow_trace_exporter.domain.horizon import AHEAD_MS, Window
from mlflow_trace_exporter.domain.labels import INSIDE_NAMES, LabelRules, LabelSource
from mlflow_trace_exporter.domain.objectives import Objective, Objectives
from mlflow_trace_exporter.domain.trace import ORPHAN_MS, State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.tracking.mlflow_pages import MlflowPages
from mlflow_trace_exporter.web import runbook, trace_list, trace_page
from mlflow_trace_exporter.web.trace_list import HOUR_MS, MAX_ROWS, Kind, Question, Search
from mlflow_trace_exporter.web.trace_page import Found
from tests.support.builders import RULES, record, span, step

NOW_MS = 1_790_000_000_000
OBJECTIVES = Objectives((Objective(environment="production", latency_s=5.0),))
APPLICATION = frozenset({Traffic.APPLICATION})
WEEK_MS = 7 * 24 * HOUR_MS
STAGING = {"environment": "staging", "app_version": "1.5.0"}


def ask(**query: str) -> Question:
    return Question.parse(query.items(), RULES.names, NOW_MS)


def found(question: Question, *records: TraceRecord, objectives: Objectives = OBJECTIVES) -> list[str]:
    return [each.trace_id for each in trace_list.answer(question, records, RULES, objectives, APPLICATION)]


def searches(question: Question, objectives: Objectives = OBJECTIVES) -> list[list[str]]:
    return question.searches(RULES, objectives)


def at(**fields: Any) -> TraceRecord:
    """A trace of now."""
    return record(**{"start_ms": NOW_MS - 60_000, "seen_ms": NOW_MS, **fields})


def test_an_hour_of_everything_is_asked_for_unless_it_is_said() -> None:
    question = ask()
    assert (question.kind, question.labels, searches(question)) == (None, {}, [[]])
    assert (question.since_ms, question.start_ms) == (NOW_MS - HOUR_MS, NOW_MS - HOUR_MS - WEEK_MS)
    assert question.end_ms > NOW_MS, "clocks of applications may be ahead"
    assert ask(end="1780003600").since_ms == 1_780_000_000_000, "the hour before the end"


def test_all_that_can_be_said() -> None:
    question = ask(environment="production", version="", status="error", start="1789990000", end="1789990060.5")
    asked = {"environment": "production"}
    assert question == Question(asked, [], Kind.ERROR, None, 1_789_990_000_000, 1_789_990_060_500)
    keys = ("environment", "deployment.environment.name", "deployment.environment")
    assert searches(question) == [["trace.status = 'ERROR'", f"tag.`{key}` LIKE '%production%'"] for key in keys]
    assert ask(experiment="chatbot").experiment == "chatbot"
    assert searches(ask(status="in_progress")) == [["trace.status != 'OK'", "trace.status != 'ERROR'"]]
    assert searches(ask(status="ok")) == [["trace.status != 'ERROR'"]]
    assert ask(missing="cost", duration_above="1.5", tokens_above="0").above == {
        "duration_above": 1.5,
        "tokens_above": 0,
    }
    assert searches(ask(duration_above="7", status="slow")) == [["trace.execution_time_ms > 7000"]]


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1789990000", 1_789_990_000_000),
        ("6h", NOW_MS - 6 * HOUR_MS),
        ("2026-09-21T12:53:20", 1_789_995_200_000),
        ("2026-09-21T12:53", 1_789_995_180_000),
        ("-5", 0),
    ],
)
def test_times_are_written_as_programs_and_as_people_do(text: str, at_ms: int) -> None:
    assert (ask(since=text).since_ms, ask(start=text).start_ms, ask(end=text).end_ms) == (at_ms, at_ms, at_ms)


def test_a_version_is_looked_for_wherever_it_can_come_from() -> None:
    """MLflow knows no OR, and among many traces those of a version that has few would not be found."""
    stage = LabelSource("tag", "stage")
    two = LabelRules((stage,), (LabelSource("tag", "release"), LabelSource("metadata", "model")))
    asked = ask(version="1.5.0", environment="production")
    assert asked.searches(two, OBJECTIVES) == [
        ["tag.`release` LIKE '%1.5.0%'", "tag.`stage` LIKE '%production%'"],
        ["metadata.`model` LIKE '%1.5.0%'", "tag.`stage` LIKE '%production%'"],
    ]
    of_version = [["tag.`app_version` LIKE '%1.5.0%'"], ["metadata.`mlflow.modelId` LIKE '%1.5.0%'"]]
    assert searches(asked) == [*of_version, ["tag.`service.version` LIKE '%1.5.0%'"]], "not nine searches"
    five = tuple(LabelSource("tag", name) for name in "abcde")
    assert asked.searches(LabelRules(five, five), OBJECTIVES) == [[]]


def test_the_newest_are_looked_for_first_and_then_what_ended_later_or_runs() -> None:
    newer, older = trace_list.steps(ask(), [["x"]], can_ask_for_ends=True)
    since_ms, lo_ms = NOW_MS - HOUR_MS, NOW_MS - HOUR_MS - WEEK_MS
    assert newer == [Search(Window(since_ms, NOW_MS + AHEAD_MS), ["x"])]
    running = Search(Window(lo_ms, since_ms), ["x", "trace.status != 'OK'", "trace.status != 'ERROR'"])
    assert older == [Search(Window(lo_ms, since_ms, ended_after_ms=since_ms), ["x"]), running]
    assert trace_list.steps(ask(), [["x"]], can_ask_for_ends=False)[1] == [Search(Window(lo_ms, since_ms), ["x"])]
    assert trace_list.steps(ask(status="error"), [["x"]], can_ask_for_ends=True)[1] == older[:1]
    assert trace_list.steps(ask(status="in_progress"), [["x"]], True)[1] == [Search(Window(lo_ms, since_ms), ["x"])]
    assert trace_list.steps(ask(start="1h"), [["x"]], True) == [[Search(Window(since_ms, NOW_MS + AHEAD_MS), ["x"])]]
    assert trace_list.steps(ask(start="now", end="1h"), [["x"]], True) == []
    everything = trace_list.steps(ask(start="0", end="now"), [["x"]], True)
    assert [each[0].window for each in everything] == [Window(NOW_MS - WEEK_MS, NOW_MS), Window(0, NOW_MS - WEEK_MS)]


def test_a_trace_is_of_the_time_in_which_it_ends() -> None:
    """Those that take longer than the window of an alert all start before it."""
    traces = [
        at(trace_id="tr-long", start_ms=NOW_MS - 3 * HOUR_MS, duration_ms=3 * HOUR_MS - 60_000),
        at(trace_id="tr-before", start_ms=NOW_MS - 3 * HOUR_MS, duration_ms=HOUR_MS),
        at(trace_id="tr-running", start_ms=NOW_MS - 3 * HOUR_MS, duration_ms=None, state=State.IN_PROGRESS),
        at(trace_id="tr-does-not-say", start_ms=NOW_MS - 3 * HOUR_MS, duration_ms=None),
    ]
    assert found(ask(), *traces) == ["tr-long", "tr-running"]
    assert found(ask(start="4h"), *traces) == [each.trace_id for each in traces]


def test_amounts_are_more_than_what_is_asked_for_and_unknown_ones_are_not() -> None:
    traces = [
        at(trace_id="tr-1", duration_ms=600_000, usage=TokenUsage(100, 20), cost=Cost(0.0, 0.0)),
        at(trace_id="tr-2", duration_ms=600_001, usage=TokenUsage(None, 121), cost=Cost(None, 0.01)),
        at(trace_id="tr-3", duration_ms=None, usage=None, cost=None),
    ]
    for query in ({"duration_above": "600"}, {"tokens_above": "120"}, {"cost_above": "0"}):
        assert found(ask(start="1h", **query), *traces) == ["tr-2"]
    assert found(ask(missing="token_usage"), *traces) == ["tr-3"]
    assert found(ask(start="1h", missing="duration"), *traces) == ["tr-3"]


def test_what_does_not_count_is_not_shown_and_no_trace_is_shown_twice() -> None:
    scorer = at(trace_id="tr-s", tags={"mlflow.trace.sourceScorer": "x", "environment": "production"})
    assert found(ask(), scorer, at(), at()) == ["tr-1"]


def test_mlflow_looks_for_what_is_slower_than_the_least_objective() -> None:
    strict = Objectives(
        (
            Objective(environment="production", latency_s=5.0),
            Objective(environment="chat-*", latency_s=0.5),
            Objective(environment="batch"),
        )
    )
    assert searches(ask(status="slow"), strict) == [["trace.execution_time_ms > 500"]]
    assert searches(ask(status="slow"), Objectives()) == [[]]


def test_mlflow_looks_for_what_is_slow_for_the_application_that_is_asked_for() -> None:
    """Otherwise it would find mostly traces that are not slow, and only MAX_LOOKED_AT are looked at."""
    each = Objectives(
        (
            Objective(experiment="completion", latency_s=0.1),
            Objective(experiment="chat*", environment="production", latency_s=5.0),
            Objective(environment="production", latency_s=1.0),
        )
    )
    asked = {"status": "slow", "experiment": "chatbot"}
    in_production = searches(ask(**asked, environment="production"), each)
    assert {terms[0] for terms in in_production} == {"trace.execution_time_ms > 5000"}
    assert searches(ask(**asked), each) == [["trace.execution_time_ms > 5000"]]
    assert searches(ask(status="slow", experiment="mail"), each) == [["trace.execution_time_ms > 1000"]]
    assert searches(ask(status="slow", experiment="other"), each) == [["trace.execution_time_ms > 100"]]


def test_what_is_asked_for_is_cleaned_like_a_label() -> None:
    question = ask(environment=" 本番　環境\n", version=" other ", trace_name="x" * 200, experiment="\u3000padded ")
    assert question.labels == {"environment": "本番　環境", "trace_name": "x" * 128, "experiment": "padded"}
    assert (question.others, question.experiment) == (["version"], "padded")
    named = [
        at(trace_id="tr-1", name="x" * 128, tags={"environment": "本番　環境"}),
        at(trace_id="tr-2", name="x" * 999, tags={"environment": "\t本番　環境"}),
        at(trace_id="tr-3", name="x" * 127, tags={"environment": "本番　環境"}),
    ]
    assert found(ask(environment="本番　環境", trace_name="x" * 128), *named) == ["tr-1", "tr-2"]
    controlled = at(tags={"environment": "a\0b"})
    assert found(ask(environment="a\N{REPLACEMENT CHARACTER}b"), controlled) == ["tr-1"]
    assert found(ask(environment="a\0b"), controlled) == ["tr-1"]


def test_a_trace_that_has_ended_is_not_in_progress_whatever_mlflow_calls_it() -> None:
    """Its root span has a remote parent, so MLflow waits for its end for good."""
    orphan = record(trace_id="tr-o", state=State.IN_PROGRESS, seen_ms=2_500 + ORPHAN_MS)
    young = record(trace_id="tr-y", state=State.IN_PROGRESS, seen_ms=2_499 + ORPHAN_MS)
    running = record(trace_id="tr-r", state=State.IN_PROGRESS, duration_ms=None, seen_ms=10**12)
    assert found(ask(status="in_progress"), orphan, young, running) == ["tr-y", "tr-r"]
    assert found(ask(start="0"), orphan, running) == ["tr-o", "tr-r"]
    page = write(ask(), orphan, running)
    assert '<td class="name">ok</td>' in page
    assert '<td class="name">in progress</td>' in page


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ({"user": "bob"}, "unknown parameter 'user'; known parameters are status, since, start, end, duration_above"),
        ({"status": "bad"}, "status 'bad': must be one of ok, error, slow, in_progress"),
        ({"missing": "model"}, "missing 'model': must be one of token_usage, cost, user"),
        ({"cost_above": "-1"}, "cost_above '-1': must be a number, 0 or more"),
        ({"tokens_above": "nan"}, "tokens_above 'nan': must be a number, 0 or more"),
        ({"start": "yesterday"}, "start 'yesterday': write Unix seconds"),
        ({"since": "-1e300"}, "since '-1e300': write Unix seconds"),
        ({"end": "nan"}, "end 'nan': write Unix seconds"),
        ({"end": "1e300"}, "end '1e300': write Unix seconds"),
    ],
)
def test_what_makes_no_sense_is_told(query: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ask(**query)


def test_labels_are_those_of_the_metrics() -> None:
    traces = [at(trace_id="tr-1"), at(trace_id="tr-2", tags=STAGING), at(trace_id="tr-3", name="billing")]
    assert found(ask(environment="production"), *traces) == ["tr-1", "tr-3"]
    assert found(ask(environment="production", trace_name="billing"), *traces) == ["tr-3"]
    assert found(ask(version="other"), *traces) == ["tr-1", "tr-2", "tr-3"], "any version may be counted as other"


def test_what_is_inside_traces_can_be_asked_for() -> None:
    traces = [at(trace_id="openai", inside=inside([span(1), step(2)])), at(trace_id="without"), at(trace_id="other")]
    traces[2] = replace(traces[2], inside=inside([span(1, model="claude", provider="anthropic", failed=True)]))
    looked_at: list[str] = []

    def look_inside(records: Iterable[TraceRecord]) -> Iterator[TraceRecord]:
        for each in records:
            looked_at.append(each.trace_id)
            yield each

    def found_with(**query: str) -> list[str]:
        question = Question.parse(query.items(), RULES.names, NOW_MS, INSIDE_NAMES)
        answer = trace_list.answer(question, traces, RULES, OBJECTIVES, APPLICATION, look_inside)
        return [each.trace_id for each in answer]

    assert found_with(model="gpt-4o") == ["openai"]
    assert found_with(provider="anthropic", error_type="unknown") == ["other"]
    assert found_with(provider="openai", model="claude") == [], "both of the same call"
    assert found_with(span_name="search", span_type="TOOL", environment="production") == ["openai"]
    assert found_with(model="gpt-4o", environment="staging") == []
    assert found_with(model="other") == ["openai", "without", "other"], "any"
    assert len(looked_at) == 4 * 3, "only what matches otherwise"


def test_slow_is_slower_than_the_objective_where_there_is_one() -> None:
    durations: tuple[tuple[str, Any, dict[str, str] | None], ...] = (
        ("tr-edge", 5_000, None),
        ("tr-slow", 5_001, None),
        ("tr-none", None, None),
        ("tr-staging", 90_000, STAGING),
    )
    traces = [at(trace_id=key, duration_ms=ms, **({"tags": tags} if tags else {})) for key, ms, tags in durations]
    assert found(ask(status="slow"), *traces) == ["tr-slow"]


def test_slow_is_another_duration_for_each_application() -> None:
    each = Objectives((Objective(experiment="chatbot", latency_s=1.0), Objective(experiment="other", latency_s=3.0)))
    traces = [at(trace_id=name, experiment=name, duration_ms=2_000) for name in ("chatbot", "mail")]
    assert found(ask(status="slow"), *traces, objectives=each) == ["chatbot"]
    assert found(ask(status="slow", experiment="other"), *traces, objectives=each) == []
    slower = at(trace_id="slower", experiment="mail", duration_ms=4_000)
    assert found(ask(status="slow", experiment="other"), slower, objectives=each) == ["slower"], "counted as other"


def test_the_state_is_looked_at_again() -> None:
    """MLflow finds more than is asked for where it does not know a state."""
    traces = [at(trace_id=state.value, state=state) for state in State]
    assert found(ask(status="in_progress"), *traces) == ["IN_PROGRESS"]
    assert found(ask(status="error"), *traces) == ["ERROR"]
    assert found(ask(), *traces) == [state.value for state in State]


def test_no_more_is_taken_than_is_shown_or_can_be_looked_at() -> None:
    taken = 0

    def endless(**fields: Any) -> Iterator[TraceRecord]:
        nonlocal taken
        while True:
            taken += 1
            yield at(trace_id=f"tr-{taken}", **fields)

    assert len(trace_list.answer(ask(), endless(), RULES, OBJECTIVES, APPLICATION)) == taken == MAX_ROWS


def write(question: Question, *records: TraceRecord, **options: Any) -> str:
    pages = MlflowPages("http://mlflow")
    rules = options.pop("rules", RULES)
    return trace_page.write(question, Found(records, **options), rules, pages, {"version": ["<1>"]}).decode()


def test_the_page_leads_to_each_trace_and_escapes_what_they_say() -> None:
    question = ask(environment="<b>", status="error")
    trace = at(trace_id="tr-<i>", state=State.ERROR, name="<script>", experiment_id="7", start_ms=NOW_MS)
    page = write(question, trace)
    start = '<a href="http://mlflow/#/experiments/7/traces/tr-%3Ci%3E" rel="noreferrer">2026-09-21 14:13:20</a>'
    assert f'<tr><td class="name">{start}</td>' in page, "the first column, which a phone shows"
    assert "&lt;script&gt;" in page
    assert '<option value="&lt;1&gt;">' in page
    assert "<script" not in page
    assert "<b>&lt;b&gt;</b>" in page
    assert "experiments/7/traces?startTimeLabel=CUSTOM&amp;startTime=" in page
    assert "any version, because" in write(ask(version="other"))
    assert "No matching traces" in write(question)
    assert "Not all traces in this time range were examined" in write(question, ended_early=True)


def test_links_into_mlflow_name_the_workspace() -> None:
    page = write(ask(), at(trace_id="tr-1", experiment_id="7", workspace="team a"))
    links = re.findall(r'href="(http[^"]*)"', page)
    assert len(links) == 2
    assert all(re.search(r"#/experiments/7/traces(/tr-1)?\?(.*&amp;)?workspace=team\+a$", link) for link in links)
    assert MlflowPages("http://mlflow").home == "http://mlflow"
    assert MlflowPages("http://mlflow", "team-a").home == "http://mlflow/#/?workspace=team-a"


def test_the_form_holds_what_was_asked_for() -> None:
    rules = replace(RULES, extra=(("team", (LabelSource("tag", "team"),)),))
    query = {
        "status": "ok",
        "environment": "other",
        "version": "1.5.0",
        "trace_name": "a b",
        "experiment": '"><x>',
        "team": "search",
        "since": "1789990000",
        "duration_above": "1.5",
        "missing": "cost",
        "end": "1789999999",
    }
    question = Question.parse(query.items(), rules.names, NOW_MS)
    page = write(question, rules=rules)
    fields = dict(re.findall(r'<input name="(\w+)"[^>]* value="([^"]*)"', page))
    assert fields == {
        "environment": "other",
        "version": "1.5.0",
        "trace_name": "a b",
        "experiment": "&#34;&gt;&lt;x&gt;",
        "team": "search",
        "since": "2026-09-21T11:26:40",
        "duration_above": "1.5",
        "start": "",
        "end": "2026-09-21T14:13:19",
        "tokens_above": "",
        "cost_above": "",
    }
    assert re.findall(r'<option value="(\w+)" selected>', page) == ["ok", "cost"]
    asked = {**query, **{name: html.unescape(value) for name, value in fields.items()}}
    assert Question.parse(asked.items(), rules.names, NOW_MS) == question, "what it sends asks for the same"
    (day,) = re.findall(r'href="traces\?([^"]*)">day<', page)
    assert dict(parse_qsl(html.unescape(day))) == {
        **{name: value for name, value in query.items() if name not in ("since", "end")},
        "since": "1d",
    }


def test_the_runbook_has_an_id_for_each_heading_and_its_contents_lead_there() -> None:
    page = runbook.page().decode()
    assert '<h3 id="mlflowerrorbudgetburn">MlflowErrorBudgetBurn</h3>' in page
    assert page.count("<h3 id=") == page.count("<h3")
    contents = page.partition('aria-label="Contents">')[2].partition("</nav>")[0]
    assert re.findall(r'href="#([^"]+)"', contents) == re.findall(r'<h[23] id="([^"]+)"', page)
