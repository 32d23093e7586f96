"""The tests of the ledger once more, with a ledger in PostgreSQL."""

import pytest

from mlflow_trace_exporter.ledger.place import Database, Place
from tests.unit.ledger.test_ledger import *  # noqa: F403 - the same tests, with the place below


@pytest.fixture
def place(database: Database) -> Place:
    return database
