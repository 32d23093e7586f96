"""A ledger in a schema of a PostgreSQL database: its tables, queries and transactions.

All differences between SQLite and PostgreSQL are in this module. Both keep what a transaction has committed, and
nothing of a transaction that failed.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Protocol

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from mlflow_trace_exporter.errors import PollError, Reason, UserError
from mlflow_trace_exporter.ledger.connection import LedgerDamagedError, LedgerLostError
from mlflow_trace_exporter.ledger.contents import DamagedError, require_valid
from mlflow_trace_exporter.ledger.place import Database
from mlflow_trace_exporter.ledger.schema import SCHEMA, SCHEMA_VERSION
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS

log = logging.getLogger(__name__)

Session = psycopg.Connection[tuple[Any, ...]]

IDLE_S = 10
"""After this many seconds of silence, the server ends a session: its process is paused, or cannot be reached."""

_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",
}
"""Parameters with which libpq notices within about ten seconds that a server is gone. The URL can override them."""


class Term(Protocol):
    """A period in which a process may write to a ledger. ``epoch`` increases with each term."""

    epoch: int
    is_lost: bool

    def may_expose(self) -> bool:
        """Whether this process may expose totals now."""
        ...

    def end(self) -> None:
        """Let another process write."""
        ...


def open_session(database: Database, settings: Iterable[str] = ()) -> Session:
    """Connect to the database of a ledger, with only its schema in the search path. ``settings``: further statements to
    run at the start. Raises PollError."""
    parameters = {**_DEFAULTS, "application_name": "mlflow-trace-exporter", **_parameters(database)}
    with ledger_errors():
        session = psycopg.connect(autocommit=True, **parameters)
        try:
            session.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(database.name)))
            for setting in (*_settings(session.info.server_version), *settings):
                session.execute(setting)
        except BaseException:
            session.close()
            raise
        return session


def _parameters(database: Database) -> dict[str, Any]:
    try:
        return {name: value for name, value in conninfo_to_dict(database.url).items() if value is not None}
    except psycopg.Error:  # its message could quote the password
        raise UserError(
            "ledger.url: is not a URL of libpq, postgresql://user@host:5432/database; percent-encode special characters"
        ) from None


def _settings(server_version: int) -> Iterator[str]:
    yield f"SET idle_in_transaction_session_timeout = '{IDLE_S}s'"
    yield f"SET tcp_keepalives_idle = {IDLE_S}"
    yield "SET tcp_keepalives_interval = 2"
    yield "SET tcp_keepalives_count = 3"
    yield "SET lock_timeout = '60s'"
    if server_version >= 140_000:
        yield "SET client_connection_check_interval = '5s'"
    # what is committed is on disk, even if the database has another default
    yield "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"


class PostgresConnection:
    """A ledger in PostgreSQL, during a ``term`` in which this process may write. See ``Connection``.

    If the connection is lost, methods raise LedgerLostError, even for a transaction that may have been committed. The
    ledger must then be opened again.
    """

    def __init__(self, database: Database, term: Term, committed: int = 0) -> None:
        """Connect to the ledger. ``committed``: how many transactions this process knows it to have. Raises PollError,
        and UserError if the ledger contains invalid data."""
        self._database = database
        self._term = term
        self._db = open_session(database)
        self.sequence = 0
        """How many transactions the ledger had at the last commit."""
        try:
            self._require_valid()
            ((self.sequence,),) = self.rows("SELECT sequence FROM leader")
            self.gone_back = max(0, committed - self.sequence)
        except BaseException:
            self._db.close()
            raise

    def _require_valid(self) -> None:
        try:
            require_valid(self.rows)
        except DamagedError as error:
            raise self._refusal(error) from None

    def begin_again(self, damage: LedgerDamagedError) -> None:
        """Raise UserError. A ledger in a database is not set aside, because databases have backups."""
        raise self._refusal(damage.cause)

    def _refusal(self, damage: object) -> UserError:
        return UserError(f"the {self._database} is damaged: {damage}; restore a backup, or set another ledger.name")

    def close(self) -> None:
        """Disconnect, and let another process write."""
        with suppress(psycopg.Error):
            self._db.close()
        self._term.end()

    def may_expose(self) -> bool:
        """See ``leadership``."""
        return self._term.may_expose()

    def size_bytes(self) -> int:
        """The size of the ledger's tables and their indexes."""
        query = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        ((size,),) = self.rows(f"{query} WHERE relkind = 'r' AND nspname = ?", self._database.name)
        return int(size or 0)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with ledger_errors(self._db):
            return rows_of(self._db, query, *parameters)

    def execute(self, statement: str, *parameters: object) -> None:
        """Run a statement inside a transaction."""
        self._db.execute(translated(statement), [*map(_written, parameters)])

    def each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row inside a transaction."""
        with self._db.cursor() as cursor:
            cursor.executemany(translated(statement), [[*map(_written, row)] for row in rows])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the statements of the block in one transaction, unless another process has begun a term."""
        if self._term.is_lost:
            raise LedgerLostError("the leader's session has ended")
        with ledger_errors(self._db):
            self._db.execute("BEGIN")
            try:
                sequence = self._next_in_sequence()
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(psycopg.Error):
                    self._db.execute("ROLLBACK")
                raise
            self.sequence = sequence

    def _next_in_sequence(self) -> int:
        """Count this transaction. The next leader waits until it ends, because both change the same row."""
        statement = "UPDATE leader SET sequence = sequence + 1 WHERE epoch = %s RETURNING sequence"
        row = self._db.execute(statement, [self._term.epoch]).fetchone()
        if row is None:
            raise LedgerLostError("another process leads")
        return int(row[0])

    def drop_copies(self) -> None:
        """There are none."""


