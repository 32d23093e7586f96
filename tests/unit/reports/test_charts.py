"""The numbers behind the charts of a report."""

import random

import pytest

from mlflow_trace_exporter.domain.spans import Call, Inside
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.reports.charts import MAX_BINS, MAX_GROUPS, OTHERS, Charts, Consumption, Latencies
from tests.support.builders import record
from tests.support.days import UNTIL_MS, report_on


def charts(*traces: object, **fields: object) -> Charts:
    return report_on(traces or [record(start_ms=UNTIL_MS - 1, **fields)]).charts  # type: ignore[arg-type]  # records


@pytest.mark.parametrize("most_ms", [2, 1_200, 60_000, 10**9, 10**15])
def test_each_duration_is_in_its_bin(most_ms: int) -> None:
    dice = random.Random(2)
    times_ms = [1, most_ms, *(int(most_ms ** dice.random()) for _ in range(400))]
    latencies = Latencies()
    for at, ms in enumerate(times_ms):
        latencies.add(record(duration_ms=ms, state=State.ERROR if at % 3 == 0 else State.OK))
    bins = latencies.bins()
    assert len(bins) <= MAX_BINS
    for each in bins:
        inside = [
            at for at, ms in enumerate(times_ms) if each.low_s * (1 - 1e-9) <= ms / 1000 < each.high_s * (1 - 1e-9)
        ]
        assert each.traces == len(inside)
        assert each.errors == sum(at % 3 == 0 for at in inside)
    assert [each.high_s for each in bins[:-1]] == [each.low_s for each in bins[1:]]
    assert sum(each.traces for each in bins) == len(times_ms)


def test_a_duration_of_0_is_the_shortest_and_none_is_no_duration() -> None:
    latencies = Latencies()
    latencies.add(record(duration_ms=None))
    assert latencies.bins() == ()
    latencies.add(record(duration_ms=0))
    (bin_,) = latencies.bins()
    assert bin_.traces == 1
    assert bin_.low_s == pytest.approx(0.001)


def test_tokens_and_cost_by_version() -> None:
    versions = ["1", "2", "2", "3"]
    found = charts(
        *(record(start_ms=UNTIL_MS - 1, tags={"app_version": each}) for each in versions),
        record(start_ms=UNTIL_MS - 1, tags={"app_version": "none"}, usage=None, cost=None),
    )
    (grouping,) = found.groupings
    assert (grouping.name, grouping.counted) == ("version", "traces")
    assert grouping.rows == (
        Consumption("2", 2, 200, 40, 1.5),
        Consumption("1", 1, 100, 20, 0.75),
        Consumption("3", 1, 100, 20, 0.75),
        Consumption("none", 1, None, None, None),
    )


def test_by_model_is_what_calls_used_and_only_there_if_spans_were_read() -> None:
    calls = (
        Call("1", "openai", "gpt-5", usage=TokenUsage(input=10), cost=Cost(output_usd=2.0)),
        Call("2", "openai", "gpt-5", usage=TokenUsage(input=5, output=7)),
        Call("3", "anthropic", "claude"),
    )
    version, model = charts(inside=Inside(calls=calls)).groupings
    assert version.name == "version"
    assert (model.name, model.counted) == ("model", "calls")
    assert model.rows == (Consumption("gpt-5", 2, 15, 7, 2.0), Consumption("claude", 1, None, None, None))
    assert [each.name for each in charts(inside=None).groupings] == ["version"]


def test_many_versions_are_the_dearest_and_the_rest() -> None:
    traces = [
        record(start_ms=UNTIL_MS - 1, tags={"app_version": f"v{at}"}, cost=Cost(input_usd=float(at)))
        for at in range(30)
    ]
    (grouping,) = charts(*traces).groupings
    assert [row.label for row in grouping.rows] == [*(f"v{at}" for at in range(29, 29 - MAX_GROUPS, -1)), OTHERS]
    assert sum(row.count for row in grouping.rows) == 30
    assert grouping.rows[-1].cost_usd == sum(range(30 - MAX_GROUPS))


def test_beyond_so_many_versions_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow_trace_exporter.reports.charts.MAX_COLLECTED", 3)
    traces = [record(start_ms=UNTIL_MS - 1, tags={"app_version": f"v{at}"}) for at in range(8)]
    (grouping,) = charts(*traces).groupings
    assert [(row.label, row.count) for row in grouping.rows] == [("v0", 1), ("v1", 1), ("v2", 1), (OTHERS, 5)]


def test_no_traces_are_no_charts() -> None:
    found = report_on([]).charts
    assert (found.over_time, found.latency, found.groupings) == ((), (), ())
