"""Two exporters with one ledger in PostgreSQL, whose leader is killed, stopped and paused a hundred times."""

from pathlib import Path
from statistics import median

from mlflow_trace_exporter.demo.processes import Processes, free_port
from tests.soak.test_soak import Say, say
from tests.support.postgresql import PostgreSQL
from tests.support.real import Mlflow
from tests.support.replicas import Replicas

__all__ = ["say"]

DISTURBANCES = 100
AT_ONCE = 20


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


def _median_and_worst(seconds: list[float]) -> str:
    return f"after {median(seconds):.1f} s, at most {max(seconds):.1f} s" if seconds else "never"
