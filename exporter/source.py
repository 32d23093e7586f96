"""MLflow, as the rest of the program sees it. The only module that imports mlflow."""

import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from exporter.errors import UserError
from exporter.failures import classify, without_credentials
from exporter.horizon import Window
from exporter.trace import Cost, State, TokenUsage, TraceRecord

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
from mlflow.utils.rest_utils import http_request

log = logging.getLogger(__name__)

CLIENT_VERSION: str = mlflow.version.VERSION

PAGE_SIZE = 500
"""What MLflow gives at most in one answer (501 is refused)."""

MAX_EXCLUDED = 4_000
"""How many ids a NOT IN can carry: MLflow 3.17 reads a filter with 4,900 of them and refuses one with 6,000."""

EXPERIMENTS_AGE_MS = 60_000
"""How long a list of experiments is used. Below ``horizon.OVERLAP_MS``, so that what a new experiment received before
it was found is still inside the next fresh window."""

DEFAULT_TIMEOUT_S = 30

_PERMISSION_DENIED = 7
"""``PERMISSION_DENIED`` among MLflow's error codes (HTTP 403)."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some traces in the order of their start. Whoever has stored them may go on reading at ``next_lo_ms``."""

    records: tuple[TraceRecord, ...]
    next_lo_ms: int


@dataclass(frozen=True, slots=True)
class Selection:
    """``chosen``: names by id. ``unmatched``: selectors that choose none. ``active``: the names of all there are."""

    chosen: Mapping[str, str]
    unmatched: tuple[str, ...]
    active: tuple[str, ...]

    def log(self) -> None:
        """Say what is read from now on."""
        names = ", ".join(sorted(self.chosen.values()))
        log.info("experiments selected", extra={"count": len(self.chosen), "experiments": names})
        if self.unmatched or not self.chosen:
            log.warning("no experiment matches yet", extra={"selectors": ", ".join(self.unmatched)})


class Source(Protocol):
    """Where traces come from. Every method raises PollError where MLflow cannot be read."""

    def scan(self, window: Window) -> Iterator[Page]:
        """All traces of the window, each once, by start; fetched page by page as the caller asks for the next."""
        ...


