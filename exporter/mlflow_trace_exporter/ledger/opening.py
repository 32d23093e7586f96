"""Opens a ledger, wherever it is."""

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger.connection import Connection
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.ledger.sqlite import SqliteConnection


def require_client() -> None:
    """Raise UserError if the client of PostgreSQL is not installed."""
    try:
        import psycopg  # noqa: F401 - an extra
    except ImportError as error:
        raise UserError(
            f"ledger.url: the client of PostgreSQL cannot be used ({error}); install it with"
            " pip install 'mlflow-trace-exporter[postgresql]'"
        ) from None


def connect(place: Place) -> Connection:
    """Open the database of the ledger at ``place``. Raises UserError as ``SqliteConnection`` does; for PostgreSQL,
    raises as ``Candidate.lead`` does."""
    if isinstance(place, Database):
        require_client()
        from mlflow_trace_exporter.ledger.leadership import Candidate

        return Candidate(place).lead()
    return SqliteConnection(place)


def open_ledger(place: Place) -> Ledger:
    """Open the ledger at ``place``, or create one. Raises as ``connect`` does."""
    return Ledger(connect(place))
