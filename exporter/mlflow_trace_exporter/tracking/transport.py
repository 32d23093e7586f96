"""Sends one request to MLflow with MLflow's own client, and reads the response up to a limit."""

import json
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import requests
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from mlflow.utils.workspace_utils import WORKSPACE_HEADER_NAME

from mlflow_trace_exporter.tracking import bounded
from mlflow_trace_exporter.tracking.failures import NotAskedError, RefusedError, WebPageError, is_of_network

ERROR_BYTES = 64 * 1024
"""How much of an error response is read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; ``location`` is the target of a redirect. ``arrived_s`` is when it began, by the monotonic
    clock."""

    status: int
    date: str | None
    arrived_s: float
    body: bytes
    location: str = ""


def ask(uri: str, endpoint: str, method: str, workspace: str | None = None, **request: Any) -> Answer:
    """Send a request and read the response up to a limit. The body of an error response is only quoted, so a failure to
    read it is ignored. ``workspace`` None: that of MLFLOW_WORKSPACE, or else the server's default.

    Raises NotAskedError if MLflow's client fails before it uses the network.
    """
    try:
        response: requests.Response = http_request(
            get_default_host_creds(uri),
            endpoint,
            method,
            stream=True,
            raise_on_status=False,  # the body of the response explains more
            extra_headers={"Accept-Encoding": "gzip", **({WORKSPACE_HEADER_NAME: workspace} if workspace else {})},
            hooks={"response": bounded.without_body},
            **request,
        )
    except Exception as error:
        if is_of_network(error):
            raise
        raise NotAskedError(str(error.__context__ or error)) from error
    with response:
        arrived_s, date = monotonic(), response.headers.get("Date")
        if response.request.method != method:  # a redirect turned a POST into a GET, so this answers another request
            first = response.history[0]
            return Answer(first.status_code, date, arrived_s, b"", first.headers.get("Location", ""))
        body = b""
        if response.status_code == 200:
            body = bounded.body(response)
        else:
            with suppress(Exception):
                body = bounded.body(response, ERROR_BYTES)
        return Answer(response.status_code, date, arrived_s, body, response.headers.get("Location", ""))


def checked(answer: Answer) -> Answer:
    """Return the answer if its status is 200, otherwise raise RefusedError."""
    if answer.status == 200:
        return answer
    text = answer.body.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            text = ": ".join(str(found[key]) for key in ("error_code", "message") if found.get(key)) or text
    raise RefusedError(answer.status, text, answer.location)


def text_of(answer: Answer) -> str:
    """The body of a response. Raises WebPageError if it is a web page instead of data."""
    text = answer.body.decode()
    if text.lstrip()[:1] == "<":
        raise WebPageError(text)
    return text
