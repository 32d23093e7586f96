"""Some of the numbered faults with a ledger in PostgreSQL, and those that only it has. `make soak` tries all."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import leadership
from mlflow_trace_exporter.ledger.connection import HeldError, LedgerLostError
from mlflow_trace_exporter.ledger.leadership import Candidate
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.opening import connect, open_ledger
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.ledger.postgresql import PostgresConnection, open_session
from tests.support.histories import explore
from tests.support.histories_in_postgresql import HistoryInPostgresql
from tests.support.ledgers import totals_in
from tests.support.postgresql import PostgreSQL, cut
from tests.support.real import eventually
from tests.support.rig import HOUR_MS
from tests.support.simulated import SimulatedMlflow
from tests.unit.conftest import MakeRig, make_rig, mlflow, rig
from tests.unit.counting.test_faults import (
    started,
    test_a_trace_that_runs_while_its_experiment_is_in_the_bin_is_counted,
    test_fault_11_deleted_while_pending,
    test_fault_28_an_experiment_selected_later_counts_from_then_on,
    test_faults_1_and_2_killed_before_and_after_each_commit,
)

pytestmark = pytest.mark.long

__all__ = [
    "make_rig",
    "mlflow",
    "rig",
    "started",
    "test_a_trace_that_runs_while_its_experiment_is_in_the_bin_is_counted",
    "test_fault_11_deleted_while_pending",
    "test_fault_28_an_experiment_selected_later_counts_from_then_on",
    "test_faults_1_and_2_killed_before_and_after_each_commit",
]


@pytest.fixture
def rig_place(database: Database) -> Place:
    return database


class CutConnection(PostgresConnection):
    """A connection that is cut in its nth commit: before the server has got it, or before its answer has come back."""

    commits_left = 0
    after = False

    def cut_in(self, commits: int, after: bool) -> None:
        self.commits_left, self.after = commits, after
        run = self._db.execute

        def execute(statement: Any, *more: Any) -> Any:
            self.commits_left -= statement == "COMMIT"
            if statement != "COMMIT" or self.commits_left:
                return run(statement, *more)
            if self.after:
                run(statement)
            cut(self._database)
            return run("SELECT 1" if self.after else statement)

        self._db.execute = execute  # type: ignore[assignment, method-assign]  # for the test


class CutLedger(Ledger):
    """A ledger with such a connection."""

    def __init__(self, place: Place, commits: int, after: bool) -> None:
        connection = connect(place)
        connection.__class__ = CutConnection
        assert isinstance(connection, CutConnection)
        connection.cut_in(commits, after)
        super().__init__(connection)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("commits", range(2, 8))
def test_fault_35_cut_in_each_commit(make_rig: MakeRig, commits: int, after: bool) -> None:
    mlflow = SimulatedMlflow(page_size=10)
    for start_ms in range(35):
        mlflow.trace(start_ms - HOUR_MS)
    rig = make_rig(mlflow, interval_s=0)
    rig.ledger.close()
    rig.start(lambda place: CutLedger(place, commits, after))
    assert not rig.tick()
    assert isinstance(rig.poller.ended_by, LedgerLostError)
    shown = rig.traces
    rig.restart()
    assert rig.traces >= shown, "what was exposed must have been committed"
    rig.tick()
    assert rig.traces == 35


def test_invariant_11_a_former_leader_cannot_write(
    make_rig: MakeRig, mlflow: SimulatedMlflow, database: Database
) -> None:
    """As after a pool of connections gave its session, and so its lock, to somebody else."""
    mlflow.trace(-HOUR_MS)
    old = make_rig(mlflow)
    with open_session(database) as session:
        session.execute("UPDATE leader SET epoch = epoch + 1")
    before = totals_in(database)
    assert not old.tick()
    assert isinstance(old.poller.ended_by, LedgerLostError)
    assert totals_in(database) == before
    eventually(lambda: not old.ledger.may_expose(), "it exposes nothing any more")


def test_a_second_process_learns_who_leads(database: Database) -> None:
    first = open_ledger(database)
    with pytest.raises(HeldError) as caught:
        open_ledger(database)
    assert "(process " in caught.value.holder
    first.close()
    open_ledger(database).close()


@dataclass
class Boot:
    """A clock that stands still unless it is told otherwise."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Boot:
    """The clock of leases."""
    boot = Boot()
    monkeypatch.setattr(leadership, "boot_s", boot)
    return boot


