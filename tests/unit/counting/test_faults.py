"""The numbered faults that the exporter must survive, as far as a simulated MLflow can show them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlflow_trace_exporter.counting.recent import GROWING_AGAIN_MS
from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.domain.triage import GIVE_UP_MS
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.opening import connect
from mlflow_trace_exporter.ledger.place import Place
from mlflow_trace_exporter.metrics.families import ABANDONED, CHANGED, CORRECTED, DUPLICATES, LATE, REOPENED
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.features import Feature
from tests.support.builders import LIMITS
from tests.support.rig import DAY_MS, HOUR_MS, INTERVAL_MS, MINUTE_MS, Rig
from tests.support.simulated import CHATBOT, EPOCH_MS, SimulatedMlflow, unreachable

MakeRig = Callable[..., Rig]
INPUT_TOKENS = "mlflow_trace_input_tokens_total"


@pytest.fixture
def started(rig: Rig) -> Rig:
    """A rig that has already polled, so that it reads by end time."""
    rig.tick()
    return rig


class Crash(BaseException):
    """An exception that nothing catches, like kill -9."""


class CrashingLedger(Ledger):
    """A ledger whose process is killed just before or just after its nth commit."""

    def __init__(self, place: Place, commits: int, after: bool) -> None:
        super().__init__(connect(place))
        self._commits_left, self._after = commits, after

    def commit(self, *args: Any, **kwargs: Any) -> None:
        self._commits_left -= 1
        if self._commits_left == 0 and not self._after:
            raise Crash
        super().commit(*args, **kwargs)
        if self._commits_left == 0:
            raise Crash


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("commits", range(1, 6))
def test_faults_1_and_2_killed_before_and_after_each_commit(make_rig: MakeRig, commits: int, after: bool) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms - HOUR_MS)
    rig = make_rig(mlflow, interval_s=0)
    rig.ledger.close()
    rig.start(lambda place: CrashingLedger(place, commits, after))
    with pytest.raises(Crash):
        rig.tick()
    shown = rig.traces
    rig.restart()
    assert rig.traces >= shown, "a scrape must not have seen values that the crash rolled back"
    rig.tick()
    assert rig.traces == 35


def test_fault_4_an_earlier_row_is_deleted_between_two_pages(make_rig: MakeRig) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    made = [mlflow.trace(start_ms - HOUR_MS) for start_ms in range(35)]

    def delete(number: int) -> None:
        for each in made[:5] if number == 2 else []:
            mlflow.delete(each)

    mlflow.before_request = delete
    rig = make_rig(mlflow)
    rig.tick()
    assert rig.traces == 35


@pytest.mark.parametrize("visible_after_its_end_ms", [0, 119_000, 10 * MINUTE_MS])
def test_fault_5_a_row_is_inserted_behind_the_page_position(make_rig: MakeRig, visible_after_its_end_ms: int) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms)
    rig = make_rig(mlflow)
    duration_ms = MINUTE_MS + visible_after_its_end_ms

    def insert(number: int) -> None:
        if number == 3:
            mlflow.trace(start_ms=-1, duration_ms=duration_ms - visible_after_its_end_ms)

    mlflow.before_request = insert
    rig.tick(after_ms=duration_ms)
    rig.run(3 * MINUTE_MS)
    assert rig.traces == 36


def test_fault_6_many_traces_in_one_millisecond(make_rig: MakeRig) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for _ in range(35):
        mlflow.trace(start_ms=-HOUR_MS)
    rig = make_rig(mlflow)
    rig.tick()
    assert rig.traces == 35


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_pass_interrupted_inside_a_millisecond_loses_nothing_of_it(make_rig: MakeRig, failing: int) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for _ in range(25):
        mlflow.trace(start_ms=-HOUR_MS)
    mlflow.fail_at_request[failing] = unreachable()
    rig = make_rig(mlflow)
    rig.tick()
    rig.tick()
    assert rig.traces == 25


WITHOUT_AUDIT = frozenset({Feature.TRACE_METRICS})


@pytest.mark.parametrize("lacks", [frozenset(), WITHOUT_AUDIT])
def test_fault_7_visible_just_within_the_lateness(
    started: Rig, mlflow: SimulatedMlflow, lacks: frozenset[Feature]
) -> None:
    mlflow.lacks = set(lacks)
    mlflow.trace(start_ms=0, duration_ms=1000, visible_after_ms=LIMITS.lateness_ms)
    started.run(LIMITS.lateness_ms + LIMITS.margin_ms + 10 * MINUTE_MS + 2 * INTERVAL_MS)
    assert (started.traces, started.total(LATE)) == (1, 0)


def test_visible_minutes_after_its_end_is_counted_within_two_minutes(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0, duration_ms=1000, visible_after_ms=20 * MINUTE_MS)
    started.run(22 * MINUTE_MS)
    assert started.traces == 1


def test_fault_8_visible_after_the_lateness_and_within_the_audit_horizon(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0, duration_ms=1000, visible_after_ms=5 * HOUR_MS)
    started.run(5 * HOUR_MS + 11 * MINUTE_MS, every_ms=MINUTE_MS)
    assert (started.traces, started.total(LATE)) == (1, 1)


def test_without_the_audit_late_traces_are_counted_when_retired(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.lacks = {Feature.TRACE_METRICS}
    mlflow.trace(start_ms=0, duration_ms=1000, visible_after_ms=5 * HOUR_MS)
    started.run(24 * HOUR_MS, every_ms=MINUTE_MS)
    assert started.traces == 0
    started.run(20 * MINUTE_MS, every_ms=MINUTE_MS)
    assert (started.traces, started.total(LATE)) == (1, 1)
    assert started.reading.audit_supported is False


def test_as_many_deleted_as_added_are_distinguished_when_they_are_retired(
    started: Rig, mlflow: SimulatedMlflow
) -> None:
    there = mlflow.trace(start_ms=0)
    started.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    mlflow.delete(there)
    mlflow.trace(start_ms=1)
    started.run(22 * HOUR_MS, every_ms=MINUTE_MS)
    assert (started.traces, started.total(LATE)) == (2, 1)


def test_visible_after_the_audit_horizon_is_reported_as_unaccounted(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0)
    mlflow.trace(start_ms=0, duration_ms=1000, visible_after_ms=26 * HOUR_MS)
    started.run(25 * HOUR_MS, every_ms=MINUTE_MS)
    assert started.reading.unaccounted == 0
    started.restart()
    mlflow.trace(start_ms=25 * HOUR_MS)
    started.run(2 * HOUR_MS, every_ms=MINUTE_MS)
    assert not started.ledger.counts(Window(EPOCH_MS, EPOCH_MS + 1), 60_000), "its id is forgotten"
    assert (started.traces, started.reading.unaccounted) == (2, 1)


def test_a_remaining_difference_is_reported_and_not_read_for_ever(
    started: Rig, mlflow: SimulatedMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def three_more(window: Window, *_: object) -> dict[int, int]:
        return {EPOCH_MS: 3} if window.lo_ms <= EPOCH_MS < window.hi_ms else {}

    monkeypatch.setattr(mlflow, "counts", three_more)
    started.run(10 * MINUTE_MS)
    assert started.reading.unaccounted == 3
    before = mlflow.requests
    started.run(4 * MINUTE_MS)
    assert mlflow.requests - before == 16, "sixteen ticks; the audits need no request here"


def test_fault_9_in_progress_for_three_days_and_then_ok(started: Rig, mlflow: SimulatedMlflow) -> None:
    running = mlflow.trace(start_ms=0, duration_ms=None, state=State.IN_PROGRESS)
    started.run(3 * DAY_MS, every_ms=5 * MINUTE_MS)
    assert (started.traces, started.reading.pending) == (0, 1)
    assert started.reading.running == {("chatbot", "production"): 1}
    mlflow.change(running, state=State.OK, duration_ms=3 * DAY_MS)
    started.run(HOUR_MS, every_ms=5 * MINUTE_MS)
    assert (started.traces, started.total(LATE), started.reading.pending) == (1, 0, 0)
    assert started.reading.running == {("chatbot", "production"): 0}
    assert started.total(ABANDONED) == 0


def test_fault_10_in_progress_for_ever(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0, duration_ms=None, state=State.IN_PROGRESS)
    started.run(GIVE_UP_MS + HOUR_MS, every_ms=30 * MINUTE_MS)
    assert (started.traces, started.reading.pending, started.total(ABANDONED)) == (0, 0, 1)
    assert started.labels(ABANDONED) == {("chatbot", "production")}
    started.run(DAY_MS, every_ms=30 * MINUTE_MS)
    assert started.total(ABANDONED) == 1


def test_fault_11_deleted_while_pending(started: Rig, mlflow: SimulatedMlflow) -> None:
    running = mlflow.trace(start_ms=0, duration_ms=None, state=State.IN_PROGRESS)
    unsettled = mlflow.trace(start_ms=0, finalized=False)
    started.tick()
    assert started.reading.pending == 2
    mlflow.delete(running)
    mlflow.delete(unsettled)
    started.run(5 * MINUTE_MS)
    assert (started.traces, started.reading.pending, started.total(ABANDONED)) == (0, 0, 0)


def test_fault_12_deleted_after_it_was_counted(started: Rig, mlflow: SimulatedMlflow) -> None:
    trace = mlflow.trace(start_ms=0)
    started.settle()
    mlflow.delete(trace)
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert started.traces == 1
    assert started.reading.unaccounted == 0


def test_fault_13_ok_and_then_error_after_it_was_counted(started: Rig, mlflow: SimulatedMlflow) -> None:
    trace = mlflow.trace(start_ms=0, duration_ms=1000)
    started.settle()
    mlflow.change(trace, state=State.ERROR)
    started.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    assert (started.traces, started.total("mlflow_trace_errors_total")) == (1, 1)
    assert (started.total(CORRECTED), started.total(CHANGED)) == (1, 0)
    mlflow.change(trace, state=State.OK)
    started.run(22 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert (started.traces, started.total("mlflow_trace_errors_total")) == (1, 1)
    assert (started.total(CORRECTED), started.total(CHANGED)) == (1, 1)


def test_fault_14_tokens_grow_after_ok(started: Rig, mlflow: SimulatedMlflow) -> None:
    """Counted once they no longer change. What comes after that is added, up to the time when the start is retired."""
    trace = mlflow.trace(start_ms=0, duration_ms=1000, finalized=False)
    for tokens in (10, 20, 30):
        mlflow.change(trace, usage=TokenUsage(input=tokens, output=1))
        started.tick()
        assert started.traces == 0
    started.tick()
    assert (started.traces, started.total(INPUT_TOKENS), started.total(CORRECTED)) == (1, 30, 0)
    for tokens, wait_ms in ((40, GROWING_AGAIN_MS), (50, 3 * HOUR_MS), (60, 23 * HOUR_MS)):
        mlflow.change(trace, usage=TokenUsage(input=tokens, output=1))
        started.run(wait_ms, every_ms=min(wait_ms, 5 * MINUTE_MS))
        assert started.total(INPUT_TOKENS) == tokens
    assert (started.traces, started.total(CORRECTED), started.total(CHANGED)) == (1, 3, 0)


def test_fault_14_what_was_added_after_the_count_survives_a_restart_and_is_not_added_again(
    started: Rig, mlflow: SimulatedMlflow
) -> None:
    trace = mlflow.trace(start_ms=0, duration_ms=1000, finalized=False)
    started.run(MINUTE_MS)
    mlflow.change(trace, usage=TokenUsage(input=50, output=1))
    started.run(MINUTE_MS)
    started.restart()
    started.run(MINUTE_MS)
    assert (started.total(INPUT_TOKENS), started.total(CORRECTED)) == (50, 1)


@pytest.mark.parametrize("late_ms", [0, 30 * MINUTE_MS])
def test_a_cost_and_tags_that_mlflow_fills_in_after_its_mark_are_counted(
    started: Rig, mlflow: SimulatedMlflow, late_ms: int
) -> None:
    """The server processes two requests of an SDK at the same time, possibly long after the trace ended."""
    mlflow.clock_ms += late_ms
    whole = mlflow.trace(start_ms=0, duration_ms=1_000)
    mlflow.change(whole, cost=None, tags={}, finalized=late_ms == 0)
    started.run(2 * MINUTE_MS if late_ms else INTERVAL_MS, every_ms=INTERVAL_MS)
    if late_ms == 0:
        assert started.traces == 0
        mlflow.change(whole, cost=whole.cost, tags=whole.tags)
        started.settle()
        assert started.total("mlflow_trace_input_cost_usd_total") == 0.5
        assert {labels[1] for labels in started.labels()} == {"production"}
    assert started.traces == 1


@pytest.mark.parametrize("to_ms", [-30_000, 30_000, 11 * MINUTE_MS])
@pytest.mark.parametrize("when_ms", [INTERVAL_MS, 5 * MINUTE_MS, 3 * HOUR_MS])
def test_fault_15_the_start_moves_across_a_bucket_s_edge(
    started: Rig, mlflow: SimulatedMlflow, to_ms: int, when_ms: int
) -> None:
    trace = mlflow.trace(start_ms=10_000, duration_ms=1000, finalized=False)
    started.run(when_ms)
    mlflow.change(trace, start_ms=EPOCH_MS + 10_000 + to_ms)
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert started.traces == 1
    assert started.reading.unaccounted == 0


def test_fault_16_an_application_s_clock_is_a_day_ahead(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=DAY_MS, duration_ms=1000)
    started.settle()
    assert started.traces == 1
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    started.settle()
    assert started.reading.complete_until_s * 1000 < mlflow.clock_ms - LIMITS.lateness_ms
    assert (started.traces, started.total(LATE)) == (2, 0)


@pytest.mark.parametrize("error_ms", [DAY_MS, HOUR_MS, -HOUR_MS])
def test_fault_17_our_own_clock_is_wrong(started: Rig, mlflow: SimulatedMlflow, error_ms: int) -> None:
    """MLflow and the applications have the right time. Our clock is wrong for ten minutes and then corrected."""
    for minute in range(30):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100)
        mlflow.own_error_ms = error_ms if 10 <= minute < 20 else 0
        started.tick(MINUTE_MS)
        assert started.traces >= minute - 2, "new traces are counted meanwhile"
    started.settle()
    assert started.reading.complete_until_s * 1000 <= mlflow.clock_ms - LIMITS.lateness_ms
    mlflow.trace(start_ms=0, duration_ms=100)
    started.run(2 * MINUTE_MS)
    assert (started.traces, started.total(LATE)) == (31, 0)


@pytest.mark.parametrize("error_ms", [DAY_MS, -HOUR_MS])
def test_fault_17_a_restart_with_a_wrong_clock_forgets_nothing(
    started: Rig, mlflow: SimulatedMlflow, error_ms: int
) -> None:
    for minute in range(5):
        mlflow.trace(start_ms=minute * MINUTE_MS)
    started.run(10 * MINUTE_MS)
    mlflow.own_error_ms = error_ms
    started.restart()
    started.run(10 * MINUTE_MS)
    mlflow.own_error_ms = 0
    started.restart()
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert (started.traces, started.total(LATE), started.reading.unaccounted) == (5, 0, 0)


AHEAD = [3 * HOUR_MS, DAY_MS, 7 * DAY_MS, 40 * DAY_MS]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("for_ms", [INTERVAL_MS, 20 * MINUTE_MS, 5 * HOUR_MS])
@pytest.mark.parametrize("error_ms", AHEAD)
def test_fault_17_both_clocks_are_ahead_and_then_right(
    started: Rig, mlflow: SimulatedMlflow, error_ms: int, for_ms: int, restarts: bool
) -> None:
    """Our clock and MLflow's, as on one machine; the applications run elsewhere. One trace runs the whole time."""
    running = mlflow.trace(start_ms=0, duration_ms=None, state=State.IN_PROGRESS)
    for minute in range(30):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100)
        started.tick(MINUTE_MS)
    mlflow.trace(start_ms=25 * MINUTE_MS, duration_ms=100, visible_after_ms=HOUR_MS)
    mlflow.own_error_ms = mlflow.server_error_ms = error_ms
    every_ms = min(for_ms, 5 * MINUTE_MS)
    for _ in range(0, for_ms, every_ms):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, duration_ms=100)
        started.tick(every_ms)
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    if restarts:
        started.restart()
    for _ in range(30):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, duration_ms=100)
        started.tick(MINUTE_MS)
    started.settle()
    during = len(range(0, for_ms, every_ms))
    late = int(mlflow.clock_ms - EPOCH_MS > 90 * MINUTE_MS)
    assert started.traces == 60 + during + late
    assert started.total(REOPENED) == 1
    assert started.reading.complete_until_s * 1000 <= mlflow.clock_ms - LIMITS.lateness_ms
    mlflow.change(running, state=State.OK, duration_ms=mlflow.clock_ms - EPOCH_MS)
    started.run(2 * HOUR_MS, every_ms=MINUTE_MS)
    given_up = error_ms >= GIVE_UP_MS and for_ms > 10 * MINUTE_MS  # checked twice by that clock: reported as given up
    assert started.total(ABANDONED) == given_up
    assert started.traces == 62 + during - given_up


