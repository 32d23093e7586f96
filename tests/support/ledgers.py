"""What is inside a ledger, for tests that disturb it."""

import sqlite3

from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.sqlite import SqliteConnection


def sqlite_of(ledger: Ledger) -> sqlite3.Connection:
    """The SQLite connection of a ledger in a file."""
    assert isinstance(ledger._db, SqliteConnection)
    return ledger._db._db
