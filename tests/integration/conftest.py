import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mlflow_trace_exporter.demo.processes import Processes
from mlflow_trace_exporter.ledger import leadership
from mlflow_trace_exporter.ledger import postgresql as postgresql_ledger
from mlflow_trace_exporter.ledger.place import Database
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL

NUMBERS = count()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A server for the ledgers of all tests of a worker."""
    if os.geteuid() != 0:
        pytest.skip("only root can start PostgreSQL as its own user")
    with (
        TemporaryDirectory() as data,
        Processes(tmp_path_factory.mktemp("postgresql")) as processes,
        pytest.MonkeyPatch.context() as patch,
    ):
        # this process stays the leader on a machine that stands still, as the tests expect; other processes need not
        patch.setattr(leadership, "_SETTINGS", ())
        patch.setattr(postgresql_ledger, "IDLE_S", 3_600)
        patch.setitem(postgresql_ledger._DEFAULTS, "connect_timeout", "240")
        server = PostgreSQL(Path(data), "127.0.0.1", free_port())
        server.start(processes)
        yield server


@pytest.fixture
def database(postgresql: PostgreSQL) -> Database:
    """A ledger of its own for a test."""
    return postgresql.ledger(f"ledger_{next(NUMBERS)}")
