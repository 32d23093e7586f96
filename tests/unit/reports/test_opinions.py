"""Reports by what people, judges and checks say about traces."""

import csv
import json
from collections.abc import Iterable
from io import StringIO

import pytest

from mlflow_trace_exporter.domain.assessments import CODE, LLM_JUDGE
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import ArgumentError
from mlflow_trace_exporter.reports import opinions, report_format, tallies
from mlflow_trace_exporter.reports.report import Report, Wanted, summarize
from mlflow_trace_exporter.reports.subjects import unit_of
from mlflow_trace_exporter.tracking.query import Query
from tests.support.builders import RULES, assessment, record

STAGING = {"environment": "staging", "app_version": "1.5.0"}
TRACES = (
    record(
        trace_id="tr-1",
        assessments=(
            assessment("correctness", "yes", LLM_JUDGE, cost_usd=0.25),
            assessment("correctness", "no"),
            assessment("relevance", 0.5, CODE),
        ),
    ),
    record(
        trace_id="tr-2",
        assessments=(
            assessment("correctness", "no", LLM_JUDGE, cost_usd=0.5, valid=False),
            assessment("correctness", "yes", LLM_JUDGE, assessment_id="a-2"),
            assessment("relevance", 1.0, CODE),
        ),
    ),
    record(trace_id="tr-3", assessments=(assessment("correctness", None, LLM_JUDGE, failed=True),)),
    record(trace_id="tr-4", tags=STAGING, assessments=(assessment("correctness", "maybe"),)),
    record(trace_id="tr-5"),
)


def reported(*by: str, traces: Iterable[TraceRecord] = TRACES) -> Report:
    found = ((each, RULES.values(each)) for each in traces)
    return summarize(found, Query(0, 10_000), Wanted(by, unit=unit_of(by)), lambda _: "")


def test_each_name_is_a_row_with_what_was_said_and_about_how_many_traces() -> None:
    assert reported("assessment").as_dicts() == [
        {
            "assessment": "correctness",
            "assessments": 5,
            "finished_traces": 5,
            "assessed_traces": 4,
            "assessed_share": 0.8,
            "values": {"yes": 2, "no": 1, "maybe": 1},
            "scores": 0,
            "mean": None,
            "p50": None,
            "exact": True,
            "errors": 1,
            "error_rate": 0.2,
            "cost_usd": 0.25,
        },
        {
            "assessment": "relevance",
            "assessments": 2,
            "finished_traces": 5,
            "assessed_traces": 2,
            "assessed_share": 0.4,
            "values": {},
            "scores": 2,
            "mean": 0.75,
            "p50": 0.75,
            "exact": True,
            "errors": 0,
            "error_rate": 0.0,
            "cost_usd": None,
        },
    ]


def test_sources_can_be_told_apart() -> None:
    rows = {tuple(row.key.values()): row for row in reported("assessment", "source").rows}
    assert {key: (row.traces, row.opinions and row.opinions.values) for key, row in rows.items()} == {
        ("correctness", "llm_judge"): (3, {"yes": 2}),
        ("correctness", "human"): (2, {"no": 1, "maybe": 1}),
        ("relevance", "code"): (2, {}),
    }


def test_the_share_is_one_of_the_traces_with_the_same_version() -> None:
    rows = reported("assessment", "version").rows
    found = {tuple(row.key.values()): (row.opinions.assessed_traces, row.opinions.finished_traces) for row in rows
             if row.opinions}  # fmt: skip
    assert found == {("correctness", "1.4.0"): (3, 4), ("correctness", "1.5.0"): (1, 1), ("relevance", "1.4.0"): (2, 4)}


def test_what_is_overridden_is_left_out_with_its_cost() -> None:
    overridden = record(assessments=(assessment("correctness", "no", cost_usd=9.0, valid=False),))
    report = reported("assessment", traces=[overridden])
    assert report.rows == ()
    assert (report.total.traces, report.total.cost_usd) == (0, None)


def test_values_of_several_names_are_not_mixed() -> None:
    report = reported("source", traces=TRACES[:1])
    total = report.total.opinions
    assert total is not None
    assert (report.total.traces, total.assessed_traces, total.finished_traces) == (3, 1, 1)
    assert (total.values, total.mean) == ({}, None)


def test_rows_and_values_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "MAX_ROWS", 3)
    monkeypatch.setattr(opinions, "MAX_VALUES", 3)
    many = [record(trace_id=f"tr-{at}", assessments=(assessment(f"n-{at}", "yes"),)) for at in range(5)]
    rows = reported("assessment", traces=many).rows
    assert [(row.key["assessment"], row.traces) for row in rows] == [
        ("(others)", 2),
        *((f"n-{at}", 1) for at in range(3)),
    ]
    assert rows[0].opinions is not None
    assert rows[0].opinions.finished_traces == 5
    words = [record(trace_id=f"tr-{at}", assessments=(assessment("n", f"w-{at}"),)) for at in range(5)]
    (row,) = reported("assessment", traces=words).rows
    assert row.opinions is not None
    assert dict(row.opinions.values) == {"w-0": 1, "w-1": 1, "w-2": 1, "other": 2}


def test_assessments_and_calls_cannot_be_combined() -> None:
    with pytest.raises(ArgumentError, match="by: model and assessment are of different parts of a trace"):
        unit_of(["assessment", "model"])


def test_all_formats_say_it() -> None:
    found = reported("assessment", "source")
    text = report_format.as_tables(found, False, 0, 200)
    assert text.startswith("7 assessments of 4 of 5 finished traces from")
    assert "token" not in text
    lines = [line.split() for line in text.splitlines()]
    (judged,) = [line for line in lines if line[:2] == ["correctness", "llm_judge"]]
    assert judged[2:] == ["yes", "100.0%", "3", "3", "(60.0%)", "-", "-", "1", "(33.3%)", "$0.2500"]
    (relevance,) = [line for line in lines if line[:2] == ["relevance", "code"]]
    assert relevance[2:] == ["-", "2", "2", "(40.0%)", "0.750", "0.750", "0", "(0.0%)", "-"]
    (human,) = [line for line in lines if line[:2] == ["correctness", "human"]]
    assert human[2:7] == ["no", "50.0%,", "maybe", "50.0%", "2"]
    assert "| values" in report_format.as_tables(found, True, 0, 200)
    row = next(csv.DictReader(StringIO(report_format.as_csv(found))))
    assert (row["assessments"], json.loads(row["values"])) == ("3", {"yes": 2})
    assert json.loads(report_format.as_json(found, 0))["total"]["assessments"] == 7


def test_a_page_has_a_row_for_each() -> None:
    page = reported("assessment").as_html()
    assert "<h2>By assessment</h2>" in page
    assert ">yes 50.0%, no 25.0%, maybe 25.0%</td>" in page
    assert "<dt>assessed</dt><dd>80.0%</dd>" in page
    assert "<dt>input tokens</dt>" not in page


def test_a_spreadsheet_takes_no_value_for_a_formula() -> None:
    row = next(
        csv.DictReader(
            StringIO(
                report_format.as_csv(reported("assessment", traces=[record(assessments=(assessment("=1", "=1+1"),))]))
            )
        )
    )
    assert (row["assessment"], row["values"]) == ("'=1", '{"=1+1": 1}')
