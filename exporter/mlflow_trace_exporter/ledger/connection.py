"""What the ledger needs from a database, and how labels are written in it.

SQLite and PostgreSQL run the same statements. The parameters are written as ``?``.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mlflow_trace_exporter.errors import PollError, Reason


class LedgerDamagedError(PollError):
    """The ledger contains data that cannot have been written like this; see ``Connection.begin_again``."""

    def __init__(self, cause: object) -> None:
        super().__init__(Reason.LEDGER, f"the ledger is damaged: {cause}")
        self.cause = cause


class HeldError(Exception):
    """Another process leads. ``holder`` says which one, ``since_ms`` since when (Unix ms)."""

    def __init__(self, holder: str, since_ms: int) -> None:
        super().__init__(holder)
        self.holder = holder
        self.since_ms = since_ms


class LedgerLostError(PollError):
    """The connection to the ledger is lost, or another process leads. The ledger must be opened again."""

    def __init__(self, cause: object) -> None:
        super().__init__(Reason.LEDGER, f"the connection to the ledger is lost: {cause}")


class Connection(Protocol):
    """The database of a ledger, which only this process may write to until ``close``.

    If the database fails (disk full, file gone, server down), methods raise PollError with Reason.LEDGER, and the
    ledger is unchanged. If it contains invalid data, the error is a LedgerDamagedError. After a LedgerLostError, the
    last transaction may have been committed.
    """

    gone_back: int
    """How many transactions that this process committed are lost, as after a fail-over to a standby that lags."""

    def may_expose(self) -> bool:
        """Whether this process may expose what the ledger contains. If not, another process may."""
        ...

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        ...

    def execute(self, statement: str, *parameters: object) -> None:
        """Run a statement inside a transaction."""
        ...

    def each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row inside a transaction."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Run the statements of the block in one transaction."""
        ...

    def drop_copies(self) -> None:
        """Delete the copies that were made before the ledger was migrated from an earlier schema."""
        ...

    def begin_again(self, damage: LedgerDamagedError) -> None:
        """Set the damaged ledger aside and create a new one. Raises UserError if that is impossible."""
        ...

    def size_bytes(self) -> int:
        """The size of the ledger on disk."""
        ...

    def close(self) -> None:
        """Let another process write."""
        ...


def upsert(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """The statement that adds a row, or replaces the one with the same ``key``, the first of its columns."""
    marks = ", ".join("?" * len(columns))
    others = [column for column in columns if column not in key]
    changes = ", ".join(f"{column} = excluded.{column}" for column in others)
    conflict = f"({', '.join(key)}) DO {f'UPDATE SET {changes}' if others else 'NOTHING'}"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT {conflict}"  # noqa: S608 - no values


_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump(value: object) -> str:
    """Serialize labels for the ledger."""
    return _write(value)


def load(text: str) -> tuple[str, ...]:
    """Deserialize labels from the ledger. Raises LedgerDamagedError if they are invalid."""
    try:
        return tuple(map(sys.intern, json.loads(text)))  # values recur in many series, so they are kept only once
    except (ValueError, TypeError):
        raise LedgerDamagedError(f"{text!r:.100} is not a list of labels") from None
