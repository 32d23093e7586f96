"""What is written for Prometheus: the samples by series, read back by Prometheus' own names for things."""

import re
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.assessments import LLM_JUDGE
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.reports.backfill import HEAD_MS, until_ms
from mlflow_trace_exporter.reports.history import EOF, History, Span
from tests.support.builders import METER, METER_WITH_ALL, assessment, record

MINUTE_MS = 60_000
START_MS = 1_780_000_020_000  # a whole minute
TTL_MS = 60 * MINUTE_MS
TARGET = {"job": "mlflow-trace-exporter", "instance": 'a"b'}

Series = dict[str, list[tuple[float, float]]]
"""Pairs of a time (Unix seconds) and a value, by name and labels."""


def written(*records: TraceRecord, minutes: int = 300, step_ms: int = MINUTE_MS) -> Series:
    return read(Span(START_MS, START_MS + minutes * MINUTE_MS, step_ms), *records)


def read(span: Span, *records: TraceRecord, meter: Meter = METER) -> Series:
    in_order = sorted(records, key=lambda each: each.start_ms)
    text = "".join(History(meter, span, TARGET, TTL_MS).lines(in_order))
    assert text.endswith(EOF)
    found: Series = defaultdict(list)
    for line in text.removesuffix("\n").split("\n"):  # a label can have other line ends, which are none to Prometheus
        if not line.startswith("#"):
            series, value, at_s = line.rsplit(" ", 2)
            assert series.split("{")[1].startswith('job="mlflow-trace-exporter",instance="a\\"b",'), line
            found[series.replace('job="mlflow-trace-exporter",instance="a\\"b",', "")].append(
                (float(at_s), float(value))
            )
    return found


def of(series: Series, name: str, **labels: str) -> list[tuple[float, float]]:
    """The samples of the one series with these labels, times as minutes since START_MS."""
    (found,) = (
        samples
        for key, samples in series.items()
        if key.startswith(f"{name}{{") and all(f'{label}="{value}"' in key for label, value in labels.items())
    )
    return [((at_s - START_MS / 1000) / 60, value) for at_s, value in found]


def trace(minute: float, duration_ms: int | None = 0, **more: object) -> TraceRecord:
    start_ms = START_MS + round(minute * MINUTE_MS)
    return record(
        **{"trace_id": f"tr-{minute}-{duration_ms}", "start_ms": start_ms, "duration_ms": duration_ms, **more}
    )


def test_a_trace_adds_at_the_step_after_its_end_and_its_series_are_at_0_one_step_before() -> None:
    found = written(trace(10.5, 70_000), minutes=14)
    assert of(found, "mlflow_traces_total") == [(11, 0), (12, 1), (13, 1), (14, 1)]
    assert of(found, "mlflow_trace_errors_total") == [(11, 0), (12, 0), (13, 0), (14, 0)]
    assert of(found, "mlflow_trace_duration_seconds_bucket", status="ok", le="120.0")[-1] == (14, 1)
    assert of(found, "mlflow_trace_duration_seconds_bucket", status="ok", le="60.0")[-1] == (14, 0)
    assert of(found, "mlflow_trace_duration_seconds_sum", status="ok")[-1] == (14, 70)


def test_a_trace_on_the_edge_of_a_step_is_in_it() -> None:
    assert of(written(trace(10), minutes=11), "mlflow_traces_total") == [(9, 0), (10, 1), (11, 1)]


def test_one_that_ends_after_the_history_is_in_its_last_step() -> None:
    found = written(trace(1), trace(2, 86_400_000), trace(3, None), minutes=5)
    assert of(found, "mlflow_traces_total")[-2:] == [(4, 2), (5, 3)]
    assert of(found, "mlflow_trace_duration_seconds_count", status="ok")[-1] == (5, 2), "one has no duration"


