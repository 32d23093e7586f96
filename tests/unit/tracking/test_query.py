"""Searches in MLflow never find less than the query asks for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.labels import LabelRules, LabelSource, clean
from mlflow_trace_exporter.domain.patterns import Pattern
from mlflow_trace_exporter.domain.trace import ORPHAN_MS, State, TraceRecord
from mlflow_trace_exporter.tracking.query import MAX_SEARCHES, Query, label_searches
from tests.support import labelled
from tests.support.builders import record

TAG = LabelSource("tag", "environment")
RULES = LabelRules((TAG,), (LabelSource("tag", "app_version"),))
STATES = "trace.status = 'ERROR'", "trace.status != 'ERROR'"


def query(**fields: object) -> Query:
    return Query(0, 10**15, **fields)  # type: ignore[arg-type]  # any


def terms(environment: str, source: LabelSource = TAG) -> list[str]:
    return the_search(query(labels={"environment": environment}), LabelRules((source,), RULES.version))


def the_search(asked: Query, rules: LabelRules) -> list[str]:
    """The terms of the only search for a query."""
    (terms,) = asked.searches(rules)
    return terms


def finds(term: str, raw: str) -> bool:
    """Whether MLflow finds a trace with this tag by SQL's LIKE."""
    found = re.fullmatch(r"tag\.`environment` LIKE '(.*)'", term, re.DOTALL)
    assert found, term
    any_text = {"%": ".*", "_": "."}
    return bool(re.fullmatch("".join(any_text.get(char) or re.escape(char) for char in found[1]), raw, re.DOTALL))


odd = st.sampled_from(
    ["a_b", "50%", "it's", 'a"b', "unknown", "x" * 130, "\N{REPLACEMENT CHARACTER}", "a\0b", "Prod", " "]
)
texts = st.lists(odd | st.text(st.characters(exclude_categories=()), max_size=4), max_size=3).map("".join)


@given(texts, st.sampled_from(["{}", " {}\n", "\u3000{} ", "{}" + "y" * 130, "\0{}"]))
def test_searches_find_all_traces_with_the_label(text: str, around: str) -> None:
    raw = around.format(text)
    assert all(finds(term, raw) for term in terms(clean(raw)))


@given(labelled.rules, labelled.records, st.sets(labelled.names))
def test_some_search_finds_every_trace_with_the_labels(
    rules: LabelRules, trace: TraceRecord, names: frozenset[str]
) -> None:
    """Whatever they come from: a tag, an experiment, a pattern, a map or a default."""
    labels = {name: value for name, value in rules.values(trace).items() if name in names}
    searches = label_searches(labels, rules)
    assert 1 <= len(searches) <= MAX_SEARCHES
    assert any(all(found_by(term, trace) for term in terms) for terms in searches)


def found_by(term: str, trace: TraceRecord) -> bool:
    kind, key, like = re.fullmatch(r"(tag|metadata)\.`(.*)` LIKE '(.*)'", term).groups()  # type: ignore[union-attr]  # or it fails
    text = (trace.tags if kind == "tag" else trace.metadata).get(key)
    return text is not None and finds(f"tag.`environment` LIKE '{like}'", text)


@pytest.mark.parametrize("value", ["production", "1.5.0+b", "a_b", "Team A/prod", "x" * 128])
def test_mlflow_filters_by_plain_values(value: str) -> None:
    assert terms(value) == [f"tag.`environment` LIKE '%{value}%'"]


@pytest.mark.parametrize(
    "value", ["unknown", "50%", "it's", 'a"b', "a`b", "本番　環境", "żółw", "a\N{REPLACEMENT CHARACTER}b"], ids=ascii
)
def test_mlflow_does_not_filter_by_values_that_it_may_compare_differently(value: str) -> None:
    """`unknown` is also the label of traces without a value."""
    assert terms(value) == []


