"""The ledger: what has been counted, what it added up to, what is waited for, and how far reading has come. SQLite.

Each page of traces is one transaction that holds the ids, what they add to the totals, and the position after them. So
after a crash at any moment either all of a page is there or none of it, and a page that is read again counts nothing.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from exporter.admission import Group
from exporter.errors import PollError, Reason
from exporter.horizon import BUCKET_MS, Horizon, Kind, Pass, Window
from exporter.ledger_contents import DamagedError
from exporter.ledger_file import hold, is_damage, open_database, resolve, set_aside
from exporter.metrics import Cell, TraceFamily
from exporter.triage import LONGEST_WAIT_MS, Batch, Known, Pending, amounts_of

log = logging.getLogger(__name__)

DUE_AT_ONCE = 10_000
"""How many pending traces are named at once; the others are at the next time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """From which start time on the traces of an experiment count, and when the experiment was created (Unix ms)."""

    created_ms: int
    origin_ms: int


class Stage(IntEnum):
    """What is shown of a group, see release.py: what it slept with, its values, or nothing."""

    HELD = 0
    RELEASED = 1
    ASLEEP = 2


@dataclass(frozen=True, slots=True)
class GroupState:
    """When a group last got increments (Unix ms), and what is shown of it."""

    active_ms: int
    stage: Stage


class LedgerDamagedError(PollError):
    """What was read of the ledger cannot be what was written; see ``Ledger.begin_again``."""

    def __init__(self, cause: sqlite3.Error) -> None:
        super().__init__(Reason.LEDGER, f"the ledger is damaged: {cause}")
        self.cause = cause


