"""Reports by what is inside traces."""

import csv
import json
from io import StringIO

import pytest

from mlflow_trace_exporter.domain.calls import inside
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import ArgumentError
from mlflow_trace_exporter.reports import report_format
from mlflow_trace_exporter.reports.report import Report, Wanted, summarize
from mlflow_trace_exporter.reports.subjects import unit_of
from mlflow_trace_exporter.tracking.query import Query
from tests.support.builders import RULES, record, span, step

TRACES = (
    record(inside=inside([span(1), span(2, model="claude", provider="anthropic", failed=True, usage=None), step(3)])),
    record(trace_id="tr-2", tags={"environment": "staging"}, inside=inside([span(1), step(2, failed=True)])),
    record(trace_id="tr-3"),
)


def reported(*by: str, traces: tuple[TraceRecord, ...] = TRACES) -> Report:
    found = ((each, RULES.values(each)) for each in traces)
    return summarize(found, Query(0, 10_000), Wanted(by, unit=unit_of(by)), lambda _: "")


def test_calls_are_added_up_by_model() -> None:
    rows = reported("provider", "model").as_dicts()
    assert [(row["provider"], row["model"], row["calls"], row["errors"]) for row in rows] == [
        ("openai", "gpt-4o", 2, 0),
        ("anthropic", "claude", 1, 1),
    ]
    assert [(row["input_tokens"], row["cost_usd"]) for row in rows] == [
        (200, 1.5),
        (None, 0.75),
    ]
    assert "traces" not in rows[0]


def test_dimensions_of_traces_can_be_combined_with_those_of_calls() -> None:
    rows = reported("model", "environment").rows
    assert {tuple(row.key.values()): row.traces for row in rows} == {
        ("gpt-4o", "production"): 1,
        ("gpt-4o", "staging"): 1,
        ("claude", "production"): 1,
    }
    assert reported("error_type").rows[-1].key == {"error_type": "unknown"}


def test_other_spans_are_added_up_by_type_and_name() -> None:
    found = reported("span_type", "span_name")
    (row,) = found.rows
    assert (row.key, row.traces, row.errors) == ({"span_type": "TOOL", "span_name": "search"}, 2, 1)
    assert not any("token" in note for note in report_format.notes(found)), "they have none by nature"


def test_calls_and_other_spans_cannot_be_combined() -> None:
    with pytest.raises(ArgumentError, match="by: model and span_type are of different parts of a trace"):
        unit_of(["environment", "model", "span_type"])


def test_all_formats_say_what_they_count() -> None:
    found = reported("model")
    assert next(csv.DictReader(StringIO(report_format.as_csv(found))))["calls"] == "2"
    assert json.loads(report_format.as_json(found, 0))["total"]["calls"] == 3
    text = report_format.as_tables(found, True, 0, 200)
    assert text.startswith("3 calls of models in finished traces from")
    assert "| model" in text
    assert "1 of 3 calls have no token usage" in text
