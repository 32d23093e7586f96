"""Each assessment is counted once, also if it comes days after its trace (fault 33)."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from mlflow_trace_exporter.counting import assessment_auditor
from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.objectives import Objective, Objectives, Quality
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.ledger import ledger
from mlflow_trace_exporter.metrics.assessments import (
    ASSESSED,
    ASSESSMENT_COST,
    ASSESSMENT_ERRORS,
    ASSESSMENTS,
    RATINGS,
    SCORES,
)
from mlflow_trace_exporter.metrics.families import CHANGED_ASSESSMENTS, DUPLICATES, trace_families
from mlflow_trace_exporter.settings.config import Buckets
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.scanning import Page
from mlflow_trace_exporter.tracking.slices import Known
from tests.support.builders import METER, METER_WITH_ALL, record
from tests.support.rig import ASSESSMENTS_MS, DAY_MS, HOUR_MS, INTERVAL_MS, MINUTE_MS, Rig
from tests.support.simulated import CHATBOT, SimulatedMlflow, unreachable

NUMBERS = count()
VERSION = ("chatbot", "production", "1.4.0")
AUDIT_MS = 12 * MINUTE_MS
"""After this every kind of audit has had its turn."""
METER_WITH_ASSESSMENTS = replace(METER_WITH_ALL, step_types=None)


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(mlflow, meter=METER_WITH_ASSESSMENTS)


def add(mlflow: SimulatedMlflow, age_ms: int = 0, **fields: object) -> TraceRecord:
    """Add a trace that ended so long ago."""
    given = {"start_ms": mlflow.clock_ms - age_ms, "duration_ms": 0, **fields}
    return mlflow.add(record(trace_id=f"tr-{next(NUMBERS)}", **given))


def values(rig: Rig) -> Counter[str]:
    """How many assessments of each value are exposed."""
    series = rig.published[-1].totals.get(ASSESSMENTS, {})
    found: Counter[str] = Counter()
    for labels, numbers in series.items():
        found[labels[-1]] += int(numbers[0])
    return +found


def test_those_that_are_there_are_counted_with_their_trace(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow)
    mlflow.assess(trace, value="yes", source="llm_judge", cost_usd=0.25)
    mlflow.assess(trace, value="no")
    mlflow.assess(trace, "relevance", 0.75, source="code")
    mlflow.assess(trace, "style", None, source="code", failed=True)
    rig.settle()
    assert rig.labels(ASSESSMENTS) == {
        (*VERSION, "correctness", "llm_judge", "yes"),
        (*VERSION, "correctness", "human", "no"),
    }
    assert rig.labels(SCORES) == {(*VERSION, "code", "relevance")}
    assert rig.labels(ASSESSED) == {(*VERSION, "correctness"), (*VERSION, "relevance")}
    assert (rig.total(ASSESSED), rig.total(ASSESSMENT_COST)) == (2, 0.25)
    assert rig.labels(ASSESSMENT_ERRORS) == {(*VERSION, "style", "code")}
    assert rig.reading.unaccounted_assessments == 0


def test_only_scores_have_series_of_scores(mlflow: SimulatedMlflow, rig: Rig) -> None:
    mlflow.assess(add(mlflow))
    rig.settle()
    assert rig.published[-1].totals.get(SCORES, {}) == {}


@pytest.mark.parametrize("after_ms", [MINUTE_MS, 30 * MINUTE_MS, 3 * HOUR_MS, 26 * HOUR_MS, 6 * DAY_MS])
def test_fault_33_one_that_comes_later_is_counted_once(mlflow: SimulatedMlflow, rig: Rig, after_ms: int) -> None:
    trace = add(mlflow)
    add(mlflow)
    rig.settle()
    rig.run(after_ms, every_ms=5 * MINUTE_MS)
    mlflow.assess(trace)
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 1}
    for _ in range(2):
        rig.restart()
        rig.run(AUDIT_MS)
    assert (values(rig), rig.traces) == ({"yes": 1}, 2), "the ids of the traces may be forgotten, but not read again"


def test_a_recent_one_is_counted_within_two_minutes(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow)
    rig.settle()
    rig.run(AUDIT_MS)
    mlflow.assess(trace)
    rig.run(2 * MINUTE_MS)
    assert values(rig) == {"yes": 1}


@pytest.mark.parametrize("counts_overridden", [False, True], ids=["from 3.16 on", "before 3.16"])
@pytest.mark.parametrize("after_ms", [MINUTE_MS, 2 * DAY_MS])
def test_a_changed_opinion_is_counted_and_told(
    mlflow: SimulatedMlflow, rig: Rig, after_ms: int, counts_overridden: bool
) -> None:
    mlflow.counts_overridden = counts_overridden
    overridden, edited, kept = add(mlflow), add(mlflow), add(mlflow)
    first, second = mlflow.assess(overridden), mlflow.assess(edited)
    mlflow.assess(kept)
    rig.settle()
    assert (values(rig), rig.total(CHANGED_ASSESSMENTS)) == ({"yes": 3}, 0)
    rig.run(after_ms, every_ms=5 * MINUTE_MS)
    mlflow.override(overridden, first, "no")
    mlflow.assess(edited, value="no", assessment_id=second)
    rig.run(AUDIT_MS)
    assert (values(rig), rig.total(CHANGED_ASSESSMENTS)) == ({"yes": 3, "no": 2}, 2)
    assert rig.total(ASSESSED) == 3
    rig.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    rig.restart()
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 3, "no": 2}


def test_fault_33_nothing_decreases_when_one_is_deleted(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """Nor is what comes in its place overlooked, though MLflow then counts as many as before."""
    trace = add(mlflow)
    mlflow.assess(trace)
    rig.settle()
    rig.run(AUDIT_MS)
    mlflow.change(trace, assessments=())
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 1}
    mlflow.assess(trace)
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 2}


def test_a_step_is_read_once_again_where_some_were_deleted(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow)
    mlflow.assess(trace)
    rig.run(30 * MINUTE_MS)
    reads = rig.total(DUPLICATES)
    mlflow.change(trace, assessments=())
    rig.run(30 * MINUTE_MS)
    assert rig.total(DUPLICATES) == reads + 1


@pytest.mark.parametrize("after_ms", [0, 30 * HOUR_MS])
def test_one_that_comes_in_place_of_a_deleted_one_is_counted_after_a_restart(
    mlflow: SimulatedMlflow, rig: Rig, after_ms: int
) -> None:
    """What is deleted is not only remembered until then."""
    trace, other = add(mlflow), add(mlflow)
    mlflow.assess(trace)
    rig.settle()
    rig.run(after_ms, every_ms=5 * MINUTE_MS)
    mlflow.change(trace, assessments=())
    rig.run(AUDIT_MS)
    mlflow.assess(other)
    rig.restart()
    rig.run(AUDIT_MS)
    assert (values(rig), rig.reading.unaccounted_assessments) == ({"yes": 2}, 0)


def test_late_ones_are_found_while_an_experiment_is_deselected(mlflow: SimulatedMlflow, rig: Rig) -> None:
    other = replace(CHATBOT, experiment_id="2", name="search")
    mlflow.selected = {each.experiment_id: each for each in (CHATBOT, other)}
    theirs = add(mlflow, experiment_id="2", experiment="search")
    ours = add(mlflow)
    for _ in range(2):
        mlflow.assess(theirs)
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    mlflow.selected = {CHATBOT.experiment_id: CHATBOT}
    mlflow.assess(ours)
    rig.reload()
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    assert values(rig) == {"yes": 3}
    mlflow.selected = {each.experiment_id: each for each in (CHATBOT, other)}
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    assert (values(rig), rig.reading.unaccounted_assessments) == ({"yes": 3}, 0)


def test_one_of_a_trace_that_is_counted_later_hides_no_other(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """MLflow has one more before, because of the running trace, and one more after, because of the other."""
    running = add(mlflow, duration_ms=None, state=State.IN_PROGRESS, finalized=False)
    other = add(mlflow)
    mlflow.assess(running)
    rig.run(3 * HOUR_MS)
    assert rig.reading.unaccounted_assessments == 1
    mlflow.change(running, state=State.OK, duration_ms=1, finalized=True)
    while not values(rig):
        assert rig.tick()
    mlflow.assess(other)
    rig.run(AUDIT_MS)
    assert (values(rig), rig.reading.unaccounted_assessments) == ({"yes": 2}, 0)


def test_a_step_that_cannot_be_read_does_not_hold_up_the_others(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = [add(mlflow, age_ms=number * 20 * MINUTE_MS) for number in range(5)]
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    scan = mlflow.scan

    def refuse(window: Window, *, known: Known = ()) -> Iterator[Page]:
        if window.ended_after_ms is None and window.lo_ms <= traces[0].start_ms < window.hi_ms:
            raise unreachable()
        return scan(window, known=known)

    monkeypatch.setattr(mlflow, "scan", refuse)
    for trace in traces:
        mlflow.assess(trace)
    for _ in range(20):
        rig.tick(MINUTE_MS)
    assert values(rig) == {"yes": 4}


def test_a_range_that_mlflow_cannot_count_in_time_is_split(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = add(mlflow)
    rig.run(20 * HOUR_MS, every_ms=5 * MINUTE_MS)
    count_them = mlflow.assessment_counts

    def slow(window: Window, *arguments: Any) -> Counter[int] | None:
        if window.hi_ms - window.lo_ms > 20 * MINUTE_MS:
            raise unreachable()
        return count_them(window, *arguments)

    monkeypatch.setattr(mlflow, "assessment_counts", slow)
    mlflow.assess(trace)
    for _ in range(120):
        rig.tick(MINUTE_MS)
    assert values(rig) == {"yes": 1}


def test_those_of_old_traces_that_wait_to_be_counted_are_counted(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest are checked first, so the latest start says nothing about what is still to be counted."""
    monkeypatch.setattr(ledger, "DUE_AT_ONCE", 5)
    for number in range(20):
        mlflow.assess(add(mlflow, age_ms=number * DAY_MS, finalized=False))
    rig = make_rig(mlflow, meter=METER_WITH_ASSESSMENTS)
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    assert (rig.traces, values(rig)) == (20, {"yes": 20})


