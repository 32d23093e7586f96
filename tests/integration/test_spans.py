"""What is inside traces of real SDKs, read from a real MLflow server (faults 31 and 32): it has the same sums."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from mlflow_trace_exporter.counting import recent, span_reader
from mlflow_trace_exporter.demo.applications import start_mock
from mlflow_trace_exporter.demo.processes import Processes
from mlflow_trace_exporter.domain import triage
from mlflow_trace_exporter.metrics.families import DIFFERING, MISSING
from mlflow_trace_exporter.metrics.inside import CALL_DURATION, CALL_ERRORS, STEP_DURATION
from mlflow_trace_exporter.wiring import now_ms
from tests.support import reading as exporter
from tests.support.otlp import MISTRAL, Attributes, otlp_span, send
from tests.support.proxy import Misbehave, Proxy, Request, proxy, respond
from tests.support.reading import PATIENT, Read
from tests.support.real import Mlflow, Trace
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.long

FIRST_CHUNK = "mlflow_llm_time_to_first_chunk_seconds"
INPUT, OUTPUT = "mlflow_llm_input_tokens_total", "mlflow_llm_output_tokens_total"
INPUT_COST, OUTPUT_COST = "mlflow_llm_input_cost_usd_total", "mlflow_llm_output_cost_usd_total"
REPEATED = {"gpt-4o": 2}
"""The spans with this model that repeat a call below them."""


@dataclass(frozen=True)
class Store:
    """A server, the experiment with the traces, and their ids by shape."""

    mlflow: Mlflow
    experiment: str
    ids: Mapping[str, str]

    @property
    def experiment_id(self) -> str:
        return self.mlflow.experiment_id(self.experiment)

    def by(self, dimension: str, metric: str = "span_count", aggregation: str = "COUNT") -> dict[str, float]:
        """What MLflow itself says about spans."""
        question: dict[str, Any] = {
            "experiment_ids": [self.experiment_id],
            "view_type": "SPANS",
            "metric_name": metric,
            "aggregations": [{"aggregation_type": aggregation}],
            "dimensions": [dimension],
        }
        answer = requests.post(f"{self.mlflow.uri}/api/3.0/mlflow/traces/metrics", json=question, timeout=HANG_S).json()
        return {each["dimensions"][dimension]: each["values"][aggregation] for each in answer["data_points"]}

    def of_traces(self, key: str, part: str) -> float:
        """The sum over what MLflow says of each trace."""
        found = self.mlflow.client.search_traces(locations=[self.experiment_id], include_spans=False)
        return float(sum(json.loads(each.info.trace_metadata.get(key, "{}")).get(part, 0) for each in found))


@contextmanager
def reading(uri: str, store: Store, directory: Path, timeout: str = PATIENT) -> Iterator[Read]:
    """An exporter that reads the experiment with spans."""
    with exporter.reading(uri, store.experiment, directory, timeout, spans={"enabled": True}) as read:
        yield read


PROVIDER, MODEL, STATUS = 3, 4, 5
SPAN_TYPE, SPAN_NAME = 3, 4


def otlp_trace(store: Store, number: int) -> str:
    """Send a trace with one call. Returns its id."""
    start_ms = now_ms() - 1_000
    call = otlp_span((number, 2, 1), "chat", start_ms, attributes=MISTRAL)
    send(store.mlflow.uri, store.experiment_id, otlp_span((number, 1, None), "otlp", start_ms), call)
    return f"tr-{number:032x}"


EXPECTED = 10 + 2 + 1
"""The traces of ``tests.support.traced``, two over OTLP, and one without spans."""

OTLP_TOOLS = 499
"""Spans of ``_send_many_spans`` that OpenTelemetry calls tools. For MLflow's own sums they have no type."""

FEW = 6


