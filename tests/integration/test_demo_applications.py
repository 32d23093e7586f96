"""What is inside the traces of the demo's applications during its incident, as MLflow and the exporter give it.

Both run as in `demo`, against a real MLflow server; only the LLMs are a stand-in.
"""

import json
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import TraceInfo

from mlflow_trace_exporter.demo.applications import start_mock
from mlflow_trace_exporter.demo.load import BROKEN_NEXT, PRODUCTION, STAGING
from mlflow_trace_exporter.demo.processes import CHATBOT_ENVIRONMENT, Processes
from mlflow_trace_exporter.domain.calls import inside
from mlflow_trace_exporter.domain.spans import Call, Inside, Step
from mlflow_trace_exporter.tracking.span_parsing import spans_of
from tests.support.ports import free_port
from tests.support.real import Exporter, Mlflow, Samples, eventually
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.long

SUPPORT, SEARCH = "tideline-support", "tideline-search"
GPT, LLAMA = ("openai", "gpt-4o-mini"), ("groq", "llama-3.3-70b-versatile")
EMBEDDINGS = ("openai", "text-embedding-3-small")
BAD = (PRODUCTION, BROKEN_NEXT.version)
STAGED = (STAGING, BROKEN_NEXT.version)
BATCH = 20


@dataclass(frozen=True)
class Seen:
    """A trace of the demo."""

    experiment: str
    info: TraceInfo
    inside: Inside

    @property
    def deployment(self) -> tuple[str, str]:
        return self.info.tags["environment"], self.info.tags["app_version"]

    @property
    def failed(self) -> bool:
        return bool(self.info.state.value == "ERROR")

    @property
    def tools(self) -> list[Step]:
        return [step for step in self.inside.steps if step.span_type == "TOOL"]


@dataclass(frozen=True)
class Demo:
    mlflow: Mlflow
    traces: list[Seen]

    def calls(self, experiment: str) -> list[tuple[Seen, Call]]:
        return [(seen, call) for seen in self.traces if seen.experiment == experiment for call in seen.inside.calls]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo")
    with Processes(directory) as processes:
        mlflow, llm = Mlflow(directory, processes, free_port()), f"{start_mock(processes)}/v1"
        environment = {**CHATBOT_ENVIRONMENT, "MLFLOW_TRACE_SAMPLING_RATIO": "1", "MLFLOW_TRACKING_URI": mlflow.uri}
        for provider in ("OPENAI", "GROQ"):
            environment |= {f"{provider}_BASE_URL": llm, f"{provider}_API_KEY": "stand-in"}
        load = "mlflow_trace_exporter.demo.load"
        for experiment in (SUPPORT, SEARCH):
            mlflow.experiment(experiment)
        running = [
            processes.start(name, [load, name, f"--experiment={experiment}", *rest], environment)
            for name, experiment, rest in (
                ("chatbot", SUPPORT, ("--rate=5", "--incident", "0", "3600")),
                ("search", SEARCH, ("--rate=1",)),
            )
        ]
        eventually(lambda: _is_enough(mlflow, running[0].log.read_text()), "all that can fail has failed", every_s=1)
        for process in running:
            processes.stop(process, HANG_S)  # it answers what was asked, and sends what is left
            assert process.popen.returncode == 0, process.last_words()
        yield Demo(mlflow, eventually(lambda: _settled(mlflow), "all traces are final"))


def _is_enough(mlflow: Mlflow, log: str) -> bool:
    opinions = _opinions(_infos(mlflow, SUPPORT))
    if {opinions[BAD, "complete", "no"], opinions[STAGED, "complete", "yes"], opinions[BAD, "thumb", False]} & {0}:
        return False
    refused = all(f"Error code: {status}" in log for status in (429, 503))
    handled = ["trace.status = 'OK'", "span.type = 'TOOL'", "span.status = 'ERROR'"]
    return refused and bool(span_counts(mlflow, SUPPORT, "span_type", filters=handled))


def _infos(mlflow: Mlflow, experiment: str) -> list[TraceInfo]:
    at = [mlflow.experiment_id(experiment)]
    traces = mlflow.client.search_traces(locations=at, include_spans=False, max_results=500)
    return [trace.info for trace in traces if "app_version" in trace.info.tags]


