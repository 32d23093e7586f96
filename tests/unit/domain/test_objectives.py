"""Objectives by environment: which one applies, which traces are slow, and which objectives are exposed."""

import pytest

from mlflow_trace_exporter.domain.objectives import Objective, Objectives
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.model import Cell
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.wiring import objectives_of
from tests.support.builders import CAPS, METER, RULES, increments, record

SLOW = "mlflow_trace_slow_total"
PRODUCTION = Objective("production", error_ratio=0.02, latency_s=3.0, latency_ratio=0.99)
STAGING = Objective("stag*", error_ratio=0.2)
OTHERS = Objective("*", latency_s=0.75)
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
    assert ALL.of(environment) is objective


def test_an_environment_may_have_none() -> None:
    assert JUST_NAMED.of("test") is None
    assert JUST_NAMED.latency_s("test") is None
    assert JUST_NAMED.latency_s("staging") is None


def configured(*environments: str) -> Objectives:
    """The objectives of a configuration with the error ratios 1 %, 2 % and so on."""
    each = [{"environment": name, "error_ratio": at / 100} for at, name in enumerate(environments, 1)]
    return objectives_of(Config.model_validate({"objectives": each}))


@pytest.mark.parametrize(
    ("environment", "raw"),
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
    ],
    ids=ascii,
)
def test_an_objective_is_of_the_label_that_a_trace_gets(environment: str, raw: str | None) -> None:
    found = configured(environment)
    trace = record(tags={"environment": raw} if raw is not None else {"environment": "x" * 300})
    label = RULES.values(trace)["environment"]
    assert (found.of(label) is not None) is (raw is not None)
    if not set("*?[") & set(environment):
        assert list(found.by_environment([])) == [label], "it is exposed under the name that traces are counted with"


def test_the_first_of_two_objectives_with_the_same_cleaned_name_wins() -> None:
    found = configured("production", " production ", "prod*")
    assert {name: each.error_ratio for name, each in found.by_environment(["production"]).items()} == {
        "production": 0.01
    }


def test_objectives_of_existing_and_named_environments_are_exposed() -> None:
    assert JUST_NAMED.by_environment([]) == {"production": PRODUCTION}
    assert JUST_NAMED.by_environment(["staging-1", "test"]) == {"production": PRODUCTION, "staging-1": STAGING}


def test_a_trace_is_slow_if_it_exceeds_the_objective_of_its_environment() -> None:
    """The threshold is also an edge of the histogram, so that both agree."""
    for environment, durations_ms, slow in (("production", (2_999, 3_000, 3_001), 1), ("test", (750, 751, 9_000), 2)):
        tags = {"environment": environment, "app_version": "1"}
        traces = [record(trace_id=f"tr-{each}", duration_ms=each, tags=tags) for each in durations_ms]
        found = increments(*traces, meter=meter(ALL)).amounts
        labels = ("chatbot", environment, "1", "support")
        assert found[Cell(SLOW, labels)] == slow
        edge = ALL.latency_s(environment)
        assert edge is not None
        within = sum(
            amount
            for cell, amount in found.items()
            if cell.family == "mlflow_trace_duration_seconds" and cell.part not in ("sum",) and float(cell.part) <= edge
        )
        assert len(traces) - within == slow


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
