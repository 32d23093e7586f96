"""Reading MLflow's answers, and handling failures."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import monotonic
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.labels import LabelRules, LabelSource
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.tracking import assessment_parsing, filters, scanning
from mlflow_trace_exporter.tracking import source as source_module
from mlflow_trace_exporter.tracking.client import Client, FoundTraces
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.parsing import TraceInfo
from mlflow_trace_exporter.tracking.pending import PendingAnswer
from mlflow_trace_exporter.tracking.query import Library, Query
from mlflow_trace_exporter.tracking.source import Lookup, MlflowSource
from mlflow_trace_exporter.tracking.variables import prepare_client
from tests.support.builders import record
from tests.support.waiting import HANG_S


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://mlflow:5000/x", "http://mlflow:5000/x"),
        ("https://alice:s3cret@mlflow/x", "https://mlflow/x"),
        ("https://alice:s3cr@t@mlflow/x@y", "https://mlflow/x@y"),
    ],
)
def test_credentials_in_an_address_are_not_shown(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown


EXPERIMENTS = json.dumps({"experiments": [{"experiment_id": "1", "name": "chatbot", "lifecycle_stage": "active"}]})


@contextmanager
def server(status: int, body: str, hang: bool = False, cut: bool = False, metrics: str | None = None) -> Iterator[str]:
    """An HTTP server with one experiment that answers every trace search with ``status`` and ``body``."""
    released = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is http.server's
            self.rfile.read(int(self.headers["Content-Length"]))
            searching = self.path.endswith("traces/search")
            if searching and hang:
                released.wait(HANG_S)
                return
            counting = self.path.endswith("traces/metrics")
            answer = (body if searching else metrics if counting and metrics else EXPERIMENTS).encode()
            self.send_response(status if searching else 200)
            self.send_header("Content-Length", str(len(answer) + (10 if searching and cut else 0)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            released.set()
            http.shutdown()
            thread.join()


def failure(uri: str, timeout_s: float = HANG_S) -> PollError:
    prepare_client(timeout_s)
    with pytest.raises(PollError) as caught:
        next(MlflowSource(Client(uri), now_ms=lambda: 0).scan(Window(0, 10)))
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, "<html>not here</html>", Reason.BAD_ANSWER),
        (200, '{"traces": [{"trace_id": 12', Reason.BAD_ANSWER),
        (200, '["traces"]', Reason.BAD_ANSWER),
        (200, '{"traces": 7}', Reason.BAD_ANSWER),
        (401, "who are you", Reason.CREDENTIALS),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', Reason.CREDENTIALS),
        (404, "not found", Reason.CONFIGURATION),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad filter"}', Reason.CONFIGURATION),
        (429, "slow down", Reason.THROTTLED),
        (500, '{"error_code": "INTERNAL_ERROR", "message": "database is locked"}', Reason.SERVER_ERROR),
        (502, "bad gateway", Reason.SERVER_ERROR),
        (503, "starting", Reason.SERVER_ERROR),
    ],
)
def test_invalid_answers_are_distinguished(status: int, body: str, reason: Reason) -> None:
    with server(status, body) as uri:
        assert failure(uri).reason is reason


def test_a_server_that_does_not_answer_in_time() -> None:
    with server(200, "", hang=True) as uri:
        assert failure(uri, timeout_s=1).reason is Reason.TIMEOUT


def test_an_answer_that_is_cut_off() -> None:
    with server(200, '{"traces": []}', cut=True) as uri:
        assert failure(uri).reason is Reason.UNREACHABLE


def test_nothing_listens() -> None:
    with server(200, "") as uri:
        gone = uri
    error = failure(gone)
    assert error.reason is Reason.UNREACHABLE
    assert "is it running, and is mlflow.tracking_uri right?" in str(error)


def test_a_token_with_a_line_break_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "eyJhbGci\n")
    with server(200, "") as uri:
        error = failure(uri)
    assert error.reason is Reason.CREDENTIALS
    assert "does it contain a line break?" in str(error)
    assert "eyJ" not in str(error)


def test_the_user_s_timeout_is_used_unless_the_configuration_sets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    prepare_client(None)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    prepare_client(1.2)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "2"


Search = Callable[[str, str | None], FoundTraces]
"""What MLflow finds for a filter and a page token."""

ALL = Window(0, 1_000)


def fail(error: PollError) -> FoundTraces:
    raise error


class Told(Client):
    """A client of a server with one experiment and scripted search results."""

    def __init__(self, search: Search, counts: Mapping[int, int]) -> None:
        super().__init__("http://told")
        self._told, self._counts = search, counts
        self.tags: Mapping[str, str] = {}

    def begin_search(
        self,
        _: Sequence[str],
        filter_string: str,
        newest_first: bool = False,
        page_token: str | None = None,
        workspace: str | None = None,
    ) -> PendingAnswer[FoundTraces]:
        assert workspace is None, "the server has none"
        if "timestamp_ms < 0" in filter_string:  # what can it do?
            return PendingAnswer(lambda: FoundTraces((), None), lambda: None)
        try:
            found = self._told(filter_string, page_token)
        except PollError as error:
            return PendingAnswer(partial(fail, error), lambda: None)
        if newest_first:
            found = FoundTraces(found.traces[::-1], found.next_page_token)
        return PendingAnswer(lambda: found, lambda: None)

    def count(self, *_: object) -> dict[int, int]:
        return dict(self._counts)

    def has_workspaces(self) -> bool:
        return False

    def experiments(self, workspace: str | None = None) -> list[Experiment]:
        assert workspace is None
        return [Experiment("7", "chatbot", 0, self.tags)]

    def server_ms(self) -> int | None:
        return None


def told(search: Search, counts: Mapping[int, int] = MappingProxyType({60_000_000: 1})) -> MlflowSource:
    return MlflowSource(Told(search, counts), now_ms=lambda: 0)


def trace(trace_id: str, start_ms: int = 0, experiment_id: str = "7") -> TraceInfo:
    found = {
        "trace_id": trace_id,
        "trace_location": {"mlflow_experiment": {"experiment_id": experiment_id}},
        "request_time": f"1970-01-01T00:00:00.{start_ms:03}Z",
        "state": "OK",
    }
    return msgspec.convert(found, TraceInfo)


def page(start_ms: int, count: int = 500, token: str | None = "more", prefix: str = "tr") -> FoundTraces:
    return FoundTraces(tuple(trace(f"{prefix}-{number}", start_ms) for number in range(count)), token)


def test_a_trace_that_is_twice_in_an_answer_is_one() -> None:
    twice = [trace("a"), trace("b"), trace("a"), trace("b", 1)]
    source = told(lambda *_: FoundTraces(tuple(twice), None))
    assert [record.trace_id for each in source.scan(ALL) for record in each.records] == ["a", "b"]
    assert sorted((record.trace_id, record.start_ms) for record in source.newest(ALL)) == [("a", 0), ("b", 1)]
    assert [record.trace_id for found in source.get([Lookup(["a", "b"], ALL)]) for record in found] == ["a", "b"]


def test_several_searches_are_read_as_one() -> None:
    """In order of start, each trace once, whichever of them find it."""
    ids = {"a": (("tr-both", 1), ("tr-a", 5)), "b": (("tr-b", 0), ("tr-both", 1), ("tr-b-2", 9))}

    def search(filter_string: str, _: str | None) -> FoundTraces:
        (key,) = (key for key in ids if f"tag.`{key}` LIKE '%x%'" in filter_string)
        found = (trace(trace_id, start_ms) for trace_id, start_ms in ids[key])
        return FoundTraces(tuple(msgspec.structs.replace(each, tags={"a": "x"}) for each in found), None)

    rules = LabelRules((LabelSource("tag", "a"), LabelSource("tag", "b")))
    reached: list[tuple[int, int]] = []
    library = Library(told(search), rules, frozenset(Traffic))
    query = Query(ALL.lo_ms, ALL.hi_ms, {"environment": "x"})
    found = [record.trace_id for record, _ in library.read(query, lambda *progress: reached.append(progress))]
    assert found == ["tr-b", "tr-both", "tr-a", "tr-b-2"]
    assert reached == [(2, ALL.lo_ms), (5, 9)], "no further than what is read of each"


def test_tags_of_an_experiment_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """They are read again every minute."""
    client, now_ms = Told(lambda *_: FoundTraces((), None), {}), [0]
    source = MlflowSource(client, now_ms=lambda: now_ms[0])
    caplog.set_level("INFO")
    for number in range(3):
        client.tags, now_ms[0] = {"release": f"{number}"}, number * 60_000
        assert source.experiments()["7"].tags == {"release": f"{number}"}
    assert [each.message for each in caplog.records] == ["experiments selected"]


def test_a_full_page_with_a_trace_twice_is_not_the_last() -> None:
    asked: list[str] = []

    def search(filter_string: str, _: str | None) -> FoundTraces:
        asked.append(filter_string)
        return FoundTraces((*page(1, 499).traces, trace("tr-0", 1)), None) if len(asked) == 1 else FoundTraces((), None)

    assert sum(len(each.records) for each in told(search).scan(ALL)) == 499
    assert len(asked) == 2


Read = Callable[[MlflowSource], object]
SCAN: Read = lambda source: list(source.scan(ALL))  # noqa: E731 - a table of what is asked
NEWEST: Read = lambda source: list(source.newest(ALL))  # noqa: E731 - likewise
GET: Read = lambda source: list(source.get([Lookup(["a", "b"], ALL)]))  # noqa: E731 - likewise


@pytest.mark.parametrize(
    ("found", "read", "complaint"),
    [
        (page(1), SCAN, "no new ones"),  # the same page again and again
        (page(1), NEWEST, "times that were not requested"),
        (page(1, 0), SCAN, "no new ones"),
        (page(1, 0), NEWEST, "the page is empty"),
        (FoundTraces((trace("a", 1), trace("b", 0)), None), SCAN, "order"),
        (FoundTraces((trace("a", 1), trace("b", 0)), None), NEWEST, "order"),
        (FoundTraces((trace("a", 1, "8"),), None), SCAN, "experiments that were not requested"),
        (FoundTraces((trace("a", 1, "8"),), None), NEWEST, "experiments that were not requested"),
        (FoundTraces((trace("a", 1, "8"),), None), GET, "experiments that were not requested"),
        (FoundTraces((trace("c"),), None), GET, "traces that were not requested"),
        (FoundTraces((trace("a"),), "more"), GET, "not all requested ones"),
        (FoundTraces((trace("\ud800"),), None), SCAN, "surrogates"),
        (FoundTraces((trace("\ud800"),), None), GET, "surrogates"),
    ],
)
def test_an_answer_to_another_question_is_a_bad_one(found: FoundTraces, read: Read, complaint: str) -> None:
    with pytest.raises(PollError, match=complaint) as caught:
        read(told(lambda *_: found))
    assert caught.value.reason is Reason.BAD_ANSWER


@pytest.mark.parametrize("start_ms", [0, 999])
def test_traces_of_another_time_are_a_bad_answer(start_ms: int) -> None:
    """Otherwise reading could go back, or skip traces."""
    source = told(lambda *_: page(start_ms, 1, None))
    for read in (source.scan, source.newest):
        with pytest.raises(PollError, match="times that were not requested") as caught:
            list(read(Window(1, 999)))
        assert caught.value.reason is Reason.BAD_ANSWER
    assert len(list(source.scan(Window(start_ms, start_ms + 1)))) == 1


@pytest.mark.parametrize("prefix", [lambda _: "tr", lambda number: f"tr{number}"], ids=["the same", "others"])
def test_pages_of_one_millisecond_that_do_not_end(
    prefix: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_EXCLUDED", 0)
    monkeypatch.setattr(scanning, "MAX_PAGES", 5)
    asked: list[str | None] = []

    def search(_: str, token: str | None) -> FoundTraces:
        asked.append(token)
        return page(1, prefix=prefix(len(asked)))

    with pytest.raises(PollError, match="start at 1 ms do not end") as caught:
        list(told(search).scan(ALL))
    assert caught.value.reason is Reason.BAD_ANSWER
    assert len(asked) <= 1 + 5


def test_a_short_page_with_a_token_is_not_the_last() -> None:
    """A server may remove traces that the user may not see after it has searched."""
    answers = [page(1, 3, "more", "a"), page(2, 3, "more", "b"), page(3, 3, None, "c")]
    found: list[TraceRecord] = [each for one in told(lambda *_: answers.pop(0)).scan(ALL) for each in one.records]
    assert len(found) == 9


def test_traces_were_seen_when_their_page_arrived() -> None:
    """And not when it was processed: until then they may have changed."""
    page = FoundTraces((trace("a"),), None, arrived_s=monotonic() - 5)
    source = MlflowSource(Told(lambda *_: page, {}), now_ms=lambda: 100_000)
    (found,) = [record for each in source.scan(ALL) for record in each.records]
    assert found.seen_ms <= 95_000


def test_ids_are_compared_exactly() -> None:
    """Some databases compare ids case-insensitively."""
    source = told(lambda *_: FoundTraces((trace("tr-A"),), None))
    found = source.find("tr-A")
    assert found is not None
    assert found.trace_id == next(source.newest(ALL)).trace_id  # it was seen at another moment
    assert source.find("tr-a") is None


def test_counts_of_times_that_were_not_requested() -> None:
    source = told(lambda *_: FoundTraces((), None))
    assert source.counts(Window(60_000_000, 60_000_001), 60_000, ["7"]) == {60_000_000: 1}
    for window in (Window(0, 60_000_000), Window(60_060_000, 120_000_000)):
        with pytest.raises(PollError, match="counts of times") as caught:
            source.counts(window, 60_000, ["7"])
        assert caught.value.reason is Reason.BAD_ANSWER


@pytest.mark.parametrize("lo_ms", [0, 1, 59_999, 60_000])
@pytest.mark.parametrize("length_ms", [0, 1, 60_000, 180_000, 180_001, 10**7])
def test_parts_of_a_window_share_no_step_and_leave_none_out(lo_ms: int, length_ms: int) -> None:
    window = Window(lo_ms, lo_ms + length_ms)
    found = list(filters.parts(window, 60_000, 3))
    assert sum(part.hi_ms - part.lo_ms for part in found) == length_ms
    ends = [lo_ms, *(part.hi_ms for part in found)]
    assert [part.lo_ms for part in found] == ends[:-1]
    assert all(end % 60_000 == 0 for end in ends[1:-1])
    assert all((part.hi_ms - 1) // 60_000 - part.lo_ms // 60_000 < 3 for part in found)


def counted(points: list[dict[str, Any]], **more: str) -> dict[int, int]:
    with server(200, "", metrics=json.dumps({"data_points": points, **more})) as uri:
        return Client(uri).count(["1"], 0, 10**9, 60)


def point(at_s: int, count: object = 1) -> dict[str, Any]:
    return {
        "dimensions": {"time_bucket": f"1970-01-01T{at_s // 3600:02}:{at_s // 60 % 60:02}:{at_s % 60:02}+00:00"},
        "values": {"COUNT": count},
    }


def test_counts_that_may_not_be_all_are_not_believed() -> None:
    assert len(counted([point(at_s) for at_s in range(999)])) == 999
    with pytest.raises(PollError, match="1000 counts may be incomplete") as caught:
        counted([point(at_s) for at_s in range(1_000)])
    assert caught.value.reason is Reason.BAD_ANSWER
    with pytest.raises(PollError, match="may be incomplete"):
        counted([point(0)], next_page_token="more")


@pytest.mark.parametrize(
    "points", [[point(0), point(0)], [point(0, "x")], [point(0, None)], [{"values": {"COUNT": 1}}], [7]]
)
def test_invalid_counts(points: list[Any]) -> None:
    with pytest.raises(PollError) as caught:
        counted(points)
    assert caught.value.reason is Reason.BAD_ANSWER


def assessments_counted(points: list[Any], **more: str) -> Counter[int] | None:
    with server(200, "", metrics=json.dumps({"data_points": points, **more})) as uri:
        return Client(uri).count_assessments(["1"], 0, 1, by_value=True)


def opinion(name: str, value: str, count: float = 1.0) -> Any:
    return {"dimensions": {"assessment_name": name, "assessment_value": value}, "values": {"COUNT": count}}


def test_counts_of_assessments_are_by_form() -> None:
    found = assessments_counted(
        [opinion("a", '"yes"', 2.0), opinion("a", "4"), opinion("a", "4.0"), opinion("b", "null")]
    )
    assert found == {
        assessment_parsing.form_of("a", "yes"): 2,
        assessment_parsing.form_of("a", 4): 2,
        assessment_parsing.form_of("b", None): 1,
    }
    assert assessments_counted([{"values": {"COUNT": 3.0}}]) == {assessment_parsing.ALL: 3}


def test_counts_of_assessments_that_may_not_be_all_are_not_believed() -> None:
    assert assessments_counted([opinion("a", str(each)) for each in range(1_000)]) is None
    assert assessments_counted([opinion("a", "1")], next_page_token="more") is None


@pytest.mark.parametrize("points", [[opinion("a", "}")], [{"dimensions": {"x": "y"}}], [7]])
def test_invalid_counts_of_assessments(points: list[Any]) -> None:
    with pytest.raises(PollError) as caught:
        assessments_counted(points)
    assert caught.value.reason is Reason.BAD_ANSWER


def test_a_search_that_is_refused_for_its_size_excludes_fewer_traces_the_next_time() -> None:
    """Some databases and proxies accept less than MLflow."""

    def search(filter_string: str, _: str | None) -> FoundTraces:
        if filter_string.count("tr-") > 700:
            raise PollError(Reason.SERVER_ERROR, "too many parameters")
        return FoundTraces((), None)

    source = told(search, counts={})
    known = [(number, f"tr-{number}") for number in range(2_000)]
    for _ in range(2):  # 2,000, then 1,000
        with pytest.raises(PollError):
            list(source.scan(Window(0, 10_000), known=known))
    assert list(source.scan(Window(0, 10_000), known=known)) == []


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(None, True), (Reason.CREDENTIALS, True), (Reason.CONFIGURATION, False), (Reason.BAD_ANSWER, False)],
)
def test_a_server_that_denies_spans_of_a_trace_that_is_not_there_has_them(
    reason: Reason | None, expected: bool
) -> None:
    """As MLflow does with basic auth."""

    class WithSpans(Told):
        def begin_spans(self, *_: object) -> Any:
            return PendingAnswer(lambda: fail(PollError(reason, "no")) if reason else {}, lambda: None)

    source = MlflowSource(WithSpans(lambda *_: FoundTraces((), None), {}), now_ms=lambda: 0, optional=[Feature.SPANS])
    assert source.features()[Feature.SPANS] is expected


@pytest.mark.parametrize(
    ("refusals", "expected"),
    [
        ([None, Reason.CONFIGURATION, Reason.CONFIGURATION], False),
        ([None, Reason.CONFIGURATION, None], True),
        ([None, Reason.CREDENTIALS], True),
    ],
)
def test_spans_that_a_server_no_longer_returns_are_a_missing_feature(
    refusals: Sequence[Reason | None], expected: bool
) -> None:
    """As after a downgrade, or behind a proxy with new rules. But one trace can be refused for reasons of its own."""
    unsaid = list(refusals)

    class Replaced(Told):
        def begin_spans(self, *_: object) -> Any:
            reason = unsaid.pop(0)
            return PendingAnswer(lambda: fail(PollError(reason, "no")) if reason else {}, lambda: None)

    source = MlflowSource(Replaced(lambda *_: FoundTraces((), None), {}), now_ms=lambda: 0, optional=[Feature.SPANS])
    assert source.features()[Feature.SPANS]
    list(source.spans([record(tags={"mlflow.trace.spansLocation": "TRACKING_STORE"})]))
    assert source.features()[Feature.SPANS] is expected
    assert unsaid == []
