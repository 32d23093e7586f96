"""The tests of copies once more, to and from PostgreSQL, and what only such copies have."""

from contextlib import closing
from pathlib import Path

import pytest

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.ledger.place import Database, Place
from tests.integration.conftest import NUMBERS
from tests.support.postgresql import PostgreSQL
from tests.unit.ledger.test_copying import *  # noqa: F403 - the same tests, with the places below
from tests.unit.ledger.test_copying import assert_nothing_at, contents, copied, fill

WAYS = ["to PostgreSQL", "from PostgreSQL", "inside PostgreSQL"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(way: str, database: Database, tmp_path: Path) -> Place:
    return tmp_path / "source" / "ledger.db" if way == "to PostgreSQL" else database


@pytest.fixture
def target(way: str, postgresql: PostgreSQL, tmp_path: Path) -> Place:
    name = f"copy_{next(NUMBERS)}"
    return tmp_path / "target" / "ledger.db" if way == "from PostgreSQL" else postgresql.ledger(name)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1])
def test_numbers_that_postgresql_would_round_are_refused(tmp_path: Path, database: Database, number: int) -> None:
    path = tmp_path / "ledger.db"
    with closing(open_ledger(path)) as ledger, ledger._db.transaction():
        ledger._db.execute("INSERT INTO totals VALUES ('a', '[]', '', ?, 0)", number)
    with pytest.raises(UserError, match=f"a total is {number}, which PostgreSQL would round"):
        copied(path, database)
    assert_nothing_at(database)


def test_numbers_come_back_as_what_they_were(tmp_path: Path, database: Database) -> None:
    path, back = tmp_path / "ledger.db", tmp_path / "back.db"
    with closing(open_ledger(path)) as ledger:
        fill(ledger)
        with ledger._db.transaction():
            for number, value in enumerate((2**53, 2**62, 0.1, 1e-300, 1.5e300, 5)):
                ledger._db.execute("INSERT INTO totals VALUES ('mlflow_old', ?, '', ?, 0)", f'["{number}"]', value)
            ledger._db.execute("INSERT INTO shapes VALUES ('mlflow_old', '[[\"a\"],[]]')")
    copied(path, database)
    copied(database, back)
    assert repr(contents(back)) == repr(contents(path)), "whole numbers are whole again"
