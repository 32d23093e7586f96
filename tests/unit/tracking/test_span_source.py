"""Reading the spans of traces: how much at a time, and what happens if MLflow refuses some of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.tracking.client import Client
from mlflow_trace_exporter.tracking.pending import IN_FLIGHT, PendingAnswer
from mlflow_trace_exporter.tracking.span_source import (
    BATCH_BYTES,
    MAX_LETTERS,
    MAX_TRACES,
    TRACE_BYTES,
    UNKNOWN_BYTES,
    SpanAnswer,
    SpanSource,
)
from tests.support.builders import record, span

Found = Mapping[str, tuple[Span, ...]]


class Told(Client):
    """A client of a server that ``answer``s for some traces; notes what is requested, and what of it is over."""

    def __init__(self, answer: Callable[[Sequence[str]], Found] | None = None) -> None:
        super().__init__("http://told")
        self._told = answer or found
        self.asked: list[tuple[str, ...]] = []
        self.asked_in: list[str | None] = []
        self.answered: list[tuple[str, ...]] = []
        self.dropped: list[tuple[str, ...]] = []

    def begin_spans(self, trace_ids: Sequence[str], workspace: str | None = None) -> PendingAnswer[Found]:
        ids = tuple(trace_ids)
        self.asked.append(ids)
        self.asked_in.append(workspace)
        assert len(self.asked) - len(self.answered) - len(self.dropped) <= IN_FLIGHT, "too many in flight"
        return PendingAnswer(partial(self._answer, ids), partial(self.dropped.append, ids))

    def _answer(self, ids: tuple[str, ...]) -> Found:
        self.answered.append(ids)
        return self._told(ids)


def found(ids: Sequence[str]) -> Found:
    return {each: (span(1),) for each in ids}


def refusing(bad: str, reason: Reason) -> Callable[[Sequence[str]], Found]:
    """A server that refuses each request for one trace, whatever else it is for."""

    def answer(ids: Sequence[str]) -> Found:
        if bad in ids:
            raise PollError(reason, "no")
        return found(ids)

    return answer


def traces(count: int, **fields: Any) -> list[TraceRecord]:
    return [trace(f"tr-{number}", **fields) for number in range(count)]


def trace(trace_id: str, size: object = None, location: str | None = "TRACKING_STORE", **fields: Any) -> TraceRecord:
    """A trace with these spans, of a size that its SDK recorded."""
    stats = {} if size is None else {"mlflow.trace.sizeStats": json.dumps({"total_size_bytes": size})}
    tags = {} if location is None else {"mlflow.trace.spansLocation": location}
    return record(trace_id=trace_id, tags=tags, metadata=stats, **fields)


def sizes(client: Told) -> list[int]:
    return [len(ids) for ids in client.asked]


def read(client: Told, records: Sequence[TraceRecord]) -> list[SpanAnswer]:
    return list(SpanSource(client).read(records))


def test_each_trace_is_asked_for_once_and_has_its_own_spans() -> None:
    client = Told(lambda ids: {each: (span(int(each[3:])),) for each in ids if each != "tr-7"})
    answers = read(client, traces(250))
    assert [each.trace_id for answer in answers for each in answer.asked] == [f"tr-{number}" for number in range(250)]
    spans = {trace_id: spans for answer in answers for trace_id, spans in answer.found.items()}
    assert spans == {f"tr-{number}": (span(number),) for number in range(250) if number != 7}
    assert not any(answer.final or answer.error for answer in answers), "the one without spans may get some"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, min(MAX_TRACES, BATCH_BYTES // UNKNOWN_BYTES)),
        (1, MAX_TRACES),
        (0, MAX_TRACES),
        (BATCH_BYTES // 4, 4),
        (BATCH_BYTES // 4 + 1, 3),
        (BATCH_BYTES, 1),
        (TRACE_BYTES, 1),
        ("large", MAX_TRACES),
        (-1, MAX_TRACES),
        (1.5, MAX_TRACES),
        (True, MAX_TRACES),
        (float("nan"), MAX_TRACES),
        ([1], MAX_TRACES),
    ],
)
def test_requests_are_limited_by_number_and_by_recorded_size(size: object, expected: int) -> None:
    client = Told()
    read(client, traces(MAX_TRACES + 1, size=size))
    assert sizes(client)[0] == expected
    assert sum(sizes(client)) == MAX_TRACES + 1


@pytest.mark.parametrize("stats", ["", "{", "[]", "7", "null", '{"total_size_bytes": 1e400}'])
def test_a_size_that_is_no_size_is_unknown(stats: str) -> None:
    client = Told()
    tags = {"mlflow.trace.spansLocation": "TRACKING_STORE"}
    read(client, [record(trace_id="tr", tags=tags, metadata={"mlflow.trace.sizeStats": stats})])
    assert client.asked == [("tr",)]


def test_a_large_trace_is_asked_for_alone() -> None:
    client = Told()
    read(client, [trace("tr-1"), trace("tr-2", size=TRACE_BYTES), trace("tr-3"), trace("tr-4")])
    assert client.asked == [("tr-1",), ("tr-2",), ("tr-3", "tr-4")]


def test_the_address_of_a_request_is_limited() -> None:
    client = Told()
    read(client, [trace(f"tr-{number:0197}") for number in range(100)])
    assert max(sum(map(len, ids)) for ids in client.asked) <= MAX_LETTERS
    assert sum(sizes(client)) == 100
    assert len(client.asked) <= 100 * 200 / MAX_LETTERS + 1


def test_a_request_is_for_one_workspace() -> None:
    client = Told()
    read(client, [trace("a", workspace="x"), trace("b"), trace("c", workspace="x"), trace("d", workspace="y")])
    assert dict(zip(client.asked_in, client.asked, strict=True)) == {None: ("b",), "x": ("a", "c"), "y": ("d",)}


@pytest.mark.parametrize(
    "without",
    [
        trace("tr", location="ARTIFACT_REPO"),
        trace("tr", location=None),
        trace("tr", size=TRACE_BYTES + 1),
        trace("it's"),
        trace("tr-a\0b"),
        trace("a b"),
        trace("日本"),
        trace("a&trace_ids=b"),
        trace("\ud800"),
        trace(""),
        trace("x" * 201),
    ],
    ids=repr,
)
def test_traces_whose_spans_mlflow_cannot_return_are_not_asked_for(without: TraceRecord) -> None:
    client = Told()
    answers = read(client, [trace("tr-1"), without])
    assert client.asked == [("tr-1",)]
    assert SpanAnswer((without,), final=True) in answers


def test_archived_traces_are_asked_for() -> None:
    client = Told()
    read(client, [trace("tr", location="ARCHIVE_REPO")])
    assert client.asked == [("tr",)]


@pytest.mark.parametrize("reason", [Reason.SERVER_ERROR, Reason.BAD_ANSWER, Reason.CREDENTIALS, Reason.CONFIGURATION])
@pytest.mark.parametrize("bad", [0, 49, 99, 120])
def test_an_error_is_narrowed_down_to_the_trace_that_causes_it(reason: Reason, bad: int) -> None:
    client = Told(refusing(f"tr-{bad}", reason))
    answers = read(client, traces(150))
    (refused,) = [answer for answer in answers if answer.error]
    assert [each.trace_id for each in refused.asked] == [f"tr-{bad}"]
    assert refused.error is not None
    assert (refused.error.reason, refused.final) == (reason, False)
    assert sum(len(answer.found) for answer in answers) == 149
    assert len(client.asked) <= 2 + 2 * 7, "by halves"


def test_mlflow_that_limits_requests_is_not_asked_again_now() -> None:
    client = Told(refusing("tr-3", Reason.THROTTLED))
    with pytest.raises(PollError) as caught:
        read(client, traces(150))
    assert caught.value.reason is Reason.THROTTLED
    assert len(client.asked) == IN_FLIGHT


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.UNREACHABLE])
def test_requests_are_smaller_after_one_that_was_not_answered(reason: Reason) -> None:
    """Something on the way may limit the time or the size of answers, or one trace crashes a process of the server."""
    client = Told(refusing("tr-3", reason))
    source = SpanSource(client)
    for size in (100, 12):
        with pytest.raises(PollError) as caught:
            list(source.read(traces(100)))
        assert (caught.value.reason, sizes(client)[-1]) == (reason, size)
    answers = list(source.read(traces(100)))
    (refused,) = [answer for answer in answers if answer.error]
    assert [each.trace_id for each in refused.asked] == ["tr-3"]
    assert sum(len(answer.found) for answer in answers) == 99


def test_requests_grow_again() -> None:
    slow = [True]

    def answer(ids: Sequence[str]) -> Found:
        if slow[0]:
            raise PollError(Reason.TIMEOUT, "slow")
        return found(ids)

    client = Told(answer)
    source = SpanSource(client)
    for _ in range(2):
        with pytest.raises(PollError):
            list(source.read(traces(100)))
    slow[0] = False
    client.asked.clear()
    list(source.read(traces(3)))
    list(source.read(traces(12)))
    list(source.read(traces(201)))
    assert sizes(client) == [1, 1, 1, 8, 4, *(6 * [32]), 9], "its size doubles with each answer"
    client.asked.clear()
    list(source.read(traces(201)))
    assert sizes(client) == [100, 100, 1]


def test_two_requests_are_in_flight() -> None:
    client = Told()
    reading = SpanSource(client).read(traces(500))
    for answered in (1, 2, 3):
        next(reading)
        assert (len(client.answered), len(client.asked)) == (answered, answered + IN_FLIGHT)


def test_what_is_in_flight_is_dropped_if_nobody_needs_it() -> None:
    client = Told()
    reading = SpanSource(client).read(traces(500))
    next(reading)
    reading.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(client.dropped) == IN_FLIGHT
    assert {*client.answered, *client.dropped} == {*client.asked}


def test_what_is_in_flight_is_dropped_after_an_error() -> None:
    client = Told(refusing("tr-3", Reason.UNREACHABLE))
    with pytest.raises(PollError):
        read(client, traces(500))
    assert {*client.answered, *client.dropped} == {*client.asked}


def test_nothing_is_asked_for_nothing() -> None:
    client = Told()
    assert read(client, []) == []
    assert client.asked == []
