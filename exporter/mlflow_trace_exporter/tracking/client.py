"""MLflow's REST API, each question with a bound, and its errors classified. The only module that imports mlflow.

MLflow's client knows the credentials, the certificates and the workspace; what it asks and how long it waits for the
answer is up to us: its own searches take as long, and as much memory, as the server likes.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import requests

from mlflow_trace_exporter import home
from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.tracking import bounded
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.failures import NotAskedError, RefusedError, WebPageError, classify, is_of_network

# Read when mlflow is imported. It needs a home; and a monitoring process must not call anybody but its MLflow server
# unless it is told to.
os.environ.setdefault("HOME", home.directory())
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow.version
from mlflow.environment_variables import (
    MLFLOW_ENABLE_DB_SDK,
    MLFLOW_HTTP_POOL_CONNECTIONS,
    MLFLOW_HTTP_POOL_MAXSIZE,
    MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
    MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER,
    MLFLOW_HTTP_TCP_KEEPALIVE,
    MLFLOW_HTTP_TCP_KEEPALIVE_COUNT,
    MLFLOW_HTTP_TCP_KEEPALIVE_IDLE,
    MLFLOW_HTTP_TCP_KEEPALIVE_INTERVAL,
    MLFLOW_TRACKING_AWS_SIGV4,
    MLFLOW_TRACKING_CLIENT_CERT_PATH,
    MLFLOW_TRACKING_INSECURE_TLS,
    MLFLOW_TRACKING_SERVER_CERT_PATH,
)
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

CLIENT_VERSION: str = mlflow.version.VERSION

_READ_BY_THE_CLIENT = (
    MLFLOW_ENABLE_DB_SDK,
    MLFLOW_HTTP_POOL_CONNECTIONS,
    MLFLOW_HTTP_POOL_MAXSIZE,
    MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
    MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER,
    MLFLOW_HTTP_TCP_KEEPALIVE,
    MLFLOW_HTTP_TCP_KEEPALIVE_COUNT,
    MLFLOW_HTTP_TCP_KEEPALIVE_IDLE,
    MLFLOW_HTTP_TCP_KEEPALIVE_INTERVAL,
    MLFLOW_TRACKING_AWS_SIGV4,
    MLFLOW_TRACKING_INSECURE_TLS,
)
"""What has values that it cannot have, which MLflow's client would find out only when it asks."""

_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}

T = TypeVar("T")

PAGE_SIZE = 500
"""What MLflow gives at most in one answer (501 is refused)."""

MAX_EXPERIMENT_PAGES = 100
"""How many pages of 1,000 experiments are read."""

MAX_COUNTS = 1_000
"""How many counts MLflow gives at most; it gives no token for the others, and does not say that there are any."""

DEFAULT_TIMEOUT_S = 30

WHOLE_ANSWER = 2
"""A whole answer may take so many times the timeout, which is for each read from the connection."""

RETRY_S = 10
"""How long MLflow's client waits at most before one of the few retries that ``prepare_client`` lets it make."""

ERROR_BYTES = 64 * 1024
"""How much is read of an answer that says what is wrong."""

CLOCK_AGE_S = 300
"""For how long the server's clock is taken to run on like ours, before it is looked at again."""

_SEARCH = "/api/3.0/mlflow/traces/search"
_METRICS = "/api/3.0/mlflow/traces/metrics"
_EXPERIMENTS = "/api/2.0/mlflow/experiments/search"


@dataclass(frozen=True, slots=True)
class Found:
    """A page of traces as MLflow's JSON has them; ``next_page_token`` None: there are no more."""

    traces: tuple[Mapping[str, Any], ...]
    next_page_token: str | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """``location``: where it redirects to."""

    status: int
    date: str | None
    body: bytes
    location: str = ""


