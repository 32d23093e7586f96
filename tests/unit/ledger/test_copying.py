"""Copies of ledgers, here from file to file. The tests of PostgreSQL have other places."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlflow_trace_exporter.domain.activity import Activity, Who
from mlflow_trace_exporter.domain.assessed import Assessed
from mlflow_trace_exporter.domain.horizon import Horizon, Kind, Pass, Window
from mlflow_trace_exporter.domain.triage import Batch, Pending
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import copying
from mlflow_trace_exporter.ledger.awake import Stage
from mlflow_trace_exporter.ledger.connection import HeldError
from mlflow_trace_exporter.ledger.ledger import Ledger, Origin
from mlflow_trace_exporter.ledger.opening import candidate, connect, open_ledger
from mlflow_trace_exporter.ledger.place import Place
from mlflow_trace_exporter.metrics.model import Cell
from tests.support.builders import FAMILIES, increments, record

PASS = Pass(4, 600_000_001, Window(600_000_001, 700_000_000, 5))
HORIZON = Horizon(1, 2_000_000_000, 1_000_000_000, 600_000_000, {Kind.FRESH: PASS})
ODD = "tr-a\0b'\\\t\n日本\ufffe0\ufffeE"
LARGEST = float(2**60)
"""A total that both databases have exactly, although it is above 2**53."""


@pytest.fixture
def filled(source: Place) -> Place:
    """A ledger with rows in all tables, of which the groups have ids with gaps, and stages of each kind."""
    with closing(open_ledger(source)) as ledger:
        fill(ledger)
    return source


def fill(ledger: Ledger) -> None:
    ledger.totals.adopt(FAMILIES)
    records = [
        record(trace_id=f"tr-{number}", start_ms=700_000_000 + number, tags={"environment": each, "app_version": "1"})
        for number, each in enumerate(("production", "staging", "dev", "it's\0\\"))
    ]
    records.append(record(trace_id=ODD, start_ms=700_000_009))
    made = increments(*records)
    waiting = Pending(ODD + "9", 700_000, "1", ODD, "production", True, 1, 2, 3, 4)
    batch = Batch(
        counted=tuple(records), pending=(waiting,), assessed=(Assessed(records[0], forms={"a-1": 7, "a-2": None}),)
    )
    active = {Activity(Who.USER, ("chatbot", "production"), 0): frozenset({1, -2, 3})}
    amounts = {**made.amounts, Cell("mlflow_traces_total", made.groups[0].values): 0.1 + 0.2}
    ledger.commit(HORIZON, batch, amounts, dict.fromkeys(made.groups, 5), made.first_ms, made.group_of, active)
    *_, asleep, released = ledger.totals.groups()
    ledger.totals.stage([released], [asleep])
    ledger.add_origins({"1": Origin(5, 0), ODD: Origin(6, 7)})
    ledger.add_workspaces(["default", ODD])
    with ledger._db.transaction():
        ledger._db.execute("DELETE FROM groups WHERE id = ?", 2)
        ledger._db.execute("UPDATE done SET group_id = NULL WHERE group_id = ?", 2)
        ledger._db.execute("UPDATE totals SET value = ? WHERE family = 'mlflow_trace_errors_total'", LARGEST)
        ledger._db.execute("INSERT INTO retired VALUES (?, ?)", 0, 3)
        ledger._db.execute("UPDATE done SET spans = ? WHERE start_ms = ?", bytes(range(256)), 700_000_000)


def contents(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a ledger, by table."""
    with copying._original(place) as original:
        return {
            table.name: sorted((tuple(row) for rows in original.parts(table, 3) for row in rows), key=repr)
            for table in copying.tables()
        }


def copied(source: Place, target: Place) -> int:
    return copying.copy(source, target, lambda _, __: None)


def test_a_copy_has_every_row_of_every_table(filled: Place, target: Place) -> None:
    before = contents(filled)
    assert all(before.values()), "there is something in every table"
    assert copied(filled, target) == sum(map(len, before.values()))
    assert contents(target) == before == contents(filled)
    assert {LARGEST, 0.1 + 0.2} < {row[3] for row in before["totals"]}


