"""Objectives: which one applies, which traces are slow, which objectives are exposed, and which are never used."""

from dataclasses import replace

import pytest

from mlflow_trace_exporter.domain.globs import is_name
from mlflow_trace_exporter.domain.labels import PLACE_LABELS
from mlflow_trace_exporter.domain.objectives import NONE, Objective, Objectives
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.model import Cell
from mlflow_trace_exporter.settings.config import Config
from tests.support.builders import CAPS, METER, RULES, group, increments, record

SLOW = "mlflow_trace_slow_total"
PRODUCTION = Objective(environment="production", error_ratio=0.02, latency_s=3.0, latency_ratio=0.99)
STAGING = Objective(environment="stag*", error_ratio=0.2)
OTHERS = Objective(latency_s=0.75)
ALL = Objectives((PRODUCTION, STAGING, OTHERS))
JUST_NAMED = Objectives((PRODUCTION, STAGING))


def meter(objectives: Objectives) -> Meter:
    families = trace_families((1.0, 5.0), (1.0,), objectives=objectives)
    return Meter(families, RULES, CAPS, METER.traffic, objectives)


@pytest.mark.parametrize(
    ("environment", "objective"),
    [("production", PRODUCTION), ("staging", STAGING), ("stag", STAGING), ("Production", OTHERS), ("unknown", OTHERS)],
)
def test_the_first_match_wins(environment: str, objective: Objective) -> None:
    assert ALL.of("chatbot", environment) is objective


CHATBOT = Objective(experiment="chatbot", environment="production", error_ratio=0.01, team="support")
TEAM = Objective(experiment="search-*", team="search", latency_s=2.0)
BRACKETS = Objective(experiment="chat[v2]", environment="production", error_ratio=0.5)
BY_APPLICATION = Objectives((CHATBOT, TEAM, BRACKETS, PRODUCTION))


@pytest.mark.parametrize(
    ("experiment", "environment", "objective"),
    [
        ("chatbot", "production", CHATBOT),
        ("chatbot", "staging", NONE),
        ("search-eu", "staging", TEAM),
        ("search-eu", "production", TEAM),
        ("search", "production", PRODUCTION),
        ("chat[v2]", "production", BRACKETS),
        ("chatv", "production", BRACKETS),
        ("chatv2", "production", PRODUCTION),
        ("other", "production", PRODUCTION),
        ("other", "other", NONE),
    ],
)
def test_each_application_has_its_own(experiment: str, environment: str, objective: Objective) -> None:
    assert BY_APPLICATION.of(experiment, environment) is objective


def test_an_environment_may_have_none() -> None:
    assert JUST_NAMED.of("chatbot", "test") is NONE
    assert JUST_NAMED.latency_s("chatbot", "test") is None
    assert JUST_NAMED.latency_s("chatbot", "staging") is None
    assert not NONE.has_threshold
    assert not Objective(team="search").has_threshold


def test_a_time_to_the_first_chunk_is_a_threshold_and_an_edge_of_its_own_histogram() -> None:
    (found,) = Config.model_validate({"objectives": [{"first_chunk": "1500ms", "team": "search"}]}).all_objectives.all
    assert found == Objective(team="search", first_chunk_s=1.5)
    assert found.has_threshold
    families = trace_families((1.0, 2.0), (1.0,), objectives=Objectives((found,)), with_spans=True)
    edges = {family.name: family.edges for family in families if family.name.endswith("_seconds")}
    assert edges["mlflow_llm_time_to_first_chunk_seconds"] == (1.0, 1.5, 2.0)
    assert edges["mlflow_trace_duration_seconds"] == edges["mlflow_llm_call_duration_seconds"] == (1.0, 2.0)


def configured(*names: str, key: str = "environment") -> Objectives:
    """The objectives of a configuration with the error ratios 1 %, 2 % and so on."""
    each = [{key: name, "error_ratio": at / 100} for at, name in enumerate(names, 1)]
    return Config.model_validate({"objectives": each}).all_objectives


def test_without_any_the_default_is_for_production_of_each_application() -> None:
    default = Config().all_objectives
    for experiment in ("chatbot", "other"):
        found = default.of(experiment, "production")
        assert (found.error_ratio, found.latency_s, found.latency_ratio) == (0.05, 5.0, 0.95)
        assert default.of(experiment, "staging") is NONE
    assert default.by_place([]) == {}


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("本番　環境", "本番　環境"),
        ("production", " production\t"),
        ("production", "production\u3000"),
        ("a\nb", "a\0b"),
        ("a\N{REPLACEMENT CHARACTER}b", "a\nb"),
        ("x" * 500, "x" * 129),
        ("unknown", ""),
        ("本番　*", "本番　環境"),
        (" prod*\n", "production"),
        ("a\n*", "a\0b"),
        ("x" * 200 + "*", None),
        ("x" * 100 + "*" + "x" * 28, "x" * 500),
        (" chat[v2]", "chat[v2]\n"),
    ],
    ids=ascii,
)
def test_an_objective_is_of_the_label_that_a_trace_gets(name: str, raw: str | None) -> None:
    text = "x" * 300 if raw is None else raw
    labels = RULES.values(record(tags={"environment": text}, experiment=text or None))
    for key in PLACE_LABELS:
        found = configured(name, key=key)
        assert found.of(labels["experiment"], labels["environment"]).has_threshold is (raw is not None)
    both = [{"experiment": name, "environment": name, "error_ratio": 0.5}]
    exposed = Config.model_validate({"objectives": both}).all_objectives.by_place([])
    expected = [(labels["experiment"], labels["environment"])] if is_name(name) else []
    assert list(exposed) == expected, "it is exposed under the names that traces are counted with"