CREATE_LEADER = f"""
CREATE TABLE leader (one INTEGER PRIMARY KEY CHECK (one = 1), schema_version INTEGER NOT NULL, epoch BIGINT NOT NULL,
  sequence BIGINT NOT NULL, holder TEXT NOT NULL, since_ms BIGINT NOT NULL, has_ended BOOLEAN NOT NULL);
INSERT INTO leader VALUES (1, {SCHEMA_VERSION}, 0, 0, '', 0, true);
"""  # noqa: S608 - no values

_TYPES = (
    (r"groups \(id INTEGER PRIMARY KEY", "groups (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
    (r"trace_id TEXT PRIMARY KEY", "trace_id TEXT NOT NULL"),
    (r" WITHOUT ROWID", ""),
    (r"PRAGMA .*;", ""),
    (r"\bINTEGER\b", "BIGINT"),
    (r"\bNUMERIC\b", "DOUBLE PRECISION"),
    (r"\bBLOB\b", "BYTEA"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
    (r"(labels TEXT COLLATE \"C\") PRIMARY KEY", r"\1 NOT NULL"),
    (r",\s+(?:UNIQUE|PRIMARY KEY) \([^)]*labels[^)]*\)", ""),
)

_FUNCTIONS = """
CREATE FUNCTION digest(labels TEXT) RETURNS BYTEA IMMUTABLE STRICT PARALLEL SAFE LANGUAGE SQL
  AS $$ SELECT sha256(convert_to(labels, 'UTF8')) $$;
"""
_INDEXES = """
CREATE INDEX pending_by_id ON pending USING hash (trace_id);
CREATE UNIQUE INDEX totals_by_series ON totals (family, digest(labels), part);
CREATE UNIQUE INDEX groups_by_labels ON groups (digest(labels), names);
CREATE UNIQUE INDEX versions_by_labels ON versions (digest(labels));
CREATE UNIQUE INDEX sketches_by_place ON sketches (period_ms, start_ms, who, digest(labels));
"""
"""Labels and ids can be longer than an entry of a B-tree (2.7 kB)."""


def tables() -> str:
    """The statements that create the tables of a ledger."""
    schema = SCHEMA
    for pattern, replacement in _TYPES:
        schema = re.sub(pattern, replacement, schema)
    first = f"INSERT INTO totals VALUES ('{LEDGER_RESETS}', '[]', '', 0, 0);"  # noqa: S608 - no values
    return f"{_FUNCTIONS} {schema} {_INDEXES} {CREATE_LEADER} {first}"


def create_tables(session: Session, database: Database) -> bool:
    """Create a ledger, inside a transaction, if it does not exist. Returns whether it was created. Raises UserError if
    the schema contains something else, or if this user is not allowed to create it."""
    try:
        return _create_tables(session, database)
    except errors.InsufficientPrivilege as error:
        raise UserError(
            f"the {database} cannot be created: {first_line(error)}; as an administrator, CREATE SCHEMA {database.name}"
            " AUTHORIZATION the user of ledger.url"
        ) from None


def _create_tables(session: Session, database: Database) -> bool:
    if session.info.parameter_status("server_encoding") != "UTF8":
        raise UserError("ledger.url: the database has to have the encoding UTF8; create another one")
    if not session.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [database.name]).fetchall():
        session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(database.name)))
    version = version_in(session, database)
    if version is not None:
        if version != SCHEMA_VERSION:
            raise UserError(
                f"the {database} has schema {version}, but this version of the exporter supports schema"
                f" {SCHEMA_VERSION}; set another ledger.name"
            )
        return False
    if session.execute("SELECT 1 FROM pg_tables WHERE schemaname = %s", [database.name]).fetchall():
        raise UserError(f"ledger.name: the schema {database.name} has tables of another program; set another name")
    session.execute(tables().encode())
    return True


