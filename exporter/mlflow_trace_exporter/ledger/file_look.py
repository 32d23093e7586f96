"""Read-only access to a ledger in a file, at the same time as `serve`. Changes no files."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.ledger.file import (
    cannot_keep,
    hold,
    is_damaged,
    open_database,
    refuse_foreign,
    require_sound_file,
    resolve,
    user_errors,
)
from mlflow_trace_exporter.ledger.outlook import Outlook, Rows
from mlflow_trace_exporter.ledger.schema import SCHEMA_VERSION, version_of


def examine(path: Path) -> bool:
    """Whether there is a ledger at ``path``. Read-only. Raises UserError for a file that `serve` would refuse."""
    if not _is_there(path):
        return False
    with _only_read(path) as db:
        refuse_foreign(db, path)
    return True


def _is_there(path: Path) -> bool:
    try:
        if path.exists():
            return True
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise cannot_keep(path, f"{nearest} is not writable")
    except OSError as error:
        raise cannot_keep(path, what_failed(error)) from None
    return False


def outlook(path: Path) -> Outlook:
    """The state of the ledger at ``path``. Changes nothing and leaves no files. Raises UserError if `serve` could not
    store a ledger there."""
    path = resolve(path)
    found = _is_there(path) and not _is_empty(path)
    if found and _is_held(path):
        return Outlook.IN_USE
    is_sound = not found or _is_sound(path)
    for each in (path, *(Path(f"{path}{suffix}") for suffix in (".lock", "-wal", "-shm"))):
        _require_writable(each)
    _try_beside(path)
    if not found:
        return Outlook.NEW
    return Outlook.FOUND if is_sound else Outlook.DAMAGED


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def _is_sound(path: Path) -> bool:
    """Whether the ledger at ``path`` is undamaged. Read-only. Raises UserError for a file that `serve` would refuse."""
    with _only_read(path) as db:
        try:
            refuse_foreign(db, path)
            if version_of(db) == SCHEMA_VERSION:
                require_sound_file(db)
        except sqlite3.DatabaseError as error:
            if not is_damaged(path, error):
                raise
            return False
    return True


def _is_held(path: Path) -> bool:
    """Whether another process holds the lock; False if the lock file is not readable."""
    with suppress(OSError), Path(f"{path}.lock").open(encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _require_writable(file: Path) -> None:
    try:
        if file.exists():
            file.open("r+b").close()
    except OSError as error:
        raise cannot_keep(file, what_failed(error)) from None


def _try_beside(path: Path) -> None:
    """Create a ledger in a temporary folder inside the nearest existing one. This is the only way to check that folders
    can be created there, that there is free space, and that the file system supports the locks of SQLite."""
    nearest = next(parent for parent in path.parents if parent.exists())
    try:
        with TemporaryDirectory(dir=nearest, prefix=".mlflow-trace-exporter-") as folder:
            trial = Path(folder) / path.name
            try:
                with hold(trial), closing(open_database(trial)):
                    pass
            except UserError as error:
                raise UserError(str(error).replace(str(trial), str(path))) from None
    except OSError as error:
        raise cannot_keep(path, what_failed(error)) from None


@contextmanager
def reading(path: Path) -> Iterator[tuple[int, Rows] | None]:
    """The schema version of the ledger at ``path``, and queries of it; None if there is none yet. Raises UserError as
    ``examine`` does."""
    if not examine(path):
        yield None
        return
    with _only_read(path) as db:
        yield version_of(db), lambda query, *parameters: db.execute(query, parameters).fetchall()


@contextmanager
def _only_read(path: Path) -> Iterator[sqlite3.Connection]:
    # Without a write-ahead log there is no writer. Without immutable=1 SQLite would create a log, which could belong to
    # a different user than that of `serve`.
    alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro{alone}"
    with user_errors(path), closing(sqlite3.connect(uri, uri=True)) as db:
        yield db
