"""Remembers which traces were just read, so that MLflow need not return them again.

Each fresh pass overlaps the one before, because traces become visible with a delay. Without this, each new trace would
be read nine times at an interval of 15 s and an overlap of 2 min, and 121 times at an interval of 1 s.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import State, TraceRecord

GROWING_AGAIN_MS = 30_000
"""How often a trace that may still grow is read again while fresh passes reach back to it."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A trace that was read: its start and end, and when it should be read again (Unix ms)."""

    start_ms: int
    end_ms: int
    again_ms: float


class Recent:
    """The traces that ended recently and are stored. Running traces are left out, because they may end at any time."""

    def __init__(self) -> None:
        self._reads: dict[str, _Read] = {}

    def note(self, records: Iterable[TraceRecord], since_ms: int) -> None:
        """Remember traces that were read and stored."""
        for record in records:
            end_ms = record.end_ms or record.start_ms
            if record.state is not State.IN_PROGRESS and end_ms >= since_ms:
                again_ms = inf if _is_complete(record) else record.seen_ms + GROWING_AGAIN_MS
                self._reads[record.trace_id] = _Read(record.start_ms, end_ms, again_ms)

    def forget(self, trace_ids: Iterable[str]) -> None:
        """Forget traces that are no longer stored, so that they are read if they appear again."""
        for trace_id in trace_ids:
            self._reads.pop(trace_id, None)

    def inside(self, window: Window, now_ms: int) -> list[tuple[int, str]]:
        """Pairs of start (Unix ms) and id, by start, of the traces of a window that need not be read now. Forgets all
        traces that are not in the window, because later passes do not reach back further."""
        since_ms = window.lo_ms if window.ended_after_ms is None else window.ended_after_ms
        self._reads = {
            trace_id: read
            for trace_id, read in self._reads.items()
            if read.start_ms >= window.lo_ms and read.end_ms >= since_ms
        }
        return sorted((read.start_ms, trace_id) for trace_id, read in self._reads.items() if read.again_ms > now_ms)

    def clear(self) -> None:
        """Forget all traces, so that everything is read again."""
        self._reads.clear()


def _is_complete(record: TraceRecord) -> bool:
    """Whether nothing about a trace is still to come. Without the mark, more spans may arrive. MLflow computes tokens
    and cost only after it shows the trace."""
    return record.finalized and record.usage is not None and record.cost is not None
