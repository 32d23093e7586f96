"""Copies a ledger from PostgreSQL, or to it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.ledger.connection import HeldError
from mlflow_trace_exporter.ledger.contents import DamagedError, require_valid
from mlflow_trace_exporter.ledger.leadership import brief_session, require_free
from mlflow_trace_exporter.ledger.place import Database
from mlflow_trace_exporter.ledger.postgresql import (
    Session,
    create_tables,
    ledger_errors,
    parts_of,
    rows_of,
    version_in,
    write_rows,
)
from mlflow_trace_exporter.ledger.schema import SCHEMA_VERSION
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS

if TYPE_CHECKING:
    from mlflow_trace_exporter.ledger.copying import Table

_SETTINGS = (
    "SET idle_in_transaction_session_timeout = 0",
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'",
)
"""Let a session wait while the other ledger is read or written, however long that takes."""


class _Original:
    def __init__(self, session: Session, database: Database) -> None:
        self._session = session
        self._database = database

    def count(self, table: "Table") -> int:
        with _errors(self._database, self._session):
            ((count,),) = rows_of(self._session, f"SELECT count(*) FROM {table.name}")  # noqa: S608 - our own schema
            return int(count)

    def parts(self, table: "Table", size: int) -> Iterator[Sequence[Sequence[Any]]]:
        query = f"SELECT {', '.join(table.columns)} FROM {table.name}"  # noqa: S608 - our own schema
        with _errors(self._database, self._session):
            yield from parts_of(self._session, query, size)


class _Replica:
    def __init__(self, session: Session) -> None:
        self._session = session

    def write(self, table: "Table", rows: Sequence[Sequence[Any]]) -> None:
        for column in table.numbers:
            at = table.columns.index(column)
            for row in rows:
                require_exact(row[at])
        write_rows(self._session, table.name, table.columns, rows)


def require_exact(number: float) -> None:
    """Raise UserError for a number that PostgreSQL would round: a file can contain 64-bit integers, but a
    floating-point number in PostgreSQL holds only 53 bits."""
    if isinstance(number, int) and int(float(number)) != number:
        raise UserError(f"a total is {number}, which PostgreSQL would round; such a ledger cannot be copied to it")


@contextmanager
def original(database: Database) -> Iterator[_Original]:
    """A ledger in PostgreSQL to copy from. No exporter can use it until the block ends. Raises UserError if it does not
    exist, is in use, or is damaged."""
    with _held(database) as session, session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        _require_ledger(session, database)
        yield _Original(session, database)


def _require_ledger(session: Session, database: Database) -> None:
    version = version_in(session, database)
    if version is None:
        raise UserError(f"{database}: there is no ledger to copy")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"the {database} has schema {version}, but this version of the exporter supports schema {SCHEMA_VERSION};"
            " copy it with the version that wrote it"
        )
    try:
        require_valid(lambda query: rows_of(session, query))
    except DamagedError as error:
        raise UserError(f"the {database} is damaged: {error}; restore a backup, and copy that") from None


@contextmanager
def replica(database: Database) -> Iterator[_Replica]:
    """A new ledger in PostgreSQL, which is committed when the block ends. Raises UserError if it already exists, or if
    this user is not allowed to create it."""
    with _held(database) as session, session.transaction():
        if not create_tables(session, database):
            raise UserError(
                f"the {database} already exists; name another one, or let an administrator"
                f" DROP SCHEMA {database.name} CASCADE if nobody needs it"
            )
        session.execute("DELETE FROM totals")  # each new ledger has one
        yield _Replica(session)
        session.execute(_FIRST)
        session.execute(_NEXT_ID)
        try:
            require_valid(lambda query: rows_of(session, query))
        except DamagedError as error:
            raise UserError(f"the copy is invalid: {error}") from None


_FIRST = f"INSERT INTO totals VALUES ('{LEDGER_RESETS}', '[]', '', 0, 0) ON CONFLICT DO NOTHING"  # noqa: S608 - no values
_NEXT_ID = """
SELECT setval(pg_get_serial_sequence('groups', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM groups), false)
"""
"""The copy keeps the ids of groups, so those of new groups begin after them."""


@contextmanager
def _held(database: Database) -> Iterator[Session]:
    """A session during which no exporter can use the ledger."""
    try:
        with _errors(database), brief_session(database, _SETTINGS) as session, _errors(database, session):
            require_free(session, database)
            yield session
    except HeldError as held:
        raise UserError(f"the {database} is in use by {held.holder}; stop that exporter, and its replicas") from None


@contextmanager
def _errors(database: Database, session: Session | None = None) -> Iterator[None]:
    """Convert PostgreSQL's errors to UserError."""
    try:
        with ledger_errors(session):
            yield
    except PollError as error:
        raise UserError(f"{database}: {error}") from None
