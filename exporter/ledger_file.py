"""The ledger as a file: its lock, its schema, and what is done about a file that is not what it should be."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from exporter.errors import UserError, what_failed
from exporter.families import LEDGER_RESETS

log = logging.getLogger(__name__)

APPLICATION_ID = 0x4D54_4578
"""Marks a SQLite file as a ledger of this program ("MTEx")."""

SCHEMA_VERSION = 3

_SCHEMA = f"""
CREATE TABLE done (trace_id TEXT PRIMARY KEY, start_ms INTEGER NOT NULL, amounts INTEGER);
CREATE INDEX done_by_start ON done (start_ms);
CREATE TABLE pending (trace_id TEXT PRIMARY KEY, start_ms INTEGER NOT NULL, experiment_id TEXT NOT NULL,
  experiment TEXT NOT NULL, environment TEXT NOT NULL, running INTEGER NOT NULL, first_ms INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL, form INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX pending_by_next ON pending (next_ms);
CREATE TABLE retired (bucket_ms INTEGER PRIMARY KEY, traces INTEGER NOT NULL);
CREATE TABLE totals (family TEXT, labels TEXT, part TEXT, value NUMERIC NOT NULL, slept NUMERIC NOT NULL,
  PRIMARY KEY (family, labels, part)) WITHOUT ROWID;
CREATE TABLE groups (labels TEXT PRIMARY KEY, active_ms INTEGER NOT NULL, stage INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (labels TEXT PRIMARY KEY, first_ms INTEGER) WITHOUT ROWID;
CREATE TABLE shapes (family TEXT PRIMARY KEY, shape TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE experiments (experiment_id TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, origin_ms INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE horizon (one INTEGER PRIMARY KEY CHECK (one = 1), origin_ms INTEGER NOT NULL, fresh_ms INTEGER,
  closed_ms INTEGER NOT NULL, retired_ms INTEGER NOT NULL);
CREATE TABLE passes (kind TEXT PRIMARY KEY, started_ms INTEGER NOT NULL, from_ms INTEGER NOT NULL,
  lo_ms INTEGER NOT NULL, hi_ms INTEGER NOT NULL, ended_after_ms INTEGER) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_FROM_2 = """
CREATE TABLE versions (labels TEXT PRIMARY KEY, first_ms INTEGER) WITHOUT ROWID;
INSERT OR IGNORE INTO versions SELECT json_array(json_extract(labels, '$[0]'),
  json_extract(labels, '$[1]'), json_extract(labels, '$[2]')), NULL FROM groups
  WHERE json_array_length(labels) > 2;
PRAGMA user_version = 3;
"""
"""Of a version that was there before nobody knows when it was seen first, and so it stays."""


def hold(path: Path, what: str = "the ledger", remedy: str = "set another ledger.path") -> IO[str]:
    """Hold ``path`` for this process until the file that is returned is closed: a second exporter on the same ledger
    would count every trace again. Raises UserError where another process holds it, or the path cannot be written; it
    says ``what`` is held, and the ``remedy``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = Path(f"{path}.lock").open("a+", encoding="ascii")  # noqa: SIM115 - open as long as the lock is held
    except OSError as error:
        raise _cannot_keep(path, what_failed(error)) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise UserError(f"{what} {path} is in use by process {holder}; stop that one, or {remedy}") from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def open_database(path: Path) -> sqlite3.Connection:
    """Open the ledger at ``path``, which this process holds, or begin a new one.

    A ledger that is damaged is set aside under another name, which is logged and counted, and a new one begun. Raises
    UserError where the file there is no ledger, or not one that this version can read; it is left as it is.
    """
    with _user_errors(path):
        try:
            return _open(path)
        except sqlite3.DatabaseError as error:
            if not (_is_damage(error) and _is_ours(path)):
                raise
            _set_aside(path, error)
        return _open(path)


def examine(path: Path) -> bool:
    """Whether there is a ledger at ``path``. Only reads. Raises UserError for a file that would be refused."""
    try:
        if not path.exists():
            nearest = next(parent for parent in path.absolute().parents if parent.exists())
            if not nearest.is_dir() or not os.access(nearest, os.W_OK):
                raise _cannot_keep(path, f"{nearest} cannot be written")
            return False
    except OSError as error:
        raise _cannot_keep(path, what_failed(error)) from None
    with _only_read(path) as db:
        _refuse_foreign(db, path)
    return True


def origin_ms(path: Path) -> int | None:
    """From which start time on `serve` counts (Unix ms), as the ledger at ``path`` says; None where there is none yet.
    Only reads, and `serve` may run meanwhile. Raises UserError as ``examine`` does."""
    if not examine(path):
        return None
    with _only_read(path) as db:
        row = db.execute("SELECT origin_ms FROM horizon").fetchone()
    return None if row is None else int(row[0])


@contextmanager
def _only_read(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with _user_errors(path), closing(sqlite3.connect(uri, uri=True)) as db:
        yield db


def _open(path: Path) -> sqlite3.Connection:
    with ExitStack() as undo:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        undo.callback(db.close)
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            log.info("a new ledger is begun", extra={"ledger": path})
            db.execute("INSERT INTO totals VALUES (?, '[]', '', ?, 0)", (LEDGER_RESETS, len(_set_aside_before(path))))
        _refuse_foreign(db, path)  # before anything is written to a file that is not ours
        if _version(db) == 2:
            db.executescript(f"BEGIN; {_FROM_2} COMMIT;")
        (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise _Damaged(finding)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        undo.pop_all()
        return db


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    version = _version(db)
    if application_id != APPLICATION_ID:
        raise UserError(f"{path} is a database of another program; move it away or set ledger.path")
    if version not in (2, SCHEMA_VERSION):
        raise UserError(
            f"{path} has the schema {version}, and this version of the exporter reads schema {SCHEMA_VERSION};"
            " move it away or set ledger.path"
        )


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


class _Damaged(sqlite3.DatabaseError):
    """What SQLite's own check of a file found."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault, and not the disk, its permissions or somebody's lock."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it is detail
    return isinstance(error, _Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_ours(path: Path) -> bool:
    """Whether the head of the file says that it is a ledger (https://www.sqlite.org/fileformat.html, section 1.3)."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _set_aside(path: Path, error: sqlite3.DatabaseError) -> None:
    aside = Path(f"{path}.damaged-{len(_set_aside_before(path)) + 1}")
    for suffix in ("-wal", "-shm", ""):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    log.error(
        "the ledger is damaged; it is set aside, and all counters begin again at zero",
        extra={"ledger": path, "set_aside_as": aside, "error": str(error)},
    )


def _set_aside_before(path: Path) -> list[Path]:
    return [each for each in path.parent.glob(f"{path.name}.damaged-*") if each.suffix[1:].rpartition("-")[2].isdigit()]


@contextmanager
def _user_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _cannot_use(path, error) from None


def _cannot_use(path: Path, error: sqlite3.Error) -> UserError:
    return UserError(f"{path} cannot be used as a ledger ({error}); move it away or set ledger.path")


def _cannot_keep(path: Path, why: str) -> UserError:
    return UserError(f"cannot keep a ledger at {path}: {why}; set ledger.path")