@pytest.mark.parametrize("lacks", [frozenset(), WITHOUT_AUDIT])
@pytest.mark.parametrize("error_ms", [-3 * HOUR_MS, -3 * DAY_MS])
@pytest.mark.parametrize("whose", ["ours", "MLflow's"])
def test_fault_17_one_clock_is_behind_for_long(
    started: Rig, mlflow: SimulatedMlflow, error_ms: int, whose: str, lacks: frozenset[Feature]
) -> None:
    mlflow.lacks = set(lacks)

    def set_wrong(by_ms: int) -> None:
        if whose == "ours":
            mlflow.own_error_ms = by_ms
        else:
            mlflow.server_error_ms = by_ms

    for minute in range(200):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100)
        set_wrong(error_ms if 10 <= minute < 180 else 0)
        started.tick(MINUTE_MS)
        assert started.traces >= minute - 2, "new traces are counted meanwhile"
        difference_s = started.reading.clock_difference_s
        assert difference_s == (0 if not 10 <= minute < 180 else error_ms / (-1000 if whose == "ours" else 1000))
    started.settle()
    assert (started.traces, started.total(LATE), started.total(REOPENED)) == (200, 0, 0)


@pytest.mark.parametrize("error_ms", [-HOUR_MS, -6 * HOUR_MS, -3 * DAY_MS])
def test_fault_17_both_clocks_are_behind(started: Rig, mlflow: SimulatedMlflow, error_ms: int) -> None:
    """Traces are counted, or reported if they could be counted twice. None is counted twice or lost."""
    for minute in range(0, 30 * 60, 5):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100)
        started.tick(5 * MINUTE_MS)
    made = 360
    mlflow.own_error_ms = mlflow.server_error_ms = error_ms
    for _ in range(30):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, duration_ms=100)
        made += 1
        counted = started.tick(MINUTE_MS)
        assert counted is (error_ms > -DAY_MS)
    assert (started.traces >= made - 2) is counted
    clock_errors = started.published[-1].status.poll_errors["clock"]
    assert (clock_errors, started.published[-1].status.mlflow_up) == (0 if counted else 30, True)
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert (started.traces, started.total(LATE), started.reading.unaccounted) == (made, 0, 0)


