"""A proxy in front of a real MLflow server that misbehaves on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import requests

from tests.support.waiting import HANG_S


class Request(BaseHTTPRequestHandler):
    """A request. Others may arrive before it is answered."""

    body: bytes
    before: list[str]
    """The paths of the requests before it."""


Misbehave = Callable[[Request, bytes], bool]
"""Given a request and MLflow's answer to it: whether it has answered, or spoilt, the request itself."""


class Proxy:
    """Forwards to ``target``; ``misbehave`` may do otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str] = []
        """The path of each request."""
        self.misbehave: Misbehave = lambda *_: False


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A proxy for the time of a block."""

    arriving = Lock()

    class Handler(Request):
        def do_GET(self) -> None:
            self.body = body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            with arriving:
                self.before = list(made.requests)
                made.requests.append(self.path)
            answer = requests.request(self.command, target + self.path, headers=headers, data=body, timeout=HANG_S)
            if made.misbehave(self, answer.content):
                self.close_connection = True
                return
            respond(self, answer.status_code, answer.content)

        do_POST = do_GET  # noqa: N815 - the name is http.server's

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        made = Proxy(f"http://127.0.0.1:{http.server_port}")
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            http.shutdown()
            thread.join()


def respond(handler: BaseHTTPRequestHandler, status: int, body: bytes, length: int | None = None) -> None:
    """Answer a request; ``length`` is what is said of the body, where that is not the truth."""
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
