"""Copies a ledger between files and PostgreSQL, in any direction.

A copy is written in one transaction, and a file gets its name only at the end, so a partial copy never exists. No
exporter may write to either ledger in the meantime, because the original and its copy would then count the same traces.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import file_copy
from mlflow_trace_exporter.ledger.file import resolve
from mlflow_trace_exporter.ledger.opening import require_client
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.ledger.schema import SCHEMA

ROWS_AT_ONCE = 5_000

Row = Sequence[Any]

Progress = Callable[[int, int], None]
"""Called with the number of rows copied so far, and the total."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a ledger: its columns, and which of them hold numbers of any kind."""

    name: str
    columns: tuple[str, ...]
    numbers: tuple[str, ...] = ()


class Original(Protocol):
    """The ledger that is copied."""

    def count(self, table: Table) -> int:
        """The number of rows of a table."""
        ...

    def parts(self, table: Table, size: int) -> Iterable[Sequence[Row]]:
        """All rows of a table, up to ``size`` at a time."""
        ...


class Replica(Protocol):
    """The copy."""

    def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Add rows to a table. Raises UserError if the copy would not be exact."""
        ...


def copy(source: Place, target: Place, tell: Progress) -> int:
    """Copy the ledger at ``source`` to ``target``, which must not exist. Returns the number of rows. Raises UserError
    if that is impossible; nothing is created at ``target`` in that case."""
    if _resolved(source) == _resolved(target):
        raise UserError(f"{source}: both are the same ledger; name another one to copy to")
    with _original(source) as original, _replica(target) as replica:
        return _copy(original, replica, tell)


def _resolved(place: Place) -> Place:
    return place if isinstance(place, Database) else resolve(place)


def _original(place: Place) -> AbstractContextManager[Original]:
    if not isinstance(place, Database):
        return file_copy.original(place)
    require_client()
    from mlflow_trace_exporter.ledger import database_copy  # an extra

    return database_copy.original(place)


def _replica(place: Place) -> AbstractContextManager[Replica]:
    if not isinstance(place, Database):
        return file_copy.replica(place)
    require_client()
    from mlflow_trace_exporter.ledger import database_copy  # an extra

    return database_copy.replica(place)


def _copy(original: Original, replica: Replica, tell: Progress) -> int:
    found = tables()
    total, copied = sum(map(original.count, found)), 0
    tell(copied, total)
    for table in found:
        for rows in original.parts(table, ROWS_AT_ONCE):
            replica.write(table, rows)
            copied += len(rows)
            tell(copied, total)
    return copied


def tables() -> list[Table]:
    """The tables of a ledger with the current schema."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(SCHEMA)
        return list(_tables(model))


def _tables(db: sqlite3.Connection) -> Iterator[Table]:
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
        columns = dict(db.execute("SELECT name, type FROM pragma_table_info(?)", (name,)))
        yield Table(name, tuple(columns), tuple(each for each, kind in columns.items() if kind == "NUMERIC"))
