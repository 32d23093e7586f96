"""The ledger as a file: its lock, its schema, and what is done about a file that is not what it should be."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from mlflow_trace_exporter.counting.ledger_contents import DamagedError, require_sound
from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS

log = logging.getLogger(__name__)

APPLICATION_ID = 0x4D54_4578
"""Marks a SQLite file as a ledger of this program ("MTEx")."""

SCHEMA_VERSION = 4

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
  closed_ms INTEGER NOT NULL, retired_ms INTEGER NOT NULL, forgotten_ms INTEGER NOT NULL);
CREATE TABLE passes (kind TEXT PRIMARY KEY, started_ms INTEGER NOT NULL, from_ms INTEGER NOT NULL,
  lo_ms INTEGER NOT NULL, hi_ms INTEGER NOT NULL, ended_after_ms INTEGER) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_MIGRATIONS = {
    2: """
CREATE TABLE versions (labels TEXT PRIMARY KEY, first_ms INTEGER) WITHOUT ROWID;
INSERT OR IGNORE INTO versions SELECT json_array(json_extract(labels, '$[0]'),
  json_extract(labels, '$[1]'), json_extract(labels, '$[2]')), NULL FROM groups
  WHERE json_array_length(labels) > 2;
PRAGMA user_version = 3;
""",  # when a version that was there before was first seen is not known, and stays unknown
    3: """
ALTER TABLE horizon ADD COLUMN forgotten_ms INTEGER NOT NULL DEFAULT 0;
UPDATE horizon SET forgotten_ms = max(0, retired_ms - 600000);
PRAGMA user_version = 4;
""",  # up to there schema 3 had forgotten ids: a bucket behind what is retired
}
"""How each earlier schema becomes the next one."""


def resolve(path: Path) -> Path:
    """Where the ledger at ``path`` really is: a link to it must lead to the same lock. Raises UserError for a loop of
    links, and for a file with two names, for which there would be two locks."""
    try:
        found = path.resolve()
        names = found.stat().st_nlink if found.is_file() else 1
    except (OSError, RuntimeError):  # the latter up to Python 3.12
        raise cannot_keep(path, "it is a link that cannot be followed") from None
    if names > 1:
        raise cannot_keep(path, f"{found} has {names} names (hard links), and each of them could be in use; copy it")
    return found


def hold(path: Path, what: str = "the ledger", remedy: str = "set another ledger.path") -> IO[str]:
    """Hold ``path`` for this process until the file that is returned is closed: a second exporter on the same ledger
    would count every trace again. Raises UserError where another process holds it, or the path cannot be written; it
    says ``what`` is held, and the ``remedy``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = Path(f"{path}.lock").open("a+", encoding="ascii")  # noqa: SIM115 - open as long as the lock is held
    except OSError as error:
        raise cannot_keep(path, what_failed(error)) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise UserError(f"{what} {path} is in use by process {holder}; stop that one, or {remedy}") from None
    except OSError as error:  # there is no room, or the file system knows no locks
        with suppress(OSError):  # it would write what is left
            lock.close()
        raise cannot_keep(path, what_failed(error)) from None
    return lock


def open_database(path: Path) -> sqlite3.Connection:
    """Open the ledger at ``path``, which this process holds, or begin a new one.

    A ledger that is damaged is set aside under another name, which is logged and counted, and a new one begun. Raises
    UserError where the file there is no ledger, or not one that this version can read; it is left as it is.
    """
    _finish_setting_aside(path)
    with user_errors(path):
        try:
            return _open(path)
        except sqlite3.DatabaseError as error:
            if not is_damaged(path, error):
                raise
            set_aside(path, error)
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    with ExitStack() as undo:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        undo.callback(db.close)
        is_new = db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if is_new:
            db.executescript(f"BEGIN; {_SCHEMA} {_resets(path)} COMMIT;")
            log.info("a new ledger is begun", extra={"ledger": path})
        refuse_foreign(db, path)  # before anything is written to a file that is not ours
        while migration := _MIGRATIONS.get(version_of(db)):
            db.executescript(f"BEGIN; {migration} COMMIT;")
        require_sound_file(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not is_new:  # there are ledgers without it, whose process was killed before its first row was in
            db.execute(_resets(path))
        undo.pop_all()
        return db


def require_sound_file(db: sqlite3.Connection) -> None:
    """Raise DamagedError, or what SQLite raises, for a ledger of this schema that is damaged."""
    (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise DamagedError(finding)
    require_sound(db, _SCHEMA)


def _resets(path: Path) -> str:
    """The statement that has the ledger say how many before it were set aside, if it does not say that yet."""
    return f"INSERT OR IGNORE INTO totals VALUES ('{LEDGER_RESETS}', '[]', '', {len(_set_aside_before(path))}, 0);"  # noqa: S608 - no values


def refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Raise UserError for a database that is no ledger, or one that this version cannot read."""
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    version = version_of(db)
    if application_id != APPLICATION_ID:
        raise UserError(f"{path} is a database of another program; move it away or set ledger.path")
    if version != SCHEMA_VERSION and version not in _MIGRATIONS:
        raise UserError(
            f"{path} has the schema {version}, and this version of the exporter reads schema {SCHEMA_VERSION};"
            " move it away or set ledger.path"
        )


def version_of(db: sqlite3.Connection) -> int:
    """Which schema it has."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is at fault, and not the disk, its permissions or somebody's lock."""
    if isinstance(error, DamagedError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # not of SQLite, but of Python, which found a text that is no UTF-8
        return isinstance(error, sqlite3.OperationalError) and "decode" in str(error)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # the rest of it is detail


def is_damaged(path: Path, error: sqlite3.Error) -> bool:
    """Whether what is at ``path`` is a ledger, and at fault."""
    return is_damage(error) and _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether the head of the file says that it is a ledger (https://www.sqlite.org/fileformat.html, section 1.3)."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def set_aside(path: Path, error: sqlite3.Error) -> None:
    """Give a damaged ledger, which nobody has open, another name, and say so."""
    aside = Path(f"{path}.damaged-{max(map(_number, _set_aside_before(path)), default=0) + 1}")
    for suffix in ("-wal", "-shm", ""):  # the ledger itself last, see _finish_setting_aside
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    log.error(
        "the ledger is damaged; it is set aside, and all counters begin again at zero",
        extra={"ledger": path, "set_aside_as": aside, "error": str(error)},
    )


def _finish_setting_aside(path: Path) -> None:
    """Set aside a ledger whose write-ahead log was set aside when the process was killed. Without that log it would
    pass for a sound one, and have lower totals than it had."""
    for log_file in path.parent.glob(f"{escape(path.name)}.damaged-*-wal"):
        aside = log_file.with_name(log_file.name.removesuffix("-wal"))
        if not aside.exists() and path.exists():
            path.rename(aside)


def _set_aside_before(path: Path) -> list[Path]:
    found = path.parent.glob(f"{escape(path.name)}.damaged-*")
    return [each for each in found if each.name.rpartition("-")[2].isdigit()]


def _number(aside: Path) -> int:
    return int(aside.name.rpartition("-")[2])


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Raise UserError for what SQLite raises."""
    try:
        yield
    except sqlite3.Error as error:
        raise _cannot_use(path, error) from None


def _cannot_use(path: Path, error: sqlite3.Error) -> UserError:
    return UserError(f"{path} cannot be used as a ledger ({error}); move it away or set ledger.path")


def cannot_keep(path: Path, why: str) -> UserError:
    """What to raise where no ledger can be kept at ``path``."""
    return UserError(f"cannot keep a ledger at {path}: {why}; set ledger.path")