def test_an_exporter_sees_the_same_in_a_copy(filled: Place, target: Place) -> None:
    copied(filled, target)
    seen = []
    for place in (filled, target):
        with closing(open_ledger(place)) as ledger:
            ledger.totals.adopt(FAMILIES)
            totals = ledger.totals
            known = ledger.known(["tr-1", ODD, ODD + "9"])
            seen.append((totals.shown(), totals.groups(), totals.first_seen(), totals.all(), known, ledger.horizon()))
    assert seen[0] == seen[1]
    assert {each.stage for each in seen[0][1].values()} == {Stage.HELD, Stage.RELEASED}


def test_new_groups_get_ids_after_those_of_the_original(filled: Place, target: Place) -> None:
    copied(filled, target)
    new = record(trace_id="tr-new", start_ms=700_000_010, tags={"environment": "new", "app_version": "2"})
    made = increments(new)
    with closing(open_ledger(target)) as ledger:
        ledger.totals.adopt(FAMILIES)
        ids = {each for (each,) in ledger._db.rows("SELECT id FROM groups")}
        ledger.commit(HORIZON, Batch(counted=(new,)), made.amounts, dict.fromkeys(made.groups, 6))
        more = {each for (each,) in ledger._db.rows("SELECT id FROM groups")} - ids
    assert len(more) == len(made.groups)
    assert min(more) > max(ids)


def test_an_empty_ledger_can_be_copied(source: Place, target: Place) -> None:
    open_ledger(source).close()
    assert copied(source, target) == 1, "the number of ledgers that were set aside"
    with closing(open_ledger(target)) as ledger:
        assert ledger.horizon() is None


def test_copies_tell_how_far_they_are(filled: Place, target: Place) -> None:
    told: list[tuple[int, int]] = []
    rows = copying.copy(filled, target, lambda *at: told.append(at))
    assert (told[0], told[-1]) == ((0, rows), (rows, rows))


def test_a_ledger_that_is_in_use_is_not_copied(filled: Place, target: Place) -> None:
    with closing(connect(filled)), pytest.raises(UserError, match=r"in use by .*stop that"):
        copied(filled, target)
    assert_nothing_at(target)


def test_without_a_ledger_nothing_is_copied(source: Place, target: Place) -> None:
    with pytest.raises(UserError, match="there is no ledger to copy"):
        copied(source, target)
    assert_nothing_at(source)
    assert_nothing_at(target)


def test_a_ledger_is_not_copied_to_itself(filled: Place) -> None:
    with pytest.raises(UserError, match="both are the same ledger"):
        copied(filled, filled)


def test_a_ledger_is_not_replaced(filled: Place, target: Place) -> None:
    open_ledger(target).close()
    before = contents(target)
    with pytest.raises(UserError, match=r"already exists; .*name another"):
        copied(filled, target)
    assert contents(target) == before


def test_an_exporter_cannot_begin_with_an_unfinished_copy(filled: Place, target: Place) -> None:
    def tell(_: int, __: int) -> None:
        assert_nobody_can_lead(target)

    copying.copy(filled, target, tell)
    assert contents(target) == contents(filled)


def test_an_exporter_cannot_begin_while_its_ledger_is_copied(filled: Place, target: Place) -> None:
    def tell(_: int, __: int) -> None:
        assert_nobody_can_lead(filled)

    copying.copy(filled, target, tell)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, UserError])
def test_nothing_is_left_of_an_interrupted_copy(filled: Place, target: Place, error: type[BaseException]) -> None:
    def tell(copied: int, total: int) -> None:
        if copied > total / 2:
            raise error

    before = contents(filled)
    with pytest.raises(error):
        copying.copy(filled, target, tell)
    assert_nothing_at(target)
    assert contents(filled) == before
    copied(filled, target)
    assert contents(target) == before


@pytest.fixture
def damaged(filled: Place) -> Place:
    with closing(connect(filled)) as db, db.transaction():
        db.execute("UPDATE totals SET slept = value + 1 WHERE family = 'mlflow_traces_total'")
    return filled


def test_a_damaged_ledger_is_not_copied(damaged: Place, target: Place) -> None:
    with pytest.raises(UserError, match="is damaged: a total is invalid"):
        copied(damaged, target)
    assert_nothing_at(target)


def assert_nobody_can_lead(place: Place) -> None:
    one = candidate(place)
    with pytest.raises((UserError, HeldError)):
        one.lead()
    one.withdraw()


def assert_nothing_at(place: Place) -> None:
    with pytest.raises(UserError, match="there is no ledger to copy"), copying._original(place):
        pass
    if isinstance(place, Path) and place.parent.exists():
        assert [each.name for each in place.parent.iterdir() if not each.name.endswith(".lock")] == []