def test_fault_17_on_one_machine_even_the_applications_clock_is_ahead(started: Rig, mlflow: SimulatedMlflow) -> None:
    for minute in range(30):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100)
        started.tick(MINUTE_MS)
    mlflow.own_error_ms = mlflow.server_error_ms = 7 * DAY_MS
    for _ in range(20):
        mlflow.trace(start_ms=mlflow.clock_ms + 7 * DAY_MS - EPOCH_MS, duration_ms=100)
        started.tick()
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    for _ in range(30):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, duration_ms=100)
        started.tick(MINUTE_MS)
    started.settle()
    assert started.traces >= 30 + 30 + 18
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert started.traces <= 80


def test_fault_17_a_first_start_by_two_clocks_that_are_ahead(make_rig: MakeRig, mlflow: SimulatedMlflow) -> None:
    mlflow.own_error_ms = mlflow.server_error_ms = 7 * DAY_MS
    rig = make_rig(mlflow, origin_ms=mlflow.own_ms())
    rig.tick()
    rig.tick()
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    for _ in range(30):
        rig.tick(MINUTE_MS)
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    rig.settle()
    assert rig.traces == 30


def test_fault_17_both_clocks_go_back_to_before_counting_began(make_rig: MakeRig, mlflow: SimulatedMlflow) -> None:
    for day in range(5):
        mlflow.trace(start_ms=-day * DAY_MS - 1)
    rig = make_rig(mlflow, origin_ms=EPOCH_MS)
    mlflow.trace(start_ms=0)
    rig.settle()
    mlflow.own_error_ms = mlflow.server_error_ms = -3 * DAY_MS
    assert not rig.tick()
    assert rig.published[-1].status.poll_errors["clock"] == 1
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    rig.settle()
    assert rig.traces == 2, "traces older than the origin do not count"


