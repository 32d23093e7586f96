"""Copies from a ledger file, and to a new one."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.ledger.contents import DamagedError
from mlflow_trace_exporter.ledger.file import half_set_aside, hold, is_damage, require_sound_file, resolve
from mlflow_trace_exporter.ledger.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    SCHEMA,
    SCHEMA_VERSION,
    migrate,
    version_of,
)

if TYPE_CHECKING:
    from mlflow_trace_exporter.ledger.copying import Table


class _Original:
    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def count(self, table: "Table") -> int:
        with _reading(self._path):
            (count,) = self._db.execute(f"SELECT count(*) FROM {table.name}").fetchone()  # noqa: S608 - our own schema
            return int(count)

    def parts(self, table: "Table", size: int) -> Iterator[Sequence[Sequence[Any]]]:
        with _reading(self._path):
            cursor = self._db.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}")  # noqa: S608 - our own
            while rows := cursor.fetchmany(size):
                yield rows


class _Replica:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def write(self, table: "Table", rows: Sequence[Sequence[Any]]) -> None:
        marks = ", ".join("?" * len(table.columns))
        statement = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608 - no values
        self._db.executemany(statement, rows)


@contextmanager
def original(path: Path) -> Iterator[_Original]:
    """The ledger at ``path``, to copy from. It is not changed: an older one is converted in a temporary folder beside
    it. Raises UserError if there is none, if it is in use, or if it is damaged."""
    path = resolve(path)
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        raise UserError(f"{path}: there is no ledger to copy")
    with ExitStack() as opened:
        opened.enter_context(closing(_locked(path)))
        with _reading(path):
            db = opened.enter_context(closing(_connect(path)))
            _require_ledger(db, path)
            if version_of(db) != SCHEMA_VERSION:
                db = _converted(db, path, opened)
            require_sound_file(db)
            db.execute("BEGIN")
        yield _Original(db, path)


def _locked(path: Path) -> Any:
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} cannot be locked, because its folder is not writable; copy the file to one that is")
    return hold(path, remedy="copy a backup of the ledger")


def _connect(path: Path) -> sqlite3.Connection:
    if half_set_aside(path) is not None:
        raise DamagedError("its write-ahead log was set aside")
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)


def _require_ledger(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise UserError(f"{path} is not a ledger, but a database of another program; name the ledger of an exporter")
    version = version_of(db)
    if version != SCHEMA_VERSION and version not in MIGRATIONS:
        raise UserError(
            f"{path} has schema {version}, but this version of the exporter supports schema {SCHEMA_VERSION}; copy it"
            " with the version that wrote it"
        )


def _converted(db: sqlite3.Connection, path: Path, opened: ExitStack) -> sqlite3.Connection:
    """A copy of an older ledger with the current schema, until ``opened`` is closed."""
    folder = opened.enter_context(TemporaryDirectory(dir=path.parent, prefix=".mlflow-trace-exporter-"))
    copy = Path(folder) / path.name
    converted = opened.enter_context(closing(sqlite3.connect(copy, isolation_level=None)))
    db.backup(converted)
    migrate(converted, copy)
    return converted


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert errors of SQLite to UserError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _cannot_copy(path, error) from None


def _cannot_copy(path: Path, error: sqlite3.Error) -> UserError:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
        return UserError(f"{path} is not a ledger ({error}); name the ledger of an exporter")
    if is_damage(error):
        return UserError(f"the ledger {path} is damaged: {error}; copy a backup, or start `serve`, which begins again")
    return UserError(f"{path} cannot be read: {error}")


@contextmanager
def replica(path: Path) -> Iterator[_Replica]:
    """A new ledger, which gets its name ``path`` at the end of the block. Raises UserError if there is already
    something, or if nothing can be written there."""
    path = resolve(path)
    _require_nothing(path)
    with closing(hold(path, remedy="name another file")), ExitStack() as undo:
        unfinished = Path(f"{path}.unfinished")
        _remove(unfinished)  # of a copy that was killed
        undo.callback(_remove, unfinished)
        try:
            with closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
                db.executescript(f"BEGIN; {SCHEMA}")
                yield _Replica(db)
                require_sound_file(db)
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise UserError(f"{path} cannot be written: {error}; name another file") from None
        _rename(unfinished, path)


def _require_nothing(path: Path) -> None:
    """A log of another file would be taken for that of the new one."""
    for suffix in ("", "-wal", "-journal"):
        beside = Path(f"{path}{suffix}")
        if beside.exists():
            raise UserError(f"{beside} already exists; move it away, or name another file")


def _remove(unfinished: Path) -> None:
    for suffix in ("", "-journal"):
        with suppress(OSError):
            Path(f"{unfinished}{suffix}").unlink(missing_ok=True)


def _rename(unfinished: Path, path: Path) -> None:
    """Give a file its name. It has it after a power cut, too."""
    try:
        unfinished.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {what_failed(error)}; name another file") from None
