"""`ledger copy` as a user calls it, and `serve` that goes on with the copy."""

import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from mlflow_trace_exporter.ledger.opening import connect, open_ledger
from mlflow_trace_exporter.ledger.place import Database
from tests.support.ended import ended
from tests.support.ports import free_port
from tests.support.real import EXPORTER_WITH_USERS, Exporter, Mlflow, Samples, Trace, eventually, now_ms
from tests.support.waiting import HANG_S
from tests.unit.ledger.test_copying import contents, fill


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*EXPORTER_WITH_USERS, "ledger", "copy", *arguments],  # psycopg takes a NumPy that is None for one
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """The exit code and what is printed."""
    with ended(start(*arguments, **environment)) as process:
        said, complained = process.communicate(timeout=HANG_S)
    return process.returncode, said, complained


def complaint(*arguments: str, **environment: str) -> str:
    """What a call that fails says: one message."""
    code, said, complained = run(*arguments, **environment)
    assert (code, said) == (2, ""), complained
    assert complained.count("\n") == 1, complained
    assert "Traceback" not in complained
    return complained


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "ledger.db"
    with closing(open_ledger(found)) as ledger:
        fill(ledger)
    return found


def test_copies_there_and_back(path: Path, tmp_path: Path, database: Database) -> None:
    code, said, complained = run(str(path), database.url, f"--name={database.name}")
    assert (code, complained) == (0, "")
    assert said.startswith("copied ")
    assert f"to ledger {database.name} in PostgreSQL at 127.0.0.1" in said
    assert said.endswith("start `serve` with that ledger only\n")
    back = tmp_path / "back.db"
    code, said, complained = run(database.url, str(back), f"--from-name={database.name}")
    assert (code, complained) == (0, "")
    assert contents(back) == contents(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.db", "b.db", "--name=x"), "--name: is the name of a ledger in PostgreSQL, but TO is a file"),
        (("a.db", "b.db", "--from-name=x"), "--from-name: is the name of a ledger in PostgreSQL, but FROM is a file"),
        (("a.db", "mysql://u:secret@h/d"), "TO: is neither the path of a file nor a URL such as postgresql://"),
        (("absent.db", "b.db"), "absent.db: there is no ledger to copy"),
    ],
)
def test_what_cannot_be_meant_is_one_message(arguments: tuple[str, ...], message: str) -> None:
    said = complaint(*arguments)
    assert message in said
    assert "secret" not in said


def test_a_server_that_cannot_be_reached_is_one_message(path: Path) -> None:
    said = complaint(str(path), f"postgresql://u:secret@127.0.0.1:{free_port()}/d")
    assert "PostgreSQL cannot be reached: " in said
    assert "secret" not in said


