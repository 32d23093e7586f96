"""A request to MLflow ends in time, whatever the response is, and leaves nothing behind."""

import gc
import gzip
import json
import resource
import threading
import time
from contextvars import ContextVar
from io import BufferedIOBase

import pytest

from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.tracking import bounded, client
from mlflow_trace_exporter.tracking.client import Client, FoundTraces
from mlflow_trace_exporter.tracking.variables import prepare_client
from tests.support import endless
from tests.support.endless import OK, Answer, again_and_again, bomb, letter_by_letter, with_body
from tests.support.waiting import HANG_S

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSED = OK + b"Connection: close\r\n\r\n"
GZIP = b"Content-Encoding: gzip"
TRACE = {"trace_id": "", "trace_location": {"mlflow_experiment": {"experiment_id": ""}}, "request_time": ""}
NOTHING_FOUND = b'{"traces": []}'


@pytest.fixture(autouse=True)
def _no_limit_on_time() -> None:
    """A slow machine takes as long as it needs to read an answer."""
    prepare_client(HANG_S)


@pytest.fixture
def _a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit reads to a second, and complete responses to a third of it, so that tests are fast."""
    prepare_client(1)
    monkeypatch.setattr(client, "WHOLE_ANSWER", 0.3)


brief = pytest.mark.usefixtures("_a_second_at_most")


def under_way() -> list[threading.Thread]:
    """The threads that wait for a response."""
    return [each for each in threading.enumerate() if each.name == "question to MLflow"]


def nothing_is_left_behind() -> bool:
    """Whether all of them end; each read may take a second."""
    until = time.monotonic() + HANG_S
    while found := under_way():
        found[0].join(max(0, until - time.monotonic()))
        if time.monotonic() > until:
            return False
    return True


def failure(answer: Answer) -> PollError:
    with endless.server(answer) as uri:
        with pytest.raises(PollError) as caught:
            Client(uri).search(["1"], "")
        assert nothing_is_left_behind(), "and the server is still sending"
    assert "/api/3.0/mlflow/traces/search: " in str(caught.value)
    return caught.value


def timed_failure(answer: Answer) -> tuple[PollError, float]:
    """The same, and how many seconds it took."""
    began_s = time.monotonic()
    return failure(answer), time.monotonic() - began_s


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(again_and_again(UNTIL_CLOSED, b" ", 0.02), id="a space now and then"),
        pytest.param(again_and_again(OK + b"Content-Length: 9999\r\n\r\n", b" ", 0.02), id="with a content length"),
        pytest.param(again_and_again(CHUNKED, b"1\r\n \r\n", 0.02), id="in chunks"),
        pytest.param(again_and_again(CHUNKED, b"0", 0.02), id="a length of a chunk without end"),
        pytest.param(again_and_again(CHUNKED + b"0\r\n", b"a: b\r\n", 0.02), id="trailers"),
        pytest.param(again_and_again(UNTIL_CLOSED, b" ", 0.28), id="slower than the time there is"),
        pytest.param(letter_by_letter(b"HTTP/1.1 200 OK\r\nX-Slow: yes", 0.02), id="headers"),
        pytest.param(again_and_again(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="to be continued"),
        pytest.param(again_and_again(b"HTTP/1.1 503 No\r\n\r\n", b" ", 0.02), id="an error"),
        pytest.param(again_and_again(b"HTTP/1.1 404 No\r\n\r\n", b" ", 0.02), id="a refusal"),
        pytest.param(lambda _, over: over.wait(HANG_S) and None, id="nothing at all"),
        pytest.param(letter_by_letter(b"HTTP/1.1 ", 0.02), id="a status without end"),
    ],
)
@brief
def test_an_answer_that_does_not_end_is_given_up(answer: Answer) -> None:
    error, took_s = timed_failure(answer)
    for _ in range(9):  # a machine that is too busy this time may be so only now
        if took_s < 2.5:
            break
        error, took_s = timed_failure(answer)
    assert took_s < 2.5
    assert error.reason is Reason.TIMEOUT
    assert "did not answer in time; raise mlflow.timeout if it is only slow" in str(error)


def test_a_redirection_s_own_body_is_not_read() -> None:
    """The HTTP library would read all of it and never reach its limit of thirty redirects."""
    head = b"HTTP/1.1 307 Elsewhere\r\nLocation: /there\r\nConnection: close\r\n\r\n"
    with (
        endless.server(again_and_again(head, b" ", 0.05)) as uri,
        pytest.raises(PollError, match="redirects") as caught,
    ):
        Client(uri).search(["1"], "")
    assert caught.value.reason is Reason.CONFIGURATION


@brief
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ssl leaves its socket to be collected
def test_a_tls_handshake_that_never_completes() -> None:
    greeting = b"\x16\x03\x03\x3f\xff\x02"
    with endless.server(again_and_again(greeting, b"\0", 0.02), plain=False) as uri, pytest.raises(PollError) as caught:
        Client(uri.replace("http:", "https:")).search(["1"], "")
    assert caught.value.reason is Reason.TIMEOUT
    assert nothing_is_left_behind()
    gc.collect()  # now, or the socket would be reported in another test


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        pytest.param(again_and_again(UNTIL_CLOSED, b" " * 2**20), "larger than 64 MiB", id="endless"),
        pytest.param(again_and_again(CHUNKED, b"100000\r\n" + b" " * 2**20 + b"\r\n"), "larger than", id="in chunks"),
        pytest.param(with_body(bomb(2**30), GZIP), "larger than 64 MiB", id="a bomb"),
        pytest.param(with_body(gzip.compress(bomb(2**28)), b"Content-Encoding: gzip, gzip"), "coding", id="in another"),
        pytest.param(with_body(b"", b"Content-Encoding: br"), "content encoding 'br'", id="not asked for"),
        pytest.param(with_body(b"[]", GZIP), "header", id="not even compressed"),
        pytest.param(with_body(gzip.compress(NOTHING_FOUND)[:-9], GZIP), "gzip data is truncated", id="cut off"),
        pytest.param(with_body(b""), "Expecting value", id="empty"),
        pytest.param(with_body(b"\xff{}"), "utf-8", id="no text"),
        pytest.param(with_body(b"[" * 10**6), "recursion", id="deep"),
        pytest.param(with_body(b'{"traces": [], "next_page_token": 7}'), "next_page_token", id="a token that is none"),
        pytest.param(with_body(json.dumps({"traces": [TRACE] * 501}).encode()), "501 traces", id="more than asked for"),
        pytest.param(with_body(b"{}", status=b"202 Later"), "HTTP 202", id="not yet"),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_bad_one(answer: Answer, complaint: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = failure(answer)
    assert error.reason is Reason.BAD_ANSWER
    assert complaint in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kB"


@pytest.mark.parametrize(
    ("body", "header"),
    [
        pytest.param(NOTHING_FOUND, b"Content-Encoding: identity", id="not at all"),
        pytest.param(gzip.compress(NOTHING_FOUND), GZIP, id="as is asked for"),
        pytest.param(gzip.compress(NOTHING_FOUND), b"content-encoding: X-GZIP", id="by its old name"),
        pytest.param(gzip.compress(NOTHING_FOUND[:5]) + gzip.compress(NOTHING_FOUND[5:]), GZIP, id="in two members"),
    ],
)
def test_answers_may_be_compressed(body: bytes, header: bytes) -> None:
    with endless.server(with_body(body, header)) as uri:
        assert Client(uri).search(["1"], "") == FoundTraces((), None)


def test_data_is_decompressed_in_small_pieces() -> None:
    packed = bomb(2**24) + gzip.compress(b"end")
    for size in (1, 7, 2**16, 2**24):
        pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
        found = list(bounded.unzipped(pieces))
        assert max(map(len, found)) <= bounded.PIECE_BYTES
        assert b"".join(found) == b" " * 2**24 + b"end"


def test_a_refusal_says_what_mlflow_reports() -> None:
    said = b'{"error_code": "INTERNAL_ERROR", "message": "database \\u001b[31mis locked\\u0000"}'
    error = failure(with_body(said, status=b"500 Oh"))
    assert error.reason is Reason.SERVER_ERROR
    assert "HTTP 500: INTERNAL_ERROR: database \ufffd[31mis locked\ufffd]" in str(error)
    assert failure(with_body(bomb(2**28), GZIP, status=b"502 Oh")).reason is Reason.SERVER_ERROR


@brief
def test_a_request_that_is_dropped_ends() -> None:
    begun = threading.Event()

    def answer(out: BufferedIOBase, over: threading.Event) -> None:
        begun.set()
        again_and_again(UNTIL_CLOSED, b" ", 0.02)(out, over)

    with endless.server(answer) as uri:
        pending = Client(uri).begin_search(["1"], "")
        assert begun.wait(HANG_S), "it is sent"  # before, Python may be about to connect, and complain of the socket
        pending.drop()
        assert nothing_is_left_behind(), "and the server is still sending"


def test_the_time_of_a_request_begins_when_it_is_sent() -> None:
    """So the response has arrived, or never will, when the caller has been busy for longer."""
    ended, forever = threading.Event(), threading.Event()
    prompt, endless_one = bounded.BoundedCall(0.1, ended.set), bounded.BoundedCall(0.1, forever.wait)
    ended.wait()
    while len(under_way()) > 1:  # the prompt one is about to end
        time.sleep(0.001)
    with pytest.raises(bounded.TookTooLong):
        endless_one.result()
    assert prompt.result() is None
    forever.set()
    assert nothing_is_left_behind()


def test_a_list_of_experiments_that_does_not_end() -> None:
    page = b'{"experiments": [{"experiment_id": "1", "name": "a"}], "next_page_token": "more"}'
    with endless.server(with_body(page)) as uri, pytest.raises(PollError, match="do not end") as caught:
        Client(uri).experiments()
    assert caught.value.reason is Reason.BAD_ANSWER


@brief
def test_pages_of_experiments_share_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WHOLE_ANSWER", 0.5)
    numbers = iter(range(10**6))

    def answer(out: BufferedIOBase, over: threading.Event) -> None:
        over.wait(0.1)
        page = {"experiments": [{"experiment_id": f"{next(numbers)}", "name": "a"}], "next_page_token": "more"}
        with_body(json.dumps(page).encode())(out, over)

    with endless.server(answer) as uri, pytest.raises(PollError) as caught:
        Client(uri).experiments()
    assert caught.value.reason is Reason.TIMEOUT


@pytest.mark.parametrize(
    "page",
    [
        {"experiments": {}},
        {"experiments": [7]},
        {"experiments": [{"experiment_id": "1"}]},
        {"experiments": [{"experiment_id": 1, "name": "a"}]},
        {"experiments": [{"experiment_id": "1", "name": "a", "creation_time": "yesterday"}]},
        {"experiments": [{"experiment_id": "1", "name": "a", "tags": {"team": "search"}}]},
        {"experiments": [{"experiment_id": "1", "name": "a", "tags": ["team"]}]},
    ],
)
def test_invalid_experiments(page: object) -> None:
    with endless.server(with_body(json.dumps(page).encode())) as uri, pytest.raises(PollError) as caught:
        Client(uri).experiments()
    assert caught.value.reason is Reason.BAD_ANSWER


def test_a_request_keeps_its_context_and_its_errors() -> None:
    workspace: ContextVar[str] = ContextVar("workspace")
    workspace.set("team")
    assert bounded.BoundedCall(HANG_S, workspace.get).result() == "team"
    with pytest.raises(ZeroDivisionError):
        bounded.BoundedCall(HANG_S, lambda: 1 / 0).result()