def test_fault_17_an_experiment_selected_by_a_clock_that_was_ahead(started: Rig, mlflow: SimulatedMlflow) -> None:
    started.run(5 * MINUTE_MS)
    mlflow.own_error_ms = mlflow.server_error_ms = 7 * DAY_MS
    started.tick()
    mlflow.selected["2"] = Experiment("2", "later", CHATBOT.created_ms)
    started.tick()
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    started.tick()
    ours = mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    mlflow.add(replace(ours, trace_id="tr-later", experiment_id="2"))
    started.settle()
    assert started.traces == 2


@pytest.mark.parametrize("server_says_ms", [0, 1_000, 1_600_000_000_000])
def test_counting_from_now_does_not_believe_a_clock_that_was_never_set(
    make_rig: MakeRig, mlflow: SimulatedMlflow, server_says_ms: int
) -> None:
    for day in range(60):
        mlflow.trace(start_ms=-day * DAY_MS - 1)
    mlflow.server_error_ms = server_says_ms - mlflow.clock_ms
    rig = make_rig(mlflow, origin_ms=EPOCH_MS)
    rig.settle()
    mlflow.server_error_ms = 0
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    rig.settle()
    assert rig.traces == 1


def test_a_longer_audit_horizon_reads_again_what_it_can_and_reports_what_it_cannot(
    make_rig: MakeRig, mlflow: SimulatedMlflow, caplog: pytest.LogCaptureFixture
) -> None:
    short = replace(LIMITS, lateness_ms=30 * MINUTE_MS, audit_horizon_ms=90 * MINUTE_MS)
    rig = make_rig(mlflow, limits=short)
    for _ in range(120):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
        rig.tick(5 * MINUTE_MS)
    kept = mlflow.trace(start_ms=10 * HOUR_MS - 100 * MINUTE_MS)
    forgotten = mlflow.trace(start_ms=5 * HOUR_MS)
    with caplog.at_level("WARNING"):
        rig.reload(limits=replace(short, audit_horizon_ms=DAY_MS))
        rig.run(30 * MINUTE_MS, every_ms=MINUTE_MS)
    assert {kept.trace_id, forgotten.trace_id} <= mlflow.traces.keys()
    assert (rig.traces, rig.reading.unaccounted, rig.total(REOPENED)) == (121, 1, 1)
    assert "poll.audit_horizon is longer than ids were kept" in caplog.text
    for hours in (5, 20):  # from now on it is kept
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, visible_after_ms=hours * HOUR_MS)
    rig.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert rig.traces == 123


