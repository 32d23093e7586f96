"""Traces for a page, the newest first, read within bounds: nobody waits for long, and nobody reads all of MLflow."""

import time
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Protocol

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.web.trace_list import MAX_LOOKED_AT, Search

ANSWER_S = 20.0
"""How long MLflow is asked for more traces for a page: nobody waits longer for one."""


class Source(Protocol):
    """Where the traces are: ``MlflowSource``."""

    def newest(self, window: Window, *terms: str, experiment: str | None = None) -> Iterator[TraceRecord]:
        """The traces of a window that match all terms, the latest start first. Raises PollError."""
        ...


class Newest:
    """The traces that MLflow finds in the steps of ``trace_list.steps``, read as they are asked for, once.

    Iteration raises PollError where MLflow does not answer to the first step. Older traces can take it long: what it
    does not answer then is left out.
    """

    def __init__(self, source: Source, steps: Sequence[Sequence[Search]], experiment: str | None) -> None:
        self._source, self._steps, self._experiment = source, steps, experiment
        self.ended_early = False
        """Whether there may be traces that were not looked at."""

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
