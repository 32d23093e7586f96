"""A ledger in a file: its lock, its conversion, damage and removal."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_trace_exporter.counting.release import Gate, SeriesSettings
from mlflow_trace_exporter.domain.growth import Change, Counted, change_of
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Horizon, Kind, Pass, Window
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.domain.triage import Batch, Known, Pending
from mlflow_trace_exporter.errors import PollError, Reason, UserError
from mlflow_trace_exporter.ledger.awake import GroupState, Stage
from mlflow_trace_exporter.ledger.connection import LedgerDamagedError
from mlflow_trace_exporter.ledger.file_look import examine, outlook
from mlflow_trace_exporter.ledger.ledger import Ledger, Origin
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.ledger.outlook import Outlook
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS
from mlflow_trace_exporter.metrics.model import Cell
from tests.support.builders import FAMILIES, METER, group, increments, record
from tests.support.ledgers import sqlite_of, totals
from tests.support.old_ledgers import write_ledger

HORIZON = Horizon(1, 2, 3, 0, {Kind.FRESH: Pass(4, 5, Window(6, 7, 8))})
TRACES = Cell("mlflow_traces_total", ("chatbot", "production", 'na"me\\', "日本"))


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(path)) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ledger.db"


def test_a_ledger_that_was_set_aside_is_forgotten(ledger: Ledger) -> None:
    ledger.totals.adopt(FAMILIES)
    made = increments(record())
    ledger.commit(HORIZON, Batch(counted=(record(),)), made.amounts, dict.fromkeys(made.groups, 1), made.first_ms)
    ledger.begin_again(LedgerDamagedError(sqlite3.DatabaseError("malformed")))
    assert (ledger.totals.groups(), ledger.totals.first_seen(), ledger.totals.shown()) == ({}, {}, {})
    ledger.totals.adopt(FAMILIES)
    assert ledger.totals.shown() == {LEDGER_RESETS: {(): (1,)}}


@pytest.mark.parametrize("schema", [2, 3, 4, 5, 6, 7])
def test_a_ledger_of_an_earlier_schema_continues(path: Path, schema: int) -> None:
    write_ledger(path, schema)
    labels = ("chatbot", "production", "1.4.0", "support")
    with closing(open_ledger(path)) as ledger:
        fresh = Pass(1_000_000_000_001, 10**11, Window(2 * 10**11, 1_000_172_800_000, 999_999_880_000))
        assert ledger.horizon() == Horizon(0, 10**12, 10**11, 6_000_000, {Kind.FRESH: fresh}, 5_400_000, 3_000)
        cost = Cell("mlflow_trace_input_cost_usd_total", labels)
        assert totals(ledger) == {Cell("mlflow_traces_total", labels): 2, cost: 0.5}
        assert ledger._db.rows("SELECT slept FROM totals WHERE family = ?", cost.family) == [(0.25,)]
        found = ledger.known(["tr-1", "it's", "tr-given-up", "tr-9", "tr-2"])
        assert found == Known(
            {"tr-1": Counted(1_000, seen=4_081_470_063), "it's": Counted(2_000, seen=7), "tr-given-up": Counted(3_000)},
            {"tr-9": WAITING},
        )
        ledger.totals.adopt(FAMILIES)
        assert ledger.totals.groups() == {group(*labels): GroupState(5_000, Stage.HELD)}, (
            "it gets the series that it lacks"
        )
        assert ledger.totals.first_seen() == ({} if schema == 2 else {labels[:3]: 1_000})


@pytest.mark.parametrize("schema", [2, 3, 4, 5, 6, 7])
def test_a_copy_of_an_earlier_ledger_is_kept_until_the_first_commit(path: Path, schema: int) -> None:
    write_ledger(path, schema)
    copy = path.with_name(f"ledger.db.schema-{schema}")
    for _ in range(2):  # also after a restart
        with closing(open_ledger(path)) as ledger, closing(sqlite3.connect(copy)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (schema,)
            assert db.execute("SELECT count(*) FROM done").fetchone() == (3,)
            ledger.totals.adopt(FAMILIES)  # as at each start
    with closing(open_ledger(path)) as ledger:
        ledger.commit(HORIZON)
    assert not copy.exists()


def test_a_trace_counted_by_an_earlier_version_is_reported_if_it_changed(path: Path) -> None:
    write_ledger(path, 4)
    with closing(open_ledger(path)) as ledger:
        before = ledger.known(["tr-1"]).done["tr-1"]
    assert change_of(record(), before) is None
    change = change_of(record(state=State.ERROR), before)
    assert change is not None
    assert (change.grew, change.is_beyond_correction) == (False, True)
    assert change_of(record(state=State.ERROR), change.after) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE done SET trace_id = CAST(X'ff' AS TEXT) WHERE trace_id = 'tr-1'",
        "DROP TABLE groups",
        "UPDATE done SET start_ms = 'x'",
    ],
)
def test_fault_21_an_earlier_ledger_that_is_damaged_is_set_aside(path: Path, wrong: str) -> None:
    write_ledger(path, 4)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(wrong)
    with closing(open_ledger(path)) as ledger:
        assert ledger.totals.all() == {Cell(LEDGER_RESETS, ()): 1}


def test_fault_22_a_second_process_learns_which_process_holds_the_ledger(path: Path) -> None:
    first = open_ledger(path)
    with pytest.raises(UserError, match=r"is in use by process \d+; stop that process, or set another ledger.path"):
        open_ledger(path)
    first.close()
    open_ledger(path).close()


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE important (it TEXT)")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"is a database of another program; move it away or set ledger\.path"):
        open_ledger(path)
    assert path.read_bytes() == before
    path.unlink()
    open_ledger(path).close()  # and the lock was given back


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n" * 100)
    with pytest.raises(UserError, match="cannot be used as a ledger"):
        open_ledger(path)
    assert path.read_text() == "dear diary\n" * 100


def test_a_directory_is_not_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used as a ledger"):
        open_ledger(tmp_path)
    with pytest.raises(UserError, match="cannot be used as a ledger"):
        examine(tmp_path)


def test_examine_refuses_a_path_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot keep a ledger at"):
        examine(tmp_path / "file" / "deep" / "ledger.db")


def _file(path: Path) -> Path:
    path.write_text("somebody may need it\n" * 50)
    return path


def _of_schema_99(path: Path) -> Path:
    open_ledger(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    return path


def _twice(path: Path) -> Path:
    open_ledger(path).close()
    path.with_name("other-name").hardlink_to(path)
    return path


def _link_to_itself(path: Path) -> Path:
    path.symlink_to(path)
    return path


def _with_a_folder_as_lock(path: Path) -> Path:
    Path(f"{path}.lock").mkdir()
    return path


REFUSED: dict[str, Callable[[Path], Path]] = {
    "another file": _file,
    "a folder": lambda path: path.parent,
    "below a file": lambda path: _file(path) / "deep" / "ledger.db",
    "a schema of a later version": _of_schema_99,
    "two names": _twice,
    "a loop of links": _link_to_itself,
    "a lock that is none": _with_a_folder_as_lock,
    "no room for the name of the lock": lambda path: path.with_name("n" * 252),
    "no room for the name": lambda path: path.with_name("n" * 300),
    "where nobody can make files": lambda _: Path("/proc/ledger.db"),
    "where nobody can make folders": lambda _: Path("/proc/deep/ledger.db"),
}


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {each.name: each.read_bytes() if each.is_file() else None for each in folder.iterdir()}


@pytest.mark.parametrize("kind", REFUSED)
def test_check_refuses_every_path_that_serve_refuses(tmp_path: Path, kind: str) -> None:
    path = REFUSED[kind](tmp_path / "ledger.db")
    before = _contents(tmp_path)
    with pytest.raises(UserError, match="ledger") as told:
        outlook(path)
    assert str(path) in str(told.value)
    assert _contents(tmp_path) == before, "and it leaves no files"
    with pytest.raises(UserError, match="ledger"):
        open_ledger(path)


def _damaged(path: Path) -> None:
    open_ledger(path).close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda _: None, Outlook.NEW),
        (lambda path: path.touch(), Outlook.NEW),
        (lambda path: open_ledger(path).close(), Outlook.FOUND),
        (_damaged, Outlook.DAMAGED),
    ],
    ids=["nothing", "an empty file", "a ledger", "a damaged ledger"],
)
def test_check_accepts_every_path_that_serve_accepts(
    tmp_path: Path, make: Callable[[Path], None], expected: Outlook
) -> None:
    path = tmp_path / "ledger.db"
    make(path)
    before = _contents(tmp_path)
    assert outlook(path) is expected
    assert _contents(tmp_path) == before, "and it leaves no files, such as a log that belongs to the user who checked"
    with closing(open_ledger(path)):
        assert outlook(path) is Outlook.IN_USE


def test_missing_folders_of_a_ledger_are_accepted_and_not_created(tmp_path: Path) -> None:
    assert outlook(tmp_path / "deep" / "er" / "ledger.db") is Outlook.NEW
    assert not list(tmp_path.iterdir())


def test_examine_reports_what_is_there_and_writes_nothing(path: Path) -> None:
    assert not examine(path)
    assert not path.parent.exists()
    with closing(open_ledger(path)):
        assert examine(path), "even while another process holds it"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA application_id = 1")
    with pytest.raises(UserError, match="is a database of another program"):
        examine(path)


def test_nothing_is_stored_in_a_removed_ledger(path: Path, ledger: Ledger) -> None:
    ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 1})
    path.unlink()
    with pytest.raises(PollError, match="was removed or replaced; start the exporter again") as caught:
        ledger.commit(HORIZON, Batch(counted=(record(trace_id="tr-2"),)), {TRACES: 1})
    assert caught.value.reason is Reason.LEDGER
    path.touch()
    with pytest.raises(PollError, match="was removed or replaced"):
        ledger.commit(HORIZON)


def test_fault_21_a_newer_schema_is_refused(path: Path) -> None:
    open_ledger(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="has schema 99, but this version of the exporter supports schema 8"):
        open_ledger(path)


def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot keep a ledger at .*; set ledger\.path"):
        open_ledger(tmp_path / "file" / "ledger.db")


WAITING = Pending("tr-9", 700_000, "1", "chatbot", "production", True, 1, 2, 3, 4)


def test_a_link_to_a_ledger_leads_to_the_same_lock(path: Path, ledger: Ledger) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(UserError, match=r"ledger\.db is in use by process \d+"):
        open_ledger(link)
    ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 1})
    ledger.close()
    with closing(open_ledger(link)) as through:
        assert totals(through) == {TRACES: 1}


def test_a_link_to_a_ledger_that_is_damaged_still_leads_there(path: Path) -> None:
    open_ledger(path).close()
    link = path.with_name("link.db")
    link.symlink_to(path)
    damage(path, 100)
    open_ledger(link).close()
    assert link.is_symlink()
    assert Path(f"{path}.damaged-1").exists()


def test_a_ledger_with_two_names_is_refused(path: Path) -> None:
    open_ledger(path).close()
    path.with_name("other.db").hardlink_to(path)
    with pytest.raises(UserError, match=r"has 2 hard links.*; copy the file; set ledger\.path"):
        open_ledger(path)


def test_links_that_cannot_be_resolved_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="the symbolic link cannot be resolved"):
        open_ledger(tmp_path / "a")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_write_ahead_log_that_was_removed_loses_nothing(path: Path, tmp_path: Path, how: str) -> None:
    """Otherwise a kill would lose exposed totals: SQLite would continue writing to a deleted file."""
    with closing(open_ledger(path)) as ledger:
        ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 5})
        Path(f"{path}-wal").unlink()
        if how == "replaced":
            Path(f"{path}-wal").touch()
        ledger.commit(HORIZON, Batch(counted=(record(trace_id="tr-2"),)), {TRACES: 1})
        killed = tmp_path / "killed" / "ledger.db"
        killed.parent.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
        with closing(open_ledger(killed)) as found:
            assert totals(found) == {TRACES: 6}


def test_a_kill_while_a_ledger_is_created_leaves_none_or_a_complete_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    connect = sqlite3.connect

    def copy(_: str) -> None:
        copies.append(tmp_path / f"{len(copies)}" / "ledger.db")
        copies[-1].parent.mkdir()
        for suffix in ("", "-journal", "-wal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copy(f"{path}{suffix}", f"{copies[-1]}{suffix}")

    def connect_and_watch(*args: object, **options: object) -> sqlite3.Connection:
        db = connect(*args, **options)  # type: ignore[call-overload]  # whatever it is called with
        db.set_trace_callback(copy)  # at the beginning of each statement
        return db  # type: ignore[no-any-return]  # as above

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", connect_and_watch)
        open_ledger(path).close()
    assert len(copies) > 20
    for each in copies:
        with closing(sqlite3.connect(each)) as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                assert db.execute("SELECT value FROM totals").fetchall() == [(0,)]
        with closing(open_ledger(each)) as found:
            assert found.totals.all() == {Cell(LEDGER_RESETS, ()): 0}


def test_a_ledger_that_lacks_its_first_row_is_given_it(path: Path) -> None:
    with closing(open_ledger(path)) as ledger:
        ledger._db.execute("DELETE FROM totals")
    with closing(open_ledger(path)) as ledger:
        assert ledger.totals.all() == {Cell(LEDGER_RESETS, ()): 0}


def test_size(path: Path, ledger: Ledger) -> None:
    ledger.commit(HORIZON, Batch(counted=tuple(record(trace_id=f"tr-{number}") for number in range(1000))))
    assert ledger.size_bytes() >= path.stat().st_size > 4_096


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 2_000)


@pytest.mark.parametrize("offset", [100, 4_096, 8_192])
def test_fault_21_a_damaged_ledger_is_set_aside_and_logged(
    path: Path, offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        with closing(open_ledger(path)) as ledger:
            ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 1})
        damage(path, offset)
        damaged = path.read_bytes()
        with closing(open_ledger(path)) as ledger:
            assert ledger.horizon() is None
            assert ledger.totals.all() == {Cell(LEDGER_RESETS, ()): number}
        assert Path(f"{path}.damaged-{number}").read_bytes() == damaged
    assert "the ledger is damaged; it is set aside, and all counters restart at zero" in caplog.text


def test_a_kill_while_a_ledger_is_set_aside_is_recovered(path: Path) -> None:
    """Without its write-ahead log the ledger would look valid but lack its latest counts."""
    with closing(open_ledger(path)) as ledger:
        ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 1})
    Path(f"{path}.damaged-7-wal").touch()
    with closing(open_ledger(path)) as ledger:
        assert ledger.totals.all() == {Cell(LEDGER_RESETS, ()): 1}
    assert Path(f"{path}.damaged-7").exists()
    damage(path, 100)
    open_ledger(path).close()
    assert Path(f"{path}.damaged-8").exists(), "none is overwritten"


def in_use(path: Path) -> None:
    """Create a ledger with rows in every table."""
    made = increments(record(), meter=replace(METER, with_active=True))
    with closing(open_ledger(path)) as ledger:
        ledger.totals.adopt(FAMILIES)
        at = Horizon(1, 2 * BUCKET_MS, BUCKET_MS, 0, {Kind.FRESH: Pass(4, 5, Window(6, 7, 8))})
        active_ms = dict.fromkeys(made.groups, 1)
        ledger.commit(at, Batch(counted=(record(),)), made.amounts, active_ms, made.first_ms, active=made.active)
        ledger.commit(at, Batch(counted=(record(trace_id="tr-2"),), pending=(WAITING,)), {})
        ledger.commit(replace(at, retired_ms=BUCKET_MS, under_way={}))
        ledger.add_origins({"1": Origin(5, 0)})


WRONG = [
    "UPDATE totals SET value = -1.0",
    "UPDATE totals SET value = 9e999",
    "UPDATE totals SET slept = value + 1",
    "UPDATE totals SET labels = '[\"chatbot' WHERE family = 'mlflow_traces_total'",
    "UPDATE totals SET labels = '[\"chatbot\"]' WHERE family = 'mlflow_traces_total'",
    "UPDATE totals SET labels = '[1]' WHERE family = 'mlflow_traces_total'",
    "UPDATE totals SET family = 'mlflow_tracer_total' WHERE family = 'mlflow_traces_total'",
    "UPDATE totals SET part = '0.07' WHERE part = '0.05' AND family = 'mlflow_trace_duration_seconds'",
    "UPDATE totals SET value = 'x'",
    "UPDATE shapes SET shape = '['",
    "UPDATE shapes SET shape = '[]'",
    "UPDATE groups SET stage = 7",
    "UPDATE groups SET labels = '{}' WHERE labels LIKE '%1.4.0%'",
    "UPDATE groups SET active_ms = 'soon'",
    "UPDATE versions SET labels = '[\"chatbot\"]'",
    "UPDATE versions SET labels = CAST(X'5b22ff225d' AS TEXT)",
    "UPDATE pending SET experiment = CAST(X'ff' AS TEXT)",
    "UPDATE pending SET start_ms = 'x'",
    "UPDATE done SET start_ms = X'00'",
    "UPDATE horizon SET retired_ms = closed_ms + 1",
    "UPDATE horizon SET forgotten_ms = retired_ms",
    "UPDATE horizon SET closed_ms = 'x'",
    "INSERT INTO passes VALUES ('frosh', 1, 2, 9999999, 9999999, NULL)",
    "INSERT INTO passes VALUES ('fresh', 1, 2, 3, 4, NULL)",
    "UPDATE sketches SET sketch = zeroblob(44)",
    "UPDATE sketches SET sketch = 1",
    "UPDATE sketches SET who = 'agent' WHERE who = 'user'",
    "UPDATE sketches SET period_ms = period_ms / 2",
    "UPDATE sketches SET start_ms = start_ms + 1",
    "UPDATE sketches SET labels = '[\"chatbot\"]'",
    "UPDATE experiments SET experiment_id = CAST(X'ff' AS TEXT)",
    "DROP TABLE versions",
    "ALTER TABLE pending RENAME COLUMN form TO norm",
]


@pytest.mark.parametrize("wrong", WRONG)
def test_fault_21_what_cannot_have_been_written_is_damage(path: Path, wrong: str) -> None:
    in_use(path)
    open_ledger(path).close()
    assert not Path(f"{path}.damaged-1").exists(), "it is sound"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(wrong)
    with closing(open_ledger(path)) as ledger:
        assert ledger.totals.all() == {Cell(LEDGER_RESETS, ()): 1}


@pytest.mark.parametrize("seed", range(6))
def test_fault_21_a_flipped_bit_is_damage_or_does_no_harm(tmp_path: Path, seed: int) -> None:
    """A readable ledger is used, an unreadable one is set aside, and nothing but UserError is raised."""
    dice = random.Random(seed)
    whole = tmp_path / "whole.db"
    in_use(whole)
    content = whole.read_bytes()
    for number in range(50):
        path = tmp_path / f"{number}.db"
        at = dice.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :])
        try:
            opened = open_ledger(path)
        except UserError:  # nothing in it says that it is ours
            continue
        with closing(opened) as ledger:
            ledger.totals.adopt(FAMILIES)
            Gate(ledger.totals, SeriesSettings(0, 1), lambda: 0.0).look(1)
            ledger.commit(ledger.horizon() or Horizon.at(0), Batch(counted=(record(trace_id="tr-3"),)), {})
            assert "tr-3" in ledger.known(["tr-1", "tr-3", "tr-9"]).done
            for read in (lambda: ledger.due(10**15), ledger.origins, ledger.totals.first_seen):
                read()


def test_a_ledger_is_not_set_aside_because_the_disk_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_ledger(path)) as ledger:
        ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 1})

    def fail(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", fail)
        with pytest.raises(UserError, match=r"cannot be used as a ledger \(disk I/O error\)"):
            open_ledger(path)
    with closing(open_ledger(path)) as ledger:
        assert totals(ledger) == {TRACES: 1}


def test_faults_1_and_2_killed_at_every_point_of_a_commit(tmp_path: Path, path: Path) -> None:
    """Copies of the files at each step of a commit, as a process that starts then would find them."""
    later = replace(HORIZON, fresh_ms=99, retired_ms=0)
    with closing(open_ledger(path)) as ledger:
        ledger.commit(HORIZON, Batch(counted=(record(),), pending=(WAITING,)), {TRACES: 1})
        before = everything(ledger)
        copies: list[Path] = []

        def copy() -> int:
            copies.append(tmp_path / f"{len(copies)}" / "ledger.db")
            copies[-1].parent.mkdir()
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{copies[-1]}{suffix}")
            return 0

        sqlite_of(ledger).set_progress_handler(copy, 5)
        more = tuple(record(trace_id=f"tr-{number}") for number in range(2, 30))
        ledger.commit(
            later,
            Batch(counted=more, gone=("tr-9",), changed=(Change(record(), Counted(1), Counted(7)),)),
            {TRACES: 28},
        )
        sqlite_of(ledger).set_progress_handler(None, 0)
        after = everything(ledger)
    assert len(copies) > 50
    for each in copies:
        with closing(open_ledger(each)) as found:
            assert everything(found) in (before, after)


def everything(ledger: Ledger) -> object:
    ids = [f"tr-{number}" for number in range(30)]
    return ledger.horizon(), ledger.known(ids), ledger.totals.all(), ledger.counts(Window(0, 10**9), BUCKET_MS)


def test_commits_wait_for_the_disk(ledger: Ledger) -> None:
    assert ledger._db.rows("PRAGMA journal_mode")[0] == ("wal",)
    assert ledger._db.rows("PRAGMA synchronous")[0] == (2,), "FULL"
