"""The ledger file: its lock, and the handling of damaged or foreign files."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.ledger.contents import DamagedError, require_sound
from mlflow_trace_exporter.ledger.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    SCHEMA,
    SCHEMA_VERSION,
    migrate,
    version_of,
)
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS

log = logging.getLogger(__name__)

LOG_PAGES = 4_000
"""How many pages SQLite's write-ahead log has before they are moved into the ledger (16 MB). Digests are random, so
each commit changes some pages all over the index. With a longer log, these are written less often."""


def resolve(path: Path) -> Path:
    """Resolve symbolic links, so that every path to a ledger leads to the same lock. Raises UserError for a loop of
    links, and for a file with several hard links, because each of them would have its own lock."""
    try:
        found = path.resolve()
        names = found.stat().st_nlink if found.is_file() else 1
    except (OSError, RuntimeError):  # the latter up to Python 3.12
        raise cannot_keep(path, "the symbolic link cannot be resolved") from None
    if names > 1:
        raise cannot_keep(path, f"{found} has {names} hard links, and each of them could be in use; copy the file")
    return found


def hold(path: Path, what: str = "the ledger", remedy: str = "set another ledger.path") -> IO[str]:
    """Lock ``path`` until the returned file is closed, because a second exporter with the same ledger would count every
    trace again. Raises UserError if another process holds the lock (the message contains ``what`` is locked and the
    ``remedy``), or if the path is not writable."""
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
        raise UserError(f"{what} {path} is in use by process {holder}; stop that process, or {remedy}") from None
    except OSError as error:  # the disk is full, or the file system does not support locks
        with suppress(OSError):  # closing flushes the buffer again
            lock.close()
        raise cannot_keep(path, what_failed(error)) from None
    return lock


def open_database(path: Path) -> sqlite3.Connection:
    """Open the ledger at ``path``, which this process has locked, or create one.

    A damaged ledger is renamed, which is logged and counted, and a new one is created. If the file is not a ledger, or
    has a schema that this version does not support, UserError is raised and the file is unchanged.
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
            db.executescript(f"BEGIN; {SCHEMA} {_resets(path)} COMMIT;")
            log.info("created a new ledger", extra={"ledger": path})
        refuse_foreign(db, path)  # before writing to a file that may not be ours
        migrate(db, path)
        require_sound_file(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        if not is_new:  # older versions could be killed before they stored this row
            db.execute(_resets(path))
        undo.pop_all()
        return db


def require_sound_file(db: sqlite3.Connection) -> None:
    """Raise DamagedError or an error of SQLite if a ledger of the current schema is damaged."""
    (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise DamagedError(finding)
    require_sound(db, SCHEMA)


def _resets(path: Path) -> str:
    """The statement that stores how many ledgers were set aside before, unless it is already stored."""
    return f"INSERT OR IGNORE INTO totals VALUES ('{LEDGER_RESETS}', '[]', '', {len(_set_aside_before(path))}, 0);"  # noqa: S608 - no values


def refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Raise UserError if the database is not a ledger, or has a schema that this version does not support."""
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    version = version_of(db)
    if application_id != APPLICATION_ID:
        raise UserError(f"{path} is a database of another program; move it away or set ledger.path")
    if version != SCHEMA_VERSION and version not in MIGRATIONS:
        raise UserError(
            f"{path} has schema {version}, but this version of the exporter supports schema {SCHEMA_VERSION};"
            " move it away or set ledger.path"
        )


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error is caused by the contents of the file, and not by the disk, permissions or a lock."""
    if isinstance(error, DamagedError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by Python for a text that is not UTF-8
        return isinstance(error, sqlite3.OperationalError) and "decode" in str(error)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # ignore the extended code


def is_damaged(path: Path, error: sqlite3.Error) -> bool:
    """Whether the file at ``path`` is a ledger, and the error is caused by its contents."""
    return is_damage(error) and _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether the header of the file identifies a ledger (https://www.sqlite.org/fileformat.html, section 1.3)."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def set_aside(path: Path, error: object) -> None:
    """Rename a damaged ledger, which must not be open, and log it."""
    aside = Path(f"{path}.damaged-{max(map(_number, _set_aside_before(path)), default=0) + 1}")
    for suffix in ("-wal", "-shm", ""):  # the ledger itself last, see _finish_setting_aside
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    log.error(
        "the ledger is damaged; it is set aside, and all counters restart at zero",
        extra={"ledger": path, "set_aside_as": aside, "error": str(error)},
    )


def _finish_setting_aside(path: Path) -> None:
    """Finish setting a ledger aside if the process was killed after only the write-ahead log was renamed. Without its
    log the ledger would look valid but have lower totals."""
    if (aside := half_set_aside(path)) is not None:
        path.rename(aside)


def half_set_aside(path: Path) -> Path | None:
    """The name that the damaged ledger at ``path`` should have had, if only its write-ahead log was renamed."""
    logs = path.parent.glob(f"{escape(path.name)}.damaged-*-wal") if path.exists() else ()
    names = (each.with_name(each.name.removesuffix("-wal")) for each in logs)
    return next((name for name in names if not name.exists()), None)


def _set_aside_before(path: Path) -> list[Path]:
    found = path.parent.glob(f"{escape(path.name)}.damaged-*")
    return [each for each in found if each.name.rpartition("-")[2].isdigit()]


def _number(aside: Path) -> int:
    return int(aside.name.rpartition("-")[2])


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Convert errors of SQLite to UserError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _cannot_use(path, error) from None


def _cannot_use(path: Path, error: sqlite3.Error) -> UserError:
    return UserError(f"{path} cannot be used as a ledger ({error}); move it away or set ledger.path")


def cannot_keep(path: Path, why: str) -> UserError:
    """The error if no ledger can be stored at ``path``."""
    return UserError(f"cannot keep a ledger at {path}: {why}; set ledger.path")
