"""A receiver for Alertmanager's webhooks, which drops repeated notifications.

``python -m mlflow_trace_exporter.demo.pager PORT [HOST]`` prints the notifications.
"""

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mlflow_trace_exporter.demo.processes import HOST


@dataclass(frozen=True, slots=True)
class Notification:
    """One alert from Alertmanager: its receiver, its status (firing or resolved), its labels and annotations."""

    receiver: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Pager:
    """A web server for Alertmanager's webhooks, in a thread. Use it as a context manager."""

    def __init__(self, port: int, host: str = HOST) -> None:
        self._news: list[Notification] = []
        self._known: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        app = Starlette(routes=[Route("/{receiver}", self._receive, methods=["POST"])])
        self._server = uvicorn.Server(
            uvicorn.Config(app, host=host, port=port, access_log=False, log_level="error", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, name="pager", daemon=True)

    def __enter__(self) -> "Pager":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(5)

    def news(self) -> list[Notification]:
        """The new notifications since the last call."""
        with self._lock:
            news, self._news = self._news, []
        return news

    async def _receive(self, request: Request) -> Response:
        body = await request.json()
        receiver = request.path_params["receiver"]
        with self._lock:
            for alert in body["alerts"]:
                self._note(receiver, alert)
        return PlainTextResponse("ok\n")

    def _note(self, receiver: str, alert: Mapping[str, Any]) -> None:
        key = (receiver, alert["fingerprint"])
        if self._known.get(key) != alert["status"]:
            self._known[key] = alert["status"]
            self._news.append(Notification(receiver, alert["status"], alert["labels"], alert["annotations"]))


def main(port: int, host: str) -> None:
    """Print notifications until the process is stopped."""
    with Pager(port, host) as pager:
        while True:
            for each in pager.news():
                labels = " ".join(
                    f"{name}={value}" for name, value in sorted(each.labels.items()) if name != "alertname"
                )
                print(f"{each.receiver}: {each.status} {each.labels['alertname']} ({labels})", flush=True)  # noqa: T201 - printing is its purpose
                for name, text in sorted(each.annotations.items()):
                    print(f"    {name}: {text}", flush=True)  # noqa: T201 - printing is its purpose
            time.sleep(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else HOST)
