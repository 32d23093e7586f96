"""The effects of polls, successful or not. test_faults.py shows that nothing is lost."""

import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Thread

import pytest

from mlflow_trace_exporter.counting.poller import MAX_WAIT_S, wait_s
from mlflow_trace_exporter.counting.reader import CHECK_AGAIN_S
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.domain.triage import FILL_MS
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.metrics.families import DUPLICATES
from mlflow_trace_exporter.tracking.experiments import Experiment
from tests.support.rig import DAY_MS, HOUR_MS, TRACES, Rig
from tests.support.simulated import CHATBOT, EPOCH_MS, SimulatedMlflow, unreachable
from tests.support.waiting import HANG_S


def old_traces(mlflow: SimulatedMlflow, count: int) -> None:
    """Traces that are final at first sight."""
    for start_ms in range(count):
        mlflow.trace(start_ms - HOUR_MS)


def test_each_finished_trace_is_counted_once_over_many_ticks(rig: Rig, mlflow: SimulatedMlflow) -> None:
    for _ in range(50):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
        assert rig.tick()
    rig.settle()
    assert rig.traces == 50


def test_a_new_ledger_counts_from_the_origin_and_a_restart_keeps_it(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]
) -> None:
    mlflow.trace(start_ms=-1)
    mlflow.trace(start_ms=0)
    first = make_rig(mlflow, origin_ms=EPOCH_MS)
    first.settle()
    assert first.traces == 1
    first.ledger.close()

    mlflow.trace(start_ms=1)
    second = make_rig(mlflow, origin_ms=EPOCH_MS + HOUR_MS)
    assert second.traces == 1, "earlier totals are exposed before the first poll"
    second.settle()
    assert second.traces == 2


def test_counting_from_now_begins_at_the_first_start_even_if_its_first_poll_failed(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]
) -> None:
    mlflow.fail_at_request[1] = unreachable()
    first = make_rig(mlflow, origin_ms=EPOCH_MS)
    first.tick()
    first.ledger.close()
    mlflow.trace(start_ms=1)
    mlflow.clock_ms += HOUR_MS
    second = make_rig(mlflow, origin_ms=mlflow.clock_ms)
    second.tick()
    assert second.traces == 1


def test_a_bug_is_counted_and_logged_and_polling_continues(
    rig: Rig, mlflow: SimulatedMlflow, caplog: pytest.LogCaptureFixture
) -> None:
    rig.tick()
    mlflow.fail_at_request[mlflow.requests + 1] = ZeroDivisionError("oops")
    with caplog.at_level(logging.WARNING):
        assert not rig.tick()
    assert "unexpected ZeroDivisionError: oops" in caplog.text
    status = rig.published[-1].status
    assert status.poll_errors["internal"] == 1
    assert status.mlflow_up is True, "it does not concern MLflow"
    assert rig.tick()


def test_nothing_is_known_of_mlflow_before_the_first_poll(rig: Rig) -> None:
    assert rig.published[-1].status.mlflow_up is None


def test_a_long_catch_up_can_be_watched(make_rig: Callable[..., Rig]) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    old_traces(mlflow, 35)
    rig = make_rig(mlflow, interval_s=0)
    rig.tick()
    totals = [sum(value for (value,) in each.totals.get(TRACES, {}).values()) for each in rig.published]
    assert totals == [0, 10, 17, 25, 35, 35], "a page, two slices, and the rest"
    assert all(snapshot.status.mlflow_up for snapshot in rig.published[1:])
    catching_up = [each.status.catching_up for each in rig.published]
    assert catching_up == [False, True, True, True, True, False]


def test_stop_ends_run_after_the_current_page_and_the_rest_is_read_later(make_rig: Callable[..., Rig]) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    old_traces(mlflow, 35)
    rig = make_rig(mlflow)
    rig.poller.stop()
    rig.tick()
    assert rig.traces == 10

    running = Thread(target=rig.poller.run)
    running.start()
    running.join(HANG_S)
    assert not running.is_alive()

    rig.restart()
    rig.tick()
    assert rig.traces == 35


