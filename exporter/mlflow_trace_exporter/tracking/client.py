"""Calls MLflow's REST API with limits on time and size, and classifies errors.

MLflow's client provides the credentials and the certificates. The requests and their limits are our own,
because the searches of MLflow's client have no limit on time or memory.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, TypeVar

import mlflow.version
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.tracking import bounded
from mlflow_trace_exporter.tracking.assessment_parsing import ALL, form_of
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.failures import classify
from mlflow_trace_exporter.tracking.json_text import ANYTHING, Json
from mlflow_trace_exporter.tracking.parsing import TraceInfo, TracePage
from mlflow_trace_exporter.tracking.pending import PendingAnswer
from mlflow_trace_exporter.tracking.span_parsing import spans_of
from mlflow_trace_exporter.tracking.transport import Answer, ask, checked, text_of

CLIENT_VERSION: str = mlflow.version.VERSION

T = TypeVar("T")

PAGE_SIZE = 500
"""The maximum number of traces in one response of MLflow (it rejects 501)."""

MAX_EXPERIMENT_PAGES = 100
"""The maximum number of pages of 1,000 experiments that are read."""

MAX_COUNTS = 1_000
"""The maximum number of counts in one response of MLflow. It omits further counts without a token or any other sign."""

WHOLE_ANSWER = 2
"""A complete response may take this many times the timeout, which applies to each read from the connection."""

RETRY_S = 10
"""The longest wait of MLflow's client before one of the few retries that ``prepare_client`` allows."""

CLOCK_AGE_S = 300
"""How long a reading of the server's clock is extrapolated with ours before the clock is read again."""

_SEARCH = "/api/3.0/mlflow/traces/search"
_SPANS = "/api/3.0/mlflow/traces/batchGet"
_METRICS = "/api/3.0/mlflow/traces/metrics"
_EXPERIMENTS = "/api/2.0/mlflow/experiments/search"
_SERVER_INFO = "/api/3.0/mlflow/server-info"
_WORKSPACES = "/api/3.0/mlflow/workspaces"


@dataclass(frozen=True, slots=True)
class FoundTraces:
    """A page of traces. ``next_page_token`` is None on the last page. ``arrived_s`` is when the response began, by the
    monotonic clock."""

    traces: Sequence[TraceInfo]
    next_page_token: str | None
    arrived_s: float = field(default_factory=monotonic, compare=False)

    @property
    def more(self) -> bool:
        """Whether there may be more traces than these."""
        return self.next_page_token is not None or len(self.traces) >= PAGE_SIZE


