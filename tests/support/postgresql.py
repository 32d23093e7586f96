"""A real PostgreSQL, as Debian installs it."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from mlflow_trace_exporter.demo.processes import Process, Processes
from mlflow_trace_exporter.ledger.place import Database
from mlflow_trace_exporter.ledger.postgresql import open_session
from tests.support.real import eventually, tool

USER = DATABASE = "mlflow"


def program(name: str) -> str:
    """A program of PostgreSQL, which Debian keeps off PATH. Without it the test is skipped, as with ``tool``."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else tool(name)


def _anywhere(*command: str) -> list[str]:
    return list(command)


@dataclass(frozen=True)
class PostgreSQL:
    """A server that keeps what it has in ``data``, a folder that is there; ``within`` is where commands run.

    Not a folder of pytest's: another run of it closes them to all other users, and the server runs as one.
    """

    data: Path
    host: str
    port: int
    within: Callable[..., Sequence[str]] = _anywhere
    syncs: bool = False
    """Whether it waits for the disk, which no test needs: the machine survives each of them."""

    @property
    def store(self) -> str:
        """Its address for MLflow."""
        return f"postgresql+psycopg2://{USER}@{self.host}:{self.port}/{DATABASE}"

    def start(self, processes: Processes) -> None:
        """Start it with an empty database."""
        subprocess.run([tool("chown"), "postgres", str(self.data)], check=True)
        options = (f"--pgdata={self.data}", f"--username={USER}", "--encoding=UTF8", "--locale=C", "--no-sync")
        subprocess.run(self._as_its_user(program("initdb"), *options), check=True, capture_output=True)
        self.run(processes)
        make = self.within(program("createdb"), "-U", USER, "-h", self.host, "-p", str(self.port), DATABASE)
        eventually(lambda: subprocess.run(make, check=False, capture_output=True).returncode == 0, "PostgreSQL is up")

    def run(self, processes: Processes) -> Process:
        """Start it with what it has."""
        where = ["-D", str(self.data), "-k", str(self.data), "-h", "127.0.0.1", "-p", str(self.port)]
        server = [program("postgres"), *where, "-c", f"fsync={'on' if self.syncs else 'off'}"]
        return processes.start_program("postgres", self.within(*self._as_its_user(*server)), {})

    def stop(self, mode: str = "fast") -> None:
        """Stop it with all connections; in the mode ``immediate`` as if it had crashed."""
        stop = self._as_its_user(program("pg_ctl"), "stop", "-D", str(self.data), "-m", mode, "-t", "240")
        subprocess.run(stop, check=True, capture_output=True)

    def sql(self, statement: str) -> None:
        """Run a statement as its administrator."""
        with psycopg.connect(self.ledger("").url, autocommit=True) as session:
            session.execute(statement)

    def ledger(self, name: str) -> Database:
        """A ledger in it."""
        return Database(f"postgresql://{USER}@{self.host}:{self.port}/{DATABASE}", name)

    def _as_its_user(self, *command: str) -> list[str]:
        return [tool("runuser"), "-u", "postgres", "--", *command]


def cut(database: Database) -> None:
    """End all sessions that other processes have with the server, as a restart of it does, and wait until they have
    ended."""
    with open_session(database) as session:
        query = "SELECT pg_terminate_backend(pid, 240000) FROM pg_stat_activity WHERE pid != pg_backend_pid()"
        session.execute(f"{query} AND datname = current_database() AND application_name = 'mlflow-trace-exporter'")