@pytest.fixture(scope="module")
def store(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Store:
    experiment = mlflow.experiment()
    with Processes(tmp_path_factory.mktemp("llm")) as processes:
        store = Store(mlflow, experiment, _application(experiment, start_mock(processes), mlflow.uri))
    otlp_trace(store, 1)
    _send_many_spans(store)
    mlflow.log(experiment, Trace(now_ms() - 600_000))
    with mlflow._database.begin() as db:  # there is no other way to lose spans
        lost = {"id": store.ids["lost"]}
        db.execute(text("DELETE FROM spans WHERE trace_id = :id"), lost)
        db.execute(text("UPDATE trace_info SET timestamp_ms = timestamp_ms - 600000 WHERE request_id = :id"), lost)
    return store


def _send_many_spans(store: Store) -> None:
    """A trace of 1,000 spans, half of them calls. In one request: MLflow's SDK sends each by itself."""
    call = {**MISTRAL, "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    tool: Attributes = {"gen_ai.operation.name": "execute_tool"}
    start_ms = now_ms() - 1_000
    spans = [otlp_span((2, 1, None), "many", start_ms)]
    for number in range(2, 1_001):
        what = tool if number % 2 else call
        spans.append(otlp_span((2, number, 1), f"step {number % 7}", start_ms, attributes=what))
    send(store.mlflow.uri, store.experiment_id, *spans)


def _application(experiment: str, llm: str, uri: str) -> dict[str, str]:
    with proxy(llm) as throttled:
        throttled.misbehave = _throttle
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.traced", experiment, llm, throttled.url],
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},
            stdout=subprocess.PIPE,
            check=True,
        )
    return dict(json.loads(done.stdout))


