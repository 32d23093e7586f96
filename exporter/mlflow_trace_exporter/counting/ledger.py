"""The ledger: what has been counted, what it added up to, what is waited for, and how far reading has come. SQLite.

Each page of traces is one transaction that holds the ids, what they add to the totals, and the position after them. So
after a crash at any moment either all of a page is there or none of it, and a page that is read again counts nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from mlflow_trace_exporter.counting.ledger_connection import Connection, LedgerDamagedError
from mlflow_trace_exporter.counting.ledger_totals import Totals
from mlflow_trace_exporter.domain.admission import Group
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Horizon, Kind, Pass, Window
from mlflow_trace_exporter.domain.triage import LONGEST_WAIT_MS, Batch, Known, Pending, amounts_of
from mlflow_trace_exporter.metrics.meter import Cell

DUE_AT_ONCE = 10_000
"""How many pending traces are named at once; the others are at the next time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """From which start time on the traces of an experiment count, and when the experiment was created (Unix ms)."""

    created_ms: int
    origin_ms: int


class Ledger:
    """One ledger file, held by this process alone until ``close``.

    ``totals`` is what the traces in it add up to. Every method but the constructor raises PollError with Reason.LEDGER
    where SQLite cannot do what it is asked (disk full, file gone): nothing of that call is kept then. It is a
    LedgerDamagedError where the file holds what cannot be read.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger at ``path``, or begin a new one. Raises UserError as ``Connection`` does."""
        self._db = Connection(path)
        self.totals = Totals(self._db)

    def begin_again(self, damage: LedgerDamagedError) -> None:
        """Set the file aside, which is damaged, and begin a new ledger. Raises UserError as the constructor does."""
        self._db.begin_again(damage)

    def close(self) -> None:
        """Close the file and let other processes have it."""
        self._db.close()

    def size_bytes(self) -> int:
        """What the ledger takes on disk."""
        return self._db.size_bytes()

    def horizon(self) -> Horizon | None:
        """How far reading had come at the last commit; None before the first."""
        columns = "origin_ms, fresh_ms, closed_ms, retired_ms, forgotten_ms"
        row = next(iter(self._db.rows(f"SELECT {columns} FROM horizon")), None)  # noqa: S608 - no values
        passes = self._db.rows("SELECT kind, started_ms, from_ms, lo_ms, hi_ms, ended_after_ms FROM passes")
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
        done = self._db.rows(f"SELECT trace_id, amounts FROM done WHERE trace_id IN ({marks})", *trace_ids)  # noqa: S608 - no values
        pending = self._db.rows(f"SELECT * FROM pending WHERE trace_id IN ({marks})", *trace_ids)  # noqa: S608 - no values
        return Known(dict(done), {row[0]: _pending(row) for row in pending})

    def due(self, now_ms: int) -> list[Pending]:
        """Some of the pending traces that are to be looked at again, those first that have waited longest. One that is
        to be looked at later than any could be was put off by a clock that was ahead, so it is due as well."""
        query = "SELECT * FROM pending WHERE next_ms <= ? OR next_ms > ? ORDER BY next_ms LIMIT ?"
        return [_pending(row) for row in self._db.rows(query, now_ms, now_ms + LONGEST_WAIT_MS, DUE_AT_ONCE)]

    def running(self) -> dict[tuple[str, ...], int]:
        """How many traces are in progress, by experiment and environment."""
        query = "SELECT experiment, environment, count(*) FROM pending WHERE running GROUP BY 1, 2"
        return {(experiment, environment): count for experiment, environment, count in self._db.rows(query)}

    def pending(self) -> int:
        """How many traces are pending."""
        ((count,),) = self._db.rows("SELECT count(*) FROM pending")
        return int(count)

    def newest_ms(self) -> int:
        """The latest start of the traces that are done with, 0 without any (Unix ms)."""
        ((newest_ms,),) = self._db.rows("SELECT ifnull(max(start_ms), 0) FROM done")
        return int(newest_ms)

    def counts(self, window: Window, step_ms: int) -> dict[int, int]:
        """How many traces are known (done with, or pending) by their start, in steps of ``step_ms`` from 1970 on."""
        query = """SELECT start_ms / ? * ?, count(*) FROM
          (SELECT start_ms FROM done UNION ALL SELECT start_ms FROM pending) WHERE start_ms >= ? AND start_ms < ?
          GROUP BY 1"""
        return dict(self._db.rows(query, step_ms, step_ms, window.lo_ms, window.hi_ms))

    def retired_counts(self, window: Window) -> dict[int, int]:
        """How many traces were known in each bucket that the window touches, when it was retired."""
        query = "SELECT bucket_ms, traces FROM retired WHERE bucket_ms > ? AND bucket_ms < ?"
        return dict(self._db.rows(query, window.lo_ms - BUCKET_MS, window.hi_ms))

    def origins(self) -> dict[str, Origin]:
        """The origin of each experiment that was ever selected, by its id."""
        rows = self._db.rows("SELECT experiment_id, created_ms, origin_ms FROM experiments")
        return {experiment_id: Origin(*row) for experiment_id, *row in rows}

    def add_origins(self, origins: Mapping[str, Origin]) -> None:
        """Keep the origins of experiments that are new, or have the id of one that was deleted for good."""
        with self._db.transaction():
            self._db.each(
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
        with self._db.transaction():
            self._store(batch, horizon.forgotten_ms)
            self.totals.add(amounts or {}, active_ms or {}, first_ms or {})
            self._retire(horizon)
            self._store_horizon(horizon)

    def _store(self, batch: Batch, forgotten_ms: int) -> None:
        done: list[tuple[str, int, int | None]] = [
            (record.trace_id, record.start_ms, amounts_of(record)) for record in batch.counted
        ]
        done += [(pending.trace_id, pending.start_ms, None) for pending in batch.abandoned]
        self._db.each("DELETE FROM pending WHERE trace_id = ?", [(trace_id,) for trace_id in batch.gone])
        self._db.each("INSERT INTO done VALUES (?, ?, ?)", [row for row in done if row[1] >= forgotten_ms])
        self._db.each(
            "UPDATE done SET start_ms = ?, amounts = ? WHERE trace_id = ?",
            [(record.start_ms, amounts_of(record), record.trace_id) for record in batch.changed],
        )
        self._db.each(
            "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [astuple(pending) for pending in batch.pending],
        )

    def _retire(self, horizon: Horizon) -> None:
        query = "SELECT retired_ms, forgotten_ms FROM horizon"
        retired_ms, forgotten_ms = next(iter(self._db.rows(query)), (horizon.retired_ms, horizon.forgotten_ms))
        if retired_ms < horizon.retired_ms:
            for bucket_ms, traces in self.counts(Window(retired_ms, horizon.retired_ms), BUCKET_MS).items():
                self._db.execute("INSERT OR REPLACE INTO retired VALUES (?, ?)", bucket_ms, traces)
        if forgotten_ms < horizon.forgotten_ms:
            self._db.execute("DELETE FROM done WHERE start_ms < ?", horizon.forgotten_ms)

    def _store_horizon(self, horizon: Horizon) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO horizon VALUES (1, ?, ?, ?, ?, ?)",
            *(horizon.origin_ms, horizon.fresh_ms, horizon.closed_ms, horizon.retired_ms, horizon.forgotten_ms),
        )
        self._db.execute("DELETE FROM passes")
        self._db.each(
            "INSERT INTO passes VALUES (?, ?, ?, ?, ?, ?)",
            [(kind.value, at.started_ms, at.from_ms, *astuple(at.window)) for kind, at in horizon.under_way.items()],
        )


def _pending(row: tuple[Any, ...]) -> Pending:
    trace_id, start_ms, experiment_id, experiment, environment, running, *rest = row
    return Pending(trace_id, start_ms, experiment_id, experiment, environment, bool(running), *rest)
