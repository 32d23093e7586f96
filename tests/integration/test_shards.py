"""Several exporters share the experiments of a server, and their number changes, on a real MLflow."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from operator import gt
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_trace_exporter.domain.shards import Shard
from tests.support.commands import invoke
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms

pytestmark = pytest.mark.long

EXPERIMENTS = 12


class Traffic:
    """Experiments of a test, and how many traces each one has."""

    def __init__(self, mlflow: Mlflow) -> None:
        self.mlflow = mlflow
        self.prefix = f"sharded-{time.time_ns()}-"
        self.names = [mlflow.experiment(f"{self.prefix}{number}") for number in range(EXPERIMENTS)]
        self.truth: Counter[str] = Counter()
        self._ending = threading.Event()

    def log(self, name: str, start_ms: int) -> None:
        self.mlflow.log(name, Trace(start_ms))
        self.truth[name] += 1

    def each(self, start_ms: int) -> None:
        """A trace in each experiment."""
        for name in self.names:
            self.log(name, start_ms)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """New traces all the time."""

        def flow() -> None:
            while not self._ending.is_set():
                self.each(now_ms() - 200)
                self._ending.wait(0.5)

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()


class Shards:
    """The exporters of all shards, with ledgers beside each other."""

    def __init__(self, traffic: Traffic, folder: Path, count: int, **poll: Any) -> None:
        self._config = {
            "mlflow": {"tracking_uri": traffic.mlflow.uri, "experiments": [f"{traffic.prefix}*"]},
            "poll": {"interval": "1s", **poll},
            "ledger": {"path": str(folder / f"ledger-{count}.db")},
        }
        self.exporters = []
        for index in range(1, count + 1):
            own = folder / f"{index}of{count}"
            own.mkdir()
            self.exporters.append(Exporter(own, self._config, f"--shard={index}/{count}"))

    @contextmanager
    def running(self) -> Iterator["Shards"]:
        with ExitStack() as stack:
            for each in self.exporters:
                stack.enter_context(each.running())
            yield self

    def reload(self, **poll: Any) -> None:
        self._config["poll"] |= poll
        reloads = [_reloads_of(each) for each in self.exporters]
        for each in self.exporters:
            each._file.write_text(yaml.safe_dump({**self._config, "series": {"zero_hold": "0s"}}))
            each.process.send_signal(signal.SIGHUP)
        eventually(lambda: all(map(gt, map(_reloads_of, self.exporters), reloads)), "they are reloaded")

    def counted(self) -> list[Counter[str]]:
        """The traces of each shard by experiment."""
        return [counted(each) for each in self.exporters]


def _reloads_of(exporter: Exporter) -> int:
    return exporter.log().count("configuration reloaded")


def counted(exporter: Exporter) -> Counter[str]:
    found: Counter[str] = Counter()
    for sample, value in exporter.samples().items():
        if sample.startswith("mlflow_traces_total") and value:
            found[sample.partition('experiment="')[2].partition('"')[0]] += int(value)
    return found


def summed(*shards: Shards) -> Counter[str]:
    return sum((each for one in shards for each in one.counted()), Counter())


def assert_healthy(shards: Shards) -> None:
    for each in shards.exporters:
        found = each.after_next_poll()
        assert found.get("mlflow_trace_exporter_unaccounted_traces", 0) == 0
        assert found["mlflow_up"] == 1
        assert "level=warning" not in each.log()
        assert "level=error" not in each.log()


@pytest.fixture
def traffic(mlflow: Mlflow) -> Traffic:
    return Traffic(mlflow)


def test_three_shards_count_each_trace_once(traffic: Traffic, tmp_path: Path) -> None:
    traffic.each(now_ms() - 60_000)
    with Shards(traffic, tmp_path, 3, start="1h").running() as shards:
        with traffic.flowing():
            eventually(lambda: traffic.truth.total() > 4 * EXPERIMENTS, "there is traffic")
        eventually(lambda: summed(shards) == traffic.truth, f"{traffic.truth} are counted")
        assert_healthy(shards)
        assert summed(shards) == traffic.truth
        for index, found in enumerate(shards.counted(), 1):
            ids = map(traffic.mlflow.experiment_id, found)
            assert all(Shard(index, 3).has(each) for each in ids)
    ledgers = sorted(each.name for each in tmp_path.glob("*.db"))
    assert ledgers == ["ledger-3-1-of-3.db", "ledger-3-2-of-3.db", "ledger-3-3-of-3.db"]


def announced(old: Shards) -> int | None:
    """A time until which the old exporters count; None if it came before all of them knew."""
    change_ms = (now_ms() // 1000 + 15) * 1000
    old.reload(until=as_text(change_ms))
    return change_ms if now_ms() < change_ms else None


def as_text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def test_their_number_changes_under_traffic(traffic: Traffic, tmp_path: Path) -> None:
    """The old ones count the traces that started before, also late ones."""
    with Shards(traffic, tmp_path, 2, start="1h").running() as old, traffic.flowing():
        eventually(lambda: summed(old).total() > 2 * EXPERIMENTS, "the old ones count")
        change_ms = eventually(lambda: announced(old), "all of the old ones know the time before it comes")
        change = as_text(change_ms)
        with Shards(traffic, tmp_path, 3, start=change).running() as new:  # some begin before, which does no harm
            eventually(lambda: summed(new).total() > EXPERIMENTS, "the new ones count")
            traffic._ending.set()
            traffic.each(change_ms - 1)
            traffic.each(change_ms)
            traffic.each(change_ms - 3_600_000 + 60_000)
            eventually(lambda: summed(old, new) == traffic.truth, f"{traffic.truth} are counted")
            assert_healthy(old)
            assert_healthy(new)
            assert summed(old, new) == traffic.truth


def test_a_shard_without_experiments_waits(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment()
    own = 1 if Shard(1, 2).has(mlflow.experiment_id(experiment)) else 2
    shard = Shard(3 - own, 2)
    config = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment}, "poll": {"interval": "1s"}}
    with Exporter(tmp_path, config, f"--shard={shard}").running() as exporter:
        found = exporter.after_next_poll()
        assert (found["mlflow_up"], counted(exporter)) == (1, Counter())
        assert f'msg="no experiment is in this shard yet" shard={shard} in_others=1' in exporter.log()
        assert "level=warning" not in exporter.log()
    done = invoke("check", f"--config.file={tmp_path / 'exporter.yml'}", f"--shard={shard}")
    assert done.exit_code == 0, done.output
    assert (
        f"experiments  --shard: none of the 1 selected experiments at {mlflow.uri} is in shard {shard}" in done.output
    )
