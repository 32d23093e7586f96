import math
from dataclasses import replace

import pytest

from mlflow_trace_exporter.domain.labels import LabelRules
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.metrics.families import MISSING_FIELDS, trace_families
from mlflow_trace_exporter.metrics.model import SUM, Cell, histogram_quantile
from tests.support.builders import METER, increments, record

LABELS = ("chatbot", "production", "1.4.0", "support")


def amounts(*records: TraceRecord) -> dict[Cell, float]:
    """The amounts that the records add, without cells at 0."""
    return {cell: amount for cell, amount in increments(*records).amounts.items() if amount}


def test_one_trace_with_everything() -> None:
    trace = record(usage=TokenUsage(100, 20, 64, 8), cost=Cost(0.25, 0.5))
    assert amounts(trace) == {
        Cell("mlflow_traces_total", LABELS): 1,
        Cell("mlflow_trace_duration_seconds", (*LABELS, "ok"), "2.5"): 1,
        Cell("mlflow_trace_duration_seconds", (*LABELS, "ok"), SUM): 1.5,
        Cell("mlflow_trace_input_tokens_total", LABELS): 100,
        Cell("mlflow_trace_output_tokens_total", LABELS): 20,
        Cell("mlflow_trace_cache_read_input_tokens_total", LABELS): 64,
        Cell("mlflow_trace_cache_creation_input_tokens_total", LABELS): 8,
        Cell("mlflow_tokens_per_trace", (*LABELS, "input"), "256.0"): 1,
        Cell("mlflow_tokens_per_trace", (*LABELS, "input"), SUM): 100,
        Cell("mlflow_tokens_per_trace", (*LABELS, "output"), "64.0"): 1,
        Cell("mlflow_tokens_per_trace", (*LABELS, "output"), SUM): 20,
        Cell("mlflow_trace_input_cost_usd_total", LABELS): 0.25,
        Cell("mlflow_trace_output_cost_usd_total", LABELS): 0.5,
        Cell("mlflow_trace_visibility_delay_seconds", LABELS[:2], "2.5"): 1,
        Cell("mlflow_trace_visibility_delay_seconds", LABELS[:2], SUM): 2.5,
    }


def test_an_error_is_counted_as_one_and_has_its_own_histogram() -> None:
    found = amounts(record(state=State.ERROR))
    assert found[Cell("mlflow_traces_total", LABELS)] == 1
    assert found[Cell("mlflow_trace_errors_total", LABELS)] == 1
    assert found[Cell("mlflow_trace_duration_seconds", (*LABELS, "error"), "2.5")] == 1


def test_everything_of_a_label_set_exists_from_its_first_trace_on() -> None:
    cells = increments(record(usage=None)).amounts
    assert cells[Cell("mlflow_trace_errors_total", LABELS)] == 0
    assert cells[Cell("mlflow_trace_duration_seconds", (*LABELS, "error"), "+Inf")] == 0
    assert cells[Cell("mlflow_trace_input_tokens_total", LABELS)] == 0
    assert cells[Cell("mlflow_traces_missing_total", (*LABELS, "user"))] == 0


def test_missing_fields_are_counted_and_the_trace_still_is() -> None:
    bare = record(user=None, session="", tags={}, metadata={}, usage=None, cost=None, duration_ms=None)
    labels = ("chatbot", "unknown", "unknown", "support")
    found = amounts(bare)
    assert found[Cell("mlflow_traces_total", labels)] == 1
    assert {field: found[Cell("mlflow_traces_missing_total", (*labels, field))] for field in MISSING_FIELDS} == (
        dict.fromkeys(MISSING_FIELDS, 1)
    )


def test_a_default_does_not_hide_that_a_trace_has_no_value() -> None:
    rules = LabelRules(defaults={"environment": "production"})
    meter = replace(METER, rules=rules, families=trace_families((1.0,), (1.0,), rules))
    found = increments(record(tags={}), meter=meter).amounts
    labels = ("chatbot", "production", "unknown", "support")
    assert found[Cell("mlflow_traces_total", labels)] == 1
    assert found[Cell("mlflow_traces_missing_total", (*labels, "environment"))] == 1


def test_a_trace_without_duration_is_counted_but_not_as_fast() -> None:
    found = amounts(record(duration_ms=None))
    assert found[Cell("mlflow_traces_total", LABELS)] == 1
    assert found[Cell("mlflow_traces_missing_total", (*LABELS, "duration"))] == 1
    assert not [cell for cell in found if cell.family == "mlflow_trace_duration_seconds"]


def test_a_trace_that_took_no_time_has_a_duration_and_one_that_used_no_token_a_usage() -> None:
    found = amounts(record(duration_ms=0, usage=TokenUsage(0, 0), cost=Cost(0, 0)))
    assert not [cell for cell in found if cell.family == "mlflow_traces_missing_total"]
    assert found[Cell("mlflow_trace_duration_seconds", (*LABELS, "ok"), "0.05")] == 1


def test_a_value_on_an_edge_belongs_to_the_bucket_below_it() -> None:
    found = amounts(record(duration_ms=2_500), record(duration_ms=2_501), record(duration_ms=3_600_000))
    buckets = {cell.part: found[cell] for cell in found if cell.family == "mlflow_trace_duration_seconds"}
    assert buckets == {"2.5": 1, "5.0": 1, "+Inf": 1, SUM: 2.5 + 2.501 + 3600}


def test_an_end_in_our_future_is_not_a_negative_delay() -> None:
    found = amounts(record(start_ms=9_000, seen_ms=5_000))
    assert found[Cell("mlflow_trace_visibility_delay_seconds", LABELS[:2], "1.0")] == 1
    assert Cell("mlflow_trace_visibility_delay_seconds", LABELS[:2], SUM) not in found


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.5, [], None),
        (0.5, [(1.0, 0), (math.inf, 0)], None),
        (0.5, [(1.0, 10), (math.inf, 10)], 0.5),
        (0.5, [(1.0, 0), (2.0, 4), (math.inf, 4)], 1.5),
        (0.9, [(1.0, 5), (2.0, 10), (math.inf, 10)], 1.8),
        (0.99, [(1.0, 5), (math.inf, 10)], 1.0),
    ],
)
def test_histogram_quantile(q: float, buckets: list[tuple[float, float]], expected: float | None) -> None:
    assert histogram_quantile(q, buckets) == (None if expected is None else pytest.approx(expected))
