"""What is inside a ledger, for tests that disturb it."""

import sqlite3
from contextlib import closing
from typing import Any

import psycopg

from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.ledger.postgresql import open_session
from mlflow_trace_exporter.ledger.sqlite import SqliteConnection
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS
from mlflow_trace_exporter.metrics.model import Cell


def sqlite_of(ledger: Ledger) -> sqlite3.Connection:
    """The SQLite connection of a ledger in a file."""
    assert isinstance(ledger._db, SqliteConnection)
    return ledger._db._db


def reader_of(place: Place) -> "sqlite3.Connection | psycopg.Connection[Any]":
    """Another connection to a ledger."""
    if isinstance(place, Database):
        return open_session(place)
    return sqlite3.connect(f"file:{place}?mode=ro", uri=True)


def totals_in(place: Place) -> dict[tuple[str, str, str], float]:
    """What is committed, by family, labels and part, as another process sees it."""
    with closing(reader_of(place)) as db:
        rows = db.execute("SELECT family, labels, part, value FROM totals").fetchall()
    return {(family, labels, part): value for family, labels, part, value in rows}


def totals(ledger: Ledger) -> dict[Cell, float]:
    """All totals except the one that every ledger begins with."""
    return {cell: value for cell, value in ledger.totals.all().items() if cell.family != LEDGER_RESETS}