def _opinions(infos: Sequence[TraceInfo]) -> Counter[tuple[Any, ...]]:
    return Counter(
        ((info.tags["environment"], info.tags["app_version"]), each.name, each.feedback.value)
        for info in infos
        for each in info.assessments
        if each.feedback is not None
    )


def _settled(mlflow: Mlflow) -> list[Seen] | None:
    traces = _seen(mlflow)
    return traces if all(seen.info.state.value != "IN_PROGRESS" for seen in traces) else None


def _seen(mlflow: Mlflow) -> list[Seen]:
    found = []
    for experiment in (SUPPORT, SEARCH):
        infos = _infos(mlflow, experiment)
        parts = [infos[start : start + BATCH] for start in range(0, len(infos), BATCH)]
        spans = {key: value for part in parts for key, value in spans_of(_batch(mlflow, part)).items()}
        found += [Seen(experiment, info, inside(spans[info.trace_id])) for info in infos if info.trace_id in spans]
    return found


def _batch(mlflow: Mlflow, infos: list[TraceInfo]) -> bytes:
    asked = urllib.parse.urlencode([("trace_ids", info.trace_id) for info in infos])
    return _get(f"{mlflow.uri}/api/3.0/mlflow/traces/batchGet?{asked}")


def span_counts(
    mlflow: Mlflow, experiment: str, *names: str, filters: Sequence[str] = ()
) -> dict[tuple[str, ...], float]:
    """How many spans MLflow itself counts, by what it calls dimensions. Spans without one of them are left out."""
    asked = {
        "experiment_ids": [mlflow.experiment_id(experiment)],
        "view_type": "SPANS",
        "metric_name": "span_count",
        "aggregations": [{"aggregation_type": "COUNT"}],
        "dimensions": names,
        "filters": filters,
    }
    answer = json.loads(_get(f"{mlflow.uri}/api/3.0/mlflow/traces/metrics", json.dumps(asked).encode()))
    return {
        tuple(point["dimensions"][name] for name in names): point["values"]["COUNT"]
        for point in answer.get("data_points", [])
        if all(point["dimensions"].get(name) for name in names)
    }


def _get(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=HANG_S) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize(("experiment", "models"), [(SUPPORT, {GPT, LLAMA}), (SEARCH, {GPT, EMBEDDINGS})])
def test_every_call_has_its_provider_and_model(demo: Demo, experiment: str, models: set[tuple[str, str]]) -> None:
    calls = Counter((call.provider, call.model) for _, call in demo.calls(experiment))
    assert calls.keys() == models
    assert span_counts(demo.mlflow, experiment, "span_model_provider", "span_model_name") == calls


def test_a_trace_of_the_new_version_has_two_models(demo: Demo) -> None:
    answered = [
        {(call.provider, call.model) for call in seen.inside.calls}
        for seen in demo.traces
        if seen.deployment == (STAGING, BROKEN_NEXT.version) and len(seen.inside.calls) > 1
    ]
    assert answered
    assert all(models == {GPT, LLAMA} for models in answered)


def test_answers_are_streamed_with_their_tokens(demo: Demo) -> None:
    answers = [call for _, call in demo.calls(SUPPORT) if (call.provider, call.model) == LLAMA and not call.failed]
    assert answers
    for call in answers:
        assert call.first_chunk_s is not None
        assert call.duration_s is not None
        assert 0 < call.first_chunk_s <= call.duration_s
        assert call.usage is not None
        assert call.usage.output
    assert {call.first_chunk_s for _, call in demo.calls(SEARCH)} == {None}


def test_the_tokens_of_the_calls_are_those_of_the_trace(demo: Demo) -> None:
    """MLflow sums while spans still arrive, at times without the last of them (seen: for one trace of a hundred)."""
    missed = []
    for seen in demo.traces:
        usages = [call.usage for call in seen.inside.calls if call.usage]
        whole = json.loads(seen.info.trace_metadata.get("mlflow.trace.tokenUsage", '{"input_tokens": 0}'))
        missed.append(sum(usage.input or 0 for usage in usages) - whole["input_tokens"])
    assert min(missed) == 0
    assert missed.count(0) > 0.9 * len(missed)


