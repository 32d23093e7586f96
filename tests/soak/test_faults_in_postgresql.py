"""All numbered faults of the unit tests once more, with a ledger in PostgreSQL."""

import pytest

from mlflow_trace_exporter.ledger.place import Database, Place
from tests.unit.conftest import make_rig, mlflow, rig
from tests.unit.counting.test_faults import *  # noqa: F403 - the same tests, with the place below

__all__ = ["make_rig", "mlflow", "rig"]


@pytest.fixture
def rig_place(database: Database) -> Place:
    return database
