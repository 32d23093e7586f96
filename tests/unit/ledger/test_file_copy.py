"""What only copies from and to files have."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import copying
from mlflow_trace_exporter.ledger.opening import open_ledger
from tests.support.ledgers import sqlite_of
from tests.support.old_ledgers import write_ledger
from tests.unit.ledger.test_copying import contents, copied, fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


@pytest.fixture
def filled(source: Path) -> Path:
    with closing(open_ledger(source)) as ledger:
        fill(ledger)
    return source


@pytest.mark.parametrize("schema", [4, 5, 6, 7])
def test_an_older_ledger_is_converted_and_left_as_it_is(source: Path, target: Path, schema: int) -> None:
    write_ledger(source, schema)
    before = source.read_bytes()
    copied(source, target)
    assert source.read_bytes() == before
    assert sorted(each.name for each in source.parent.iterdir()) == [
        *("copy.db", "copy.db.lock", "ledger.db", "ledger.db.lock")
    ]
    open_ledger(source).close()
    assert contents(target) == contents(source)


def test_the_log_of_a_killed_exporter_is_copied(filled: Path, target: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed" / "ledger.db"
    killed.parent.mkdir()
    with closing(open_ledger(filled)) as ledger:
        ledger.add_workspaces(["only in the log"])
        for each in ("ledger.db", "ledger.db-wal"):
            shutil.copy(filled.parent / each, killed.parent / each)
    copied(killed, target)
    assert ("only in the log",) in contents(target)["workspaces"]


def test_a_ledger_that_was_half_set_aside_is_not_copied(filled: Path, target: Path) -> None:
    """Without its log it would look sound, with lower totals."""
    Path(f"{filled}.damaged-1-wal").touch()
    with pytest.raises(UserError, match="is damaged"):
        copied(filled, target)


@pytest.mark.parametrize("beside", ["copy.db-wal", "copy.db-journal"])
def test_the_log_of_another_ledger_is_not_taken_for_that_of_the_copy(filled: Path, target: Path, beside: str) -> None:
    (target.parent / beside).touch()
    with pytest.raises(UserError, match=f"{beside} already exists; move it away"):
        copied(filled, target)
    assert not target.exists()


def test_what_a_killed_copy_left_does_no_harm(filled: Path, target: Path) -> None:
    Path(f"{target}.unfinished").write_bytes(filled.read_bytes()[:5000])
    Path(f"{target}.unfinished-journal").write_bytes(b"x" * 600)
    copied(filled, target)
    assert contents(target) == contents(filled)
    assert not Path(f"{target}.unfinished").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("PRAGMA application_id = 5", "is not a ledger, but a database of another program"),
        ("PRAGMA user_version = 99", "has schema 99, but this version of the exporter supports schema 8"),
        ("DROP TABLE groups", "is damaged: the tables do not match the schema"),
    ],
)
def test_what_is_no_ledger_of_this_version_is_not_copied(filled: Path, target: Path, wrong: str, message: str) -> None:
    with closing(sqlite3.connect(filled, isolation_level=None)) as db:
        db.execute(wrong)
    with pytest.raises(UserError, match=message):
        copied(filled, target)
    assert not target.exists()


def test_a_file_that_is_no_database_is_not_copied(source: Path, target: Path) -> None:
    source.write_text("a letter to a friend, which is longer than the header of a database" * 5)
    with pytest.raises(UserError, match="is not a ledger"):
        copied(source, target)


def test_a_page_that_is_overwritten_is_damage(filled: Path, target: Path) -> None:
    with filled.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)
    with pytest.raises(UserError, match="is damaged"):
        copied(filled, target)


def test_a_full_disk_leaves_nothing(filled: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("mlflow_trace_exporter.ledger.file_copy.require_sound_file", _second(fail))
    with pytest.raises(UserError, match=r"copy.db cannot be written: .*full; name another file"):
        copied(filled, target)
    assert not list(target.parent.glob("copy.db*[!k]"))


def _second(fail: Callable[[object], None]) -> Callable[[object], None]:
    calls: list[object] = []

    def run(db: object) -> None:
        calls.append(db)
        if len(calls) > 1:
            fail(db)

    return run


def test_numbers_stay_what_they_are(source: Path, target: Path) -> None:
    """Whole ones of 64 bits, too: SQLite has them all."""
    with closing(open_ledger(source)) as ledger:
        sqlite_of(ledger).execute("INSERT INTO totals VALUES ('a', '[]', '', 9007199254740993, 0.1)")
    copied(source, target)
    assert ("a", "[]", "", 2**53 + 1, 0.1) in contents(target)["totals"]


def test_the_copy_of_a_link_is_that_of_the_ledger(filled: Path, target: Path) -> None:
    link = filled.with_name("link.db")
    link.symlink_to(filled)
    with closing(open_ledger(filled)), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        copied(link, target)
    with pytest.raises(UserError, match="both are the same ledger"):
        copying.copy(link, filled, lambda _, __: None)
