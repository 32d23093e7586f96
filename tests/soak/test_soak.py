"""What `make soak` runs: the same as two tests of `make test`, for a long time. Each says how far it is."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_trace_exporter.demo.processes import Processes
from tests.support.crashes import Crashes
from tests.support.histories import History, explore
from tests.support.histories_in_postgresql import HistoryInPostgresql
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL
from tests.support.real import Mlflow
from tests.support.sharded import Shards

Say = Callable[[str], None]

STEPS = 100_000
KILLS = 200
KILLS_OF_SHARDS = 60


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def say(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)  # noqa: T201 - progress for who waits

    return say


def test_invariants_hold_over_many_random_histories(say: Say) -> None:
    began = time.monotonic()
    while History.steps < STEPS:
        explore(histories=100, steps=60)
        found = ", ".join(f"{count:,} {name}" for name, count in History.found.items())
        say(f"{time.monotonic() - began:.0f} s: {History.steps:,} steps; {found}; no invariant broken")


def test_invariants_hold_over_many_random_histories_in_postgresql(postgresql: PostgreSQL, say: Say) -> None:
    HistoryInPostgresql.server = postgresql
    began = time.monotonic()
    while HistoryInPostgresql.steps < STEPS // 10:
        explore(histories=50, steps=60, machine=HistoryInPostgresql)
        say(f"{time.monotonic() - began:.0f} s: {HistoryInPostgresql.steps:,} steps in PostgreSQL; no invariant broken")


def test_fault_3_killed_many_times_under_traffic(tmp_path: Path, say: Say) -> None:
    began = time.monotonic()
    with Processes(tmp_path) as processes:
        mlflow = Mlflow(tmp_path, processes, free_port())
        total = 0
        while total < KILLS:
            directory = tmp_path / str(total)
            directory.mkdir()
            crashes = Crashes(mlflow, directory, seed=total)
            crashes.run(kills=25)
            total += crashes.kills
            truth, counted = crashes.truth(), crashes.counted()
            say(
                f"{time.monotonic() - began:.0f} s: {total} kills; there {dict(truth)}; counted {dict(counted)}; "
                f"{len(crashes.decreased)} decreased"
            )
            assert crashes.decreased == []
            assert counted == {**truth, **dict.fromkeys(("late", "changed", "differing"), 0)}


def test_fault_3_shards_killed_many_times_under_traffic(tmp_path: Path, say: Say) -> None:
    with Processes(tmp_path) as processes:
        mlflow = Mlflow(tmp_path, processes, free_port())
        shards = Shards(mlflow, tmp_path / "shards", seed=1)
        shards.run(kills=KILLS_OF_SHARDS)
        truth, counted = shards.truth(), shards.counted()
        say(f"{shards.kills} kills; there {dict(truth)}; counted {dict(counted)}; {len(shards.decreased)} decreased")
        assert shards.decreased == []
        assert counted == {**truth, **dict.fromkeys(("late", "changed", "differing"), 0)}
