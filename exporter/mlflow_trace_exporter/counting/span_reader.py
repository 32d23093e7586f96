"""Reads what is inside traces that are about to be counted.

A trace is counted once, with its spans. So it waits for spans that have not all arrived, or that MLflow cannot return
at the moment, but not for long: after ``PATIENCE_MS`` it is counted without them, and reported as missing its spans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from time import monotonic

from mlflow_trace_exporter.domain.growth import Change
from mlflow_trace_exporter.domain.late_spans import with_late_spans
from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.source import Lookup, Source
from mlflow_trace_exporter.tracking.span_source import DENIED, SpanAnswer, with_spans

PATIENCE_MS = 120_000
"""How long after its end a trace waits for its spans. MLflow stores them within seconds of the trace, except while it
is overloaded."""

AGAIN_MS = 15_000
"""When they are asked for again."""


@dataclass(frozen=True, slots=True)
class Completed:
    """``records``: the traces that can be counted, with what is inside them if that is known. ``later``: when to check
    those again that wait for their spans (Unix ms), by id. What is in neither was not reached, in time or before the
    ``error``."""

    records: tuple[TraceRecord, ...] = ()
    later: Mapping[str, int] = field(default_factory=dict)
    error: PollError | None = None

    @property
    def reached(self) -> int:
        """How many of the traces were reached."""
        return len(self.records) + len(self.later)


class SpanReader:
    """Reads spans from ``source``."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def complete(self, records: Sequence[TraceRecord], until_s: float) -> Completed:
        """Put what is inside them into as many of these traces as can be read until then (monotonic clock), the latest
        first. If MLflow cannot be read any more, the traces before that are completed."""
        if not self._can_read():
            return Completed(tuple(records))
        completed: list[TraceRecord] = []
        later: dict[str, int] = {}
        try:
            for answer in self._source.spans(sorted(records, key=lambda each: -each.start_ms)):
                found = {record.trace_id: answer.found.get(record.trace_id) for record in answer.asked}
                without = [record for record in answer.asked if found[record.trace_id] is None]
                now_ms = self._source.clocks().earliest_ms
                waits = self._that_wait(answer, without, now_ms)
                later |= dict.fromkeys(waits, now_ms + AGAIN_MS)
                here = (record for record in answer.asked if record.trace_id not in waits)
                completed += (with_spans(record, found[record.trace_id]) for record in here)
                if monotonic() > until_s:
                    break
        except PollError as error:
            return Completed(tuple(completed), later, error)
        return Completed(tuple(completed), later)

    def _that_wait(self, answer: SpanAnswer, without: Sequence[TraceRecord], now_ms: int) -> frozenset[str]:
        """The ids of those traces ``without`` spans that wait for them: they exist, and have ended just now.

        An error can mean that MLflow is away, or that the credentials are no longer valid. Then the lookup raises
        PollError.
        """
        young = [record for record in without if now_ms - _ended_ms(record, now_ms) < PATIENCE_MS]
        asked = young if answer.error is None else without
        if answer.final or not asked:
            return frozenset()
        there = {record.trace_id for found in self._source.get([Lookup.of(asked)]) for record in found}
        if answer.error is not None and answer.error.reason in DENIED:
            return frozenset()
        return frozenset(record.trace_id for record in young if record.trace_id in there)

    def changes(self, changes: Sequence[Change], closed_ms: int, until_s: float = inf) -> tuple[Change, ...]:
        """The changes that can be stored, with what came late inside the traces. The others are found again by the next
        read of their trace: those whose spans cannot be read, or not until then (monotonic clock). But a trace that
        started before ``closed_ms`` is hardly read again, so its spans are always asked for, and its change is stored
        without what cannot be read. Raises PollError if MLflow cannot be read."""
        unread = [each.record for each in changes if each.before.span_ids]
        if not unread or not self._can_read():
            return tuple(changes)
        found: dict[str, tuple[Span, ...]] = {}
        again = {each.trace_id for each in unread if each.start_ms >= closed_ms}
        old, young = ([each for each in unread if (each.trace_id in again) is later] for later in (False, True))
        for answer in chain(self._source.spans(old), self._source.spans(young)):
            found |= answer.found
            if answer.final:
                again.difference_update(each.trace_id for each in answer.asked)
            if monotonic() > until_s and again.intersection(each.trace_id for each in answer.asked):
                break
        return tuple(
            with_late_spans(each, found[each.record.trace_id]) if each.record.trace_id in found else each
            for each in changes
            if each.record.trace_id not in again - found.keys()
        )

    def _can_read(self) -> bool:
        features: Mapping[Feature, bool] = self._source.features()
        return features.get(Feature.SPANS, False)


def _ended_ms(record: TraceRecord, now_ms: int) -> int:
    """When a trace ended (Unix ms): at the latest when it was first seen, if the clock of its application is ahead."""
    ended_ms = record.end_ms or record.start_ms
    return ended_ms if ended_ms <= now_ms else record.seen_ms
