"""The ledger: counted traces, totals, pending traces, and the progress of reading, in a database.

Each page of traces is one transaction that stores the ids, the amounts that they add to the totals, and the position
after them. So after a crash at any moment a page is either stored completely or not at all, and reading a page again
adds nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from operator import attrgetter
from typing import Any

from mlflow_trace_exporter.domain.activity import Active
from mlflow_trace_exporter.domain.assessed import Forms
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.growth import Amounts, Counted, span_ids_of
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Horizon, Kind, Pass, Window
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import LONGEST_WAIT_MS, Batch, Known, Pending
from mlflow_trace_exporter.ledger.active import ActiveInLedger
from mlflow_trace_exporter.ledger.connection import Connection, LedgerDamagedError, load, upsert
from mlflow_trace_exporter.ledger.schema import digest
from mlflow_trace_exporter.ledger.totals import Totals, key_of
from mlflow_trace_exporter.metrics.model import Cell

SPAN_ID_BYTES = 8
"""The length of a span id of OpenTelemetry."""

IDS_AT_ONCE = 10_000
"""The maximum number of ids in one query; SQLite allows 32,766, PostgreSQL 65,535."""

DUE_AT_ONCE = 10_000
"""The maximum number of due traces that are returned at once; the rest is returned the next time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """When an experiment was created, and the start time from which its traces are counted (Unix ms)."""

    created_ms: int
    origin_ms: int