@pytest.mark.parametrize("step_ms", [7 * MINUTE_MS, 45 * MINUTE_MS, 2 * 3_600_000])
def test_an_end_between_two_steps_loses_nothing(step_ms: int) -> None:
    found = written(*(trace(minute) for minute in range(300)), step_ms=step_ms)
    at_minute, value = of(found, "mlflow_traces_total")[-1]
    assert value == 300
    assert 300 - step_ms / MINUTE_MS < at_minute <= 300, "and nothing is after the end, where serve begins"


def test_one_history_after_another_does_not_touch_it() -> None:
    """The first ends where the second begins, and one trace runs over the seam."""
    first = of(written(trace(1), trace(4.5, 3_600_000), minutes=5), "mlflow_traces_total")
    span = Span(START_MS + 5 * MINUTE_MS, START_MS + 9 * MINUTE_MS, MINUTE_MS)
    second = of(read(span, trace(5), trace(7)), "mlflow_traces_total")
    assert first[-1] == (5, 2)
    assert second == [(5.5, 0), (6, 1), (7, 2), (8, 2), (9, 2)]


@pytest.mark.parametrize("offset_ms", [0, 1, 30_000, 59_999])
def test_a_history_that_begins_anywhere_has_its_samples_after_that_and_in_order(offset_ms: int) -> None:
    since_ms = START_MS + offset_ms
    span = Span(since_ms, since_ms + 5 * MINUTE_MS, MINUTE_MS)
    (samples,) = (
        samples
        for name, samples in read(span, record(start_ms=since_ms, duration_ms=0)).items()
        if name.startswith("mlflow_traces_total{")
    )
    assert samples[0][0] * 1000 >= since_ms
    assert all(before[0] < after[0] for before, after in pairwise(samples))
    assert [value for _, value in samples[:2]] == [0, 1]


def test_a_label_with_an_odd_line_end_is_one_line() -> None:
    found = written(trace(1, tags={"environment": "a\x85b\u2028c"}), minutes=3)
    assert of(found, "mlflow_traces_total", environment="a\N{REPLACEMENT CHARACTER}b\u2028c")[-1] == (3, 1)


def test_the_same_trace_twice_is_no_trouble() -> None:
    assert of(written(trace(1), trace(1), minutes=3), "mlflow_traces_total")[-1] == (3, 2)


def test_a_long_trace_adds_after_short_ones_that_started_later() -> None:
    found = written(trace(1, 5 * MINUTE_MS), trace(2), trace(4), minutes=7)
    assert of(found, "mlflow_traces_total") == [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)]


def test_series_that_sleep_come_back_at_the_value_that_they_had() -> None:
    found = of(written(trace(1), trace(2), trace(200)), "mlflow_traces_total")
    assert found[:3] == [(0.5, 0), (1, 1), (2, 2)]
    assert (62, 2) in found
    assert [sample for sample in found if 62 < sample[0] < 199] == []
    assert found[found.index((62, 2)) + 1 :][:2] == [(199, 2), (200, 3)]


def test_objectives_and_versions_are_there_as_in_serve() -> None:
    found = written(trace(1, state=State.ERROR), minutes=3)
    place = {"experiment": "chatbot", "environment": "production"}
    assert of(found, "mlflow_objective_error_ratio", **place)[-1] == (3, 0.05)
    assert of(found, "mlflow_objective_info", **place, team="")[-1] == (3, 1)
    assert of(found, "mlflow_trace_version_first_seen_timestamp_seconds")[-1] == (3, (START_MS + MINUTE_MS) / 1000)


def test_nothing_but_traces_that_can_be_known_later() -> None:
    names = {re.split(r"_bucket|_count|_sum|\{", series)[0] for series in written(trace(1))}
    assert not {name for name in names if name.startswith("mlflow_trace_exporter_")}
    assert "mlflow_trace_visibility_delay_seconds" not in names, "when a trace became visible is not recorded"


traces = st.lists(
    st.tuples(st.integers(0, 299 * MINUTE_MS), st.none() | st.integers(0, 30 * MINUTE_MS), st.sampled_from(State)),
    min_size=1,
    max_size=30,
)


