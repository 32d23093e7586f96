"""What happens to PostgreSQL while an exporter counts into it: restarts, crashes, a full disk, a copy that lags."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mlflow_trace_exporter.demo.processes import Processes, fetch
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms, tool
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.long

TRACES = "mlflow_traces_total"


class Counting:
    """An exporter on a PostgreSQL of its own. What it exposes of the traces may never decrease."""

    def __init__(
        self, mlflow: Mlflow, server: PostgreSQL, processes: Processes, directory: Path, url: str | None = None
    ) -> None:
        self._mlflow, self.server, self.processes = mlflow, server, processes
        self.experiment = mlflow.experiment()
        config = {
            "mlflow": {"tracking_uri": mlflow.uri, "experiments": self.experiment},
            "poll": {"interval": "1s", "start": "1h"},
            "ledger": {"url": url or server.ledger("").url, "name": "away" if url is None else "on_small_disk"},
        }
        self.exporter = Exporter(directory, config)
        self.logged = 0
        self.seen = 0.0

    def log(self, traces: int) -> None:
        self._mlflow.log(self.experiment, *(Trace(now_ms() - 30_000) for _ in range(traces)))
        self.logged += traces

    def counted(self) -> float | None:
        """The traces that are exposed now; None if none are."""
        found = [value for name, value in self.exporter.samples().items() if name.startswith(TRACES)]
        if not found:
            return None
        assert sum(found) >= self.seen, "a counter has decreased"
        self.seen = sum(found)
        return self.seen

    def count_all(self) -> None:
        """Wait until all are counted, and see that it stays so."""
        eventually(lambda: self.counted() == self.logged, f"{self.logged} are counted")
        self.exporter.after_next_poll()
        assert eventually(self.counted, "it is exposed") == self.logged

    def has_failed(self) -> bool:
        name = 'mlflow_trace_exporter_poll_errors_total{reason="ledger"}'
        return self.exporter.samples().get(name, 0) > 0


@pytest.fixture
def counting(mlflow: Mlflow, tmp_path: Path) -> Iterator[Counting]:
    if os.geteuid() != 0:
        pytest.skip("only root can start PostgreSQL as its own user")
    with TemporaryDirectory() as data, Processes(tmp_path) as processes:
        server = PostgreSQL(Path(data) / "data", "127.0.0.1", free_port())
        server.data.mkdir()
        Path(data).chmod(0o755)
        server.start(processes)
        found = Counting(mlflow, server, processes, tmp_path)
        with found.exporter.running():
            found.log(3)
            found.count_all()
            yield found


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_fault_35_restarted(counting: Counting, mode: str) -> None:
    for _ in range(5):  # a machine that stands still has no lease any more
        counting.server.stop(mode)
        if is_exposed := counting.counted() == 3:
            break
        counting.server.run(counting.processes)
        counting.count_all()
    assert is_exposed, "what it had is exposed"
    counting.log(2)
    counting.server.run(counting.processes)
    counting.count_all()


def test_fault_35_away_for_longer_than_a_leader_may_expose(counting: Counting) -> None:
    counting.server.stop()
    counting.log(2)
    eventually(lambda: counting.counted() is None, "another one could lead now")
    eventually(counting.has_failed, "it says so")
    assert fetch(f"{counting.exporter.url}/-/ready") is None
    assert fetch(f"{counting.exporter.url}/-/healthy", HANG_S) is not None
    assert "PostgreSQL cannot be reached" in (fetch(counting.exporter.url, HANG_S) or "")
    counting.server.run(counting.processes)
    counting.count_all()


def test_fault_35_failed_over_to_a_copy_that_lags(counting: Counting) -> None:
    """Its last transactions are lost. Their traces are read again, and until then what was exposed stays."""
    server, copy = counting.server, counting.server.data.with_name("copy")
    server.stop()
    shutil.copytree(server.data, copy)
    subprocess.run([tool("chown"), "-R", "postgres", str(copy)], check=True)
    server.run(counting.processes)
    counting.log(4)
    counting.count_all()
    server.stop()
    shutil.rmtree(server.data)
    copy.rename(server.data)
    counting.log(2)
    server.run(counting.processes)
    counting.count_all()
    assert "PostgreSQL has lost transactions that it had committed" in counting.exporter.log()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 8 MB for a tablespace."""
    folder.mkdir()
    subprocess.run([tool("mount"), "-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs", str(folder)], check=True)
    try:
        subprocess.run([tool("chown"), "postgres", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run([tool("umount"), "-l", str(folder)], check=True)


def test_fault_35_a_full_disk(mlflow: Mlflow, counting: Counting, tmp_path: Path) -> None:
    server = counting.server
    with small_disk(server.data.with_name("small")) as disk:
        server.sql(f"CREATE TABLESPACE small LOCATION '{disk}'")
        (tmp_path / "on small disk").mkdir()
        url = f"{server.ledger('').url}?options=-c%20default_tablespace%3Dsmall"
        other = Counting(mlflow, server, counting.processes, tmp_path / "on small disk", url)
        with other.exporter.running():
            other.log(3)
            other.count_all()
            filler = disk / "filler"
            filler.write_bytes(bytes(_free_bytes(disk)))
            other.log(300)
            eventually(other.has_failed, "it says so")
            eventually(lambda: other.exporter.samples()["mlflow_trace_exporter_leader"] == 1, "it still leads")
            eventually(lambda: other.counted() is not None, "it exposes what it has")
            filler.unlink()
            other.count_all()
        server.sql("DROP SCHEMA on_small_disk CASCADE")
        server.sql("DROP TABLESPACE small")


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