def test_the_provider_refuses_the_new_version_and_nobody_else(demo: Demo) -> None:
    failed = [(seen, call) for seen in demo.traces for call in seen.inside.calls if call.failed]
    assert {call.error_type for _, call in failed} == {"RateLimitError", "InternalServerError"}
    assert {(seen.experiment, *seen.deployment, call.provider) for seen, call in failed} == {
        (SUPPORT, environment, BROKEN_NEXT.version, "groq") for environment in (PRODUCTION, STAGING)
    }
    assert all(seen.failed for seen, _ in failed)
    assert all((call.duration_s or 0) >= 4 for _, call in failed), "it waited 2 s at least, and then again"


def test_a_tool_that_fails_is_seen_inside_only(demo: Demo) -> None:
    """The chatbot answers without it, so the trace is fine."""
    failed = [seen for seen in demo.traces if any(step.failed for step in seen.tools)]
    assert {(seen.experiment, seen.deployment) for seen in failed} == {(SUPPORT, BAD)}
    assert {step.name for seen in demo.traces for step in seen.tools} == {"account"}
    assert not all(seen.failed for seen in failed)


def test_users_and_the_judge_see_that_the_answers_are_worse(demo: Demo) -> None:
    opinions = _opinions([seen.info for seen in demo.traces])
    assert opinions[BAD, "complete", "yes"] == opinions[STAGED, "complete", "no"] == 0
    scores = [value for (_, name, value), _ in opinions.items() if name == "grounded"]
    assert scores
    assert all(0 <= score <= 1 for score in scores)
    assert {each.source.source_type for seen in demo.traces for each in seen.info.assessments} == {"HUMAN", "CODE"}


def test_the_other_application_is_healthy(demo: Demo) -> None:
    search = [seen for seen in demo.traces if seen.experiment == SEARCH]
    assert not any(seen.failed for seen in search)
    kinds = {tuple(step.span_type for step in seen.inside.steps) for seen in search}
    assert kinds == {("CHAIN", "RETRIEVER")}


def by(found: Samples, metric: str, *names: str) -> Counter[tuple[str, ...]]:
    """The sums of a metric by some of its labels."""
    sums: Counter[tuple[str, ...]] = Counter()
    for sample, value in found.items():
        name, _, rest = sample.partition("{")
        if name == metric:
            labels = dict(pair.split("=", 1) for pair in rest.removesuffix("}").split(","))
            sums[tuple(labels[each].strip('"') for each in names)] += int(value)
    return +sums


CALL = ("experiment", "environment", "version", "provider", "model")


def test_the_exporter_counts_calls_tokens_and_tools(demo: Demo, tmp_path: Path) -> None:
    config: Mapping[str, Any] = {
        "mlflow": {"tracking_uri": demo.mlflow.uri, "experiments": [SUPPORT, SEARCH]},
        "poll": {"interval": "1s", "start": "earliest"},
        "spans": {"enabled": True},
    }
    with Exporter(tmp_path, config).running() as exporter:
        found = eventually(
            lambda: (
                metrics
                if sum(by(metrics := exporter.samples(), "mlflow_traces_total", "experiment").values())
                == len(demo.traces)
                else None
            ),
            "all traces are counted",
        )
    calls, tokens, errors, tools = Counter[Any](), Counter[Any](), Counter[Any](), Counter[Any]()
    for seen in demo.traces:
        for call in seen.inside.calls:
            labels = (seen.experiment, *seen.deployment, call.provider, call.model)
            calls[labels] += 1
            tokens[labels] += (call.usage.output or 0) if call.usage else 0
            errors[(*labels, call.error_type)] += call.failed
        for step in seen.tools:
            tools[(seen.experiment, step.name, "error" if step.failed else "ok")] += 1
    assert by(found, "mlflow_llm_call_duration_seconds_count", *CALL) == calls
    assert by(found, "mlflow_llm_output_tokens_total", *CALL) == +tokens
    assert by(found, "mlflow_llm_call_errors_total", *CALL, "error_type") == +errors
    counted = by(found, "mlflow_span_duration_seconds_count", "experiment", "span_type", "span_name", "status")
    assert {(place[0], *place[2:]): count for place, count in counted.items() if place[1] == "TOOL"} == tools
    assert not by(found, "mlflow_traces_missing_total", "field")["spans",]
