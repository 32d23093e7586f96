"""Decides which of several processes may write to a ledger in PostgreSQL and expose what it contains.

A leader holds an advisory lock, which belongs to its session. PostgreSQL releases the lock when the session ends: at
once if the process is killed, or after IDLE_S if it is paused or cannot be reached. Each leader begins an epoch, and a
transaction fails if a later epoch has begun. A leader may expose totals for LEASE_S after its session last answered.
The next leader waits as long before it exposes them, unless its predecessor recorded that it had stopped. So two
processes never expose totals at the same time, and exposed totals never decrease.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from threading import Event, Thread

import psycopg
from psycopg import errors

from mlflow_trace_exporter.ledger.connection import HeldError
from mlflow_trace_exporter.ledger.place import Database
from mlflow_trace_exporter.ledger.postgresql import (
    IDLE_S,
    PostgresConnection,
    Session,
    create_tables,
    ledger_errors,
    open_session,
)

log = logging.getLogger(__name__)

LEASE_S = 6.0
HEARTBEAT_S = 1.0


def boot_s() -> float:
    """A clock in seconds that also runs while the process is stopped or the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, slots=True)
class _Before:
    """What the ledger has recorded about the previous leader when a new epoch begins."""

    epoch: int
    has_ended: bool


class Leadership:
    """The period in which this process leads: from taking the lock until ``end``, or until the ``session`` is lost.

    If the session is lost, another thread calls ``lost``.
    """

    def __init__(self, session: Session, epoch: int, expose_from_s: float, lost: Callable[[], None]) -> None:
        self.epoch = epoch
        self.is_lost = False
        self._session = session
        self._expose_from_s = expose_from_s
        self._lost = lost
        self._answered_s = boot_s()
        self._ending = Event()
        self._thread = Thread(name="ledger-lease", target=self._keep, daemon=True)
        self._thread.start()

    def may_expose(self) -> bool:
        """Whether this process may expose totals now."""
        now_s = boot_s()
        return self._expose_from_s <= now_s < self._answered_s + LEASE_S

    def end(self) -> None:
        """Stop leading, so that another process can lead at once."""
        self._ending.set()
        self._thread.join()
        if not self._session.closed:  # otherwise the totals may be exposed for the rest of the lease
            self._answered_s = float("-inf")
            with suppress(psycopg.Error):
                self._session.execute("UPDATE leader SET has_ended = true WHERE epoch = %s", [self.epoch])
        close_and_free(self._session)

    def _keep(self) -> None:
        try:
            while not self._ending.wait(HEARTBEAT_S):
                self._renew()
        except psycopg.Error as error:
            log.warning("the leader's session has ended", extra={"error": str(error).strip()})
            self.is_lost = True
            self._lost()

    def _renew(self) -> None:
        asked_s = boot_s()
        (epoch,) = self._session.execute("SELECT epoch FROM leader").fetchone() or (None,)
        if epoch != self.epoch:  # a connection pool gave our session to another process
            self._answered_s = float("-inf")
            raise psycopg.OperationalError("another process leads")
        self._answered_s = asked_s


class Candidate:
    """A process that leads if no other one does. If the lock is lost, another thread calls ``lost``."""

    def __init__(self, database: Database, lost: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._lost = lost
        self._session: Session | None = None
        self._leadership: Leadership | None = None
        self._connection: PostgresConnection | None = None

    def leads(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self._leadership is not None and not self._leadership.is_lost

    def lead(self) -> PostgresConnection:
        """Open the ledger, or create one. Raises HeldError if another process leads, PollError if PostgreSQL cannot be
        reached, and UserError if only the user can fix the problem."""
        session = self._session = self._session or open_session(self._database, _SETTINGS)
        try:
            with ledger_errors(session):
                require_free(session, self._database)
                _end_transactions(session)
                before = _begin(session, self._database)
        except HeldError:
            raise
        except BaseException:
            self.withdraw()
            raise
        self._session = None
        self._leadership = Leadership(session, before.epoch + 1, self._expose_from_s(before), self._lost)
        try:
            committed = self._connection.sequence if self._connection else 0
            self._connection = PostgresConnection(self._database, self._leadership, committed)
        except BaseException:
            self._leadership.end()
            raise
        log.info("leading", extra={"ledger": self._database, "epoch": self._leadership.epoch})
        return self._connection

    def withdraw(self) -> None:
        """Stop trying to lead."""
        if self._session is not None:
            close_and_free(self._session)
            self._session = None

    def _expose_from_s(self, before: _Before) -> float:
        is_ours = self._leadership is not None and self._leadership.epoch == before.epoch
        return 0 if is_ours or before.has_ended else boot_s() + LEASE_S


_LOCK = "mlflow-trace-exporter ledger "
_SETTINGS = (f"SELECT set_config(name, '{IDLE_S}s', false) FROM pg_settings WHERE name = 'idle_session_timeout'",)  # noqa: S608 - no values
"""PostgreSQL 13 does not have this setting: there, a paused leader is not replaced until its host is gone."""


def close_and_free(session: Session) -> None:
    """End a session, and release its lock at once. PostgreSQL would do so only some time after the connection ends."""
    with closing(session), suppress(psycopg.Error):
        if not session.closed:
            session.execute("SELECT pg_advisory_unlock_all()")


@contextmanager
def brief_session(database: Database, settings: Iterable[str] = ()) -> Iterator[Session]:
    """A session that lasts for a block, and releases its lock afterwards. Raises PollError."""
    session = open_session(database, settings)
    try:
        yield session
    finally:
        close_and_free(session)


def require_free(session: Session, database: Database) -> None:
    """Take the lock of a ledger for as long as the session lasts. Raises HeldError if another session has it."""
    key = int.from_bytes(blake2b(f"{_LOCK}{database.name}".encode(), digest_size=8).digest(), signed=True)
    (is_ours,) = session.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone() or (False,)
    if not is_ours:
        with suppress(errors.UndefinedTable):  # the leader is still creating it
            for holder, since_ms in session.execute("SELECT holder, since_ms FROM leader"):
                raise HeldError(holder, since_ms)
        raise HeldError("another process", 0)


def _end_transactions(session: Session) -> None:
    """End the transactions of former leaders, the only ones that change the table of leaders. A process that is paused
    while it sends statements would lock its row forever, because IDLE_S begins once PostgreSQL has all of them."""
    query = """
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database AS its ON its.oid = database
    WHERE datname = current_database() AND relation = to_regclass('leader') AND mode = 'RowExclusiveLock'
      AND pid != pg_backend_pid()
    """
    with suppress(errors.InsufficientPrivilege):  # they belong to another user
        session.execute(query)


def _begin(session: Session, database: Database) -> _Before:
    """Begin an epoch. Creates the ledger if it does not exist."""
    holder = f"{socket.gethostname()} (process {os.getpid()})"
    with session.transaction():
        if create_tables(session, database):
            log.info("created a new ledger", extra={"ledger": database})
        query = "SELECT epoch, has_ended FROM leader FOR UPDATE"
        before = _Before(*(session.execute(query).fetchone() or (0, True)))
        statement = "UPDATE leader SET epoch = epoch + 1, holder = %s, since_ms = %s, has_ended = false"
        session.execute(statement, [holder, time.time_ns() // 1_000_000])
    return before
