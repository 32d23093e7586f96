"""Lists of single traces in a report: the slowest ones, and the latest that failed."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from mlflow_trace_exporter.domain.labels import Labels, clean
from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.trace import State, TraceRecord


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One trace in a list, with the URL of its page in MLflow."""

    trace_id: str
    start: datetime
    state: str
    duration_s: float | None
    environment: str
    version: str
    trace_name: str
    user: str
    url: str


class Greatest:
    """Keeps the ``most`` traces with the greatest values."""

    def __init__(self, most: int, value: Callable[[TraceRecord], float | None]) -> None:
        self._most = most
        self._value = value
        self._numbers = count()
        self._heap: list[tuple[float, int, TraceRecord, Labels]] = []

    def add(self, record: TraceRecord, labels: Labels) -> None:
        """Keep a trace if its value is among the greatest. Traces without a value are ignored."""
        value = self._value(record)
        if value is None or not self._most:
            return
        entry = (
            value,
            next(self._numbers),
            record,
            labels,
        )  # the number makes each entry unique, so that records are never compared
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        elif value > self._heap[0][0]:
            heapq.heapreplace(self._heap, entry)

    def lines(self, url_of: Callable[[TraceRecord], str]) -> tuple[TraceLine, ...]:
        """The kept traces, greatest value first."""
        return tuple(_line(record, labels, url_of(record)) for _, _, record, labels in sorted(self._heap, reverse=True))


def _line(record: TraceRecord, labels: Labels, url: str) -> TraceLine:
    return TraceLine(
        record.trace_id,
        utc(record.start_ms),
        (State.ERROR if record.state is State.ERROR else State.OK).value,
        record.duration_s,
        labels["environment"],
        labels["version"],
        labels["trace_name"],
        clean(record.user),
        url,
    )