def test_longer_lateness_reopens_start_times(make_rig: MakeRig, mlflow: SimulatedMlflow) -> None:
    short = replace(LIMITS, lateness_ms=10 * MINUTE_MS)
    rig = make_rig(mlflow, limits=short)
    rig.run(5 * HOUR_MS, every_ms=5 * MINUTE_MS)
    rig.reload(limits=LIMITS)
    mlflow.trace(start_ms=4 * HOUR_MS)
    rig.run(5 * MINUTE_MS)
    assert (rig.traces, rig.total(LATE)) == (1, 0)


@pytest.mark.parametrize("odd", ["it's", "a\0b"])
def test_a_trace_that_cannot_be_asked_for_by_id_is_counted_however_old_it_is(
    started: Rig, mlflow: SimulatedMlflow, odd: str
) -> None:
    """It is not final yet when its start is closed and retired and the last pass has read it."""
    started.run(5 * MINUTE_MS)
    old = mlflow.trace(start_ms=0, duration_ms=MINUTE_MS, finalized=False, odd=odd)
    mlflow.add(replace(old, trace_id="tr-of-the-same-millisecond"))
    mlflow.clock_ms += 30 * HOUR_MS
    started.run(HOUR_MS)
    assert (started.traces, started.reading.pending) == (2, 0)
    running = mlflow.trace(start_ms=32 * HOUR_MS, duration_ms=None, state=State.IN_PROGRESS, odd=odd)
    started.run(4 * DAY_MS, every_ms=10 * MINUTE_MS)
    mlflow.change(running, state=State.OK, duration_ms=3 * DAY_MS)
    started.run(HOUR_MS, every_ms=MINUTE_MS)
    assert (started.traces, started.reading.pending, started.total(ABANDONED)) == (3, 0, 0)