@given(traces, st.sampled_from([MINUTE_MS, 7 * MINUTE_MS]))
def test_whatever_comes_no_series_falls_and_all_traces_are_in_it(
    made: list[tuple[int, int | None, State]], step_ms: int
) -> None:
    records = [
        record(trace_id=f"tr-{at}", start_ms=START_MS + start, duration_ms=ms, state=state)
        for at, (start, ms, state) in enumerate(made)
    ]
    found = written(*records, step_ms=step_ms)
    for name, samples in found.items():
        assert all(before[0] < after[0] for before, after in pairwise(samples)), f"{name}: out of order"
        if not name.startswith(("mlflow_objective", "mlflow_trace_version")):
            assert samples[0][1] == 0, f"{name}: increase() would not see its first traces"
            assert all(before[1] <= after[1] for before, after in pairwise(samples)), f"{name}: falls"
    assert of(found, "mlflow_traces_total")[-1][1] == len(records)
    errors = sum(each.state is State.ERROR for each in records)
    assert of(found, "mlflow_trace_errors_total")[-1][1] == errors


NOW_MS = START_MS + 100 * 3_600_000


def test_the_history_ends_where_serve_begins_or_three_hours_ago() -> None:
    assert until_ms(None, None, NOW_MS + 1) == NOW_MS - HEAD_MS
    assert until_ms(None, NOW_MS - 1, NOW_MS + 1) == NOW_MS - HEAD_MS, (
        "in whole minutes, so that another can begin there"
    )
    assert until_ms(None, NOW_MS - 2 * HEAD_MS, NOW_MS) == NOW_MS - 2 * HEAD_MS
    assert until_ms(NOW_MS - HEAD_MS, None, NOW_MS) == NOW_MS - HEAD_MS


def test_the_last_three_hours_are_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"at least three hours ago.*in memory"):
        until_ms(NOW_MS - HEAD_MS + 1, None, NOW_MS)


def test_what_serve_counts_is_refused() -> None:
    with pytest.raises(UserError, match="would count them twice"):
        until_ms(NOW_MS - 2 * HEAD_MS, NOW_MS - 3 * HEAD_MS, NOW_MS)


def test_series_have_the_workspace_that_serve_gives_them() -> None:
    span = Span(START_MS, START_MS + 5 * MINUTE_MS, MINUTE_MS)
    text = "".join(History(METER, span, TARGET, TTL_MS, {"team-a"}).lines([trace(1, experiment="team-a/chatbot")]))
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert samples
    assert all(('workspace="team-a"' in line) is ('experiment="team-a/chatbot"' in line) for line in samples)


def test_assessments_are_written_at_the_end_of_their_trace() -> None:
    said = (
        assessment("correctness", "yes", LLM_JUDGE, cost_usd=0.25),
        assessment("correctness", "no", valid=False),
        assessment("relevance", 0.5),
        assessment("tone", None, failed=True),
    )
    traces = trace(10.5, 70_000, assessments=said), trace(12.5, assessments=said[:1])
    meter = replace(METER_WITH_ALL, step_types=None)
    found = read(Span(START_MS, START_MS + 14 * MINUTE_MS, MINUTE_MS), *traces, meter=meter)
    counted = [(11, 0), (12, 1), (13, 2), (14, 2)]
    assert of(found, "mlflow_traces_assessed_total", assessment="correctness") == counted
    assert of(found, "mlflow_trace_assessments_total", value="yes", source="llm_judge") == counted
    assert of(found, "mlflow_trace_assessment_cost_usd_total", assessment="correctness")[-1] == (14, 0.5)
    assert of(found, "mlflow_trace_assessment_score_count", assessment="relevance")[-1] == (14, 1)
    assert of(found, "mlflow_trace_assessment_score_bucket", le="0.5")[-1] == (14, 1)
    assert of(found, "mlflow_trace_assessment_errors_total", assessment="tone")[-1] == (14, 1)
    assert not any('value="no"' in series for series in found), "it is overridden"
