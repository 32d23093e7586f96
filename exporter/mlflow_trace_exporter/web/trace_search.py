"""Reads traces for a page, newest first, with limits on time and number."""

import time
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Protocol

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import NotUnderstoodError, PollError
from mlflow_trace_exporter.web.trace_list import MAX_LOOKED_AT, Search

ANSWER_S = 20.0
"""How long a page keeps reading from MLflow. No request waits longer."""


class Source(Protocol):
    """The source of traces: ``MlflowSource``."""

    def newest(self, window: Window, *terms: str, experiment: str | None = None) -> Iterator[TraceRecord]:
        """The traces in a window that match all terms, latest start first. Raises PollError."""
        ...


def understands(source: Source, term: str) -> bool:
    """Whether MLflow's search understands a term. Asks for nothing. Raises PollError."""
    try:
        next(source.newest(Window(0, 0), term), None)
    except NotUnderstoodError:
        return False
    return True


class Newest:
    """The traces found by the steps of ``trace_list.steps``. Can be iterated once, and reads lazily.

    Iteration raises PollError if MLflow does not answer the first step. Older traces can take MLflow a long time, so
    later steps that fail are skipped.
    """

    def __init__(self, source: Source, steps: Sequence[Sequence[Search]], experiment: str | None) -> None:
        self._source, self._steps, self._experiment = source, steps, experiment
        self.ended_early = False
        """Whether some traces may not have been examined."""

    def __iter__(self) -> Iterator[TraceRecord]:
        until = time.monotonic() + ANSWER_S
        for count, record in enumerate(self._records()):
            if count == MAX_LOOKED_AT or time.monotonic() >= until:
                self.ended_early = True
                return
            yield record

    def _records(self) -> Iterator[TraceRecord]:
        for number, step in enumerate(self._steps):
            found = [self._source.newest(each.window, *each.terms, experiment=self._experiment) for each in step]
            try:
                yield from merge(*found, key=lambda record: -record.start_ms)
            except PollError:
                if number == 0:
                    raise
                self.ended_early = True
