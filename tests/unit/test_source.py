"""What is made of MLflow's answers, and of what goes wrong in place of one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from exporter import client
from exporter.client import Client, prepare_client
from exporter.errors import PollError, Reason
from exporter.failures import without_credentials
from exporter.horizon import Window
from exporter.source import MlflowSource


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
def server(status: int, body: str, hang: bool = False, cut: bool = False) -> Iterator[str]:
    """An HTTP server that answers every trace search like this, and knows one experiment."""
    released = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is http.server's
            self.rfile.read(int(self.headers["Content-Length"]))
            searching = self.path.endswith("traces/search")
            if searching and hang:
                released.wait(30)
                return
            answer = (body if searching else EXPERIMENTS).encode()
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


def failure(uri: str) -> PollError:
    prepare_client(1)
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
def test_answers_that_are_none_are_told_apart(status: int, body: str, reason: Reason) -> None:
    with server(status, body) as uri:
        assert failure(uri).reason is reason


def test_a_server_that_does_not_answer_in_time() -> None:
    with server(200, "", hang=True) as uri:
        assert failure(uri).reason is Reason.TIMEOUT


def test_an_answer_that_is_cut_off() -> None:
    with server(200, '{"traces": []}', cut=True) as uri:
        assert failure(uri).reason is Reason.UNREACHABLE


def test_nobody_there() -> None:
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
    assert "has it a line break in it?" in str(error)
    assert "eyJ" not in str(error)


def test_the_user_s_time_out_is_used_unless_the_configuration_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    client._timeout_of_the_user.cache_clear()  # as in a new process
    prepare_client(None)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    prepare_client(1.2)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "2"