def test_clocks_that_are_ahead_while_none_are_counted_forget_nothing(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(mlflow, meter=METER)
    add(mlflow)
    rig.settle()
    mlflow.own_error_ms = mlflow.server_error_ms = 30 * DAY_MS
    rig.run(AUDIT_MS)
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    rig.reload(METER_WITH_ASSESSMENTS)
    mlflow.assess(add(mlflow))
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 1}


def test_a_step_is_not_read_again_and_again(mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While judges work, each audit of the last hours finds something new."""
    monkeypatch.setattr(assessment_auditor, "REST_S", 3.0)
    traces = [add(mlflow) for _ in range(200)]
    rig.run(10 * MINUTE_MS)
    reads = rig.total(DUPLICATES)
    for trace in traces[:60]:
        mlflow.assess(trace)
        rig.run(MINUTE_MS)
    again = (rig.total(DUPLICATES) - reads) / len(traces)
    assert 4 < again < 9, "every ten minutes"
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 60}


def test_the_step_that_was_read_longest_ago_comes_first(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each of three steps there is always something new. None of them waits for ever."""
    monkeypatch.setattr(assessment_auditor, "REST_S", 30.0)
    steps = [[add(mlflow, age_ms=number * 20 * MINUTE_MS) for _ in range(10)] for number in range(3)]
    rig.run(10 * MINUTE_MS)
    for number in range(60):
        for kind, step in enumerate(steps):
            mlflow.assess(step[number % 10], value=f"step {kind}")
        rig.run(MINUTE_MS)
    assert min(values(rig).values()) > 30
    assert len(values(rig)) == 3


def test_nothing_is_read_again_where_nothing_is_new(mlflow: SimulatedMlflow, rig: Rig) -> None:
    mlflow.counts_overridden = True
    trace = add(mlflow)
    mlflow.override(trace, mlflow.assess(trace), "no")
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    reads = rig.total(DUPLICATES)
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    assert rig.total(DUPLICATES) == reads
    assert rig.reading.unaccounted_assessments == 1, "MLflow counts one that its own pages do not show"


def test_more_values_than_mlflow_can_count_at_once(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """MLflow does not return more than a thousand counts, and does not say so."""
    mlflow.max_forms = 10
    traces = [add(mlflow) for _ in range(30)]
    for number, trace in enumerate(traces[:25]):
        mlflow.assess(trace, "similarity", number / 100)
    rig.settle()
    rig.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    reads = rig.total(DUPLICATES)
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    assert rig.total(DUPLICATES) == reads, "nothing is new"
    for number, trace in enumerate(traces[25:]):
        mlflow.assess(trace, "similarity", number / 10)
    rig.run(AUDIT_MS)
    assert sum(sum(numbers[:-1]) for numbers in rig.published[-1].totals[SCORES].values()) == 30


def test_assessments_of_a_trace_that_is_not_counted_wait_for_it(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow, duration_ms=None, state=record().state.IN_PROGRESS, finalized=False)
    mlflow.assess(trace)
    rig.run(AUDIT_MS)
    assert values(rig) == {}
    mlflow.change(trace, state=record().state.OK, duration_ms=1, finalized=True)
    rig.run(AUDIT_MS)
    assert (values(rig), rig.traces) == ({"yes": 1}, 1)


def test_what_is_older_than_the_horizon_is_not_counted_and_its_ids_are_forgotten(
    mlflow: SimulatedMlflow, rig: Rig
) -> None:
    old = add(mlflow)
    mlflow.assess(old)
    rig.settle()
    rig.run(ASSESSMENTS_MS + HOUR_MS, every_ms=10 * MINUTE_MS)
    add(mlflow)
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    assert rig.ledger._db.rows("SELECT count(*) FROM assessments") == [(0,)]
    mlflow.assess(old)
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 1} or values(rig) == {}, "its series may sleep"
    assert rig.ledger.totals.all()[next(cell for cell in rig.ledger.totals.all() if cell.family == ASSESSMENTS)] == 1


def test_a_clock_that_is_ahead_forgets_no_ids(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow)
    mlflow.assess(trace)
    rig.settle()
    mlflow.own_error_ms = mlflow.server_error_ms = 30 * DAY_MS
    rig.run(AUDIT_MS)
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    rig.run(AUDIT_MS)
    mlflow.assess(add(mlflow))
    rig.run(AUDIT_MS)
    assert values(rig) == {"yes": 2}


def test_those_of_other_traffic_are_known_but_not_counted(mlflow: SimulatedMlflow, rig: Rig) -> None:
    mlflow.assess(add(mlflow, tags={"mlflow.eval.requestId": "1", "environment": "production"}))
    rig.run(AUDIT_MS)
    assert (rig.labels(ASSESSMENTS), rig.reading.unaccounted_assessments) == (set(), 0)
    rig.reload(replace(METER_WITH_ASSESSMENTS, traffic=frozenset(Traffic)))
    rig.run(AUDIT_MS)
    assert rig.labels(ASSESSMENTS) == set(), "the trace is not counted any more either"


def test_nothing_is_counted_twice_when_mlflow_is_away_in_between(mlflow: SimulatedMlflow, rig: Rig) -> None:
    traces = [add(mlflow, age_ms=number * 20 * MINUTE_MS) for number in range(20)]
    rig.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    for trace in traces:
        mlflow.assess(trace)
    for number in range(1, 60):
        mlflow.fail_at_request[mlflow.requests + 3 * number] = unreachable()
        rig.tick(MINUTE_MS)
    mlflow.fail_at_request.clear()
    rig.run(2 * HOUR_MS, every_ms=MINUTE_MS)
    assert values(rig) == {"yes": 20}


def test_a_server_that_cannot_count_assessments_has_them_read_when_starts_are_closed(
    mlflow: SimulatedMlflow, rig: Rig
) -> None:
    mlflow.lacks.add(Feature.ASSESSMENT_METRICS)
    trace = add(mlflow)
    rig.settle()
    mlflow.assess(trace)
    rig.run(HOUR_MS, every_ms=MINUTE_MS)
    assert (values(rig), rig.reading.unaccounted_assessments) == ({}, None)
    rig.run(2 * HOUR_MS, every_ms=MINUTE_MS)
    assert values(rig) == {"yes": 1}


def test_an_upgrade_does_not_count_a_week_at_once(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(mlflow, meter=METER)
    trace = add(mlflow)
    mlflow.assess(trace)
    rig.run(6 * HOUR_MS, every_ms=MINUTE_MS)
    add(mlflow)
    rig.settle()
    rig.reload(METER_WITH_ASSESSMENTS)
    rig.run(AUDIT_MS)
    assert values(rig) == {}
    mlflow.assess(add(mlflow), value="no")
    rig.run(AUDIT_MS)
    assert values(rig) == {"no": 1}


def test_ratings_tell_whether_the_objective_is_met(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    quality = (
        Quality(assessment="correctness", ratio=0.9, good=frozenset({"yes"})),
        Quality(assessment="relevance", ratio=0.9, at_least=0.7),
    )
    objectives = Objectives((Objective(environment="production", quality=quality),))
    edges = Buckets()
    families = trace_families(edges.duration_seconds, edges.tokens, objectives=objectives, score_edges=edges.score)
    rig = make_rig(mlflow, meter=replace(METER_WITH_ASSESSMENTS, families=families, objectives=objectives))
    trace = add(mlflow)
    for value in ("Yes", "no", "other"):
        mlflow.assess(trace, value=value)
    for score in (0.7, 0.699, 1.0):
        mlflow.assess(trace, "relevance", score)
    mlflow.assess(trace, "style", "yes")
    mlflow.assess(trace, "correctness", None, failed=True)
    rig.settle()
    shown = {labels[-2:]: numbers[0] for labels, numbers in rig.published[-1].totals[RATINGS].items()}
    assert shown == {
        ("correctness", "good"): 1,
        ("correctness", "bad"): 2,
        ("relevance", "good"): 2,
        ("relevance", "bad"): 1,
    }


def test_names_and_values_are_capped(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(mlflow, meter=replace(METER_WITH_ASSESSMENTS, caps=replace(METER.caps, values=2)))
    trace = add(mlflow)
    for number in range(5):
        mlflow.assess(trace, value=f"word {number}")
    rig.settle()
    assert values(rig) == {"word 0": 1, "word 1": 1, "other": 3}
    assert ("value",) in rig.labels("mlflow_trace_exporter_label_overflow_total")


def test_an_audit_that_has_no_time_left_goes_on_with_the_next_poll(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = count(step=6)
    for module in ("reader", "assessment_auditor"):
        monkeypatch.setattr(f"mlflow_trace_exporter.counting.{module}.monotonic", lambda: next(clock_s))
    trace = add(mlflow)
    rig.run(3 * HOUR_MS)
    mlflow.assess(trace)
    most = 0
    for _ in range(HOUR_MS // INTERVAL_MS):
        before = mlflow.requests
        rig.tick()
        most = max(most, mlflow.requests - before)
    assert values(rig) == {"yes": 1}
    assert most < 10, "a poll takes no longer because of it"
