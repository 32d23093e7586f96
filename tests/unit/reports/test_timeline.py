"""The slices of a chart over time hold every trace once, whatever the range."""

import itertools
import random
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.reports.timeline import MAX_SLICES, STEPS_MS, Slice, Timeline
from tests.support.builders import record
from tests.support.days import DAY_MS, UNTIL_MS

HOUR_MS = 3_600_000


def spread(number: int, since_ms: int, until_ms: int = UNTIL_MS) -> list[TraceRecord]:
    dice = random.Random(3)
    return [
        record(
            start_ms=dice.randrange(since_ms, until_ms),
            duration_ms=dice.choice([None, 0, dice.randrange(90_000)]),
            state=dice.choice([State.OK, State.ERROR]),
        )
        for _ in range(number)
    ]


def line(traces: Sequence[TraceRecord]) -> Timeline:
    made = Timeline()
    for each in traces:
        made.add(each)
    return made


@pytest.mark.parametrize(
    ("range_ms", "step"),
    [
        (HOUR_MS, timedelta(minutes=1)),
        (6 * HOUR_MS, timedelta(minutes=5)),
        (DAY_MS, timedelta(minutes=15)),
        (7 * DAY_MS, timedelta(hours=3)),
        (30 * DAY_MS, timedelta(hours=12)),
        (90 * DAY_MS, timedelta(days=1)),
        (365 * DAY_MS, timedelta(days=7)),
        (50 * 365 * DAY_MS, timedelta(days=224)),
    ],
)
def test_the_length_of_slices_follows_from_the_range(range_ms: int, step: timedelta) -> None:
    since_ms = UNTIL_MS - range_ms
    timeline = line(spread(3_000, since_ms))
    slices = timeline.slices(since_ms, UNTIL_MS)
    assert timeline.step == step
    assert len(slices) <= MAX_SLICES
    assert {later.start - each.start for each, later in itertools.pairwise(slices)} == {step}
    assert slices[0].start <= utc(since_ms) < slices[0].start + step
    assert slices[-1].start < utc(UNTIL_MS) <= slices[-1].start + step
    assert sum(each.traces for each in slices) == 3_000


def test_each_slice_is_what_numpy_says_in_any_order() -> None:
    since_ms = UNTIL_MS - 3 * DAY_MS
    traces = spread(2_000, since_ms)
    timeline = line(traces)
    slices = timeline.slices(since_ms, UNTIL_MS)
    assert line(sorted(traces, key=lambda each: -each.start_ms)).slices(since_ms, UNTIL_MS) == slices
    for each in slices:
        inside = [one for one in traces if each.start <= utc(one.start_ms) < each.start + timeline.step]
        seconds = [one.duration_s for one in inside if one.duration_s is not None]
        expected = np.quantile(seconds, [0.5, 0.95, 0.99])
        assert (each.traces, each.errors) == (len(inside), sum(one.state is State.ERROR for one in inside))
        assert (each.p50_s, each.p95_s, each.p99_s) == pytest.approx(tuple(expected))
        assert each.exact


def test_the_times_in_which_there_was_nothing_are_shown() -> None:
    since_ms = UNTIL_MS - DAY_MS
    slices = line(spread(500, since_ms, UNTIL_MS - 6 * HOUR_MS)).slices(since_ms, UNTIL_MS)
    last = slices[-24:]
    assert [each.traces for each in last] == [0] * 24
    assert {each.p50_s for each in last} == {None}


def test_of_a_long_range_only_the_part_with_traces_is_shown() -> None:
    timeline = line(spread(500, UNTIL_MS - DAY_MS))
    slices = timeline.slices(UNTIL_MS - 365 * DAY_MS, UNTIL_MS)
    assert timeline.step == timedelta(minutes=15)
    assert slices[0].traces
    assert slices[-1].traces


def test_one_trace_and_none() -> None:
    assert Timeline().slices(0, UNTIL_MS) == ()
    (one,) = line([record(start_ms=UNTIL_MS - 30_000, duration_ms=1_000)]).slices(UNTIL_MS - DAY_MS, UNTIL_MS)
    assert one == Slice(utc(UNTIL_MS - 60_000), 1, 0, 1.0, 1.0, 1.0, True)


def test_slices_can_be_merged_into_the_next_longer_ones() -> None:
    assert all(longer % shorter == 0 for shorter, longer in itertools.pairwise(STEPS_MS))
    assert STEPS_MS[-1] * MAX_SLICES > 10_000 * 366 * DAY_MS, "the years that datetime has"
