"""MLflow's client, with its errors classified. The only module that imports mlflow."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

from exporter.errors import UserError
from exporter.experiments import Experiment
from exporter.failures import classify, without_credentials

# Read when mlflow is imported: a monitoring process must not call anybody but its MLflow server unless it is told to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow.version
from mlflow import MlflowClient
from mlflow.entities import TraceInfo, ViewType
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_TRACKING_INSECURE_TLS,
    MLFLOW_TRACKING_SERVER_CERT_PATH,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

CLIENT_VERSION: str = mlflow.version.VERSION

PAGE_SIZE = 500
"""What MLflow gives at most in one answer (501 is refused)."""

DEFAULT_TIMEOUT_S = 30

CLOCK_AGE_S = 300
"""For how long the server's clock is taken to run on like ours, before it is looked at again."""

_METRICS = "/api/3.0/mlflow/traces/metrics"


class Client:
    """One tracking server. Credentials are MLflow's own environment variables. Every method raises PollError."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = without_credentials(tracking_uri)
        self._uri = tracking_uri
        self._client = MlflowClient(tracking_uri)
        self._latest_ms = 0
        """What the server's clock says at most, at ``_looked_s`` of our monotonic one."""
        self._looked_s = -math.inf

    def search(self, experiment_ids: Sequence[str], filter_string: str, newest_first: bool = False) -> list[TraceInfo]:
        """The first PAGE_SIZE of the traces that match, by start and id."""
        order = "DESC" if newest_first else "ASC"
        with self._errors_classified():
            traces = self._client.search_traces(
                locations=list(experiment_ids),
                filter_string=filter_string,
                order_by=[f"timestamp_ms {order}", f"request_id {order}"],
                max_results=PAGE_SIZE,
                include_spans=False,
            )
            return [trace.info for trace in traces]

    def count(self, experiment_ids: Sequence[str], first_ms: int, last_ms: int, step_s: int) -> dict[int, int]:
        """How many traces start in [first_ms, last_ms], by steps of ``step_s`` seconds from 1970 on (in ms)."""
        body = {
            "experiment_ids": list(experiment_ids),
            "view_type": "TRACES",
            "metric_name": "trace_count",
            "aggregations": [{"aggregation_type": "COUNT"}],
            "time_interval_seconds": step_s,
            "start_time_ms": first_ms,
            "end_time_ms": last_ms,
        }
        counts: dict[int, int] = {}
        with self._errors_classified():
            while True:
                answer = self._ask(_METRICS, "POST", json=body).json()
                for point in answer.get("data_points", []):
                    counts[_unix_ms(point["dimensions"]["time_bucket"])] = int(point["values"]["COUNT"])
                body["page_token"] = answer.get("next_page_token")
                if not body["page_token"]:
                    return counts

    def experiments(self) -> list[Experiment]:
        """All active experiments."""
        found: list[Experiment] = []
        token: str | None = None
        with self._errors_classified():
            while True:
                page = self._client.search_experiments(
                    view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
                )
                found += [Experiment(each.experiment_id, each.name, each.creation_time or 0) for each in page]
                token = page.token
                if not token:
                    return found

    def server_version(self) -> str:
        """The version that the server says it has."""
        with self._errors_classified():
            version: str = self._ask("/version", "GET").text.strip()
            if not re.fullmatch(r"\d+\.\d+[\w.]*", version):
                raise ValueError("/version does not answer with a version")
            return version

    def server_ms(self) -> int | None:
        """What the server's clock says at most (it tells seconds only), in Unix ms; None where it does not tell."""
        if monotonic() - self._looked_s > CLOCK_AGE_S:
            with self._errors_classified():
                self._request("/health", "GET")  # whatever it answers, it says when
        return self._latest_ms + int((monotonic() - self._looked_s) * 1000) if self._latest_ms else None

    def _ask(self, endpoint: str, method: str, **request: Any) -> Any:
        return verify_rest_response(self._request(endpoint, method, **request), endpoint)

    def _request(self, endpoint: str, method: str, **request: Any) -> Any:
        answer = http_request(get_default_host_creds(self._uri), endpoint, method, **request)
        self._look_at_clock(answer.headers.get("Date"))
        return answer

    def _look_at_clock(self, date: str | None) -> None:
        try:
            seconds = parsedate_to_datetime(date or "").timestamp()
        except ValueError:  # a proxy took it away, or invented it
            seconds = -1.0
        self._latest_ms, self._looked_s = int(seconds + 1) * 1000, monotonic()

    @contextmanager
    def _errors_classified(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the client lets through whatever a broken answer makes it stumble over
            status = error.get_http_status_code() if isinstance(error, MlflowException) else None
            raise classify(error, status, self.tracking_uri) from error


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
    if _value(MLFLOW_HTTP_REQUEST_TIMEOUT) < 1:
        raise UserError("MLFLOW_HTTP_REQUEST_TIMEOUT: must be at least 1 (second)")
    certificates = _value(MLFLOW_TRACKING_SERVER_CERT_PATH)
    if certificates and not Path(certificates).exists():
        raise UserError(f"MLFLOW_TRACKING_SERVER_CERT_PATH: there is no {certificates}")
    if certificates and _value(MLFLOW_TRACKING_INSECURE_TLS):
        raise UserError("MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_INSECURE_TLS: set one of them, not both")


@cache
def _timeout_of_the_user() -> str:
    return os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or str(DEFAULT_TIMEOUT_S)


def _value(variable: Any) -> Any:
    try:
        return variable.get()
    except ValueError:
        raise UserError(f"{variable.name}: {os.environ[variable.name]!r} is not a value that it can have") from None
