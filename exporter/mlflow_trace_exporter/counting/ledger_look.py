"""The ledger of `serve`, looked at by other commands: which may run meanwhile, change nothing and leave nothing."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow_trace_exporter.counting.ledger_file import (
    SCHEMA_VERSION,
    cannot_keep,
    hold,
    is_damaged,
    open_database,
    refuse_foreign,
    require_sound_file,
    resolve,
    user_errors,
    version_of,
)
from mlflow_trace_exporter.errors import UserError, what_failed


def examine(path: Path) -> bool:
    """Whether there is a ledger at ``path``. Only reads. Raises UserError for a file that would be refused."""
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
            raise cannot_keep(path, f"{nearest} cannot be written")
    except OSError as error:
        raise cannot_keep(path, what_failed(error)) from None
    return False


class Outlook(Enum):
    """What `serve` would find where its ledger is to be. The value says what it would do."""

    NEW = "to be made"
    FOUND = "found: counting goes on from it"
    IN_USE = "in use by a running exporter: counting goes on"
    DAMAGED = "damaged: it would be set aside, and all counters begin again at zero"


def outlook(path: Path) -> Outlook:
    """What `serve` would find at ``path``; what is there stays as it is, and nothing is left. Raises UserError where
    `serve` could not keep a ledger there."""
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
    """Whether the ledger at ``path`` is not damaged. Only reads. Raises UserError for a file that would be refused."""
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
    """Whether another process holds the ledger, as far as this one may see."""
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
    """Begin a ledger in a folder of its own, in the nearest one that there is: only that tells whether folders can be
    made there, whether there is room, and whether the file system knows the locks that SQLite needs."""
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
    # without a write-ahead log nobody writes; SQLite, if it is not told so, leaves one that may belong to another user
    alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro{alone}"
    with user_errors(path), closing(sqlite3.connect(uri, uri=True)) as db:
        yield db