def test_only_after_the_lease_of_a_leader_that_did_not_end_is_anything_exposed(database: Database, boot: Boot) -> None:
    first = open_ledger(database)
    assert first.may_expose()
    cut(database)
    second = eventually(lambda: _led(database), "another one leads")
    for _ in range(2):
        assert first.may_expose(), "for the rest of its lease"
        assert not second.may_expose(), "the first one may still expose what it has"
        boot.now_s += leadership.LEASE_S / 2 - 0.1
    boot.now_s += 0.3
    eventually(second.may_expose, "its lease is over")
    assert not first.may_expose()
    second.close()
    third = open_ledger(database)
    assert third.may_expose(), "the second one has ended"
    third.close()
    first.close()


def _led(database: Database) -> Ledger | None:
    try:
        return open_ledger(database)
    except HeldError:
        return None


@pytest.mark.usefixtures("boot")
def test_the_same_process_exposes_at_once_after_a_cut(database: Database) -> None:
    candidate = Candidate(database)
    first = candidate.lead()
    cut(database)
    eventually(lambda: not candidate.leads(), "it notices")
    assert first.may_expose(), "for the rest of its lease"
    first.close()
    again = eventually(lambda: _again(candidate), "it leads again")
    assert again.may_expose()
    again.close()


def _again(candidate: Candidate) -> PostgresConnection | None:
    try:
        return candidate.lead()
    except HeldError:
        return None


WRITER = """
import sys
from mlflow_trace_exporter.ledger.leadership import Candidate
from mlflow_trace_exporter.ledger.place import Database
connection = Candidate(Database(*sys.argv[1:])).lead()
with connection.transaction():
    rows = ((number.to_bytes(16, "big"), 700_000_000) for number in range(1_000_000))
    connection.each("INSERT INTO done (digest, start_ms) VALUES (?, ?)", rows)
"""


def test_fault_36_a_leader_that_is_paused_while_it_writes_is_replaced(database: Database) -> None:
    """PostgreSQL waits for the rest of its statements, which is no silence that ends a session."""
    candidate = Candidate(database)
    with subprocess.Popen([sys.executable, "-c", WRITER, database.url, database.name]) as writer:
        try:
            eventually(lambda: _is_writing(database), "it writes", every_s=0.01)
            writer.send_signal(signal.SIGSTOP)
            eventually(lambda: _again(candidate), "another one leads").close()
        finally:
            writer.kill()
    with open_session(database) as session:
        assert session.execute("SELECT 1 FROM done").fetchone() is None


def _is_writing(database: Database) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE pid != pg_backend_pid() AND state = 'active' AND query LIKE 'INSERT%'"
    with psycopg.connect(database.url) as session:
        return session.execute(query).fetchone() is not None


WRONG = (
    "UPDATE totals SET value = -1",
    "UPDATE groups SET labels = '[1]'",
    "INSERT INTO horizon VALUES (1, 0, 0, 0, 5, 0, 0)",
)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_ledger_that_is_damaged_is_refused(
    make_rig: MakeRig, mlflow: SimulatedMlflow, database: Database, wrong: str
) -> None:
    """And not set aside, because a database has backups."""
    mlflow.trace(-HOUR_MS)
    rig = make_rig(mlflow)
    rig.tick()
    rig.ledger.close()
    with open_session(database) as session:
        session.execute("DELETE FROM horizon")
        session.execute(wrong)
    with pytest.raises(UserError, match=r"is damaged: .*; restore a backup, or set another ledger\.name"):
        open_ledger(database)


def test_labels_that_no_index_can_hold(database: Database) -> None:
    """A B-tree of PostgreSQL holds 2.7 kB."""
    with open_session(database) as session:
        connect(database).close()
        long = "".join(map(chr, range(0x4E00, 0x4E00 + 3_000)))
        for _ in range(2):
            with session.transaction(force_rollback=True):
                session.execute("INSERT INTO totals VALUES ('a', %s, '', 1, 0)", [long])
                with pytest.raises(psycopg.errors.UniqueViolation):
                    session.execute("INSERT INTO totals VALUES ('a', %s, '', 1, 0)", [long])


def test_invariants_hold_over_random_histories(postgresql: PostgreSQL) -> None:
    HistoryInPostgresql.server = postgresql
    explore(histories=5, steps=30, seed=0, machine=HistoryInPostgresql)
    assert HistoryInPostgresql.steps
