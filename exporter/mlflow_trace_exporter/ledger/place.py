"""Where a ledger is, and how to open it."""

from pathlib import Path

from mlflow_trace_exporter.ledger.connection import Connection
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.sqlite import SqliteConnection


def open_ledger(path: Path) -> Ledger:
    """Open the ledger at ``path``, or create one. Raises UserError as ``SqliteConnection`` does."""
    return Ledger(connect(path))


def connect(path: Path) -> Connection:
    """Open the database of the ledger at ``path``."""
    return SqliteConnection(path)
