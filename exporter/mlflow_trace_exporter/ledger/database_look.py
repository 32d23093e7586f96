"""Read-only access to a ledger in PostgreSQL, which `serve` may be using."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.ledger.connection import HeldError
from mlflow_trace_exporter.ledger.contents import DamagedError, require_valid
from mlflow_trace_exporter.ledger.leadership import brief_session, require_free
from mlflow_trace_exporter.ledger.outlook import Outlook, Rows
from mlflow_trace_exporter.ledger.place import Database
from mlflow_trace_exporter.ledger.postgresql import Session, create_tables, ledger_errors, rows_of, version_in


def outlook(database: Database) -> Outlook:
    """The state of a ledger. Changes nothing. Raises UserError if `serve` could not keep one there."""
    with _session(database) as session:
        try:
            require_free(session, database)
        except HeldError:
            return Outlook.IN_USE
        with session.transaction(force_rollback=True):
            if create_tables(session, database):
                return Outlook.NEW
            try:
                require_valid(lambda query: rows_of(session, query))
            except DamagedError as error:
                raise UserError(f"the {database} is damaged: {error}") from None
        return Outlook.FOUND


@contextmanager
def reading(database: Database) -> Iterator[tuple[int, Rows] | None]:
    """The schema version of a ledger, and queries of it; None if there is none yet. Raises UserError if PostgreSQL
    cannot be reached."""
    with _session(database) as session:
        version = version_in(session, database)
        if version is None:
            yield None
        else:
            yield version, lambda query, *parameters: rows_of(session, query, *parameters)


@contextmanager
def _session(database: Database) -> Iterator[Session]:
    try:
        with brief_session(database) as session, ledger_errors(session):
            yield session
    except PollError as error:
        raise UserError(f"ledger.url: {error}") from None
