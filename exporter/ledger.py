"""The ledger: what has been counted, what it added up to, and how far reading has come. SQLite.

Each page of traces is one transaction that holds the ids, what they add to the totals, and the position after them. So
after a crash at any moment either all of a page is there or none of it, and a page that is read again counts nothing.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from exporter.errors import PollError, Reason, UserError, what_failed
from exporter.horizon import FreshPass, Horizon, Window
from exporter.metrics import Cell, TraceFamily
from exporter.trace import TraceRecord

APPLICATION_ID = 0x4D54_4578
"""Marks a SQLite file as a ledger of this program ("MTEx")."""

SCHEMA_VERSION = 1

_SCHEMA = f"""
CREATE TABLE counted (trace_id TEXT PRIMARY KEY, start_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE totals (family TEXT, labels TEXT, part TEXT, value NUMERIC NOT NULL, PRIMARY KEY (family, labels, part))
  WITHOUT ROWID;
CREATE TABLE shapes (family TEXT PRIMARY KEY, shape TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE horizon (one INTEGER PRIMARY KEY CHECK (one = 1), origin_ms INTEGER NOT NULL, fresh_ms INTEGER,
  pass_started_ms INTEGER, pass_lo_ms INTEGER, pass_hi_ms INTEGER, pass_ended_after_ms INTEGER);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


class Ledger:
    """One ledger file, held by this process alone until ``close``.

    Every method but the constructor raises PollError with Reason.LEDGER where SQLite cannot do what it is asked (disk
    full, file gone): nothing of that call is kept then.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger at ``path``, or begin a new one.

        Raises UserError where the path cannot be written, another process holds it, or the file there is not a ledger
        that this version can read. Such a file is left as it is.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        except OSError as error:
            raise UserError(f"cannot keep a ledger at {path}: {what_failed(error)}; set ledger.path") from None
        try:
            self._db = _open(path)
            self._inode = path.stat().st_ino
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Close the file and let other processes have it."""
        self._db.close()
        self._lock.close()

    def horizon(self) -> Horizon | None:
        """How far reading had come at the last commit; None before the first."""
        with _ledger_errors():
            row = self._db.execute(
                "SELECT origin_ms, fresh_ms, pass_started_ms, pass_lo_ms, pass_hi_ms, pass_ended_after_ms FROM horizon"
            ).fetchone()
        if row is None:
            return None
        origin_ms, fresh_ms, started_ms, lo_ms, hi_ms, ended_after_ms = row
        under_way = None if started_ms is None else FreshPass(started_ms, Window(lo_ms, hi_ms, ended_after_ms))
        return Horizon(origin_ms, fresh_ms, under_way)

    def not_counted(self, records: Sequence[TraceRecord]) -> list[TraceRecord]:
        """Those of the records that have not been counted yet, each id once."""
        by_id = {record.trace_id: record for record in records}
        with _ledger_errors():
            rows = self._db.execute(
                "SELECT trace_id FROM counted WHERE trace_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(by_id)),),
            )
            counted = {trace_id for (trace_id,) in rows}
        return [record for trace_id, record in by_id.items() if trace_id not in counted]

    def commit(
        self,
        horizon: Horizon,
        counted: Iterable[TraceRecord] = (),
        amounts: Mapping[Cell, float] | None = None,
    ) -> None:
        """Store, in one transaction: these traces are counted, they add ``amounts``, reading has come to ``horizon``.

        A trace that is counted already makes the whole call fail: to count twice would be worse than to stop.
        """
        with self._transaction():
            self._db.executemany(
                "INSERT INTO counted VALUES (?, ?)",
                [(record.trace_id, record.start_ms) for record in counted],
            )
            self._db.executemany(
                "INSERT INTO totals VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET value = value + excluded.value WHERE excluded.value != 0",
                [(cell.family, _dump(cell.labels), cell.part, amount) for cell, amount in (amounts or {}).items()],
            )
            self._db.execute("INSERT OR REPLACE INTO horizon VALUES (1, ?, ?, ?, ?, ?, ?)", _columns(horizon))

    def totals(self) -> dict[Cell, float]:
        """All totals as of the last commit."""
        with _ledger_errors():
            rows = self._db.execute("SELECT family, labels, part, value FROM totals ORDER BY family, labels").fetchall()
        return {Cell(family, tuple(json.loads(labels)), part): value for family, labels, part, value in rows}

    def adopt(self, families: Iterable[TraceFamily]) -> list[str]:
        """Take these families as the ones to keep from now on.

        A family that was kept with other label names or other bucket edges cannot be continued: its totals begin again
        at zero. Returns the names of such families, for the log.
        """
        shapes = {family.name: _dump((family.label_names, family.buckets)) for family in families}
        with self._transaction():
            before = dict(self._db.execute("SELECT family, shape FROM shapes"))
            changed = sorted(name for name, shape in shapes.items() if before.get(name, shape) != shape)
            self._db.executemany("DELETE FROM totals WHERE family = ?", [(name,) for name in changed])
            self._db.executemany("INSERT OR REPLACE INTO shapes VALUES (?, ?)", shapes.items())
        return changed

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _ledger_errors():
            self._require_in_place()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _require_in_place(self) -> None:
        """What is committed to a file that was deleted is gone with the process, so it must not be committed."""
        try:
            in_place = self._path.stat().st_ino == self._inode
        except OSError:
            in_place = False
        if not in_place:
            raise PollError(Reason.LEDGER, f"{self._path} was removed or replaced; start the exporter again")


def _columns(horizon: Horizon) -> tuple[int | None, ...]:
    at = horizon.under_way
    if at is None:
        return (horizon.origin_ms, horizon.fresh_ms, None, None, None, None)
    window = at.window
    return (
        horizon.origin_ms,
        horizon.fresh_ms,
        at.started_ms,
        window.lo_ms,
        window.hi_ms,
        window.ended_after_ms,
    )


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def _ledger_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise PollError(Reason.LEDGER, f"the ledger cannot be used: {error}") from error


def _lock(path: Path) -> IO[str]:
    """Hold ``path`` for this process: a second exporter on the same ledger would count every trace again."""
    lock = Path(f"{path}.lock").open("a+", encoding="ascii")  # noqa: SIM115 - open for as long as the lock is held
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise UserError(
            f"the ledger {path} is in use by process {holder}; stop that one, or set another ledger.path"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _open(path: Path) -> sqlite3.Connection:
    with _user_errors(path), ExitStack() as undo:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        undo.callback(db.close)
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        _refuse_foreign(db, path)  # before anything is written to a file that is not ours
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        undo.pop_all()
        return db


def examine(path: Path) -> bool:
    """Whether there is a ledger at ``path``. Only reads. Raises UserError for a file that ``Ledger`` would refuse."""
    try:
        if not path.exists():
            nearest = next(parent for parent in path.absolute().parents if parent.exists())
            if not nearest.is_dir() or not os.access(nearest, os.W_OK):
                raise UserError(f"cannot keep a ledger at {path}: {nearest} cannot be written; set ledger.path")
            return False
    except OSError as error:
        raise UserError(f"cannot keep a ledger at {path}: {what_failed(error)}; set ledger.path") from None
    with _user_errors(path), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        _refuse_foreign(db, path)
    return True


@contextmanager
def _user_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(f"{path} cannot be used as a ledger ({error}); move it away or set ledger.path") from None


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise UserError(f"{path} is a database of another program; move it away or set ledger.path")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has the schema {version}, and this version of the exporter reads schema {SCHEMA_VERSION};"
            " move it away or set ledger.path"
        )