def test_an_otlp_trace_whose_root_has_a_parent_elsewhere_is_counted_once_it_no_longer_changes(
    started: Rig, mlflow: SimulatedMlflow
) -> None:
    """MLflow keeps it in progress for good; its spans have ended, so it has a duration."""
    orphan = mlflow.trace(start_ms=0, duration_ms=50, state=State.IN_PROGRESS, finalized=False)
    started.run(10 * MINUTE_MS)
    assert (started.traces, started.reading.running) == (0, {("chatbot", "production"): 1})
    mlflow.change(orphan, usage=TokenUsage(input=30, output=2), duration_ms=10 * MINUTE_MS)  # another span of a call
    started.run(14 * MINUTE_MS)
    assert started.traces == 0
    started.run(5 * MINUTE_MS)
    assert (started.traces, started.total("mlflow_trace_errors_total"), started.reading.pending) == (1, 0, 0)
    assert started.total(INPUT_TOKENS) == 30
    mlflow.change(orphan, state=State.OK, duration_ms=40 * MINUTE_MS)  # a root that came late after all
    started.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    assert (started.traces, started.total(CHANGED)) == (1, 1)


@pytest.mark.parametrize("hours", [1, 6, 72])
def test_fault_18_mlflow_is_down_for_hours(make_rig: MakeRig, hours: int) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    rig = make_rig(mlflow, interval_s=0)
    rig.tick()
    down = unreachable()

    def be_down(_: int) -> None:
        raise down

    mlflow.before_request = be_down
    for minute in range(0, hours * 60, 5):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=90_000)
        assert not rig.tick(5 * MINUTE_MS)
        status = rig.published[-1].status
        assert status.mlflow_up is False
        assert status.catching_up is False, "there is nothing to read"
    mlflow.before_request = lambda _: None
    rig.published.clear()
    rig.tick()
    assert [each.status.mlflow_up for each in rig.published] == [True] * len(rig.published)
    shown = [bool(each.status.catching_up) for each in rig.published]
    assert (shown[0], shown[-1]) == (True, False)
    assert shown == sorted(shown, reverse=True), "not by turns"
    rig.settle()
    assert (rig.traces, rig.published[-1].status.catching_up, rig.total(LATE)) == (hours * 12, False, 0)


@pytest.mark.parametrize(("failing", "before"), [(1, 0), (2, 10), (3, 17), (4, 25)])
def test_fault_19_a_page_that_fails_is_read_again(make_rig: MakeRig, failing: int, before: int) -> None:
    """What was read before it is counted, although it was requested at the same time."""
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms - HOUR_MS)
    mlflow.fail_at_request[failing] = unreachable()
    rig = make_rig(mlflow)
    assert not rig.tick()
    assert rig.traces == before
    status = rig.published[-1].status
    assert (status.mlflow_up, status.poll_errors["unreachable"]) == (False, 1)
    assert rig.tick()
    assert rig.traces == 35
    assert rig.published[-1].status.mlflow_up is True