def version_in(session: Session, database: Database) -> int | None:
    """The schema version of a ledger; None if there is none."""
    query = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'leader'"
    if not session.execute(query, [database.name]).fetchall():
        return None
    (version,) = session.execute("SELECT schema_version FROM leader").fetchone() or (0,)
    return int(version)


def rows_of(session: Session, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """All rows of a query that is written for SQLite."""
    found = session.execute(translated(query), [*map(_written, parameters)]).fetchall()
    return [tuple(map(_read, row)) for row in found]


def parts_of(session: Session, query: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
    """All rows of a query inside a transaction, up to ``size`` at a time."""
    session.execute(f"DECLARE parts NO SCROLL CURSOR FOR {query}".encode())
    while rows := rows_of(session, f"FETCH {size} FROM parts"):
        yield rows
    session.execute("CLOSE parts")


def write_rows(session: Session, table: str, columns: Iterable[str], rows: Iterable[Sequence[object]]) -> None:
    """Add many rows to a table, inside a transaction."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([*map(_written, row)])


@lru_cache(maxsize=1_000)
def translated(statement: str) -> str:
    """A statement for SQLite, translated for psycopg."""
    statement = statement.replace("%", "%%").replace("labels = ?", "digest(labels) = digest(?)")
    statement = re.sub(r"(ON CONFLICT \([^)]*?)\blabels\b", r"\1digest(labels)", statement)
    return statement.replace("?", "%s")


def _written(value: object) -> object:
    """A value that PostgreSQL can store: it accepts neither NUL in texts nor Booleans in columns of numbers."""
    if isinstance(value, str):
        return value.replace(_ESCAPE, _ESCAPE + "E").replace("\0", _ESCAPE + "0")
    return int(value) if isinstance(value, bool) else value


def _read(value: Any) -> Any:
    if isinstance(value, str) and _ESCAPE in value:
        return re.sub(f"{_ESCAPE}([E0])", lambda found: _ESCAPE if found[1] == "E" else "\0", value)
    return value


_ESCAPE = "\ufffe"
"""A character that no text should contain."""


@contextmanager
def ledger_errors(session: "psycopg.Connection[Any] | None" = None) -> Iterator[None]:
    """Convert PostgreSQL's errors to PollError, or to LedgerLostError if the error has ended the ``session``."""
    try:
        yield
    except psycopg.Error as error:
        text = first_line(error)
        if session is None:
            raise PollError(Reason.LEDGER, f"PostgreSQL cannot be reached: {text}") from error
        if isinstance(error, errors.ReadOnlySqlTransaction):
            session.close()  # this server has become a standby
        if session.closed:
            raise LedgerLostError(text) from error
        raise PollError(Reason.LEDGER, f"the ledger cannot be used: {text}") from error


def first_line(error: psycopg.Error) -> str:
    """The first line of a message, which says what happened. The rest is hints."""
    return str(error).strip().partition("\n")[0]