class Ledger:
    """A ledger in a database, which only this process writes to until ``close``.

    ``totals`` are the sums over the counted traces, ``active`` their users and sessions. Methods raise PollError as
    those of Connection do.
    """

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self.totals = Totals(self._db)
        self.active = ActiveInLedger(self._db)

    def begin_again(self, damage: LedgerDamagedError) -> None:
        """Set the damaged ledger aside and create a new one. Raises UserError if that is impossible."""
        self._db.begin_again(damage)
        self.totals = Totals(self._db)
        self.active = ActiveInLedger(self._db)

    def close(self) -> None:
        """Close the database, and let another process write."""
        self._db.close()

    @property
    def gone_back(self) -> int:
        """See ``Connection``."""
        return self._db.gone_back

    def may_expose(self) -> bool:
        """Whether this process may expose what the ledger contains."""
        return self._db.may_expose()

    def size_bytes(self) -> int:
        """The size of the ledger on disk."""
        return self._db.size_bytes()

    def horizon(self) -> Horizon | None:
        """The progress of reading at the last commit; None before the first."""
        row = next(iter(self._db.rows(f"SELECT {', '.join(_MARKS)} FROM horizon")), None)  # noqa: S608 - no values
        passes = self._db.rows("SELECT kind, started_ms, from_ms, lo_ms, hi_ms, ended_after_ms FROM passes")
        if row is None:
            return None
        origin_ms, fresh_ms, closed_ms, retired_ms, *others = row
        under_way = {
            Kind(kind): Pass(started_ms, from_ms, Window(*window)) for kind, started_ms, from_ms, *window in passes
        }
        return Horizon(origin_ms, fresh_ms, closed_ms, retired_ms, under_way, *others)

    def known(self, trace_ids: Sequence[str]) -> Known:
        """Look up trace ids."""
        if not trace_ids:
            return Known({}, {})
        marks = ",".join("?" * len(trace_ids))  # not json_each, which truncates an id at a NUL
        ids = {digest(trace_id): trace_id for trace_id in trace_ids}
        columns = f"digest, names, labels, {', '.join(_READ)}"
        query = f"SELECT {columns} FROM done LEFT JOIN groups ON id = group_id WHERE digest IN ({marks})"  # noqa: S608 - no values
        done = self._db.rows(query, *ids)
        pending = self._db.rows(f"SELECT * FROM pending WHERE trace_id IN ({marks})", *trace_ids)  # noqa: S608 - no values
        return Known({ids[row[0]]: _counted(row) for row in done}, {row[0]: _pending(row) for row in pending})

    def assessment_forms(self, assessment_ids: Sequence[str]) -> Forms:
        """Look up the ids of assessments."""
        ids = {digest(each): each for each in assessment_ids}
        rows = [
            row
            for part in _batched(ids, IDS_AT_ONCE)
            for row in self._db.rows(
                f"SELECT digest, form FROM assessments WHERE digest IN ({','.join('?' * len(part))})",  # noqa: S608 - no values
                *part,
            )
        ]
        return {ids[found]: form for found, form in rows}

    def assessment_counts(self, window: Window) -> Counter[int]:
        """The number of known assessments of traces that start in the window, by form. Only those that are valid."""
        query = "SELECT form, count(*) FROM assessments WHERE start_ms >= ? AND start_ms < ? GROUP BY form"
        rows = self._db.rows(query, window.lo_ms, window.hi_ms)
        return Counter({form: count for form, count in rows if form is not None})

    def forget_forms(self, window: Window, assessment_ids: Collection[str]) -> None:
        """Count only these assessments of traces that start in the window from now on: the others are gone. Their ids
        stay known."""
        there = set(map(digest, assessment_ids))
        query = "SELECT digest FROM assessments WHERE start_ms >= ? AND start_ms < ? AND form IS NOT NULL"
        gone = [found for found in self._db.rows(query, window.lo_ms, window.hi_ms) if found[0] not in there]
        if gone:
            with self._db.transaction():
                self._db.each("UPDATE assessments SET form = NULL WHERE digest = ?", gone)

    def first_pending_ms(self) -> int | None:
        """The earliest start of all pending traces (Unix ms); None if there is none."""
        ((first_ms,),) = self._db.rows("SELECT min(start_ms) FROM pending")
        return None if first_ms is None else int(first_ms)

    def due(self, now_ms: int) -> list[Pending]:
        """Up to DUE_AT_ONCE pending traces that are due for a check, latest start first. A trace whose next check is
        further away than LONGEST_WAIT_MS was postponed by a clock that was ahead, so it is due as well."""
        query = "SELECT * FROM pending WHERE next_ms <= ? OR next_ms > ? ORDER BY start_ms DESC LIMIT ?"
        return [_pending(row) for row in self._db.rows(query, now_ms, now_ms + LONGEST_WAIT_MS, DUE_AT_ONCE)]

    def next_check_ms(self) -> int | None:
        """When the next pending trace is due for a check (Unix ms); None if there is none."""
        ((next_ms,),) = self._db.rows("SELECT min(next_ms) FROM pending")
        return None if next_ms is None else int(next_ms)

    def running(self) -> dict[tuple[str, ...], int]:
        """The number of traces in progress by experiment and environment."""
        query = "SELECT experiment, environment, count(*) FROM pending WHERE running != 0 GROUP BY 1, 2"
        return {(experiment, environment): count for experiment, environment, count in self._db.rows(query)}

    def pending(self) -> int:
        """The number of pending traces."""
        ((count,),) = self._db.rows("SELECT count(*) FROM pending")
        return int(count)

    def newest_ms(self) -> int:
        """The latest start of all traces that are done with (Unix ms), 0 if there is none."""
        ((newest_ms,),) = self._db.rows("SELECT coalesce(max(start_ms), 0) FROM done")
        return int(newest_ms)

    def counts(self, window: Window, step_ms: int) -> dict[int, int]:
        """The number of known traces (done with or pending) by start time, in steps of ``step_ms`` since 1970."""
        query = """SELECT start_ms / ? * ?, count(*) FROM
          (SELECT start_ms FROM done UNION ALL SELECT start_ms FROM pending) AS known
          WHERE start_ms >= ? AND start_ms < ?
          GROUP BY 1"""
        return dict(self._db.rows(query, step_ms, step_ms, window.lo_ms, window.hi_ms))

    def retired_counts(self, window: Window) -> dict[int, int]:
        """The number of traces that were known when a bucket was retired, for each bucket that overlaps the window."""
        query = "SELECT bucket_ms, traces FROM retired WHERE bucket_ms > ? AND bucket_ms < ?"
        return dict(self._db.rows(query, window.lo_ms - BUCKET_MS, window.hi_ms))

    def origins(self) -> dict[str, Origin]:
        """The origin of each experiment that was ever selected, by id."""
        rows = self._db.rows("SELECT experiment_id, created_ms, origin_ms FROM experiments")
        return {experiment_id: Origin(*row) for experiment_id, *row in rows}

    def add_origins(self, origins: Mapping[str, Origin]) -> None:
        """Store the origins of new experiments, which may have the id of a deleted one."""
        with self._db.transaction():
            self._db.each(
                upsert("experiments", ("experiment_id", "created_ms", "origin_ms"), ("experiment_id",)),
                [(experiment_id, *astuple(origin)) for experiment_id, origin in origins.items()],
            )

    def workspaces(self) -> frozenset[str]:
        """The names of all workspaces with experiments that were ever selected."""
        return frozenset(name for (name,) in self._db.rows("SELECT name FROM workspaces"))

    def add_workspaces(self, names: Iterable[str]) -> None:
        """Store the names of new workspaces."""
        with self._db.transaction():
            self._db.each(upsert("workspaces", ("name",), ("name",)), [(name,) for name in names])

    def commit(
        self,
        horizon: Horizon,
        batch: Batch | None = None,
        amounts: Mapping[Cell, float] | None = None,
        active_ms: Mapping[Group, int] | None = None,
        first_ms: Mapping[LabelValues, int] | None = None,
        groups: Mapping[str, Group] | None = None,
        active: Active | None = None,
    ) -> None:
        """Store a batch, the ``amounts`` that it adds, and the ``horizon`` in one transaction.

        ``active_ms``: the groups with increments, and the current time (Unix ms). ``first_ms``: the earliest start of a
        trace by VERSION_LABELS. ``groups``: the group of each counted trace, by id. ``active``: the users and sessions
        of counted traces.

        The call fails if a trace is already counted, because stopping is better than counting it twice. The ids of
        traces that started before ``horizon.forgotten_ms`` are deleted: they are never needed again.
        """
        batch = batch or Batch()
        with self._db.transaction():
            totals = self.totals.add(amounts or {}, active_ms or {}, first_ms or {})
            self._store(batch, groups or {}, horizon.forgotten_ms)
            sketches = self.active.add(active or {})
            self._store_assessments(batch)
            self._retire(horizon)
            self._store_horizon(horizon)
        self.totals.keep(totals)
        self.active.keep(active or {}, sketches)
        self._db.drop_copies()

    def _store(self, batch: Batch, groups: Mapping[str, Group], forgotten_ms: int) -> None:
        no_longer = [*batch.gone, *(pending.trace_id for pending in batch.pending)]
        self._db.each("DELETE FROM pending WHERE trace_id = ?", [(trace_id,) for trace_id in no_longer])
        done = [
            *(_counted_now(record, groups.get(record.trace_id)) for record in batch.counted),
            *((each.trace_id, Counted(each.start_ms)) for each in batch.abandoned),
        ]
        ids = {group: self._group_id(group) for group in {counted.group for _, counted in done}}
        self._db.each(
            _INSERT_DONE,
            [
                (digest(trace_id), ids[counted.group], *_read_of(counted))
                for trace_id, counted in done
                if counted.start_ms >= forgotten_ms
            ],
        )
        self._db.each(_UPDATE_DONE, [(*_read_of(each.after), digest(each.record.trace_id)) for each in batch.changed])
        self._db.each(
            "INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            map(_PENDING_ROW, batch.pending),
        )

    def _store_assessments(self, batch: Batch) -> None:
        self._db.each(
            upsert("assessments", ("digest", "start_ms", "form"), ("digest",)),
            [
                (digest(assessment_id), each.record.start_ms, form)
                for each in batch.assessed
                for assessment_id, form in each.forms.items()
            ],
        )

    def _group_id(self, group: Group | None) -> int | None:
        if group is None:
            return None
        rows = self._db.rows("SELECT id FROM groups WHERE names = ? AND labels = ?", *key_of(group))
        return rows[0][0] if rows else None

    def _retire(self, horizon: Horizon) -> None:
        query = "SELECT retired_ms, forgotten_ms, assessed_ms FROM horizon"
        now = (horizon.retired_ms, horizon.forgotten_ms, horizon.assessed_ms)
        retired_ms, forgotten_ms, assessed_ms = next(iter(self._db.rows(query)), now)
        if retired_ms < horizon.retired_ms:
            for bucket_ms, traces in self.counts(Window(retired_ms, horizon.retired_ms), BUCKET_MS).items():
                self._db.execute(upsert("retired", ("bucket_ms", "traces"), ("bucket_ms",)), bucket_ms, traces)
        if forgotten_ms < horizon.forgotten_ms:
            self._db.execute("DELETE FROM done WHERE start_ms < ?", horizon.forgotten_ms)
        if assessed_ms < horizon.assessed_ms:
            self._db.execute("DELETE FROM assessments WHERE start_ms < ?", horizon.assessed_ms - BUCKET_MS)

    def _store_horizon(self, horizon: Horizon) -> None:
        self._db.execute(
            upsert("horizon", ("one", *_MARKS), ("one",)),
            1,
            *(horizon.origin_ms, horizon.fresh_ms, horizon.closed_ms, horizon.retired_ms),
            *(horizon.forgotten_ms, horizon.assessed_ms),
        )
        self._db.execute("DELETE FROM passes")
        self._db.each(
            "INSERT INTO passes VALUES (?, ?, ?, ?, ?, ?)",
            [(kind.value, at.started_ms, at.from_ms, *astuple(at.window)) for kind, at in horizon.under_way.items()],
        )


