"""The tests of the source and of crashes once more, with MLflow on PostgreSQL, where what production has is."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.test_source import *  # noqa: F403 - the same tests, with the server below
from tests.support.crashes import require_that_kills_change_nothing
from tests.support.ports import free_port
from tests.support.postgresql import PostgreSQL
from tests.support.real import Mlflow, ServerProcesses

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    if os.geteuid() != 0:
        pytest.skip("only root can start PostgreSQL as its own user")
    directory = tmp_path_factory.mktemp("mlflow-on-postgresql")
    with TemporaryDirectory() as data, ServerProcesses(directory) as processes:
        database = PostgreSQL(Path(data), "127.0.0.1", free_port())
        database.start(processes)
        yield Mlflow(directory, processes, free_port(), database.store)


def test_it_is_postgresql(mlflow: Mlflow) -> None:
    assert mlflow.dialect == "postgresql"


def test_fault_3_killed_at_random_under_traffic(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> None:
    require_that_kills_change_nothing(mlflow, tmp_path_factory.mktemp("crashes"))