def test_fault_19_failing_counts_delay_nothing_else(
    started: Rig, mlflow: SimulatedMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> dict[int, int]:
        raise PollError(Reason.SERVER_ERROR, "no such function: count")

    started.run(MINUTE_MS)
    monkeypatch.setattr(mlflow, "counts", fail)
    started.tick()  # what was counted before is compared
    audited_s = started.reading.audited_until_s
    mlflow.trace(start_ms=0)
    good = [started.tick() for _ in range(40)]
    assert 20 < sum(good) < 40, "the audit is tried once a minute"
    assert started.traces == 1
    started.tick(3 * HOUR_MS)
    for _ in range(8):
        started.tick(MINUTE_MS)
    assert started.reading.complete_until_s * 1000 > EPOCH_MS, "start times are still closed"
    assert started.reading.audited_until_s == audited_s


def test_what_became_visible_behind_the_position_of_a_cut_pass_is_counted_by_the_next(make_rig: MakeRig) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(15):
        mlflow.trace(start_ms * 1000)
    mlflow.lacks = {Feature.TRACE_METRICS}
    mlflow.fail_at_request[2] = unreachable()
    rig = make_rig(mlflow)
    rig.tick(20_000)
    mlflow.trace(start_ms=500, duration_ms=60_000)
    rig.tick(60_000)
    rig.tick()
    rig.tick()
    assert rig.traces == 16


def test_fault_21_a_ledger_of_another_server_is_refused(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0)
    started.settle()
    other = replace(CHATBOT, created_ms=CHATBOT.created_ms + 1)
    mlflow.selected = {other.experiment_id: other}
    mlflow.trace(start_ms=0)
    started.restart()
    assert not started.tick()
    assert started.traces == 1
    assert started.published[-1].status.poll_errors["ledger"] == 1


def test_an_experiment_with_the_id_of_one_that_was_deleted_for_good_is_counted(
    started: Rig, mlflow: SimulatedMlflow
) -> None:
    mlflow.trace(start_ms=0)
    started.run(5 * MINUTE_MS)
    mlflow.selected["1"] = Experiment("1", "another", mlflow.clock_ms)
    mlflow.trace(start_ms=5 * MINUTE_MS)
    started.settle()
    assert started.traces == 2


def test_the_creation_times_of_exposed_experiments_are_exposed(make_rig: MakeRig, mlflow: SimulatedMlflow) -> None:
    """They distinguish exporters of different MLflow servers. The oldest experiment of a label is used. Experiments
    without series, or without a creation time in MLflow, have none."""
    at_ms = CHATBOT.created_ms
    same, idle, unknown = (
        Experiment("2", " chatbot", at_ms - 500),
        Experiment("3", "no traces", at_ms),
        Experiment("4", "no time", 0),
    )
    mlflow.selected |= {each.experiment_id: each for each in (same, idle, unknown)}
    for each in (CHATBOT, same, unknown):
        mlflow.change(mlflow.trace(start_ms=0), experiment_id=each.experiment_id, experiment=each.name)
    rig = make_rig(mlflow)
    rig.settle()
    assert rig.labels() == {(name, "production", "1.0", "unknown") for name in ("chatbot", "no time")}
    assert rig.reading.created_s == {"chatbot": (at_ms - 500) / 1000}


def test_fault_17_counting_from_now_by_a_clock_that_was_ahead(make_rig: MakeRig, mlflow: SimulatedMlflow) -> None:
    mlflow.own_error_ms = DAY_MS
    rig = make_rig(mlflow, origin_ms=mlflow.own_ms())
    rig.tick()
    mlflow.own_error_ms = 0
    mlflow.trace(start_ms=INTERVAL_MS)
    rig.restart()
    rig.settle()
    assert rig.traces == 1


def test_fault_17_a_clock_that_is_behind_after_a_restart_does_not_count_what_was_before(
    make_rig: MakeRig, mlflow: SimulatedMlflow
) -> None:
    for minute in range(60):
        mlflow.trace(start_ms=-minute * MINUTE_MS - 1)
    rig = make_rig(mlflow, origin_ms=EPOCH_MS)
    rig.settle()
    mlflow.own_error_ms = -HOUR_MS
    rig.restart()
    rig.run(10 * MINUTE_MS)
    assert rig.traces == 0


def test_a_trace_that_runs_while_its_experiment_is_in_the_bin_is_counted(started: Rig, mlflow: SimulatedMlflow) -> None:
    running = mlflow.trace(start_ms=0, duration_ms=None, state=State.IN_PROGRESS)
    other = Experiment("2", "other", CHATBOT.created_ms)
    started.run(2 * DAY_MS, every_ms=10 * MINUTE_MS)
    for selected in ({}, {"2": other}):
        mlflow.selected = dict(selected)
        started.run(HOUR_MS, every_ms=10 * MINUTE_MS)
    mlflow.selected = {"1": CHATBOT}
    mlflow.change(running, state=State.OK, duration_ms=DAY_MS)
    started.run(HOUR_MS, every_ms=MINUTE_MS)
    assert started.traces == 1


def test_nothing_selected_is_like_downtime(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.selected = {}
    for minute in range(0, 3 * 24 * 60, 10):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100)
        started.tick(10 * MINUTE_MS)
    assert started.published[-1].status.catching_up is False
    mlflow.selected = {"1": CHATBOT}
    started.settle()
    assert (started.traces, started.total(LATE)) == (3 * 24 * 6, 0)


def test_a_pass_that_was_interrupted_on_a_newer_server_restarts_on_an_older_one(make_rig: MakeRig) -> None:
    mlflow = SimulatedMlflow(page_size=3)
    rig = make_rig(mlflow)
    rig.tick()
    for _ in range(10):
        mlflow.trace(start_ms=0)
    mlflow.fail_at_request[mlflow.requests + 2] = unreachable()
    rig.tick()
    mlflow.lacks = {Feature.END_TIME_FILTER}
    rig.settle()
    assert rig.traces == 10


def test_a_start_that_moves_after_the_count_to_where_ids_are_kept_longer_is_counted_once(
    started: Rig, mlflow: SimulatedMlflow
) -> None:
    mlflow.lacks = {Feature.TRACE_METRICS}
    trace = mlflow.trace(start_ms=9 * MINUTE_MS)
    started.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    mlflow.change(trace, start_ms=EPOCH_MS + 12 * MINUTE_MS)
    started.run(24 * HOUR_MS, every_ms=MINUTE_MS)
    assert started.traces == 1


@pytest.mark.parametrize("page_size", [2, 3])
def test_a_full_millisecond_is_read_in_one_go_however_slow_it_is(make_rig: MakeRig, page_size: int) -> None:
    mlflow = SimulatedMlflow(page_size)
    rig = make_rig(mlflow, interval_s=0, origin_ms=EPOCH_MS)  # a chore is cut short after each page
    for number in range(20):
        mlflow.trace(start_ms=1 + number // 10)
    for _ in range(3 * 60):
        rig.tick(MINUTE_MS)
    assert rig.reading.complete_until_s * 1000 > EPOCH_MS + 10 * MINUTE_MS
    assert rig.traces == 20


def test_fault_28_an_experiment_selected_later_counts_from_then_on(started: Rig, mlflow: SimulatedMlflow) -> None:
    later = Experiment("2", "later", CHATBOT.created_ms)
    ours = mlflow.trace(start_ms=0)
    for start_ms in (-3 * HOUR_MS, 0, 30 * MINUTE_MS):
        mlflow.add(replace(ours, trace_id=f"tr-later{start_ms}", experiment_id="2", start_ms=EPOCH_MS + start_ms))
    started.run(5 * MINUTE_MS)
    mlflow.selected[later.experiment_id] = later
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert (started.traces, started.total(LATE), started.reading.unaccounted) == (2, 0, 0)


def test_fault_28_an_experiment_made_later_counts_from_its_beginning(
    mlflow: SimulatedMlflow, make_rig: MakeRig
) -> None:
    rig = make_rig(mlflow, origin_ms=EPOCH_MS)
    rig.run(5 * MINUTE_MS)
    ours = mlflow.trace(start_ms=5 * MINUTE_MS)
    mlflow.add(replace(ours, trace_id="tr-new", experiment_id="2"))
    rig.run(MINUTE_MS)
    mlflow.selected["2"] = Experiment("2", "new", EPOCH_MS + 4 * MINUTE_MS)
    rig.run(5 * MINUTE_MS)
    assert rig.traces == 2


def test_fault_28_a_deleted_experiment_keeps_its_counts(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0)
    started.settle()
    del mlflow.selected["1"]
    started.run(26 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert started.traces == 1


@pytest.mark.parametrize("feature", list(Feature))
def test_a_server_without_a_feature_is_read_more_slowly_but_completely(make_rig: MakeRig, feature: Feature) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    mlflow.lacks = {feature}
    rig = make_rig(mlflow)
    for minute in range(60):
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100)
        mlflow.trace(start_ms=minute * MINUTE_MS, duration_ms=100, visible_after_ms=HOUR_MS)
        rig.tick(MINUTE_MS)
    rig.run(4 * HOUR_MS, every_ms=MINUTE_MS)
    assert (rig.traces, rig.total(LATE)) == (120, 0)
    assert rig.reading.features == {each.value: each is not feature for each in Feature}


def test_repeated_reads_of_counted_traces_are_reported(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0, duration_ms=1000)
    started.run(3 * HOUR_MS, every_ms=MINUTE_MS)
    assert started.total(DUPLICATES) == 1, "its start was closed"


def test_an_error_of_the_ledger_does_not_hide_behind_mlflow(started: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.fail_at_request[mlflow.requests + 1] = PollError(Reason.LEDGER, "disk full")
    started.tick()
    assert started.published[-1].status.mlflow_up is True
