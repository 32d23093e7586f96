"""Opens a ledger, wherever it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger.connection import Connection
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.ledger.sqlite import SqliteConnection


class Candidate(Protocol):
    """A process that wants to write to a ledger."""

    def lead(self) -> Connection:
        """Open the ledger, or create one. Raises UserError if only the user can fix the problem. A ledger in
        PostgreSQL raises HeldError if another process leads, and PollError if there is no connection."""
        ...

    def leads(self) -> bool:
        """Whether this process may still write, as far as it knows."""
        ...

    def withdraw(self) -> None:
        """Stop trying to lead."""
        ...


class _OnlyOne:
    """The process that has locked a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lead(self) -> Connection:
        return SqliteConnection(self._path)

    def leads(self) -> bool:
        return True

    def withdraw(self) -> None:
        pass


def candidate(place: Place, lost: Callable[[], None] = lambda: None) -> Candidate:
    """Who may open the ledger at ``place``. If this process no longer leads, another thread calls ``lost``.
    Raises UserError if PostgreSQL's client is needed but not installed."""
    if not isinstance(place, Database):
        return _OnlyOne(place)
    require_client()
    from mlflow_trace_exporter.ledger import leadership  # an extra

    return leadership.Candidate(place, lost)


def require_client() -> None:
    """Raise UserError if PostgreSQL's client is not installed."""
    try:
        import psycopg  # noqa: F401 - to see whether it is there
    except ImportError as error:
        raise UserError(
            f"ledger.url: the client of PostgreSQL cannot be used ({error}); install it with"
            " pip install 'mlflow-trace-exporter[postgresql]'"
        ) from None


def connect(place: Place) -> Connection:
    """Open the database of the ledger at ``place``. Raises as ``Candidate.lead`` does."""
    only_try = candidate(place)
    try:
        return only_try.lead()
    finally:
        only_try.withdraw()


def open_ledger(place: Place) -> Ledger:
    """Open the ledger at ``place``, or create one. Raises as ``Candidate.lead`` does."""
    return Ledger(connect(place))
