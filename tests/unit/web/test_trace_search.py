"""How much of MLflow is read for a page."""

from collections.abc import Iterator

import pytest

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.web.trace_list import MAX_LOOKED_AT, Search
from mlflow_trace_exporter.web.trace_search import Newest
from tests.support.builders import record

NEWER, OLDER = Window(10_000, 20_000), Window(0, 10_000)


class Traces:
    """A trace in each second of a window for each search; it does not answer for windows that begin at ``away_ms``."""

    def __init__(self, away_ms: int | None = None) -> None:
        self.away_ms = away_ms
        self.asked: list[tuple[Window, tuple[str, ...], str | None]] = []

    def newest(self, window: Window, *terms: str, experiment: str | None = None) -> Iterator[TraceRecord]:
        self.asked.append((window, terms, experiment))
        if window.lo_ms == self.away_ms:
            raise PollError(Reason.TIMEOUT, "it takes too long")
        for at_ms in range(window.hi_ms - 1_000, window.lo_ms - 1, -1_000):
            yield record(trace_id=f"{terms[0]}-{at_ms}", start_ms=at_ms)


def test_what_several_searches_find_is_in_the_order_of_the_starts() -> None:
    source = Traces()
    newest = Newest(source, [[Search(NEWER, ["a"]), Search(NEWER, ["b"])], [Search(OLDER, ["a"])]], "chatbot")
    starts = [each.start_ms for each in newest]
    assert len(starts) == 30
    assert starts == sorted(starts, reverse=True)
    assert source.asked[-1] == (OLDER, ("a",), "chatbot")
    assert not newest.ended_early


def test_nothing_is_asked_that_nobody_waits_for() -> None:
    source = Traces()
    next(iter(Newest(source, [[Search(NEWER, ["a"])], [Search(OLDER, ["a"])]], None)))
    assert [window for window, _, _ in source.asked] == [NEWER]


def test_no_more_is_looked_at_than_the_limit() -> None:
    newest = Newest(Traces(), [[Search(Window(0, 10_000_000), ["a"])]], None)
    assert len(list(newest)) == MAX_LOOKED_AT
    assert newest.ended_early


def test_without_an_answer_about_older_traces_there_are_the_newer_ones() -> None:
    steps = [[Search(NEWER, ["a"])], [Search(OLDER, ["a"])]]
    newest = Newest(Traces(away_ms=OLDER.lo_ms), steps, None)
    assert len(list(newest)) == 10
    assert newest.ended_early
    with pytest.raises(PollError):
        list(Newest(Traces(away_ms=NEWER.lo_ms), steps, None))