def _batched(ids: Iterable[bytes], size: int) -> Iterator[tuple[bytes, ...]]:
    left = iter(ids)
    while part := tuple(islice(left, size)):
        yield part


_MARKS = ("origin_ms", "fresh_ms", "closed_ms", "retired_ms", "forgotten_ms", "assessed_ms")
"""The columns of the progress of reading."""

_NO_AMOUNTS = (None,) * len(Amounts._fields)
_READ = ("start_ms", *Amounts._fields, "seen", "spans")
"""The columns that a later read can change."""

_INSERT_DONE = f"INSERT INTO done (digest, group_id, {', '.join(_READ)}) VALUES (?, ?{', ?' * len(_READ)})"  # noqa: S608 - no values
_UPDATE_DONE = f"UPDATE done SET {', '.join(f'{name} = ?' for name in _READ)} WHERE digest = ?"  # noqa: S608 - no values


def _counted_now(record: TraceRecord, group: Group | None) -> tuple[str, Counted]:
    """The id of a trace and what it is counted with now. A trace without a group adds nothing to any series."""
    if group is None:
        return record.trace_id, Counted(record.start_ms)
    return record.trace_id, Counted(record.start_ms, group, Amounts.of(record), span_ids=span_ids_of(record))


def _read_of(counted: Counted) -> tuple[Any, ...]:
    """The values of the columns _READ."""
    spans = None if counted.span_ids is None else b"".join(map(bytes.fromhex, sorted(counted.span_ids)))
    return counted.start_ms, *(counted.amounts or _NO_AMOUNTS), counted.seen, spans


def _counted(row: tuple[Any, ...]) -> Counted:
    _, names, labels, start_ms, failed, *counts, seen, spans = row
    amounts = None if failed is None else Amounts(bool(failed), *counts)
    group = None if labels is None else Group(load(names), load(labels))
    return Counted(start_ms, group, amounts, seen, None if spans is None else _span_ids(spans))


def _span_ids(spans: bytes) -> frozenset[str]:
    return frozenset(spans[at : at + SPAN_ID_BYTES].hex() for at in range(0, len(spans), SPAN_ID_BYTES))


_PENDING_ROW = attrgetter(*(field.name for field in fields(Pending)))


def _pending(row: tuple[Any, ...]) -> Pending:
    trace_id, start_ms, experiment_id, experiment, environment, running, *rest = row
    return Pending(trace_id, start_ms, experiment_id, experiment, environment, bool(running), *rest)
