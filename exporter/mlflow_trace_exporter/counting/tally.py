"""Counts traces: stores the amounts that a batch adds to the totals in one transaction with the horizon."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

from mlflow_trace_exporter.counting.span_reader import Completed, SpanReader
from mlflow_trace_exporter.domain.admission import Admission
from mlflow_trace_exporter.domain.assessed import Assessed, assessed
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.horizon import Horizon
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.traffic import traffic_of
from mlflow_trace_exporter.domain.triage import Batch, Known, Pending, triage, unseen
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.metrics.families import events
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.model import Cell, Exemplar, later

log = logging.getLogger(__name__)


class Tally:
    """Adds traces to a ledger. ``horizon`` is the progress of reading at the last commit. Methods raise PollError."""

    def __init__(self, ledger: Ledger, meter: Meter, origin_ms: int, spans: SpanReader | None = None) -> None:
        """``origin_ms``: the start time from which a new ledger counts. Later restarts use the stored one. ``spans``:
        None if spans are not counted."""
        self._ledger = ledger
        self._meter = meter
        self._spans = spans
        self.now_ms: int | None = None
        """When the current tick began, by the earlier clock; None before the first tick that reached MLflow."""
        self.exemplars: dict[Cell, Exemplar] = {}
        """The trace with the latest end in each bucket, among those counted since the poller last took them."""
        self._admission: tuple[int, Admission] | None = None
        """An admission that can be used again, and the value of ``Totals.sleeps`` for which it is valid."""
        self.horizon = ledger.horizon() or Horizon.at(origin_ms)
        if ledger.horizon() is None:
            ledger.commit(self.horizon)

    def refresh(self) -> None:
        """Reload the horizon from the ledger: after an error ours may be ahead of the committed one."""
        self.horizon = self._ledger.horizon() or self.horizon

    def take_exemplars(self) -> dict[Cell, Exemplar]:
        """The exemplars since the last call."""
        taken, self.exemplars = self.exemplars, {}
        return taken

    def store(
        self,
        records: Sequence[TraceRecord],
        horizon: Horizon,
        gone: Sequence[str] = (),
        spans_until_s: float | None = None,
        late_until_s: float = inf,
    ) -> bool:
        """Count traces that are final and not counted yet, and store those that are not final as pending. ``gone`` are
        the ids of pending traces that were deleted. Returns whether all of this was done.

        ``spans_until_s``: until when (monotonic clock) spans may be read. If spans are counted, traces whose spans are
        not read then are not counted yet, and without ``spans_until_s`` no trace is. If MLflow cannot be read in the
        middle of this, PollError is raised after the rest is stored. ``late_until_s``: the same for what came late
        inside traces that are counted, see ``SpanReader.changes``.
        """
        known = self._ledger.known([record.trace_id for record in records])
        admission = self._take_admission()
        counts = self._spans is None or spans_until_s is not None
        batch = triage(records, known, horizon.closed_ms, lambda record: self._meter.place(record, admission), counts)
        final, completed = len(batch.counted), None
        if self._spans is not None:
            batch = replace(batch, changed=self._spans.changes(batch.changed, horizon.closed_ms, late_until_s))
            if spans_until_s is not None:
                completed = self._completed(self._spans, batch, spans_until_s)
                batch = _with_spans(batch, completed, known)
        done = [(record, None) for record in batch.counted]
        again = [(each, known.done[each.trace_id].group) for each in records if each.trace_id in known.done]
        batch = replace(batch, gone=(*batch.gone, *gone), assessed=self._assessed([*done, *again], horizon))
        self._commit(horizon, batch, admission)
        log.debug(
            "page read",
            extra={"traces": len(records), "counted": len(batch.counted), "pending": len(batch.pending)},
        )
        if batch.late:
            log.info("traces became visible late", extra={"traces": batch.late})
        for each in batch.abandoned:
            log.warning("gave up on a trace that did not end", extra={"trace_id": each.trace_id})
        if completed is not None and completed.error is not None:
            raise completed.error
        return completed is None or completed.reached == final

    def store_assessments(self, records: Sequence[TraceRecord]) -> None:
        """Count the assessments of ended traces, of which ids may be forgotten, and nothing else of them."""
        known = self._ledger.known([record.trace_id for record in records])
        done = [record for record in records if record.ended() and record.trace_id not in known.pending]
        groups = {trace_id: counted.group for trace_id, counted in known.done.items()}
        found = self._assessed([(record, groups.get(record.trace_id)) for record in done], self.horizon)
        if found:
            self._commit(self.horizon, Batch(assessed=found), self._take_admission())

    def _assessed(self, done: Iterable[tuple[TraceRecord, Group | None]], horizon: Horizon) -> tuple[Assessed, ...]:
        """What is new about the assessments of traces that are done with, each with the group that counts it."""
        if not self._meter.with_assessments:
            return ()
        from_ms = max(horizon.origin_ms, horizon.assessed_ms)
        those = [(record, group) for record, group in done if record.assessments and record.start_ms >= from_ms]
        ids = [each.assessment_id for record, _ in those for each in record.assessments]
        known = self._ledger.assessment_forms(ids)
        return tuple(filter(None, (assessed(record, known, group) for record, group in those)))

    def _completed(self, spans: SpanReader, batch: Batch, until_s: float) -> Completed:
        """The traces to count, with what is inside them. Those of traffic that is not counted are not asked for."""
        with_spans = [record for record in batch.counted if traffic_of(record) in self._meter.traffic]
        others = [record for record in batch.counted if traffic_of(record) not in self._meter.traffic]
        completed = spans.complete(with_spans, until_s)
        return replace(completed, records=(*completed.records, *others))

    def store_unseen(self, pending: Sequence[Pending], now_ms: int) -> None:
        """Postpone pending traces that cannot be checked, or give up on them. Their places were admitted when they were
        seen, but may have gone to sleep since."""
        batch = unseen(pending, now_ms)
        admission = self._take_admission()
        abandoned = []
        for each in batch.abandoned:
            experiment, environment = admission.place({"experiment": each.experiment, "environment": each.environment})
            abandoned.append(replace(each, experiment=experiment, environment=environment))
        self._commit(self.horizon, replace(batch, abandoned=tuple(abandoned)), admission)

    def commit(self, horizon: Horizon, reopened: int = 0) -> None:
        """Store the horizon. ``reopened``: how often start times were reopened."""
        self._commit(horizon, Batch(reopened=reopened), self._take_admission())

    def _commit(self, horizon: Horizon, batch: Batch, admission: Admission) -> None:
        increments = self._meter.measure(batch, admission, self._ledger.totals.groups())
        amounts = {**increments.amounts, **events(batch, increments)}
        active_ms = dict.fromkeys(increments.groups, self.now_ms or 0)
        self._ledger.commit(
            horizon, batch, amounts, active_ms, increments.first_ms, increments.group_of, increments.active
        )
        self.horizon = horizon
        for cell, exemplar in increments.exemplars.items():
            self.exemplars[cell] = later(exemplar, self.exemplars.get(cell))
        if admission.groups == self._ledger.totals.groups().keys():  # not if it admitted groups that have no series
            self._admission = (self._ledger.totals.sleeps, admission)

    def _take_admission(self) -> Admission:
        """The admission of the last commit if that succeeded and no group has fallen asleep since. Otherwise a new one,
        which takes longer to make than a page takes to count if there are many groups."""
        kept, self._admission = self._admission, None
        if kept is not None and kept[0] == self._ledger.totals.sleeps:
            return kept[1]
        return self._meter.admission(self._ledger.totals.groups())


def _with_spans(batch: Batch, completed: Completed, known: Known) -> Batch:
    """The batch with those traces to count that are ``completed``."""
    later = {
        each: replace(known.pending[each], next_ms=next_ms)
        for each, next_ms in completed.later.items()
        if each in known.pending
    }
    return batch.counting(completed.records, later)
