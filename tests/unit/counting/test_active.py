"""Active users and sessions: each counts once in a window, whatever happens to the process. No name is kept."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import pytest

from mlflow_trace_exporter.domain.activity import DAY_MS, HOUR_MS, Activity, Who
from mlflow_trace_exporter.domain.admission import Caps
from mlflow_trace_exporter.domain.horizon import Horizon
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.ledger.connection import LedgerDamagedError
from mlflow_trace_exporter.metrics.exposition import Exposition, Format
from tests.support.builders import METER, increments, record
from tests.support.ledgers import sqlite_of
from tests.support.rig import MINUTE_MS, Rig
from tests.support.simulated import EPOCH_MS, SimulatedMlflow, unreachable

METER_WITH_ACTIVE = replace(METER, with_active=True)
NOON_MS = EPOCH_MS // DAY_MS * DAY_MS + 12 * HOUR_MS
NUMBERS = count()
PLACE = ("chatbot", "production")


class Active(NamedTuple):
    """Users and sessions of a place in the windows 1d and 30d."""

    users_1d: int
    users_30d: int
    sessions_1d: int
    sessions_30d: int


@pytest.fixture
def mlflow() -> SimulatedMlflow:
    simulated = SimulatedMlflow()
    simulated.clock_ms = NOON_MS
    return simulated


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(mlflow, meter=METER_WITH_ACTIVE)


def add(mlflow: SimulatedMlflow, user: str | None, age_ms: int = 0, **fields: object) -> TraceRecord:
    """Add a trace that ended so long ago, by default in a session of that user."""
    session = None if user is None else f"session of {user}"
    given = {"start_ms": mlflow.clock_ms - age_ms, "duration_ms": 0, "user": user, "session": session, **fields}
    return mlflow.add(record(trace_id=f"tr-{next(NUMBERS)}", **given))


def active(rig: Rig, place: tuple[str, ...] = PLACE) -> Active:
    """What is exposed."""
    users, sessions = rig.reading.active_users, rig.reading.active_sessions
    return Active(*(each[*place, window] for each in (users, sessions) for window in ("1d", "30d")))


def test_each_user_and_session_counts_once(mlflow: SimulatedMlflow, rig: Rig) -> None:
    for user in ("ann", "bob", "ann", None):
        add(mlflow, user)
    add(mlflow, "ann", session="another")
    rig.settle()
    assert active(rig) == Active(2, 2, 3, 3)
    add(mlflow, "cid")
    add(mlflow, "bob")
    rig.settle()
    assert active(rig) == Active(3, 3, 4, 4)


def test_they_are_counted_by_place_and_only_in_places_that_are_exposed(
    mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(mlflow, meter=replace(METER_WITH_ACTIVE, caps=Caps(values=2, series=100_000)))
    for user, environment in (("ann", "production"), ("ann", "staging"), ("bob", "staging")):
        add(mlflow, user, tags={"environment": environment})
    rig.settle()
    for user, environment in (("ann", "x"), ("bob", "y"), ("ann", "z")):
        add(mlflow, user, tags={"environment": environment})
    rig.settle()
    found = {labels[:2]: active(rig, labels[:2]) for labels in rig.reading.active_users}
    assert found == {
        PLACE: Active(1, 1, 1, 1),
        ("chatbot", "staging"): Active(2, 2, 2, 2),
        ("chatbot", "other"): Active(2, 2, 2, 2),
    }


def test_traces_that_are_not_counted_have_no_users(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, "ann")
    add(mlflow, "eve", tags={"mlflow.eval.requestId": "x"})
    rig.settle()
    assert rig.traces == 1
    assert active(rig) == Active(1, 1, 1, 1)


def test_they_are_active_where_their_traces_started(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """Not when they were read: these have been there for a long time."""
    for user, age_ms in (
        ("now", 0),
        ("in the first hour", 24 * HOUR_MS),
        ("an hour before", 24 * HOUR_MS + 1),
        ("on the first day", 30 * DAY_MS + 12 * HOUR_MS),
        ("a day before", 30 * DAY_MS + 12 * HOUR_MS + 1),
    ):
        add(mlflow, user, age_ms)
    rig.settle()
    assert active(rig) == Active(2, 4, 2, 4)


def test_they_leave_a_window_when_time_passes(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, "ann")
    rig.settle()
    add(mlflow, "bob")
    for hours, expected in ((20, Active(2, 2, 2, 2)), (4, Active(2, 2, 2, 2)), (1, Active(0, 2, 0, 2))):
        rig.run(hours * HOUR_MS, every_ms=HOUR_MS)
        assert active(rig) == expected
    add(mlflow, "ann")
    rig.settle()
    assert active(rig) == Active(1, 2, 1, 2)
    rig.run(29 * DAY_MS, every_ms=12 * HOUR_MS)
    add(mlflow, "cid")
    rig.settle()
    assert active(rig) == Active(1, 3, 1, 3)
    rig.run(DAY_MS, every_ms=12 * HOUR_MS)
    assert active(rig) == Active(1, 2, 1, 2), "bob was last seen 31 days ago"


def test_they_are_shown_while_mlflow_is_away(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a restart: MLflow is not asked for its clock."""
    add(mlflow, "alice")
    rig.settle()
    before = active(rig)

    def away() -> None:
        raise unreachable()

    monkeypatch.setattr(mlflow, "clocks", away)
    rig.restart()
    assert not rig.tick()
    assert active(rig) == before


