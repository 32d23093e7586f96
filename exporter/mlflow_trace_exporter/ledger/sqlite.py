"""A ledger in an SQLite file: queries, transactions, and the handling of damaged or removed files."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.ledger.connection import LedgerDamagedError
from mlflow_trace_exporter.ledger.file import hold, is_damage, open_database, resolve, set_aside
from mlflow_trace_exporter.ledger.schema import drop_copies

log = logging.getLogger(__name__)


class SqliteConnection:
    """A ledger file, locked by this process until ``close``. See ``Connection``."""

    gone_back = 0

    def __init__(self, path: Path) -> None:
        """Open the ledger at ``path``, or create one. Raises UserError as ``resolve``, ``hold`` and ``open_database``
        do."""
        self._path = resolve(path)
        self._lock = hold(self._path)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        self._db = open_database(self._path)
        self._inode = self._path.stat().st_ino
        self._log_inode: int | None = None
        self._may_have_copies = True

    def begin_again(self, damage: LedgerDamagedError) -> None:
        """Set the damaged file aside and create a new ledger. Raises UserError as the constructor does."""
        self._db.close()
        set_aside(self._path, damage.cause)
        self._open()

    def close(self) -> None:
        """Close and unlock the file."""
        self._db.close()
        self._lock.close()

    def may_expose(self) -> bool:
        """Always, because the file is locked."""
        return True

    def size_bytes(self) -> int:
        """The size of the ledger on disk."""
        beside = (Path(f"{self._path}{suffix}") for suffix in ("", "-wal"))
        return sum(each.stat().st_size for each in beside if each.exists())

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with ledger_errors():
            return self._db.execute(query, parameters).fetchall()

    def execute(self, statement: str, *parameters: object) -> None:
        """Run a statement inside a transaction."""
        self._db.execute(statement, parameters)

    def each(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row inside a transaction."""
        self._db.executemany(statement, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the statements of the block in one transaction."""
        with ledger_errors():
            self._require_in_place()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._log_inode = self._log_inode or _inode_of(self._log_path)

    def drop_copies(self) -> None:
        """Delete the copies of a converted ledger, if there are any."""
        if self._may_have_copies:
            drop_copies(self._path)
            self._may_have_copies = False

    @property
    def _log_path(self) -> Path:
        """SQLite's write-ahead log, which contains recent commits."""
        return Path(f"{self._path}-wal")

    def _require_in_place(self) -> None:
        """Raise PollError if the ledger file was removed, because commits to a deleted file are lost when the process
        ends.

        If only the write-ahead log was removed, its content can still be moved into the ledger.
        """
        if _inode_of(self._path) != self._inode:
            raise PollError(Reason.LEDGER, f"{self._path} was removed or replaced; start the exporter again")
        if self._log_inode is not None and _inode_of(self._log_path) != self._log_inode:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            self._open()
            log.warning("the ledger's write-ahead log was removed; nothing is lost", extra={"ledger": self._path})


def _inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Convert errors of SQLite to PollError."""
    try:
        yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise LedgerDamagedError(error) from error
        raise PollError(Reason.LEDGER, f"the ledger cannot be used: {error}") from error