def _throttle(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
    respond(handler, 429, b'{"error": {"message": "slow down", "type": "rate_limit"}}')
    return True


@pytest.fixture(scope="module")
def few(store: Store) -> Store:
    """Some small traces of one call each, in an experiment of their own."""
    experiment = Store(store.mlflow, store.mlflow.experiment(), {})
    return replace(experiment, ids={f"{number}": otlp_trace(experiment, 100 + number) for number in range(FEW)})


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing about the traces is still to come, so there is nothing to wait for."""
    for name in ("FILL_MS", "SETTLE_MS"):
        monkeypatch.setattr(triage, name, 0)
    monkeypatch.setattr(recent, "GROWING_AGAIN_MS", 0)


@pytest.fixture(scope="module")
def whole(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    """All traces of the application, read without any fault."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("FILL_MS", "SETTLE_MS"):
            monkeypatch.setattr(triage, name, 0)
        with reading(store.mlflow.uri, store, tmp_path_factory.mktemp("whole")) as read:
            yield read.all(EXPECTED)


def test_calls_by_provider_and_model(store: Store, whole: Read) -> None:
    assert whole.sums(CALL_DURATION, PROVIDER, MODEL, STATUS) == {
        ("unknown", "gpt-4o-mini", "ok"): 4,
        ("unknown", "gpt-4o", "error"): 2,
        ("ollama", "llama-3", "ok"): 1,
        ("openai", "text-embedding-3-small", "ok"): 1,
        ("anthropic", "claude-sonnet-4-5", "ok"): 1,
        ("openai", "gpt-4o", "ok"): 2 + 500 + 1,
        ("mistral_ai", "mistral-large", "ok"): 1,
    }
    by_model = {model: calls for (model,), calls in (whole.sums(CALL_DURATION, MODEL) + _repeated()).items()}
    assert by_model == store.by("span_model_name")
    assert whole.sums(CALL_ERRORS, MODEL, STATUS) == {("gpt-4o", "RateLimitError"): 2}
    assert whole.sums(FIRST_CHUNK, MODEL) == {("gpt-4o-mini",): 2, ("llama-3",): 1}


def _repeated() -> Counter[tuple[str, ...]]:
    return Counter({(model,): number for model, number in REPEATED.items()})


@pytest.mark.parametrize(("family", "part"), [(INPUT, "input_tokens"), (OUTPUT, "output_tokens")])
def test_the_tokens_by_model_are_those_of_the_traces(store: Store, whole: Read, family: str, part: str) -> None:
    tokens = store.of_traces("mlflow.trace.tokenUsage", part)
    assert tokens > 4
    assert whole.sums(family)[()] == tokens
    assert whole.sums(f"mlflow_trace_{part}_total")[()] == tokens
    assert ("tokens",) not in whole.sums(DIFFERING, 0)


@pytest.mark.parametrize(
    ("family", "metric", "repeated"),
    [(INPUT_COST, "input_cost", 2 * 100 * 2.5e-6), (OUTPUT_COST, "output_cost", 2 * 20 * 1e-5)],
)
def test_the_cost_by_model_is_that_of_the_spans(
    store: Store, whole: Read, family: str, metric: str, repeated: float
) -> None:
    """Without what MLflow counts twice."""
    of_mlflow = store.by("span_model_name", metric, "SUM")
    of_mlflow["gpt-4o"] -= repeated
    found = {model: usd for (model,), usd in whole.sums(family, MODEL).items()}
    assert found == pytest.approx({model: usd for model, usd in of_mlflow.items() if usd}, rel=1e-6)


def test_steps_by_type_and_name(store: Store, whole: Read) -> None:
    by_type = {kind: number for (kind,), number in whole.sums(STEP_DURATION, SPAN_TYPE).items()}
    of_mlflow = store.by("span_type")
    of_mlflow["TOOL"] += OTLP_TOOLS
    assert by_type == {kind: of_mlflow[kind] for kind in ("AGENT", "RETRIEVER", "TOOL")}
    failed = {labels for labels in whole.sums(STEP_DURATION, SPAN_TYPE, SPAN_NAME, STATUS) if labels[2] == "error"}
    assert failed == {("TOOL", "weather", "error")}
    assert {name for _, name in whole.sums(STEP_DURATION, SPAN_TYPE, SPAN_NAME)} == {
        *("plain", "handled", "manual", "nested", "articles", "weather"),
        *(f"step {number}" for number in range(7)),
    }


def test_fault_31_traces_without_spans_are_counted_as_such(whole: Read) -> None:
    assert whole.sums(MISSING, -1)["spans",] == 2
    assert whole.published[-1].status.failure is None


class Server:
    """MLflow, and its requests for spans that go wrong."""

    def __init__(self, between: Proxy) -> None:
        self._between = between
        self.requests = 0

    def misbehave(self, how: Misbehave, when: Callable[[int, str], bool]) -> str:
        """``when``: given the number of a request for spans and its path. Returns the address of the server."""

        def misbehave(handler: Request, answer: bytes) -> bool:
            if "batchGet" not in handler.path or handler.path.endswith("=tr-1"):
                return False
            self.requests += 1
            return when(self.requests, handler.path) and how(handler, answer)

        self._between.misbehave = misbehave
        return self._between.url


@pytest.fixture
def server(store: Store) -> Iterator[Server]:
    with proxy(store.mlflow.uri) as between:
        yield Server(between)


def away(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
    handler.connection.close()
    return True


def slow(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
    """Do not answer, and wait until the client closes the connection."""
    handler.connection.settimeout(HANG_S)
    handler.connection.recv(1)
    return True


def cut_short(handler: BaseHTTPRequestHandler, answer: bytes) -> bool:
    respond(handler, 200, answer[: len(answer) // 2], len(answer))
    return True


def half(handler: BaseHTTPRequestHandler, answer: bytes) -> bool:
    respond(handler, 200, answer[: len(answer) // 2])
    return True


def responds(status: int, body: bytes) -> Misbehave:
    def misbehave(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
        respond(handler, status, body)
        return True

    return misbehave


SPOILT: dict[str, Misbehave] = {
    "away": away,
    "cut short": cut_short,
    "garbage": half,
    "another form": responds(200, b'{"traces": {"a": 1}}'),
    "a web page": responds(200, b"<html>log in</html>"),
    "server error": responds(500, b"{}"),
    "throttled": responds(429, b"slow down"),
    "denied": responds(403, b'{"error_code": "PERMISSION_DENIED"}'),
    "slow": slow,
}


TIMEOUTS = {"slow": "3s"}
MISTRAL_CALLS = ("mistral_ai", "mistral-large")


@pytest.mark.parametrize("how", SPOILT)
def test_fault_32_a_request_for_spans_goes_wrong(server: Server, few: Store, tmp_path: Path, how: str) -> None:
    url = server.misbehave(SPOILT[how], lambda number, _: number == 1)
    with reading(url, few, tmp_path, TIMEOUTS.get(how, PATIENT)) as read:
        read.all(FEW)
        assert read.sums(CALL_DURATION, PROVIDER, MODEL) == {MISTRAL_CALLS: FEW}
        assert read.sums(INPUT)[()] == read.sums("mlflow_trace_input_tokens_total")[()] == 40 * FEW
        assert ("spans",) not in read.sums(MISSING, -1)
    assert server.requests > 1


@pytest.mark.parametrize("how", [each for each in SPOILT if each != "throttled"])
def test_fault_31_one_trace_spoils_each_answer_that_it_is_in(
    server: Server, few: Store, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted without its spans, and all others with theirs."""
    monkeypatch.setattr(span_reader, "PATIENCE_MS", 0)
    url = server.misbehave(SPOILT[how], lambda _, path: few.ids["3"] in path)
    for number in range(5 if how == "slow" else 1):  # to a timeout of 3 s, a machine that stands still is slow, too
        (folder := tmp_path / f"{number}").mkdir()
        with reading(url, few, folder, TIMEOUTS.get(how, PATIENT)) as read:
            read.all(FEW)
            found = read.sums(MISSING, -1)["spans",], read.sums(CALL_DURATION, PROVIDER, MODEL)
            assert read.sums("mlflow_trace_input_tokens_total")[()] == 40 * FEW
        if found == (1, {MISTRAL_CALLS: FEW - 1}):
            break
    assert found == (1, {MISTRAL_CALLS: FEW - 1})


def test_fault_31_a_trace_is_deleted_between_the_search_and_its_spans(
    server: Server, store: Store, tmp_path: Path
) -> None:
    experiment = Store(store.mlflow, store.mlflow.experiment(), {})
    made = [otlp_trace(experiment, number) for number in (200, 201)]

    def delete_it(*_: object) -> bool:
        store.mlflow.client.delete_traces(experiment.experiment_id, trace_ids=made[:1])
        return False

    url = server.misbehave(delete_it, lambda number, _: number == 1)
    with reading(url, experiment, tmp_path) as read:
        read.all(2)
        assert read.sums(CALL_DURATION)[()] + read.sums(MISSING, -1)["spans",] == 2


def test_spans_over_otlp_that_come_late(store: Store, tmp_path: Path) -> None:
    experiment = Store(store.mlflow, store.mlflow.experiment(), {})
    otlp_trace(experiment, 300)
    with reading(store.mlflow.uri, experiment, tmp_path) as read:
        read.all(1)
        assert read.sums(INPUT, PROVIDER, MODEL) == {MISTRAL_CALLS: 40}
        late = otlp_span((300, 3, 1), "late", now_ms() - 1_000, attributes=MISTRAL)
        send(store.mlflow.uri, experiment.experiment_id, late)
        read.until(lambda: read.sums(CALL_DURATION)[()] == 2, "the late call is counted")
        assert read.sums(INPUT, PROVIDER, MODEL) == {MISTRAL_CALLS: 80}
        assert read.sums(INPUT)[()] == experiment.of_traces("mlflow.trace.tokenUsage", "input_tokens")
        assert not read.sums(DIFFERING, 0)