@pytest.mark.parametrize(
    "key", ["name", "Prompt", "run_id", "text", "timestamp", "execution_time", "end_time", "a`b", "a'b", 'a"b', "äöü"]
)
def test_mlflow_does_not_filter_by_keys_that_it_interprets_differently(key: str) -> None:
    assert terms("production", LabelSource("tag", key)) == []


def test_a_label_with_several_sources_is_searched_for_in_each() -> None:
    rules = LabelRules((TAG, LabelSource("metadata", "stage")), RULES.version)
    assert query(labels={"environment": "production"}, state=State.ERROR).searches(rules) == [
        [STATES[0], "tag.`environment` LIKE '%production%'"],
        [STATES[0], "metadata.`stage` LIKE '%production%'"],
    ]


NAME = LabelSource("experiment", "name")
STAGE = Pattern(".+-(prod|stag)")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (LabelRules((NAME,)), [[]]),
        (LabelRules((LabelSource("experiment_tag", "stage"),)), [[]]),
        (LabelRules((LabelSource("tag", "app", STAGE),)), [[]]),
        (LabelRules((TAG, NAME)), [[]]),
        (LabelRules((TAG,), defaults={"environment": "prod"}), [[]]),
        (LabelRules((TAG,), defaults={"environment": "test"}), [["tag.`environment` LIKE '%prod%'"]]),
        (LabelRules((TAG,), maps={"environment": {"production": "prod"}}), [["tag.`environment` LIKE '%prod%'"]]),
        (
            LabelRules((TAG,), maps={"environment": {"live": "prod", "test": "stag"}}),
            [["tag.`environment` LIKE '%prod%'"], ["tag.`environment` LIKE '%live%'"]],
        ),
        (LabelRules((TAG,), maps={"environment": {"50%": "prod"}}), [[]]),
        (LabelRules((TAG,), maps={"environment": dict.fromkeys("vwxyz", "prod")}), [[]]),
    ],
)
def test_what_mlflow_cannot_search_for_is_not_a_condition(rules: LabelRules, expected: list[list[str]]) -> None:
    """The label is that of a trace if its text is `prod`, or if a map, a default or an experiment makes it so."""
    assert label_searches({"environment": "prod"}, rules) == expected


def chosen(asked: Query, **fields: object) -> bool:
    trace: TraceRecord = record(**fields)
    return asked.matches(trace, RULES.values(trace))


@pytest.mark.parametrize(
    ("asked", "expected", "term"),
    [
        (None, ["ok", "error", "orphan"], []),
        (State.OK, ["ok", "orphan"], [STATES[1]]),
        (State.ERROR, ["error"], [STATES[0]]),
    ],
)
def test_a_trace_that_mlflow_never_ends_counts_as_ok(asked: State | None, expected: list[str], term: list[str]) -> None:
    traces: dict[str, dict[str, object]] = {
        "ok": {},
        "error": {"state": State.ERROR},
        "orphan": {"state": State.IN_PROGRESS, "seen_ms": 2_500 + ORPHAN_MS},
        "may go on": {"state": State.IN_PROGRESS, "seen_ms": 2_499 + ORPHAN_MS},
        "running": {"state": State.IN_PROGRESS, "duration_ms": None, "seen_ms": 10**12},
    }
    found = query(state=asked)
    assert [name for name, fields in traces.items() if chosen(found, **fields)] == expected
    assert the_search(found, RULES) == term


@given(texts)
def test_a_user_is_compared_as_reports_show_them(user: str) -> None:
    assert chosen(query(user=clean(user)), user=user)


@pytest.mark.parametrize(("duration_ms", "taken"), [(0, False), (499, False), (500, True), (None, False)])
def test_an_unknown_duration_is_not_long(duration_ms: int | None, taken: bool) -> None:
    """MLflow may have an impossible one, though."""
    trace = record(duration_ms=duration_ms)
    assert query(min_duration_ms=500).matches(trace, RULES.values(trace)) is taken
    assert query(min_duration_ms=0).matches(trace, RULES.values(trace)) is (duration_ms is not None)