class MlflowSource:
    """A tracking server, and the selection of its experiments.

    ``selectors`` are experiment ids, names or globs of names; none selects all active experiments. ``filter_string`` is
    an MLflow search filter that all traces must match. Credentials are MLflow's own environment variables.
    """

    def __init__(
        self,
        tracking_uri: str,
        now_ms: Callable[[], int],
        selectors: Sequence[str] = (),
        filter_string: str | None = None,
    ) -> None:
        self.tracking_uri = without_credentials(tracking_uri)
        self._uri = tracking_uri
        self._client = MlflowClient(tracking_uri)
        self._now_ms = now_ms
        self._selectors = tuple(selectors)
        self._filter = filter_string
        self._experiments: Mapping[str, str] = {}
        self._experiments_ms: int | None = None

    def scan(self, window: Window) -> Iterator[Page]:
        """See ``Source.scan``. No page tokens: MLflow's are offsets, which a deleted row shifts by one."""
        experiments = self._selected_experiments()
        read: tuple[str, ...] = ()  # ids read so far of those that start in the millisecond window.lo_ms
        while experiments:
            page = self._search(experiments, window, read)
            if page.records:
                yield page
            if len(page.records) < PAGE_SIZE:
                return
            window, read = _following(window, read, page)

    def experiments(self) -> Selection:
        """Which of the active experiments are selected now."""
        active = self._active_experiments()
        matches = {
            selector: {id_: name for id_, name in active.items() if _selects(selector, id_, name)}
            for selector in self._selectors
        }
        chosen = {id_: name for found in matches.values() for id_, name in found.items()} if matches else active
        unmatched = tuple(selector for selector, found in matches.items() if not found)
        return Selection(chosen, unmatched, tuple(sorted(active.values())))

    def server_version(self) -> str:
        """The version that the tracking server says it has."""
        with self._errors_classified():
            answer = http_request(get_default_host_creds(self._uri), "/version", "GET")
            if answer.status_code in (401, 403):
                raise MlflowException(answer.reason, error_code=_PERMISSION_DENIED)
            version: str = answer.text.strip()
            if not re.fullmatch(r"\d+\.\d+[\w.]*", version):
                raise ValueError("/version does not answer with a version")
            return version

    def _selected_experiments(self) -> Mapping[str, str]:
        now_ms = self._now_ms()
        age_ms = math.inf if self._experiments_ms is None else now_ms - self._experiments_ms
        if not self._experiments or not 0 <= age_ms < EXPERIMENTS_AGE_MS:
            selection = self.experiments()
            if self._experiments_ms is None or selection.chosen != self._experiments:
                selection.log()
            self._experiments, self._experiments_ms = selection.chosen, now_ms
        return self._experiments

    def _active_experiments(self) -> dict[str, str]:
        found: dict[str, str] = {}
        token: str | None = None
        with self._errors_classified():
            while True:
                page = self._client.search_experiments(
                    view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
                )
                found.update({experiment.experiment_id: experiment.name for experiment in page})
                token = page.token
                if not token:
                    return found

    def _search(self, experiments: Mapping[str, str], window: Window, exclude: Sequence[str]) -> Page:
        with self._errors_classified():
            traces = self._client.search_traces(
                locations=list(experiments),
                filter_string=_filter(window, exclude, self._filter),
                order_by=["timestamp_ms ASC", "request_id ASC"],
                max_results=PAGE_SIZE,
                include_spans=False,
            )
            seen_ms = self._now_ms()
            records = tuple(to_record(trace.info, experiments, seen_ms) for trace in traces)
        return Page(records, records[-1].start_ms if records else window.lo_ms)

    @contextmanager
    def _errors_classified(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the client lets through whatever a broken answer makes it stumble over
            status = error.get_http_status_code() if isinstance(error, MlflowException) else None
            raise classify(error, status, self.tracking_uri) from error


def prepare_client(timeout_s: float | None) -> None:
    """Make the MLflow client of this process give up early; the poller does the retrying.

    Left alone the client retries for minutes, and neither a stop nor an outage would be noticed meanwhile.
    ``timeout_s`` None leaves MLFLOW_HTTP_REQUEST_TIMEOUT as the user set it, or DEFAULT_TIMEOUT_S where it is not set.
    Raises UserError where one of MLflow's variables has a value that MLflow could not use.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    if timeout_s is not None:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(math.ceil(timeout_s))
    if not os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT"):
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(DEFAULT_TIMEOUT_S)
    if _value(MLFLOW_HTTP_REQUEST_TIMEOUT) < 1:
        raise UserError("MLFLOW_HTTP_REQUEST_TIMEOUT: must be at least 1 (second)")
    certificates = _value(MLFLOW_TRACKING_SERVER_CERT_PATH)
    if certificates and not Path(certificates).exists():
        raise UserError(f"MLFLOW_TRACKING_SERVER_CERT_PATH: there is no {certificates}")
    if certificates and _value(MLFLOW_TRACKING_INSECURE_TLS):
        raise UserError("MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_INSECURE_TLS: set one of them, not both")


def _value(variable: Any) -> Any:
    try:
        return variable.get()
    except ValueError:
        raise UserError(f"{variable.name}: {os.environ[variable.name]!r} is not a value that it can have") from None


def _selects(selector: str, experiment_id: str, name: str) -> bool:
    return selector in (experiment_id, name) or fnmatchcase(name, selector)


def _filter(window: Window, exclude: Sequence[str], user_filter: str | None) -> str:
    """MLflow knows AND only. ``end_time_ms`` is computed and has no index, hence always beside a range of starts."""
    terms = [f"trace.timestamp_ms >= {window.lo_ms}", f"trace.timestamp_ms < {window.hi_ms}"]
    if window.ended_after_ms is not None:
        terms.append(f"trace.end_time_ms >= {window.ended_after_ms}")
    if exclude:
        terms.append(f"trace.request_id NOT IN ({','.join(map(_quote, exclude))})")
    if user_filter:
        terms.append(user_filter)
    return " AND ".join(terms)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _following(window: Window, read: tuple[str, ...], page: Page) -> tuple[Window, tuple[str, ...]]:
    """Where to read after a full page: from the start of its last row on, without those of that start already read.

    Example: a page ends with traces a at 5 ms, b and c at 7 ms: next come the traces from 7 ms on, not b, not c. If
    that page is full of traces at 7 ms, then all of them are left out too the next time.
    """
    last_ms = page.next_lo_ms
    at_last = tuple(
        record.trace_id for record in takewhile(lambda record: record.start_ms == last_ms, reversed(page.records))
    )
    if last_ms == window.lo_ms:
        at_last = (*read, *at_last)
    if len(at_last) > MAX_EXCLUDED:
        log.error(
            "more traces start in one millisecond than MLflow can list; the rest of them is left out",
            extra={"start_ms": last_ms, "read": len(at_last)},
        )
        return replace(window, lo_ms=last_ms + 1), ()
    return replace(window, lo_ms=last_ms), at_last


def to_record(info: TraceInfo, experiments: Mapping[str, str], seen_ms: int) -> TraceRecord:
    """What we keep of a trace. A usage or a cost that cannot be read is as good as none: the trace still counts."""
    metadata, tags = info.trace_metadata, info.tags
    duration_ms = info.execution_duration
    return TraceRecord(
        trace_id=info.trace_id,
        experiment=experiments.get(info.experiment_id, info.experiment_id),
        state=_STATES.get(info.state.value, State.IN_PROGRESS),
        start_ms=info.request_time,
        seen_ms=seen_ms,
        duration_ms=duration_ms if duration_ms is not None and duration_ms >= 0 else None,
        finalized=metadata.get("mlflow.trace.infoFinalized") == "true",
        name=tags.get("mlflow.traceName"),
        user=metadata.get("mlflow.trace.user"),
        session=metadata.get("mlflow.trace.session"),
        usage=_usage(metadata.get("mlflow.trace.tokenUsage")),
        cost=_cost(metadata.get("mlflow.trace.cost")),
        tags=tags,
        metadata=metadata,
    )


_STATES = {state.value: state for state in State}


def _usage(text: str | None) -> TokenUsage | None:
    found = _object(text)
    usage = TokenUsage(
        input=_tokens(found.get("input_tokens")),
        output=_tokens(found.get("output_tokens")),
        cache_read_input=_tokens(found.get("cache_read_input_tokens")),
        cache_creation_input=_tokens(found.get("cache_creation_input_tokens")),
    )
    return None if usage.input is None and usage.output is None else usage


def _cost(text: str | None) -> Cost | None:
    found = _object(text)
    cost = Cost(input_usd=_amount(found.get("input_cost")), output_usd=_amount(found.get("output_cost")))
    return None if cost == Cost() else cost


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _tokens(value: object) -> int | None:
    amount = _amount(value)
    return None if amount is None or amount != int(amount) else int(amount)


MAX_AMOUNT = 10**12
"""No trace has more tokens or costs more USD; what claims to would spoil a counter for good."""


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= MAX_AMOUNT else None  # NaN and infinities fail the comparison
