import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from exporter.errors import PollError, Reason
from exporter.ledger import Ledger
from exporter.metrics import Cell, Snapshot, measure
from exporter.poller import MAX_WAIT_S, Poller, PollSettings, wait_s
from exporter.trace import SETTLE_MS, State
from tests.builders import BUILD, FAMILIES, RULES
from tests.simulated import EPOCH_MS, SimulatedMlflow, unreachable

HOUR_MS = 3_600_000
TRACES = Cell("mlflow_traces_total", ("chatbot", "production", "1.0", "unknown"))


class Rig:
    """A poller on a simulated MLflow and a real ledger, and what it has published."""

    def __init__(self, mlflow: SimulatedMlflow, ledger: Ledger, origin_ms: int = 0, interval_s: float = 15) -> None:
        self.published: list[Snapshot] = []
        settings = PollSettings(interval_s=interval_s, lateness_ms=2 * HOUR_MS, origin_ms=origin_ms)
        measuring = partial(measure, FAMILIES, RULES)
        self.poller = Poller(mlflow, ledger, measuring, self.published.append, settings, BUILD, mlflow.clock)

    @property
    def traces(self) -> float:
        """What mlflow_traces_total shows, over all its series."""
        return sum(value for cell, value in self.published[-1].totals.items() if cell.family == "mlflow_traces_total")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as opened:
        yield opened