def test_the_first_of_two_objectives_with_the_same_cleaned_name_wins() -> None:
    found = configured("production", " production ", "prod*")
    place = ("chatbot", "production")
    assert {name: each.error_ratio for name, each in found.by_place([group(*place)]).items()} == {place: 0.01}


def test_each_exposed_application_and_those_that_are_named_are_exposed() -> None:
    named = ("chatbot", "production")
    assert BY_APPLICATION.by_place([]) == {named: CHATBOT}
    groups = [
        group(*each)
        for each in (("search-eu", "test"), ("search-eu", "test", "1", "chat"), ("mail", "test", "1", "chat"))
    ]
    assert BY_APPLICATION.by_place(groups) == {named: CHATBOT, ("mail", "test"): NONE, ("search-eu", "test"): TEAM}


@pytest.mark.parametrize(
    ("first", "second", "is_used"),
    [
        (("*", "*"), ("chat", "production"), False),
        (("*", "production"), ("chat", "production"), False),
        (("*", "prod*"), ("chat", "production"), False),
        (("chat", "prod*"), ("chat", "prod*"), False),
        (("*", "*"), ("c*", "[ab]"), False),
        (("chat", "production"), ("*", "production"), True),
        (("chat", "*"), ("mail", "production"), True),
        (("chat", "production"), ("chat", "prod*"), True),
        (("prod*", "*"), ("production*", "*"), True),  # it never is, but that is hard to tell for globs
        (("chat?", "*"), ("chat[1]", "*"), True),
    ],
)
def test_an_objective_behind_one_that_matches_the_same_is_never_used(
    first: tuple[str, str], second: tuple[str, str], is_used: bool
) -> None:
    entries = [Objective(experiment=experiment, environment=environment) for experiment, environment in (first, second)]
    assert list(Objectives(tuple(entries)).never_used()) == ([] if is_used else [(1, 0)])


def test_objectives_are_narrowed_to_the_names_that_are_asked_for() -> None:
    assert BY_APPLICATION.narrowed(None, None) == BY_APPLICATION
    assert BY_APPLICATION.narrowed("search-eu", "production").all == (
        replace(TEAM, experiment="search-eu", environment="production"),
    )
    assert BY_APPLICATION.narrowed("chatbot", None).all == (CHATBOT,), "PRODUCTION is never used for it"
    assert BY_APPLICATION.narrowed(None, "staging").all == (replace(TEAM, environment="staging"),)


def test_a_trace_is_slow_if_it_exceeds_the_objective_of_its_environment() -> None:
    """The threshold is also an edge of the histogram, so that both agree."""
    for environment, durations_ms, slow in (("production", (2_999, 3_000, 3_001), 1), ("test", (750, 751, 9_000), 2)):
        tags = {"environment": environment, "app_version": "1"}
        traces = [record(trace_id=f"tr-{each}", duration_ms=each, tags=tags) for each in durations_ms]
        found = increments(*traces, meter=meter(ALL)).amounts
        labels = ("chatbot", environment, "1", "support")
        assert found[Cell(SLOW, labels)] == slow
        edge = ALL.latency_s("chatbot", environment)
        assert edge is not None
        within = sum(
            amount
            for cell, amount in found.items()
            if cell.family == "mlflow_trace_duration_seconds" and cell.part not in ("sum",) and float(cell.part) <= edge
        )
        assert len(traces) - within == slow


def test_slow_is_another_duration_for_each_application() -> None:
    here = meter(Objectives((Objective(experiment="chatbot", latency_s=1.0), Objective(latency_s=3.0))))
    traces = [record(trace_id=name, experiment=name, duration_ms=2_000) for name in ("chatbot", "mail")]
    found = increments(*traces, meter=here).amounts
    slow = {cell.labels[0]: amount for cell, amount in found.items() if cell.family == SLOW}
    assert slow == {"chatbot": 1, "mail": 0}


def test_applications_beyond_the_limit_have_the_objective_of_other() -> None:
    objectives = Objectives((Objective(experiment="other", latency_s=1.0), Objective(experiment="m*", latency_s=3.0)))
    here = replace(meter(objectives), caps=replace(CAPS, values=1))
    traces = [record(trace_id=name, experiment=name, duration_ms=2_000) for name in ("mail", "mobile")]
    found = increments(*traces, meter=here).amounts
    slow = {cell.labels[0]: amount for cell, amount in found.items() if cell.family == SLOW}
    assert slow == {"mail": 0, "other": 1}


def test_without_a_latency_objective_there_is_no_counter_of_slow_traces() -> None:
    tags = {"environment": "staging", "app_version": "1"}
    here = meter(JUST_NAMED)
    found = increments(record(duration_ms=90_000, tags=tags), meter=here)
    assert not [cell for cell in found.amounts if cell.family == SLOW]
    counts = sum(1 for cell in found.amounts if cell.part == "+Inf")
    assert here.admission(found.groups).series == len(found.amounts) + counts


def test_a_trace_without_a_duration_is_not_slow() -> None:
    found = increments(record(duration_ms=None), meter=meter(ALL)).amounts
    assert found[Cell(SLOW, ("chatbot", "production", "1.4.0", "support"))] == 0


def test_latency_objectives_are_bucket_edges() -> None:
    assert ALL.with_edges((1.0, 3.0)) == (0.75, 1.0, 3.0)
