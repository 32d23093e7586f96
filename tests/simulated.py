"""A simulated MLflow: the source's interface over traces in memory, with failures on demand."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from exporter.errors import PollError, Reason
from exporter.horizon import Window
from exporter.source import Page
from exporter.trace import Cost, State, TokenUsage, TraceRecord

EPOCH_MS = 1_790_000_000_000


class SimulatedMlflow:
    """Holds traces and answers scans as MLflow would. ``now_ms`` is its clock and that of whoever polls it."""

    def __init__(self, page_size: int = 500) -> None:
        self.now_ms = EPOCH_MS
        self.page_size = page_size
        self.traces: dict[str, TraceRecord] = {}
        self.requests = 0
        self._numbers = count()
        self.fail_at_request: dict[int, PollError] = {}
        """What to raise at which request, counted from 1."""

    def clock(self) -> int:
        return self.now_ms

    def add(self, record: TraceRecord) -> TraceRecord:
        self.traces[record.trace_id] = record
        return record

    def trace(
        self, start_ms: int, duration_ms: int | None = 0, state: State = State.OK, finalized: bool = True
    ) -> TraceRecord:
        """Add a trace of production that starts so long before (or after) EPOCH_MS."""
        return self.add(
            TraceRecord(
                trace_id=f"tr-{next(self._numbers):032x}",
                experiment="chatbot",
                state=state,
                start_ms=EPOCH_MS + start_ms,
                seen_ms=0,
                duration_ms=duration_ms,
                finalized=finalized,
                session="s",
                usage=TokenUsage(input=1, output=1),
                cost=Cost(input_usd=0.5, output_usd=0.5),
                tags={"environment": "production", "app_version": "1.0"},
            )
        )

    def scan(self, window: Window) -> Iterator[Page]:
        read: set[str] = set()
        while True:
            self.requests += 1
            if error := self.fail_at_request.pop(self.requests, None):
                raise error
            found = sorted(
                (record for record in self.traces.values() if _inside(record, window) and record.trace_id not in read),
                key=lambda record: (record.start_ms, record.trace_id),
            )[: self.page_size]
            if found:
                read.update(record.trace_id for record in found)
                yield Page(tuple(replace(record, seen_ms=self.now_ms) for record in found), found[-1].start_ms)
            if len(found) < self.page_size:
                return


def _inside(record: TraceRecord, window: Window) -> bool:
    ended_ms = record.start_ms + (record.duration_ms or 0)
    ended_late_enough = window.ended_after_ms is None or ended_ms >= window.ended_after_ms
    return window.lo_ms <= record.start_ms < window.hi_ms and ended_late_enough


def unreachable() -> PollError:
    return PollError(Reason.UNREACHABLE, "MLflow at http://simulated cannot be reached")