def test_each_finished_trace_is_counted_once_over_many_ticks(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    for _ in range(5):
        mlflow.trace(start_ms=mlflow.now_ms - EPOCH_MS)
        mlflow.now_ms += 15_000
        assert rig.poller.tick()
    assert rig.traces == 5


def test_a_trace_that_ran_longer_than_its_neighbours_is_counted_when_it_ends(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    running = mlflow.trace(start_ms=0, duration_ms=None, state=State.IN_PROGRESS)
    mlflow.now_ms += HOUR_MS
    mlflow.trace(start_ms=HOUR_MS - 10_000)
    rig.poller.tick()
    assert rig.traces == 1

    mlflow.traces.pop(running.trace_id)
    mlflow.trace(start_ms=0, duration_ms=HOUR_MS + 5)
    mlflow.now_ms += 15_000
    rig.poller.tick()
    assert rig.traces == 2


def test_a_trace_that_is_not_complete_yet_is_counted_as_it_is_once_it_is(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    incomplete = mlflow.trace(start_ms=0, duration_ms=1_000, finalized=False)
    mlflow.traces[incomplete.trace_id] = replace(incomplete, tags={})
    mlflow.now_ms += 1_000
    rig.poller.tick()
    assert rig.traces == 0
    mlflow.traces[incomplete.trace_id] = replace(incomplete, finalized=True)
    mlflow.now_ms += 15_000
    rig.poller.tick()
    assert rig.traces == 1
    assert any("production" in cell.labels for cell in rig.published[-1].totals)
    assert not any("unknown" in cell.labels[1:3] for cell in rig.published[-1].totals)


def test_a_cost_that_mlflow_fills_in_after_its_mark_is_counted(ledger: Ledger) -> None:
    """Two requests of the SDK that the server works on at the same time: the mark came first."""
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    whole = mlflow.trace(start_ms=0, duration_ms=1_000)
    mlflow.traces[whole.trace_id] = replace(whole, cost=None)
    mlflow.now_ms += 1_100
    rig.poller.tick()
    assert rig.traces == 0
    mlflow.traces[whole.trace_id] = whole
    mlflow.now_ms += 15_000
    rig.poller.tick()
    totals = {cell.family: value for cell, value in rig.published[-1].totals.items() if not cell.part}
    assert (totals["mlflow_traces_total"], totals["mlflow_trace_input_cost_usd_total"]) == (1, 0.5)


@pytest.mark.parametrize("interval_ms", [1_000, 15_000, 59_000, 61_000, 7_200_000])
def test_a_trace_that_is_never_marked_final_is_counted_when_it_has_settled(ledger: Ledger, interval_ms: int) -> None:
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    rig.poller.tick()
    mlflow.trace(start_ms=500, duration_ms=100, finalized=False)
    mlflow.now_ms += 1_000
    rig.poller.tick()
    assert rig.traces == 0
    for _ in range(SETTLE_MS // interval_ms + 1):
        mlflow.now_ms += interval_ms
        rig.poller.tick()
    assert rig.traces == 1


def test_a_new_ledger_counts_from_the_origin_and_a_restart_keeps_it(path: Path) -> None:
    mlflow = SimulatedMlflow()
    mlflow.trace(start_ms=-1)
    mlflow.trace(start_ms=0)
    mlflow.now_ms += 15_000
    with closing(Ledger(path)) as ledger:
        rig = Rig(mlflow, ledger, origin_ms=EPOCH_MS)
        rig.poller.tick()
        assert rig.traces == 1
    mlflow.trace(start_ms=1)
    with closing(Ledger(path)) as ledger:
        rig = Rig(mlflow, ledger, origin_ms=EPOCH_MS + HOUR_MS)
        assert rig.traces == 1, "what was counted before is exposed before the first poll"
        rig.poller.tick()
        assert rig.traces == 2


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_page_that_fails_is_read_again_and_none_before_it_is_lost_or_doubled(ledger: Ledger, failing: int) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms - HOUR_MS)
    mlflow.fail_at_request[failing] = unreachable()
    rig = Rig(mlflow, ledger)
    assert not rig.poller.tick()
    assert rig.traces == 10 * (failing - 1)
    status = rig.published[-1].status
    assert (status.mlflow_up, status.poll_errors["unreachable"]) == (False, 1)

    assert rig.poller.tick()
    assert rig.traces == 35
    assert rig.published[-1].status.mlflow_up is True


@pytest.mark.parametrize("failing", [2, 3])
def test_a_pass_cut_short_inside_a_millisecond_loses_nothing_of_it(ledger: Ledger, failing: int) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for _ in range(25):
        mlflow.trace(start_ms=-HOUR_MS)
    mlflow.fail_at_request[failing] = unreachable()
    rig = Rig(mlflow, ledger)
    rig.poller.tick()
    rig.poller.tick()
    assert rig.traces == 25


def test_counting_from_now_begins_at_the_first_start_even_if_its_first_poll_failed(path: Path) -> None:
    mlflow = SimulatedMlflow()
    mlflow.fail_at_request[1] = unreachable()
    with closing(Ledger(path)) as ledger:
        Rig(mlflow, ledger, origin_ms=EPOCH_MS).poller.tick()
    mlflow.trace(start_ms=1)
    mlflow.now_ms += HOUR_MS
    with closing(Ledger(path)) as ledger:
        rig = Rig(mlflow, ledger, origin_ms=mlflow.now_ms)
        rig.poller.tick()
        assert rig.traces == 1


class Crash(BaseException):
    """What nobody catches, as a kill -9."""


class CrashingLedger(Ledger):
    """A ledger whose process is killed just before or just after its nth commit."""

    def __init__(self, path: Path, commits: int, after: bool) -> None:
        super().__init__(path)
        self._commits_left, self._after = commits, after

    def commit(self, *args: Any, **kwargs: Any) -> None:
        self._commits_left -= 1
        if self._commits_left == 0 and not self._after:
            raise Crash
        super().commit(*args, **kwargs)
        if self._commits_left == 0:
            raise Crash


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("commits", range(1, 7))
def test_faults_1_and_2_killed_before_and_after_each_commit(path: Path, commits: int, after: bool) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms - HOUR_MS)
    with closing(CrashingLedger(path, commits, after)) as ledger:
        rig = Rig(mlflow, ledger, interval_s=0)
        with pytest.raises(Crash):
            rig.poller.tick()
        shown = rig.traces
    mlflow.now_ms += 15_000
    with closing(Ledger(path)) as ledger:
        rig = Rig(mlflow, ledger)
        assert rig.traces >= shown, "a scrape must not have seen what the crash took back"
        rig.poller.tick()
        assert rig.traces == 35


def test_what_became_visible_behind_the_position_of_a_cut_pass_is_counted_by_the_next(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(15):
        mlflow.trace(start_ms * 1000)
    mlflow.now_ms += 20_000
    mlflow.fail_at_request[2] = unreachable()
    rig = Rig(mlflow, ledger)
    rig.poller.tick()
    mlflow.trace(start_ms=500, duration_ms=60_000)
    mlflow.now_ms += 60_000
    rig.poller.tick()
    rig.poller.tick()
    assert rig.traces == 16


@pytest.mark.parametrize("jump_ms", [HOUR_MS, 24 * HOUR_MS, -HOUR_MS])
def test_our_own_clock_may_jump_and_be_corrected(ledger: Ledger, jump_ms: int) -> None:
    """MLflow and the applications have the right time; only ours is off for ten minutes."""
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    minute_ms = 60_000
    for minute in range(30):
        mlflow.trace(start_ms=minute * minute_ms, duration_ms=100)
        jump = jump_ms if 10 <= minute < 20 else 0
        mlflow.now_ms = EPOCH_MS + (minute + 1) * minute_ms + jump
        rig.poller.tick()
    assert rig.traces == 30


def test_an_outage_is_caught_up_in_full(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    rig.poller.tick()
    for hour in range(72):
        mlflow.trace(start_ms=hour * HOUR_MS, duration_ms=90_000)
    mlflow.now_ms += 72 * HOUR_MS
    rig.poller.tick()
    assert rig.traces == 72


def test_a_mistake_of_ours_is_counted_and_told_and_polling_goes_on(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = SimulatedMlflow()
    mlflow.fail_at_request[2] = ZeroDivisionError("oops")  # type: ignore[assignment]  # what no one foresaw
    rig = Rig(mlflow, ledger)
    rig.poller.tick()
    with caplog.at_level(logging.WARNING):
        assert not rig.poller.tick()
    assert "unexpected ZeroDivisionError: oops" in caplog.text
    status = rig.published[-1].status
    assert status.poll_errors["internal"] == 1
    assert status.mlflow_up is True, "it says nothing about MLflow"
    assert rig.poller.tick()


def test_nothing_is_known_of_mlflow_before_the_first_poll(ledger: Ledger) -> None:
    assert Rig(SimulatedMlflow(), ledger).published[-1].status.mlflow_up is None


def test_a_long_catch_up_can_be_watched(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms - HOUR_MS)
    rig = Rig(mlflow, ledger, interval_s=0)
    rig.poller.tick()
    shown = [len(snapshot.totals) and snapshot.totals[TRACES] for snapshot in rig.published]
    assert shown == [0, 10, 20, 30, 35, 35]
    assert all(snapshot.status.mlflow_up for snapshot in rig.published[1:])


def test_stop_ends_run_after_the_page_at_hand_and_the_rest_is_read_later(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms - HOUR_MS)
    rig = Rig(mlflow, ledger)
    rig.poller.stop()
    rig.poller.tick()
    assert rig.traces == 10

    running = Thread(target=rig.poller.run)
    running.start()
    running.join(5)
    assert not running.is_alive()

    rig = Rig(mlflow, ledger)
    rig.poller.tick()
    assert rig.traces == 35


def test_errors_of_the_ledger_are_counted_as_such(ledger: Ledger) -> None:
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, ledger)
    mlflow.fail_at_request[1] = PollError(Reason.LEDGER, "disk full")
    rig.poller.tick()
    status = rig.published[-1].status
    assert (status.poll_errors["ledger"], status.mlflow_up) == (1, None)


@pytest.mark.parametrize(
    ("failures", "elapsed_s", "expected"),
    [(0, 1, 14), (0, 99, 0), (1, 1, 14), (2, 0, 30), (3, 0, MAX_WAIT_S), (99, 0, MAX_WAIT_S)],
)
def test_waiting(failures: int, elapsed_s: float, expected: float) -> None:
    assert wait_s(15, failures, elapsed_s) == expected


def test_an_interval_above_the_longest_wait_is_kept_after_failures() -> None:
    assert wait_s(300, 5, 0) == 300