def test_a_trace_is_counted_as_soon_as_it_is_final_and_not_at_the_next_poll(rig: Rig, mlflow: SimulatedMlflow) -> None:
    rig.tick()
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    rig.tick()
    rig.wait(FILL_MS - 1)
    assert rig.traces == 0
    rig.wait(1)
    assert rig.traces == 1


def test_a_pending_trace_that_moves_to_before_its_experiment_was_selected_is_counted(
    rig: Rig, mlflow: SimulatedMlflow
) -> None:
    """It was admitted when it was first seen. It must not stay due for ever."""
    rig.run(5 * 60_000)
    mlflow.selected["2"] = Experiment("2", "later", CHATBOT.created_ms)
    rig.tick()
    trace = mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS, finalized=False)
    mlflow.change(trace, experiment_id="2")
    rig.tick()
    assert rig.reading.pending == 1
    mlflow.change(trace, start_ms=trace.start_ms - 60_000)
    rig.run(60_000)
    assert (rig.traces, rig.reading.pending) == (1, 0)


def test_a_check_between_two_polls_that_fails_is_tried_again_after_a_while(
    rig: Rig, mlflow: SimulatedMlflow, caplog: pytest.LogCaptureFixture
) -> None:
    rig.tick()
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    rig.tick()
    mlflow.fail_at_request[mlflow.requests + 1] = unreachable()
    before = mlflow.requests
    with caplog.at_level(logging.INFO):
        rig.wait(FILL_MS)
    assert "a check between two polls failed" in caplog.text
    rig.wait(int(CHECK_AGAIN_S * 1000) - 1)
    assert (rig.traces, mlflow.requests) == (0, before + 1), "it is not tried again and again"
    rig.wait(1)
    assert rig.traces == 1
    assert rig.published[-1].status.poll_errors["unreachable"] == 0, "no poll has failed"