def test_the_ledger_of_a_running_exporter_is_one_message(
    mlflow: Mlflow, tmp_path: Path, path: Path, database: Database
) -> None:
    experiment = mlflow.experiment()
    settings = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment}}
    with Exporter(tmp_path, settings).running() as exporter:
        said = complaint(str(path), database.url, f"--name={database.name}")
        assert f"is in use by process {exporter.process.pid}; stop that process, or copy a backup" in said
    in_database = {**settings, "ledger": {"url": database.url, "name": database.name}}
    (tmp_path / "other").mkdir()
    with Exporter(tmp_path / "other", in_database).running() as exporter:
        said = complaint(database.url, str(tmp_path / "b.db"), f"--from-name={database.name}")
        assert f"(process {exporter.process.pid}); stop that exporter, and its replicas" in said
        said = complaint(str(path), database.url, f"--name={database.name}")
        assert f"(process {exporter.process.pid}); stop that exporter, and its replicas" in said


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose copy takes seconds."""
    path = tmp_path_factory.mktemp("large") / "ledger.db"
    with closing(open_ledger(path)) as ledger:
        fill(ledger)
        with ledger._db.transaction():
            rows = ((os.urandom(11), 700_000_000 + number) for number in range(300_000))
            ledger._db.each("INSERT INTO done (digest, start_ms) VALUES (?, ?)", rows)
    return path


def is_copying(database: Database) -> bool:
    """Whether a session sends rows."""
    with psycopg.connect(database.url) as session:
        query = "SELECT 1 FROM pg_stat_activity WHERE pid != pg_backend_pid() AND query LIKE 'COPY %done%'"
        return session.execute(query).fetchone() is not None


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
@pytest.mark.parametrize("to_database", [True, False])
def test_nothing_is_left_of_a_copy_that_is_stopped(
    large: Path, path: Path, database: Database, tmp_path: Path, number: signal.Signals, code: int, to_database: bool
) -> None:
    file = tmp_path / "copy.db"
    target = (database.url, f"--name={database.name}") if to_database else (str(file),)
    unfinished = Path(f"{file}.unfinished")

    def is_under_way() -> bool:
        return is_copying(database) if to_database else unfinished.exists() and unfinished.stat().st_size > 0

    for _ in range(5):  # a copy can end while the machine stands still
        with ended(start(str(large), *target)) as process:
            eventually(lambda: is_under_way() or process.poll() is not None, "rows are copied", every_s=0.005)
            process.send_signal(number)
            _, complained = process.communicate(timeout=HANG_S)
        if process.returncode != 0:
            break
        file.unlink(missing_ok=True)
        drop(database)
    assert process.returncode == code
    assert complained == {130: "stopped\n"}.get(code, "")
    assert not file.exists()
    assert unfinished.exists() == (number == signal.SIGKILL and not to_database)
    assert not schema_exists(database)
    assert run(str(path), *target)[0] == 0, "the next copy has the place for itself"
    assert contents(database if to_database else file) == contents(path), "of the first one nothing is in it"


def drop(database: Database) -> None:
    with psycopg.connect(database.url) as session:
        session.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(database.name)))


def schema_exists(database: Database) -> bool:
    with psycopg.connect(database.url) as session:
        query = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
        return session.execute(query, [database.name]).fetchone() is not None


class _Move:
    """The traces of an experiment, and what the exporter of the previous ledger exposed about them at last."""

    def __init__(self, mlflow: Mlflow, experiment: str) -> None:
        self._mlflow = mlflow
        self._experiment = experiment
        self._running: list[str] = []
        self._exposed: Samples = {}
        self.traces = 0

    def count(self, exporter: Exporter) -> None:
        """See that the exporter begins with what was exposed, and counts more."""
        if self._exposed:
            assert eventually(lambda: of_traces(exporter.samples()), "series are exposed") == self._exposed, "at once"
        for trace_id in self._running:
            self._mlflow.end(trace_id, 250)
        self.traces += len(self._running) + 6
        traces = [Trace(now_ms() - 30_000, tags=tags(number)) for number in range(5)]
        failed = Trace(now_ms() - 30_000, state="ERROR", tags={"environment": f"new-{self.traces}"})
        self._mlflow.log(self._experiment, *traces, failed)
        unfinished = Trace(now_ms() - 30_000, duration_ms=None, state="IN_PROGRESS")
        self._running = self._mlflow.log(self._experiment, unfinished)
        eventually(lambda: total(exporter.samples()) == self.traces, f"{self.traces} are counted")
        after = exporter.after_next_poll()
        assert total(after) == self.traces
        assert after["mlflow_trace_exporter_unaccounted_traces"] == 0
        self._exposed = of_traces(after)


@pytest.mark.long
def test_counting_goes_on_with_a_copy_in_postgresql_and_back(
    mlflow: Mlflow, database: Database, tmp_path: Path
) -> None:
    """Nothing is lost, doubled or decreased, and all series are exposed at once at their values."""
    experiment = mlflow.experiment()
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"interval": "1s", "start": "1h"},
    }
    ledgers = [
        {"path": str(tmp_path / "first.db")},
        {"url": database.url, "name": database.name},
        {"path": str(tmp_path / "back.db")},
    ]
    copies = [
        (str(tmp_path / "first.db"), database.url, f"--name={database.name}"),
        (database.url, str(tmp_path / "back.db"), f"--from-name={database.name}"),
    ]
    move = _Move(mlflow, experiment)
    for turn, ledger in enumerate(ledgers):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with Exporter(folder, {**settings, "ledger": ledger}).running() as exporter:
            move.count(exporter)
            exporter.stop()
        if turn < len(copies):
            assert run(*copies[turn])[::2] == (0, "")
    with closing(connect(tmp_path / "back.db")) as db:
        assert db.rows("SELECT count(*) FROM done") == [(move.traces,)]


def tags(number: int) -> dict[str, str]:
    return {"environment": "production" if number % 2 else "it's \\ 日本", "app_version": str(number % 3)}


def of_traces(samples: Samples) -> Samples:
    """The samples of counters and histograms."""
    endings = ("_total", "_bucket", "_sum", "_count")
    return {
        each: value
        for each, value in samples.items()
        if each.startswith("mlflow_trace") and "exporter" not in each and each.partition("{")[0].endswith(endings)
    }


def total(samples: Samples) -> float:
    return sum(value for each, value in samples.items() if each.startswith("mlflow_traces_total"))