class Ledger:
    """One ledger file, held by this process alone until ``close``.

    Every method but the constructor raises PollError with Reason.LEDGER where SQLite cannot do what it is asked (disk
    full, file gone): nothing of that call is kept then. It is a LedgerDamagedError where the file holds what cannot be
    read.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger at ``path``, or begin a new one. Raises UserError as ``resolve``, ``hold`` and
        ``open_database`` do."""
        self._path = resolve(path)
        self._lock = hold(self._path)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        self._db = open_database(self._path)
        self._inode = self._path.stat().st_ino
        self._log_inode: int | None = None

    def begin_again(self, damage: LedgerDamagedError) -> None:
        """Set the file aside, which is damaged, and begin a new ledger. Raises UserError as the constructor does."""
        self._db.close()
        set_aside(self._path, damage.cause)
        self._open()

    def close(self) -> None:
        """Close the file and let other processes have it."""
        self._db.close()
        self._lock.close()

    def horizon(self) -> Horizon | None:
        """How far reading had come at the last commit; None before the first."""
        columns = "origin_ms, fresh_ms, closed_ms, retired_ms, forgotten_ms"
        row = next(iter(self._rows(f"SELECT {columns} FROM horizon")), None)  # noqa: S608 - no values
        passes = self._rows("SELECT kind, started_ms, from_ms, lo_ms, hi_ms, ended_after_ms FROM passes")
        if row is None:
            return None
        origin_ms, fresh_ms, closed_ms, retired_ms, forgotten_ms = row
        under_way = {
            Kind(kind): Pass(started_ms, from_ms, Window(*window)) for kind, started_ms, from_ms, *window in passes
        }
        return Horizon(origin_ms, fresh_ms, closed_ms, retired_ms, under_way, forgotten_ms)

    def known(self, trace_ids: Sequence[str]) -> Known:
        """What is known of these ids."""
        marks = ",".join("?" * len(trace_ids))  # not json_each: it cuts an id at a NUL
        done = self._rows(f"SELECT trace_id, amounts FROM done WHERE trace_id IN ({marks})", *trace_ids)  # noqa: S608 - no values
        pending = self._rows(f"SELECT * FROM pending WHERE trace_id IN ({marks})", *trace_ids)  # noqa: S608 - no values
        return Known(dict(done), {row[0]: _pending(row) for row in pending})

    def due(self, now_ms: int) -> list[Pending]:
        """Some of the pending traces that are to be looked at again, those first that have waited longest. One that is
        to be looked at later than any could be was put off by a clock that was ahead, so it is due as well."""
        query = "SELECT * FROM pending WHERE next_ms <= ? OR next_ms > ? ORDER BY next_ms LIMIT ?"
        return [_pending(row) for row in self._rows(query, now_ms, now_ms + LONGEST_WAIT_MS, DUE_AT_ONCE)]

    def running(self) -> dict[tuple[str, ...], int]:
        """How many traces are in progress, by experiment and environment."""
        query = "SELECT experiment, environment, count(*) FROM pending WHERE running GROUP BY 1, 2"
        return {(experiment, environment): count for experiment, environment, count in self._rows(query)}

    def pending(self) -> int:
        """How many traces are pending."""
        ((count,),) = self._rows("SELECT count(*) FROM pending")
        return int(count)

    def newest_ms(self) -> int:
        """The latest start of the traces that are done with, 0 without any (Unix ms)."""
        ((newest_ms,),) = self._rows("SELECT ifnull(max(start_ms), 0) FROM done")
        return int(newest_ms)

    def counts(self, window: Window, step_ms: int) -> dict[int, int]:
        """How many traces are known (done with, or pending) by their start, in steps of ``step_ms`` from 1970 on."""
        query = """SELECT start_ms / ? * ?, count(*) FROM
          (SELECT start_ms FROM done UNION ALL SELECT start_ms FROM pending) WHERE start_ms >= ? AND start_ms < ?
          GROUP BY 1"""
        return dict(self._rows(query, step_ms, step_ms, window.lo_ms, window.hi_ms))

    def retired_counts(self, window: Window) -> dict[int, int]:
        """How many traces were known in each bucket that the window touches, when it was retired."""
        query = "SELECT bucket_ms, traces FROM retired WHERE bucket_ms > ? AND bucket_ms < ?"
        return dict(self._rows(query, window.lo_ms - BUCKET_MS, window.hi_ms))

    def origins(self) -> dict[str, Origin]:
        """The origin of each experiment that was ever selected, by its id."""
        rows = self._rows("SELECT experiment_id, created_ms, origin_ms FROM experiments")
        return {experiment_id: Origin(*row) for experiment_id, *row in rows}

    def add_origins(self, origins: Mapping[str, Origin]) -> None:
        """Keep the origins of experiments that are new, or have the id of one that was deleted for good."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO experiments VALUES (?, ?, ?)",
                [(experiment_id, *astuple(origin)) for experiment_id, origin in origins.items()],
            )

    def commit(
        self,
        horizon: Horizon,
        batch: Batch | None = None,
        amounts: Mapping[Cell, float] | None = None,
        active_ms: Mapping[Group, int] | None = None,
        first_ms: Mapping[Group, int] | None = None,
    ) -> None:
        """Store, in one transaction: this batch is dealt with, it adds ``amounts``, reading has come to ``horizon``.

        ``active_ms`` names the groups that get increments, and the time (Unix ms); ``first_ms`` is the earliest start
        of a trace, by VERSION_LABELS.

        A trace that is counted already makes the whole call fail: to count twice would be worse than to stop. The ids
        of traces that started before ``horizon.forgotten_ms`` are forgotten: nothing will ask for them again.
        """
        batch = batch or Batch()
        with self._transaction():
            self._store(batch, horizon.forgotten_ms)
            self._db.executemany(
                "INSERT INTO totals VALUES (?, ?, ?, ?, 0)"
                " ON CONFLICT DO UPDATE SET value = value + excluded.value WHERE excluded.value != 0",
                [(cell.family, _dump(cell.labels), cell.part, amount) for cell, amount in (amounts or {}).items()],
            )
            self._db.executemany(
                "INSERT INTO groups VALUES (?1, ?2, ?3)"
                " ON CONFLICT DO UPDATE SET active_ms = ?2, stage = iif(stage = ?4, ?3, stage)",
                [(_dump(group), ms, Stage.HELD, Stage.ASLEEP) for group, ms in (active_ms or {}).items()],
            )
            self._db.executemany(
                "INSERT INTO versions VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET first_ms = min(first_ms, excluded.first_ms)",
                [(_dump(labels), ms) for labels, ms in (first_ms or {}).items()],
            )
            self._retire(horizon)
            self._store_horizon(horizon)

    def first_seen(self) -> dict[Group, int]:
        """When the first trace of each version started (Unix ms), by VERSION_LABELS, as far as that is known."""
        rows = self._rows("SELECT labels, first_ms FROM versions WHERE first_ms IS NOT NULL")
        return {_load(labels): first_ms for labels, first_ms in rows}

    def totals(self) -> dict[Cell, float]:
        """All totals as of the last commit."""
        return self._cells("SELECT family, labels, part, value FROM totals ORDER BY family, labels")

    def values(self, cells: Iterable[Cell]) -> dict[Cell, float]:
        """The totals of some cells, of those that there are."""
        return self._look_up("value", cells)

    def slept(self, cells: Iterable[Cell]) -> dict[Cell, float]:
        """The value with which each of these cells went to sleep; 0 if it never did."""
        return self._look_up("slept", cells)

    def groups(self) -> dict[Group, GroupState]:
        """The groups that do not sleep."""
        rows = self._rows("SELECT labels, active_ms, stage FROM groups WHERE stage != ?", Stage.ASLEEP)
        return {_load(labels): GroupState(active_ms, Stage(stage)) for labels, active_ms, stage in rows}

    def stage(self, released: Iterable[Group], asleep: Iterable[Group], at_rest: Iterable[Cell]) -> None:
        """Store what may be shown from now on: ``released`` groups their values, ``asleep`` ones nothing. ``at_rest``
        are the cells that were shown of the latter: they come back with the value that they have now."""
        stages = {**dict.fromkeys(released, Stage.RELEASED), **dict.fromkeys(asleep, Stage.ASLEEP)}
        with self._transaction():
            self._set_stages(stages, at_rest)

    def size_bytes(self) -> int:
        """What the ledger takes on disk."""
        beside = (Path(f"{self._path}{suffix}") for suffix in ("", "-wal"))
        return sum(each.stat().st_size for each in beside if each.exists())

    def adopt(self, families: Iterable[TraceFamily]) -> list[str]:
        """Take these families as the ones to keep from now on.

        A family that was kept with other label names or other bucket edges cannot be continued: its totals begin again
        at zero. Returns the names of such families, for the log. Where a series begins inside a group that is shown
        already, the group is held at what it shows, so that the series is shown at 0 first.
        """
        families = tuple(families)
        shapes = {family.name: _dump((family.label_names, family.buckets)) for family in families}
        with self._transaction():
            before = dict(self._db.execute("SELECT family, shape FROM shapes"))
            changed = sorted(name for name, shape in shapes.items() if before.get(name, shape) != shape)
            self._db.executemany("DELETE FROM totals WHERE family = ?", [(name,) for name in changed])
            self._db.executemany("INSERT OR REPLACE INTO shapes VALUES (?, ?)", shapes.items())
            if changed:
                self._forget_groups([family for family in families if family.name not in changed])
            self._begin(families)
        return changed

    def _forget_groups(self, families: Iterable[TraceFamily]) -> None:
        """Keep only the groups of families that go on: those of others are values of other labels."""
        lengths = {len(family.labels) for family in families}
        gone = [(_dump(group),) for group in self._all_groups() if len(group) not in lengths]
        self._db.executemany("DELETE FROM groups WHERE labels = ?", gone)

    def _begin(self, families: Sequence[TraceFamily]) -> None:
        """Begin, at 0, the series that groups lack: of a new family, of one with a new value of its own label, or of
        one that applies to more groups than before."""
        there, groups = self.totals(), self._all_groups()
        lacking = {
            group: cells
            for group in groups
            if (cells := [cell for family in families for cell in family.cells_of(group) if cell not in there])
        }
        self._db.executemany(
            "INSERT INTO totals VALUES (?, ?, ?, 0, 0)",
            [(cell.family, _dump(cell.labels), cell.part) for cells in lacking.values() for cell in cells],
        )
        held = {group for group, state in self.groups().items() if state.stage is Stage.RELEASED and group in lacking}
        lengths = {family.name: len(family.labels) for family in families}
        at_rest = [cell for cell in there if held and cell.labels[: lengths.get(cell.family, 0)] in held]
        self._set_stages(dict.fromkeys(held, Stage.HELD), at_rest)

    def _set_stages(self, stages: Mapping[Group, Stage], at_rest: Iterable[Cell]) -> None:
        """Store what is shown of groups, and with which value the cells ``at_rest`` come back."""
        self._db.executemany(
            "UPDATE groups SET stage = ? WHERE labels = ?", [(stage, _dump(group)) for group, stage in stages.items()]
        )
        self._db.executemany(
            "UPDATE totals SET slept = value WHERE family = ? AND labels = ? AND part = ?",
            [(cell.family, _dump(cell.labels), cell.part) for cell in at_rest],
        )

    def _store(self, batch: Batch, forgotten_ms: int) -> None:
        done: list[tuple[str, int, int | None]] = [
            (record.trace_id, record.start_ms, amounts_of(record)) for record in batch.counted
        ]
        done += [(pending.trace_id, pending.start_ms, None) for pending in batch.abandoned]
        self._db.executemany("DELETE FROM pending WHERE trace_id = ?", [(trace_id,) for trace_id in batch.gone])
        self._db.executemany("INSERT INTO done VALUES (?, ?, ?)", [row for row in done if row[1] >= forgotten_ms])
        self._db.executemany(
            "UPDATE done SET start_ms = ?, amounts = ? WHERE trace_id = ?",
            [(record.start_ms, amounts_of(record), record.trace_id) for record in batch.changed],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [astuple(pending) for pending in batch.pending],
        )

    def _retire(self, horizon: Horizon) -> None:
        query = "SELECT retired_ms, forgotten_ms FROM horizon"
        retired_ms, forgotten_ms = next(self._db.execute(query), (horizon.retired_ms, horizon.forgotten_ms))
        if retired_ms < horizon.retired_ms:
            for bucket_ms, traces in self.counts(Window(retired_ms, horizon.retired_ms), BUCKET_MS).items():
                self._db.execute("INSERT OR REPLACE INTO retired VALUES (?, ?)", (bucket_ms, traces))
        if forgotten_ms < horizon.forgotten_ms:
            self._db.execute("DELETE FROM done WHERE start_ms < ?", (horizon.forgotten_ms,))

    def _store_horizon(self, horizon: Horizon) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO horizon VALUES (1, ?, ?, ?, ?, ?)",
            (horizon.origin_ms, horizon.fresh_ms, horizon.closed_ms, horizon.retired_ms, horizon.forgotten_ms),
        )
        self._db.execute("DELETE FROM passes")
        self._db.executemany(
            "INSERT INTO passes VALUES (?, ?, ?, ?, ?, ?)",
            [(kind.value, at.started_ms, at.from_ms, *astuple(at.window)) for kind, at in horizon.under_way.items()],
        )

    def _all_groups(self) -> list[Group]:
        return [_load(labels) for (labels,) in self._rows("SELECT labels FROM groups")]

    def _look_up(self, column: Literal["value", "slept"], cells: Iterable[Cell]) -> dict[Cell, float]:
        query = f"SELECT {column} FROM totals WHERE family = ? AND labels = ? AND part = ?"  # noqa: S608 - no values
        with _ledger_errors():
            found = ((cell, self._db.execute(query, (cell.family, _dump(cell.labels), cell.part))) for cell in cells)
            return {cell: value for cell, rows in found for (value,) in rows}

    def _cells(self, query: str) -> dict[Cell, float]:
        labels: dict[str, tuple[str, ...]] = {}  # each text is there once for each part: parse it once
        rows = self._rows(query)
        return {
            Cell(family, labels.get(text) or labels.setdefault(text, _load(text)), part): value
            for family, text, part, value in rows
        }

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with _ledger_errors():
            return self._db.execute(query, parameters).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _ledger_errors():
            self._require_in_place()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._log_inode = self._log_inode or _inode_of(self._log_path)

    @property
    def _log_path(self) -> Path:
        """SQLite's write-ahead log, which holds what was committed lately."""
        return Path(f"{self._path}-wal")

    def _require_in_place(self) -> None:
        """What is committed to a file that was deleted is gone with the process, so it must not be committed.

        What a deleted log holds can still be moved into the ledger itself.
        """
        if _inode_of(self._path) != self._inode:
            raise PollError(Reason.LEDGER, f"{self._path} was removed or replaced; start the exporter again")
        if self._log_inode is not None and _inode_of(self._log_path) != self._log_inode:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            self._open()
            log.warning("the ledger's write-ahead log was removed; nothing is lost", extra={"ledger": self._path})


def _pending(row: tuple[Any, ...]) -> Pending:
    trace_id, start_ms, experiment_id, experiment, environment, running, *rest = row
    return Pending(trace_id, start_ms, experiment_id, experiment, environment, bool(running), *rest)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _load(text: str) -> tuple[str, ...]:
    try:
        return tuple(json.loads(text))
    except (ValueError, TypeError):
        raise LedgerDamagedError(DamagedError(f"{text!r:.100} is no list of labels")) from None


def _inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


@contextmanager
def _ledger_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise LedgerDamagedError(error) from error
        raise PollError(Reason.LEDGER, f"the ledger cannot be used: {error}") from error