class Client:
    """One tracking server. Credentials are MLflow's own environment variables. Every method raises PollError.

    Every question goes through ``_request``, and each try of it ends there within WHOLE_ANSWER times
    MLFLOW_HTTP_REQUEST_TIMEOUT, with no more than ``bounded.MAX_BYTES`` read.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = without_credentials(tracking_uri)
        self._uri = tracking_uri
        self._latest_ms = 0
        """What the server's clock says at most, at ``_looked_s`` of our monotonic one."""
        self._looked_s = -math.inf

    def search(
        self,
        experiment_ids: Sequence[str],
        filter_string: str,
        newest_first: bool = False,
        page_token: str | None = None,
    ) -> Found:
        """The first PAGE_SIZE of the traces that match, by start and id, or those after them."""
        order = "DESC" if newest_first else "ASC"
        question = {
            "locations": [
                {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": each}} for each in experiment_ids
            ],
            "filter": filter_string,
            "max_results": PAGE_SIZE,
            "order_by": [f"timestamp_ms {order}", f"request_id {order}"],
            **({"page_token": page_token} if page_token else {}),
        }
        return self.ask(_SEARCH, question, _found)

    def count(self, experiment_ids: Sequence[str], first_ms: int, last_ms: int, step_s: int) -> dict[int, int]:
        """How many traces start in [first_ms, last_ms], by steps of ``step_s`` seconds from 1970 on (in ms); of fewer
        than MAX_COUNTS steps."""
        question = {
            "experiment_ids": list(experiment_ids),
            "view_type": "TRACES",
            "metric_name": "trace_count",
            "aggregations": [{"aggregation_type": "COUNT"}],
            "time_interval_seconds": step_s,
            "start_time_ms": first_ms,
            "end_time_ms": last_ms,
        }
        return self.ask(_METRICS, question, _counts)

    def experiments(self) -> list[Experiment]:
        """All active experiments; the pages of their list are one question, with one bound in time."""
        until_s = monotonic() + self._patience_s()
        found: dict[str, Experiment] = {}
        token: str | None = None
        for _ in range(MAX_EXPERIMENT_PAGES):
            question = {"view_type": "ACTIVE_ONLY", "max_results": 1_000, **({"page_token": token} if token else {})}
            page, token = self.ask(_EXPERIMENTS, question, _experiments, until_s)
            if token and page.keys() <= found.keys():
                break
            found |= page
            if not token:
                if not found:
                    self.server_version()  # an empty object is MLflow's answer, and that of many who are not MLflow
                return list(found.values())
        raise self.bad_answer("the pages of the list do not end", _EXPERIMENTS)

    def server_version(self) -> str:
        """The version that the server says it has."""
        with self.errors_classified("/version"):
            version = _checked(self._request("/version", "GET")).body.decode().strip()
            if not re.fullmatch(r"\d+\.\d+[\w.]*", version):
                raise ValueError("it is no version")
            return version

    def server_ms(self) -> int | None:
        """What the server's clock says at most (it tells seconds only), in Unix ms; None where it does not tell."""
        if monotonic() - self._looked_s > CLOCK_AGE_S:
            with self.errors_classified("/health"):
                self._request("/health", "GET")  # whatever it answers, it says when
        return self._latest_ms + int((monotonic() - self._looked_s) * 1000) if self._latest_ms else None

    def ask(
        self,
        endpoint: str,
        question: Mapping[str, object],
        read: Callable[[Mapping[str, Any]], T],
        until_s: float | None = None,
    ) -> T:
        """What ``read`` makes of the answer's JSON object; what it raises is a bad answer. ``until_s`` (of the
        monotonic clock) is when to give up, if that is sooner than for any other question."""
        with self.errors_classified(endpoint):
            found = _read_json(_checked(self._request(endpoint, "POST", until_s, json=question)).body.decode())
            if not isinstance(found, dict):
                raise ValueError("it is no JSON object")
            return read(found)

    def _request(self, endpoint: str, method: str, until_s: float | None = None, **request: Any) -> _Answer:
        """Ask MLflow, whatever it is: the one place where that is done."""
        patience_s = self._patience_s()
        if until_s is not None:
            patience_s = max(0.0, min(patience_s, until_s - monotonic()))
        answer = bounded.within(patience_s, lambda: _asked(self._uri, endpoint, method, **request))
        self._look_at_clock(answer.date)
        return answer

    def _patience_s(self) -> float:
        retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
        return float(WHOLE_ANSWER * MLFLOW_HTTP_REQUEST_TIMEOUT.get() * (1 + retries) + RETRY_S * retries)

    def _look_at_clock(self, date: str | None) -> None:
        try:
            seconds = parsedate_to_datetime(date or "").timestamp()
        except (ValueError, OverflowError):  # a proxy took it away, or invented it
            seconds = -1.0
        self._latest_ms, self._looked_s = int(seconds + 1) * 1000, monotonic()

    @contextmanager
    def errors_classified(self, endpoint: str = _SEARCH) -> Iterator[None]:
        """Raise PollError for whatever a broken answer makes the block stumble over."""
        try:
            yield
        except PollError:
            raise
        except Exception as error:
            raise classify(error, self.tracking_uri, endpoint) from error

    def bad_answer(self, complaint: str, endpoint: str = _SEARCH) -> PollError:
        """An answer that can be read, and cannot be right."""
        return classify(ValueError(complaint), self.tracking_uri, endpoint)


def _asked(uri: str, endpoint: str, method: str, **request: Any) -> _Answer:
    """The answer, read up to a limit. Of one that says what is wrong the body is only quoted, so it may be missing.

    Raises NotAskedError where MLflow's client does not get as far as the network.
    """
    try:
        response: requests.Response = http_request(
            get_default_host_creds(uri),
            endpoint,
            method,
            stream=True,
            raise_on_status=False,  # what the answer says is better than that there was one
            extra_headers={"Accept-Encoding": "gzip"},
            hooks={"response": bounded.without_body},
            **request,
        )
    except Exception as error:
        if is_of_network(error):
            raise
        raise NotAskedError(str(error.__context__ or error)) from error
    with response:
        date = response.headers.get("Date")
        if response.request.method != method:  # a redirection that makes a POST a GET: what came back answers that
            first = response.history[0]
            return _Answer(first.status_code, date, b"", first.headers.get("Location", ""))
        body = b""
        if response.status_code == 200:
            body = bounded.body(response)
        else:
            with suppress(Exception):
                body = bounded.body(response, ERROR_BYTES)
        return _Answer(response.status_code, date, body, response.headers.get("Location", ""))


def _checked(answer: _Answer) -> _Answer:
    """It, if it is one to the question; raises RefusedError for one that says what is wrong."""
    if answer.status == 200:
        return answer
    text = answer.body.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            text = ": ".join(str(found[key]) for key in ("error_code", "message") if found.get(key)) or text
    raise RefusedError(answer.status, text, answer.location)


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if text.lstrip()[:1] == "<":
            raise WebPageError(text) from None
        raise


def _found(answer: Mapping[str, Any]) -> Found:
    traces = _objects(answer, "traces")
    if len(traces) > PAGE_SIZE:
        raise ValueError(f"{len(traces)} traces are more than the {PAGE_SIZE} that were asked for")
    return Found(traces, _token(answer))


def _experiments(answer: Mapping[str, Any]) -> tuple[dict[str, Experiment], str | None]:
    page = map(_experiment, _objects(answer, "experiments"))
    return {each.experiment_id: each for each in page}, _token(answer)


def _experiment(found: Mapping[str, Any]) -> Experiment:
    match found:
        case {"experiment_id": str(experiment_id), "name": str(name)}:
            return Experiment(experiment_id, name, int(found.get("creation_time") or 0))
    raise ValueError("an experiment has no id or no name")


def _counts(answer: Mapping[str, Any]) -> dict[int, int]:
    points = _objects(answer, "data_points")
    if len(points) >= MAX_COUNTS or _token(answer):
        raise ValueError(f"{len(points)} counts may not be all: MLflow gives {MAX_COUNTS} at most")
    counts = {_unix_ms(each["dimensions"]["time_bucket"]): int(each["values"]["COUNT"]) for each in points}
    if len(counts) < len(points):
        raise ValueError("it has two counts of one step")
    return counts


def _objects(answer: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    found = answer.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"its {key} are no list of objects")
    return tuple(found)


def _token(answer: Mapping[str, Any]) -> str | None:
    token = answer.get("next_page_token")
    if not isinstance(token, str | None):
        raise ValueError("its next_page_token is no text")
    return token or None


def _unix_ms(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def prepare_client(timeout_s: float | None, retries: int = 0) -> None:
    """Make the MLflow client of this process give up early; the poller does the retrying.

    Left alone the client retries for minutes, and neither a stop nor an outage would be noticed meanwhile. ``retries``
    is for commands, which read once and would have to begin anew: with two of them it gives up after about five seconds
    where nothing listens.
    ``timeout_s`` None leaves MLFLOW_HTTP_REQUEST_TIMEOUT as the user set it, or DEFAULT_TIMEOUT_S where it is not set.
    Raises UserError where one of MLflow's variables has a value that MLflow could not use.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(retries)
    of_the_user = _timeout_of_the_user()  # before it is set, and the same when the configuration is read again
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = of_the_user if timeout_s is None else str(math.ceil(timeout_s))
    for variable in _READ_BY_THE_CLIENT:
        _value(variable)
    if _value(MLFLOW_HTTP_REQUEST_TIMEOUT) < 1:
        raise UserError("MLFLOW_HTTP_REQUEST_TIMEOUT: must be at least 1 (second)")
    for variable in (MLFLOW_TRACKING_SERVER_CERT_PATH, MLFLOW_TRACKING_CLIENT_CERT_PATH):
        if variable.get() and not Path(variable.get()).exists():
            raise UserError(f"{variable.name}: there is no file {variable.get()}")
    if MLFLOW_TRACKING_SERVER_CERT_PATH.get() and MLFLOW_TRACKING_INSECURE_TLS.get():
        raise UserError("MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_INSECURE_TLS: set one of them, not both")


@cache
def _timeout_of_the_user() -> str:
    return os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or str(DEFAULT_TIMEOUT_S)


def _value(variable: Any) -> Any:
    try:
        return variable.get()
    except ValueError:
        given, kind = os.environ[variable.name], _KINDS.get(variable.type, "another value")
        raise UserError(f"{variable.name}: {given!r} is not a value that it can have; write {kind}") from None