def test_nothing_is_asked_between_two_polls_if_nothing_is_due(rig: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.trace(start_ms=0, duration_ms=None, state=State.IN_PROGRESS)
    rig.tick()
    before, shown = mlflow.requests, len(rig.published)
    rig.wait(FILL_MS - 1)
    assert (mlflow.requests, len(rig.published)) == (before, shown)


@pytest.mark.parametrize("interval_ms", [1_000, 15_000])
def test_a_new_trace_is_read_twice_however_short_the_interval(
    rig: Rig, mlflow: SimulatedMlflow, interval_ms: int
) -> None:
    rig.tick()
    for _ in range(5 * 60_000 // interval_ms):
        mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
        rig.tick(interval_ms)
        rig.wait(0)
    rig.settle()
    assert rig.traces == 5 * 60_000 // interval_ms
    assert rig.total(DUPLICATES) == 0, "once when it is new, and once when it is final"


def test_errors_of_the_ledger_are_counted_as_such(rig: Rig, mlflow: SimulatedMlflow) -> None:
    mlflow.fail_at_request[1] = PollError(Reason.LEDGER, "disk full")
    rig.tick()
    status = rig.published[-1].status
    assert (status.poll_errors["ledger"], status.mlflow_up) == (1, None)


def test_a_tick_with_nothing_new_changes_nothing_of_what_is_rendered(rig: Rig, mlflow: SimulatedMlflow) -> None:
    old_traces(mlflow, 3)
    rig.settle()
    rig.run(10 * 60_000)
    before = rig.published[-1]
    rig.tick()
    assert rig.published[-1].totals is before.totals
    assert rig.published[-1].exemplars is before.exemplars
    mlflow.trace(start_ms=mlflow.clock_ms - EPOCH_MS)
    rig.settle()
    assert rig.traces == 4
    assert before.totals[TRACES] != rig.published[-1].totals[TRACES], "what was published stays as it was"


@pytest.mark.parametrize("experiments", [1, 200])
def test_a_tick_with_nothing_new_is_at_most_two_requests_for_traces(
    rig: Rig, mlflow: SimulatedMlflow, experiments: int
) -> None:
    """The list of experiments, requested once a minute, would be the third; the simulation does not need it."""
    mlflow.selected = {str(each): mlflow.selected["1"] for each in range(1, experiments + 1)}
    rig.tick()
    for _ in range(2 * DAY_MS // 60_000):
        before = mlflow.requests
        rig.tick(after_ms=60_000)
        assert mlflow.requests - before <= 2


@pytest.mark.parametrize(
    ("failures", "elapsed_s", "expected"),
    [(0, 1, 14), (0, 99, 0), (1, 1, 14), (2, 0, 30), (3, 0, MAX_WAIT_S), (99, 0, MAX_WAIT_S)],
)
def test_waiting(failures: int, elapsed_s: float, expected: float) -> None:
    assert wait_s(15, failures, elapsed_s) == expected


def test_an_interval_above_the_longest_wait_is_kept_after_failures() -> None:
    assert wait_s(300, 5, 0) == 300


def test_the_workspaces_of_exposed_experiments_are_known_before_mlflow_answers(
    make_rig: Callable[..., Rig], mlflow: SimulatedMlflow
) -> None:
    """Otherwise the label ``workspace`` would be missing at first, and its series would begin again."""
    mlflow.selected = {"1": replace(CHATBOT, workspace="team-a")}
    mlflow.change(mlflow.trace(start_ms=0), experiment="team-a/chatbot", workspace="team-a")
    rig = make_rig(mlflow)
    assert rig.published[-1].workspaces == frozenset()
    rig.settle()
    assert rig.reading.workspaces == {"team-a": True}
    mlflow.selected = {}
    mlflow.fail_at_request[mlflow.requests + 1] = unreachable()
    rig.restart()
    assert rig.published[-1].workspaces == {"team-a"}
    assert rig.labels() == {("team-a/chatbot", "production", "1.0", "unknown")}


def test_experiments_of_two_workspaces_with_the_same_name_are_counted_apart(
    make_rig: Callable[..., Rig], mlflow: SimulatedMlflow
) -> None:
    teams = {key: replace(CHATBOT, experiment_id=key, workspace=name) for key, name in (("1", "a"), ("2", "b"))}
    mlflow.selected = teams
    for key, each in teams.items():
        trace = mlflow.trace(start_ms=0)
        mlflow.change(trace, experiment_id=key, experiment=each.unique_name, workspace=each.workspace)
    rig = make_rig(mlflow)
    rig.settle()
    assert rig.labels() == {(f"{name}/chatbot", "production", "1.0", "unknown") for name in ("a", "b")}
    assert rig.reading.experiments == ("a/chatbot", "b/chatbot")
    assert rig.reading.created_s.keys() == {"a/chatbot", "b/chatbot"}


def test_traces_of_an_experiment_that_is_no_longer_read_do_not_stand_for_others(make_rig: Callable[..., Rig]) -> None:
    """MLflow counts as many traces in that second as are known, but they are not the same."""
    mlflow = SimulatedMlflow(page_size=3)
    other = replace(CHATBOT, experiment_id="2", name="other")
    mlflow.selected = {**mlflow.selected, "2": other}
    rig = make_rig(mlflow)
    rig.tick()
    at_ms = mlflow.clock_ms - EPOCH_MS
    for number in range(5):
        mlflow.change(mlflow.trace(at_ms + number), experiment_id="2", experiment="other")
    rig.settle()
    assert rig.traces == 5
    mlflow.selected = {CHATBOT.experiment_id: CHATBOT}
    for number in range(5):
        mlflow.trace(at_ms + number)
    rig.tick()
    assert rig.reading.pending == 5
