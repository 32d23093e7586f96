"""Two exporters with one ledger in PostgreSQL, whose leader is killed, stopped and paused a hundred times."""

import signal
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

from mlflow_trace_exporter.demo.processes import Processes
from tests.soak.test_soak import Say, say
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL
from tests.support.real import Exporter, Mlflow, eventually
from tests.support.replicas import Replicas

__all__ = ["say"]

DISTURBANCES = 100
AT_ONCE = 20
RESTARTS = 30


def test_fault_36_disturbed_many_times_under_traffic(postgresql: PostgreSQL, tmp_path: Path, say: Say) -> None:
    took_s: dict[str, list[float]] = {}
    with Processes(tmp_path) as processes:
        mlflow = Mlflow(tmp_path, processes, free_port())
        for number in range(DISTURBANCES // AT_ONCE):
            replicas = Replicas(mlflow, postgresql.ledger(f"soak_{number}"), tmp_path / str(number), seed=number)
            replicas.disturb(AT_ONCE)
            for how, seconds in replicas.took_s.items():
                took_s.setdefault(how.name, []).extend(seconds)
            truth, counted = replicas.truth(), replicas.counted()
            say(
                f"{(number + 1) * AT_ONCE} disturbances; there {dict(truth)}; counted {dict(counted)};"
                f" {len(replicas.decreased)} decreased, {replicas.two_ready} times two were ready"
            )
            for name, seconds in took_s.items():
                say(f"  {name}: taken over {len(seconds)} times, {_median_and_worst(seconds)}")
            assert (replicas.decreased, replicas.two_ready) == ([], 0)
            assert counted == {**truth, **dict.fromkeys(("late", "changed", "differing"), 0)}


class WhilePostgresRestarts(Replicas):
    """Stops PostgreSQL, in turn as its administrators do and as in a crash, and starts it again."""

    def __init__(self, server: PostgreSQL, processes: Processes, *more: Any, **named: Any) -> None:
        super().__init__(*more, **named)
        self._server, self._processes = server, processes

    def _disturb(self, leader: Exporter, how: signal.Signals) -> None:
        self._server.stop("immediate" if how is signal.SIGKILL else "fast")
        Event().wait(self._dice.choice([0, self._dice.uniform(0, 15)]))
        self._server.run(self._processes)
        began_s = time.monotonic()
        eventually(self._leader, "one leads again")
        self.took_s[how].append(time.monotonic() - began_s)
        if how is not signal.SIGSTOP:
            leader.process.kill()  # it is started again


def test_fault_35_restarted_many_times_under_traffic(tmp_path: Path, say: Say) -> None:
    with TemporaryDirectory() as data, Processes(tmp_path) as processes:
        server = PostgreSQL(Path(data), "127.0.0.1", free_port(), syncs=True)
        server.start(processes)
        mlflow = Mlflow(tmp_path, processes, free_port())
        replicas = WhilePostgresRestarts(
            server, processes, mlflow, server.ledger("restarts"), tmp_path / "replicas", seed=1
        )
        replicas.disturb(RESTARTS)
        truth, counted = replicas.truth(), replicas.counted()
        took_s = [each for seconds in replicas.took_s.values() for each in seconds]
        say(
            f"{RESTARTS} restarts; there {dict(truth)}; counted {dict(counted)}; {len(replicas.decreased)} decreased;"
            f" ready again {_median_and_worst(took_s)} after the start of PostgreSQL"
        )
        assert (replicas.decreased, replicas.two_ready) == ([], 0)
        assert counted == {**truth, **dict.fromkeys(("late", "changed", "differing"), 0)}


def _median_and_worst(seconds: list[float]) -> str:
    return f"after {median(seconds):.1f} s, at most {max(seconds):.1f} s" if seconds else "never"
