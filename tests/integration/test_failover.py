"""Two exporters with one ledger in PostgreSQL: one of them leads, whatever happens to it."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from mlflow_trace_exporter.demo.processes import fetch
from mlflow_trace_exporter.ledger.place import Database
from tests.support.crashes import require_all_counted
from tests.support.real import Exporter, Mlflow, Samples, Trace, eventually, now_ms
from tests.support.replicas import Replicas

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Pair:
    """Two exporters of one configuration, of which the first was started first, and their experiment."""

    first: Exporter
    second: Exporter
    experiment: str

    def ready(self) -> list[Exporter]:
        """Those that a scraper which follows readiness scrapes."""
        return [each for each in (self.first, self.second) if fetch(f"{each.url}/-/ready") is not None]

    def roles(self) -> tuple[Exporter, Exporter] | None:
        """The one that leads, and the other one. They may have changed on a machine that stood still."""
        ready = self.ready()
        if len(ready) != 1:
            return None
        return ready[0], self.second if ready[0] is self.first else self.first

    def counted(self) -> float:
        """The traces that a ready one exposes; -1 without one."""
        found = [each.samples() for each in self.ready()]
        return max(
            (sum(v for k, v in each.items() if k.startswith("mlflow_traces_total")) for each in found), default=-1
        )


@pytest.fixture
def replicas(mlflow: Mlflow, database: Database, tmp_path: Path) -> Iterator[Pair]:
    experiment = mlflow.experiment()
    config = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"interval": "1s", "start": "1h"},
        "ledger": {"url": database.url, "name": database.name},
    }
    made = []
    with ExitStack() as running:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            exporter = Exporter(tmp_path / name, config)
            made.append(running.enter_context(exporter.running()))
            eventually(lambda: any(fetch(f"{each.url}/-/ready") for each in made), "the first leads")
        first, second = made
        yield Pair(first, second, experiment)


def test_the_other_one_exposes_only_what_is_about_itself(mlflow: Mlflow, replicas: Pair) -> None:
    mlflow.log(replicas.experiment, Trace(now_ms() - 30_000))
    eventually(lambda: replicas.counted() == 1, "it is counted")

    def look() -> tuple[Samples, Samples] | None:
        """The samples of both, if they kept their roles meanwhile."""
        leads, waits = eventually(replicas.roles, "one is ready")
        found = leads.samples(), waits.samples()
        return found if replicas.roles() == (leads, waits) else None

    leading, alone = eventually(look, "they keep their roles")
    assert leading["mlflow_trace_exporter_leader"] == 1
    assert alone["mlflow_trace_exporter_leader"] == 0
    of_traces = [each for each in alone if each.startswith("mlflow_") and "exporter" not in each]
    assert of_traces == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])
def test_fault_36_the_other_one_takes_over(mlflow: Mlflow, replicas: Pair, how: signal.Signals) -> None:
    mlflow.log(replicas.experiment, Trace(now_ms() - 30_000))
    eventually(lambda: replicas.counted() == 1, "it is counted")
    replicas.first.process.send_signal(how)
    mlflow.log(replicas.experiment, Trace(now_ms() - 20_000))
    eventually(lambda: fetch(f"{replicas.second.url}/-/ready"), "the other one takes over")
    eventually(lambda: replicas.second.samples().get("mlflow_trace_exporter_leader") == 1, "it leads")
    eventually(lambda: replicas.counted() == 2, "both are counted")
    replicas.first.process.send_signal(signal.SIGCONT)
    if how is signal.SIGSTOP:
        eventually(lambda: "not leading any more" in replicas.first.log(), "it notices")
        eventually(lambda: replicas.ready() == [replicas.second], "only the other one leads")


def test_fault_36_disturbed_under_traffic(mlflow: Mlflow, database: Database, tmp_path: Path) -> None:
    def attempt(folder: Path) -> Replicas:
        place = replace(database, name=f"{database.name}_{folder.name}")
        replicas = Replicas(mlflow, place, folder, seed=1)
        replicas.disturb(times=3)
        assert replicas.two_ready == 0
        return replicas

    require_all_counted(attempt, tmp_path)


def test_a_reload_while_it_stands_by(replicas: Pair) -> None:
    file = replicas.second._file
    settings = yaml.safe_load(file.read_text())
    settings["poll"]["interval"] = "2s"
    file.write_text(yaml.safe_dump(settings))
    replicas.second.process.send_signal(signal.SIGHUP)
    eventually(lambda: "configuration reloaded" in replicas.second.log(), "it is reloaded")
    replicas.first.stop()
    eventually(lambda: replicas.second.samples().get("mlflow_trace_exporter_poll_interval_seconds") == 2, "it is used")
