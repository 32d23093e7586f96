import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.errors import PollError, Reason, UserError
from exporter.horizon import FreshPass, Horizon, Window
from exporter.ledger import Ledger, examine
from exporter.metrics import Cell
from tests.builders import FAMILIES, record

HORIZON = Horizon(1, 2, FreshPass(3, Window(4, 5, 6)))
TRACES = Cell("mlflow_traces_total", ("chatbot", "production", 'na"me\\', "日本"))


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ledger.db"


def test_what_is_committed_is_there_after_a_restart(path: Path) -> None:
    trace = record()
    with closing(Ledger(path)) as ledger:
        assert ledger.horizon() is None
        ledger.commit(HORIZON, [trace], {TRACES: 1})
        ledger.commit(HORIZON, [record(trace_id="tr-2")], {TRACES: 2, Cell("a", ()): 0.5})

    new = record(trace_id="tr-3")
    with closing(Ledger(path)) as again:
        assert again.horizon() == HORIZON
        assert again.totals() == {TRACES: 3, Cell("a", ()): 0.5}
        assert again.not_counted([trace, new, new]) == [new]


@pytest.mark.parametrize("horizon", [Horizon(1), Horizon(1, 2), Horizon(1, None, FreshPass(3, Window(4, 5)))])
def test_every_kind_of_horizon_is_kept(ledger: Ledger, horizon: Horizon) -> None:
    ledger.commit(horizon)
    assert ledger.horizon() == horizon


def test_a_commit_that_fails_leaves_nothing_of_itself(ledger: Ledger) -> None:
    ledger.commit(HORIZON, [record()], {TRACES: 1})
    with pytest.raises(PollError) as caught:
        ledger.commit(replace(HORIZON, fresh_ms=99), [record(trace_id="tr-2"), record()], {TRACES: 2})
    assert caught.value.reason is Reason.LEDGER
    assert ledger.totals() == {TRACES: 1}
    assert ledger.horizon() == HORIZON
    assert ledger.not_counted([record(trace_id="tr-2")]), "an id whose amounts are not there must not be there either"


def test_a_family_with_other_buckets_begins_again_and_the_others_go_on(ledger: Ledger) -> None:
    assert ledger.adopt(FAMILIES) == []
    duration = Cell("mlflow_trace_duration_seconds", ("chatbot",), "0.05")
    ledger.commit(HORIZON, [record()], {TRACES: 1, duration: 1})
    assert ledger.adopt(FAMILIES) == []
    other = [replace(each, edges=(1.0, 2.0)) if each.name == duration.family else each for each in FAMILIES]
    assert ledger.adopt(other) == [duration.family]
    assert ledger.totals() == {TRACES: 1}


def test_a_second_process_is_told_who_holds_the_ledger(path: Path) -> None:
    first = Ledger(path)
    with pytest.raises(UserError, match=r"is in use by process \d+; stop that one, or set another ledger.path"):
        Ledger(path)
    first.close()
    Ledger(path).close()


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE important (it TEXT)")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"is a database of another program; move it away or set ledger\.path"):
        Ledger(path)
    assert path.read_bytes() == before
    path.unlink()
    Ledger(path).close()  # and the lock was given back


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n" * 100)
    with pytest.raises(UserError, match="cannot be used as a ledger"):
        Ledger(path)
    assert path.read_text() == "dear diary\n" * 100


def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used as a ledger"):
        Ledger(tmp_path)
    with pytest.raises(UserError, match="cannot be used as a ledger"):
        examine(tmp_path)


def test_examine_refuses_a_path_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot keep a ledger at"):
        examine(tmp_path / "file" / "deep" / "ledger.db")


def test_examine_says_what_is_there_and_writes_nothing(path: Path) -> None:
    assert not examine(path)
    assert not path.parent.exists()
    with closing(Ledger(path)):
        assert examine(path), "even while another process holds it"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA application_id = 1")
    with pytest.raises(UserError, match="is a database of another program"):
        examine(path)


def test_a_ledger_that_was_removed_takes_no_more(path: Path, ledger: Ledger) -> None:
    ledger.commit(HORIZON, [record()], {TRACES: 1})
    path.unlink()
    with pytest.raises(PollError, match="was removed or replaced; start the exporter again") as caught:
        ledger.commit(HORIZON, [record(trace_id="tr-2")], {TRACES: 1})
    assert caught.value.reason is Reason.LEDGER
    path.touch()
    with pytest.raises(PollError, match="was removed or replaced"):
        ledger.commit(HORIZON)


def test_a_newer_schema_is_refused(path: Path) -> None:
    Ledger(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="has the schema 99, and this version of the exporter reads schema 1"):
        Ledger(path)


def test_a_path_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot keep a ledger at .*; set ledger\.path"):
        Ledger(tmp_path / "file" / "ledger.db")