class Client:
    """A client of one tracking server. Credentials come from MLflow's environment variables. Every method raises
    PollError. Where a method has a ``workspace``, None means that of MLFLOW_WORKSPACE, or else the server's default.

    Every request goes through ``_send``. Each attempt ends within WHOLE_ANSWER times MLFLOW_HTTP_REQUEST_TIMEOUT and
    reads at most ``bounded.MAX_BYTES``.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = without_credentials(tracking_uri)
        self._uri = tracking_uri
        self._clock = (0, -math.inf)
        """The latest possible time of the server's clock (Unix ms), and when it was read by our monotonic clock. One
        value, because several threads use it."""

    def search(
        self,
        experiment_ids: Sequence[str],
        filter_string: str,
        newest_first: bool = False,
        page_token: str | None = None,
        workspace: str | None = None,
    ) -> FoundTraces:
        """A page of up to PAGE_SIZE matching traces, ordered by start and id: the first one, or the one of
        ``page_token``."""
        return self.begin_search(experiment_ids, filter_string, newest_first, page_token, workspace).answer()

    def begin_search(
        self,
        experiment_ids: Sequence[str],
        filter_string: str,
        newest_first: bool = False,
        page_token: str | None = None,
        workspace: str | None = None,
    ) -> PendingAnswer[FoundTraces]:
        """Send the request of ``search``, and do not wait for the response."""
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
        return self._begin(_SEARCH, question, _found, workspace=workspace)

    def begin_spans(
        self, trace_ids: Sequence[str], workspace: str | None = None
    ) -> PendingAnswer[Mapping[str, tuple[Span, ...]]]:
        """Send a request for the spans of traces, by trace id, and do not wait for the response."""
        return self._begin(_SPANS, {"trace_ids": trace_ids}, _spans, workspace=workspace, method="GET")

    def count(
        self, experiment_ids: Sequence[str], first_ms: int, last_ms: int, step_s: int, workspace: str | None = None
    ) -> dict[int, int]:
        """The number of traces that start in [first_ms, last_ms], by step of ``step_s`` seconds since 1970 (in ms). The
        range must have fewer than MAX_COUNTS steps."""
        question = {
            "experiment_ids": list(experiment_ids),
            "view_type": "TRACES",
            "metric_name": "trace_count",
            "aggregations": [{"aggregation_type": "COUNT"}],
            "time_interval_seconds": step_s,
            "start_time_ms": first_ms,
            "end_time_ms": last_ms,
        }
        return self.ask(_METRICS, question, _counts, workspace=workspace)

    def count_assessments(
        self, experiment_ids: Sequence[str], first_ms: int, last_ms: int, by_value: bool, workspace: str | None = None
    ) -> Counter[int] | None:
        """The number of valid feedbacks of traces that start in [first_ms, last_ms]: by ``Assessment.form``, or all of
        them together as ALL. None if they have too many different forms for MLflow.

        Without steps of time, because until MLflow 3.16 these are those of the assessments and not of the traces.
        """
        question = {
            "experiment_ids": list(experiment_ids),
            "view_type": "ASSESSMENTS",
            "metric_name": "assessment_count",
            "aggregations": [{"aggregation_type": "COUNT"}],
            "filters": ['assessment.type = "feedback"'],
            "dimensions": ["assessment_name", "assessment_value"] if by_value else [],
            "start_time_ms": first_ms,
            "end_time_ms": last_ms,
        }
        return self.ask(_METRICS, question, _assessment_counts, workspace=workspace)

    def experiments(self, workspace: str | None = None) -> list[Experiment]:
        """All active experiments of a workspace, with the workspace that MLflow names. All pages of the list share one
        time limit."""
        until_s = monotonic() + self._patience_s()
        found: dict[str, Experiment] = {}
        token: str | None = None
        for _ in range(MAX_EXPERIMENT_PAGES):
            question = {"view_type": "ACTIVE_ONLY", "max_results": 1_000, **({"page_token": token} if token else {})}
            page, token = self.ask(_EXPERIMENTS, question, _experiments, until_s, workspace)
            if token and page.keys() <= found.keys():
                break
            found |= page
            if not token:
                if not found:
                    self.server_version()  # an empty object is valid, but other servers return it, too
                return list(found.values())
        raise self.bad_answer("the pages of experiments do not end", _EXPERIMENTS)

    def has_workspaces(self) -> bool:
        """Whether the server has workspaces. MLflow can tell since version 3.10."""
        return self._get(_SERVER_INFO, lambda answer: answer.get("workspaces_enabled") is True)

    def workspaces(self) -> tuple[str, ...]:
        """The names of all workspaces that the server shows to this user."""
        return self._get(
            _WORKSPACES, lambda answer: tuple(str(each["name"]) for each in _objects(answer, "workspaces"))
        )

    def server_version(self) -> str:
        """The version that the server reports."""
        with self.errors_classified("/version"):
            version = checked(self._request("/version", "GET")).body.decode().strip()
            if not re.fullmatch(r"\d+\.\d+[\w.]*", version):
                raise ValueError("not a version number")
            return version

    def server_ms(self) -> int | None:
        """The latest possible time of the server's clock (which has whole seconds) in Unix ms; None if the server does
        not report it."""
        if monotonic() - self._clock[1] > CLOCK_AGE_S:
            with self.errors_classified("/health"):
                self._request("/health", "GET")  # every response has a Date header
        latest_ms, looked_s = self._clock
        return latest_ms + int((monotonic() - looked_s) * 1000) if latest_ms else None

    def ask(
        self,
        endpoint: str,
        question: Mapping[str, object],
        read: Callable[[Mapping[str, Any]], T],
        until_s: float | None = None,
        workspace: str | None = None,
    ) -> T:
        """Send a request and convert the JSON object of the response with ``read``. If ``read`` raises, the response is
        a bad answer. ``until_s`` (monotonic clock) is a deadline in addition to the usual time limit."""
        return self._begin(
            endpoint, question, lambda answer: read(_read_object(text_of(answer))), until_s, workspace
        ).answer()

    def _get(self, endpoint: str, read: Callable[[Mapping[str, Any]], T]) -> T:
        with self.errors_classified(endpoint):
            return read(_read_object(text_of(checked(self._request(endpoint, "GET")))))

    def _begin(
        self,
        endpoint: str,
        question: Mapping[str, object],
        read: Callable[[Answer], T],
        until_s: float | None = None,
        workspace: str | None = None,
        method: str = "POST",
    ) -> PendingAnswer[T]:
        """Send a request. Its response is read into memory, but not parsed until somebody waits for the answer: threads
        that compute at the same time slow each other down."""
        with self.errors_classified(endpoint):
            content = {"params" if method == "GET" else "json": question}
            under_way = self._send(endpoint, method, until_s, workspace, **content)

        def answer() -> T:
            with self.errors_classified(endpoint):
                return read(checked(self._received(under_way)))

        return PendingAnswer(answer, under_way.end)

    def _request(self, endpoint: str, method: str) -> Answer:
        return self._received(self._send(endpoint, method))

    def _send(
        self,
        endpoint: str,
        method: str,
        until_s: float | None = None,
        workspace: str | None = None,
        **request: Any,
    ) -> bounded.BoundedCall[Answer]:
        """Send a request to MLflow. No other method does."""
        patience_s = self._patience_s()
        if until_s is not None:
            patience_s = max(0.0, min(patience_s, until_s - monotonic()))
        return bounded.BoundedCall(patience_s, lambda: ask(self._uri, endpoint, method, workspace, **request))

    def _received(self, under_way: bounded.BoundedCall[Answer]) -> Answer:
        answer = under_way.result()
        self._look_at_clock(answer)
        return answer

    def _patience_s(self) -> float:
        retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
        return float(WHOLE_ANSWER * MLFLOW_HTTP_REQUEST_TIMEOUT.get() * (1 + retries) + RETRY_S * retries)

    def _look_at_clock(self, answer: Answer) -> None:
        try:
            seconds = parsedate_to_datetime(answer.date or "").timestamp()
        except (ValueError, OverflowError):  # a proxy removed or mangled it
            seconds = -1.0
        self._clock = (int(seconds + 1) * 1000, answer.arrived_s)

    @contextmanager
    def errors_classified(self, endpoint: str = _SEARCH) -> Iterator[None]:
        """Convert every exception in the block to PollError."""
        try:
            yield
        except PollError:
            raise
        except Exception as error:
            raise classify(error, self.tracking_uri, endpoint) from error

    def bad_answer(self, complaint: str, endpoint: str = _SEARCH) -> PollError:
        """The error for a response that can be parsed but must be wrong."""
        return classify(ValueError(complaint), self.tracking_uri, endpoint)


def _read_object(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


_TRACE_PAGE = Json(TracePage)


def _found(answer: Answer) -> FoundTraces:
    page = _TRACE_PAGE.read(text_of(answer))
    if len(page.traces) > PAGE_SIZE:
        raise ValueError(f"{len(page.traces)} traces were returned, but at most {PAGE_SIZE} were requested")
    return FoundTraces(tuple(page.traces), page.next_page_token or None, answer.arrived_s)


def _spans(answer: Answer) -> Mapping[str, tuple[Span, ...]]:
    return spans_of(text_of(answer))


def _experiments(answer: Mapping[str, Any]) -> tuple[dict[str, Experiment], str | None]:
    page = map(_experiment, _objects(answer, "experiments"))
    return {each.experiment_id: each for each in page}, _token(answer)


def _experiment(found: Mapping[str, Any]) -> Experiment:
    match found:
        case {"experiment_id": str(experiment_id), "name": str(name)}:
            workspace = found.get("workspace")
            created_ms = int(found.get("creation_time") or 0)
            return Experiment(experiment_id, name, created_ms, _tags(found), str(workspace) if workspace else None)
    raise ValueError("an experiment has no id or no name")


def _tags(experiment: Mapping[str, Any]) -> dict[str, str]:
    """The tags of an experiment. Those that are not texts cannot become labels."""
    return {
        key: value
        for each in _objects(experiment, "tags")
        if isinstance(key := each.get("key"), str) and isinstance(value := each.get("value"), str)
    }


def _counts(answer: Mapping[str, Any]) -> dict[int, int]:
    points = _objects(answer, "data_points")
    if len(points) >= MAX_COUNTS or _token(answer):
        raise ValueError(f"{len(points)} counts may be incomplete: MLflow returns at most {MAX_COUNTS}")
    counts = {_unix_ms(each["dimensions"]["time_bucket"]): int(each["values"]["COUNT"]) for each in points}
    if len(counts) < len(points):
        raise ValueError("there are two counts for the same step")
    return counts


def _assessment_counts(answer: Mapping[str, Any]) -> Counter[int] | None:
    points = _objects(answer, "data_points")
    if len(points) >= MAX_COUNTS or _token(answer):
        return None
    counts: Counter[int] = Counter()
    for each in points:
        found = each.get("dimensions") or {}
        form = form_of(found["assessment_name"], ANYTHING.read(found["assessment_value"])) if found else ALL
        counts[form] += int(each["values"]["COUNT"])
    return counts


def _objects(answer: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    found = answer.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{key} is not a list of objects")
    return tuple(found)


def _token(answer: Mapping[str, Any]) -> str | None:
    token = answer.get("next_page_token")
    if not isinstance(token, str | None):
        raise ValueError("next_page_token is not a string")
    return token or None


def _unix_ms(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