def test_a_restart_changes_no_count(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """Also not by its rounding: what is in memory is estimated as what is read again."""
    for number in range(3_000):
        add(mlflow, f"user {number}", age_ms=number % 48 * HOUR_MS)
    rig.settle()
    for number in range(2_990, 3_200):
        add(mlflow, f"user {number}", age_ms=number % 3 * MINUTE_MS)
    rig.settle()
    before = active(rig)
    assert before.users_30d == pytest.approx(3_200, rel=0.045)
    rig.restart()
    assert active(rig) == before, "before the first poll"
    rig.settle()
    assert active(rig) == before


def test_a_restart_changes_no_count_of_those_that_were_only_added_in_memory(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """What the ledger had was read before there was any."""
    rig.settle()
    for number in range(3_000):
        add(mlflow, f"user {number}")
    rig.settle()
    before = active(rig)
    rig.restart()
    assert active(rig) == before


class Crash(BaseException):
    """A kill -9."""


@pytest.mark.parametrize("after", [False, True], ids=["before COMMIT", "after COMMIT"])
def test_a_kill_changes_no_count(
    mlflow: SimulatedMlflow, rig: Rig, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(mlflow, "ann")
    rig.settle()
    add(mlflow, "bob")
    commit, kills = rig.ledger.commit, count()

    def killed(horizon: Horizon, batch: object, *more: object) -> None:
        if not getattr(batch, "counted", ()):
            commit(horizon, batch, *more)  # type: ignore[arg-type]  # as it is called
            return
        next(kills)
        if after:
            commit(horizon, batch, *more)  # type: ignore[arg-type]  # as it is called
        raise Crash

    monkeypatch.setattr(rig.ledger, "commit", killed)
    with pytest.raises(Crash):
        rig.settle()
    rig.restart()
    assert active(rig) == (Active(2, 2, 2, 2) if after else Active(1, 1, 1, 1)), "with the trace, or not at all"
    rig.settle()
    assert active(rig) == Active(2, 2, 2, 2)
    assert next(kills) == 1


def test_a_commit_that_fails_adds_nobody(rig: Rig) -> None:
    ann = Activity(Who.USER, PLACE, NOON_MS)
    ledger, at = rig.ledger, rig.ledger.horizon()
    assert at is not None

    def users() -> int:
        return ledger.active.counts(Who.USER, [PLACE], NOON_MS)[*PLACE, "1d"]

    def deny(action: int, table: str | None, *_: str | None) -> int:
        return sqlite3.SQLITE_DENY if (action, table) == (sqlite3.SQLITE_INSERT, "horizon") else 0

    ledger.commit(at, active={ann: frozenset([1])})
    sqlite_of(ledger).set_authorizer(deny)
    with pytest.raises(PollError):
        ledger.commit(at, active={ann: frozenset([2])})
    sqlite_of(ledger).set_authorizer(None)
    assert users() == 1
    ledger.commit(at, active={ann: frozenset([3])})
    assert users() == 2
    rig.restart()
    assert rig.ledger.active.counts(Who.USER, [PLACE], NOON_MS)[*PLACE, "1d"] == 2, "so does the ledger"


def test_a_trace_that_is_read_again_changes_no_count(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow, "ann")
    add(mlflow, "bob")
    rig.settle()
    mlflow.change(trace, user="eve", session="of eve")
    rig.run(4 * HOUR_MS, every_ms=5 * MINUTE_MS)
    assert active(rig) == Active(2, 2, 2, 2)
    assert rig.traces == 2


def test_they_continue_when_they_are_turned_off_and_on_again(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, "ann")
    rig.settle()
    rig.reload(METER)
    assert (rig.reading.active_users, rig.reading.active_sessions) == ({}, {})
    add(mlflow, "bob")
    rig.settle()
    rig.reload(METER_WITH_ACTIVE)
    assert active(rig) == Active(1, 1, 1, 1), "bob was not counted"
    add(mlflow, "cid")
    rig.settle()
    assert active(rig) == Active(2, 2, 2, 2)


def sketches(rig: Rig) -> int:
    return len(rig.ledger._db.rows("SELECT 1 FROM sketches"))


def test_nothing_is_forgotten_because_of_a_clock_alone(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, "ann", age_ms=HOUR_MS)
    add(mlflow, "bob", age_ms=29 * DAY_MS)
    rig.settle()
    mlflow.own_error_ms = mlflow.server_error_ms = 300 * DAY_MS
    rig.settle()
    assert active(rig) == Active(0, 0, 0, 0)
    mlflow.own_error_ms = mlflow.server_error_ms = 0
    rig.settle()
    assert active(rig) == Active(1, 2, 1, 2)


def test_nothing_is_forgotten_because_of_an_application_s_clock_alone(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, "ann", age_ms=HOUR_MS)
    add(mlflow, "bob", age_ms=-2 * DAY_MS + HOUR_MS)
    rig.settle()
    assert active(rig) == Active(1, 1, 1, 1)
    rig.run(2 * DAY_MS, every_ms=HOUR_MS)
    assert active(rig) == Active(1, 2, 1, 2)


def test_old_sketches_are_deleted_whether_they_are_counted_or_not(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, "ann")
    rig.settle()
    assert sketches(rig) == 4, "of a user and a session, for an hour and a day"
    rig.run(25 * HOUR_MS, every_ms=HOUR_MS)
    assert sketches(rig) == 4, "no trace is known that is newer"
    add(mlflow, "ann")
    rig.settle()
    assert sketches(rig) == 6
    rig.reload(METER)
    for _ in range(32):
        add(mlflow, "ann")
        rig.run(DAY_MS, every_ms=12 * HOUR_MS)
    rig.settle()
    assert sketches(rig) == 0


def test_a_long_catch_up_keeps_few_sketches_in_memory(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_trace_exporter.ledger.active.MAX_RECENT", 10)
    mlflow.page_size = 2
    for hours in range(48):
        add(mlflow, f"user {hours % 10}", age_ms=hours * HOUR_MS)
    rig.settle()
    assert len(rig.ledger.active._recent) <= 10 + 4 * 2
    assert active(rig) == Active(10, 10, 10, 10)


def test_nobody_s_name_is_kept_or_shown(mlflow: SimulatedMlflow, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    add(mlflow, "Ann Example", session="the session of Ann")
    rig.settle()
    assert active(rig) == Active(1, 1, 1, 1)
    exposition = Exposition()
    exposition.publish(rig.published[-1])
    text = exposition.render((Format.TEXT, False)).decode()
    assert 'mlflow_active_users{environment="production",experiment="chatbot",window="1d"} 1.0\n' in text
    assert 'mlflow_active_sessions{environment="production",experiment="chatbot",window="30d"} 1.0\n' in text
    shown = f"{text}{caplog.text}{rig.published!r}"
    rig.ledger.close()
    kept = rig.path.read_bytes()
    assert b"sketches" in kept
    rig.start()
    assert "Ann" not in shown
    assert b"Ann" not in kept


def test_the_meter_names_nobody() -> None:
    made = increments(record(user="Ann Example", session="the session of Ann"), meter=METER_WITH_ACTIVE)
    assert {(each.who, each.place) for each in made.active} == {(Who.USER, PLACE), (Who.SESSION, PLACE)}
    assert "Ann" not in repr(made)
    assert increments(record(), meter=METER).active == {}


def test_a_sketch_that_is_damaged_while_it_is_used_is_noticed(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, "ann")
    rig.settle()
    with closing(sqlite3.connect(rig.path)) as db, db:
        db.execute("UPDATE sketches SET sketch = X'00'")
    with pytest.raises(LedgerDamagedError, match="a sketch of users or sessions is invalid"):
        rig.ledger.active.counts(Who.USER, [PLACE], NOON_MS + DAY_MS)
