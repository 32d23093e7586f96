"""What is good enough, by environment: which objective counts, what is slow, what is published."""

import pytest

from exporter.families import trace_families
from exporter.metrics import Cell, Meter
from exporter.objectives import Objective, Objectives
from tests.builders import CAPS, METER, RULES, increments, record

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
def test_the_first_that_matches_counts(environment: str, objective: Objective) -> None:
    assert ALL.of(environment) is objective


def test_an_environment_may_have_none() -> None:
    assert JUST_NAMED.of("test") is None
    assert JUST_NAMED.latency_s("test") is None
    assert JUST_NAMED.latency_s("staging") is None


def test_published_are_those_of_the_environments_there_are_and_those_that_are_named() -> None:
    assert JUST_NAMED.by_environment([]) == {"production": PRODUCTION}
    assert JUST_NAMED.by_environment(["staging-1", "test"]) == {"production": PRODUCTION, "staging-1": STAGING}


def test_slow_is_what_takes_longer_than_the_objective_of_its_environment() -> None:
    """And the histogram has the threshold as an edge, so that both say the same."""
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


def test_where_nothing_is_slow_there_is_no_counter_of_it() -> None:
    tags = {"environment": "staging", "app_version": "1"}
    here = meter(JUST_NAMED)
    found = increments(record(duration_ms=90_000, tags=tags), meter=here)
    assert not [cell for cell in found.amounts if cell.family == SLOW]
    counts = sum(1 for cell in found.amounts if cell.part == "+Inf")
    assert here.admission(found.groups).series == len(found.amounts) + counts


def test_a_trace_without_a_duration_is_not_slow() -> None:
    found = increments(record(duration_ms=None), meter=meter(ALL)).amounts
    assert found[Cell(SLOW, ("chatbot", "production", "1.4.0", "support"))] == 0


def test_latencies_are_edges() -> None:
    assert ALL.with_edges((1.0, 3.0)) == (0.75, 1.0, 3.0)
