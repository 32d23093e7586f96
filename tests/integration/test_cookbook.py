"""MLflow's cookbook "Production Observability with MLflow Tracing", step by step: each works here, as demo or command.

A real chatbot on `openai` asks a stand-in for its LLM and logs to an MLflow server of its own, which is away for a
while. Each test names the step that it is about.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest
from mlflow.entities import SpanType, Trace, TraceInfo

from mlflow_trace_exporter import make_report
from mlflow_trace_exporter.demo.applications import start_mock
from mlflow_trace_exporter.demo.processes import CHATBOT_ENVIRONMENT
from mlflow_trace_exporter.settings.config import Config
from tests.support.asked import USERS, VERSIONS
from tests.support.commands import config_file, invoke
from tests.support.ports import free_port
from tests.support.real import Mlflow, ServerProcesses, eventually
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.long

ASKED = {"support": 240, "billing": 40, "faq": 160}
DURING_OUTAGE = {"billing": 24}
RATIO = float(CHATBOT_ENVIRONMENT["MLFLOW_TRACE_SAMPLING_RATIO"])

Answers = list[dict[str, Any]]


@dataclass
class Cookbook:
    """What was asked while MLflow was there, and while it was away; and the traces that it has in the end."""

    mlflow: Mlflow
    answers: Answers
    during_outage: Answers
    infos: list[TraceInfo]

    @property
    def config(self) -> Config:
        return Config.model_validate({"mlflow": {"tracking_uri": self.mlflow.uri, "experiments": "cookbook"}})

    def search(self, filter_string: str) -> list[TraceInfo]:
        """As the cookbook asks MLflow."""
        found = self.mlflow.client.search_traces(
            locations=[self.mlflow.experiment_id("cookbook")],
            filter_string=filter_string,
            max_results=500,
            include_spans=False,
        )
        return [trace.info for trace in found]

    def report(self, **asked: Any) -> Any:
        return make_report(since="1h", config=self.config, **asked)


@pytest.fixture(scope="module")
def cookbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cookbook]:
    directory = tmp_path_factory.mktemp("cookbook")
    with ServerProcesses(directory) as processes:
        mlflow = Mlflow(directory, processes, free_port())
        llm = {"OPENAI_BASE_URL": f"{start_mock(processes)}/v1", "OPENAI_API_KEY": "stand-in"}
        mlflow.experiment("cookbook")
        environment = {**CHATBOT_ENVIRONMENT, **llm, "MLFLOW_TRACKING_URI": mlflow.uri}
        log = directory / "asker.log"
        with log.open("w") as errors, _chatbot(environment, errors) as chatbot:
            answers = _ask(chatbot, ASKED)
            mlflow.stop()
            during_outage = _ask(chatbot, DURING_OUTAGE)
            mlflow.start()
            chatbot.communicate(timeout=HANG_S)  # it sends what is left
        assert chatbot.returncode == 0, log.read_text()
        found = Cookbook(mlflow, answers, during_outage, [])
        found.infos = eventually(lambda: _settled(found), "all traces have their tags")
        yield found


def _settled(found: Cookbook) -> list[TraceInfo]:
    infos = found.search("trace.timestamp_ms > 0")
    return infos if infos and all("environment" in info.tags for info in infos) else []


def _chatbot(environment: Mapping[str, str], errors: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.asker", "cookbook"],
        env={**{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


def _ask(chatbot: subprocess.Popen[str], numbers: Mapping[str, int]) -> Answers:
    stdin, stdout = cast(IO[str], chatbot.stdin), cast(IO[str], chatbot.stdout)
    stdin.write(json.dumps(numbers) + "\n")
    stdin.flush()
    return cast(Answers, json.loads(stdout.readline()))


def seconds(infos: list[TraceInfo]) -> list[float]:
    return [info.execution_duration / 1000 for info in infos]


def test_step_instrumented_chatbot(cookbook: Cookbook) -> None:
    """A trace has the agent, its look-up, and the calls of the LLM with their tokens."""
    (info, *_) = cookbook.search("trace.name = 'support' AND trace.status = 'OK'")
    trace = cast(Trace, cookbook.mlflow.client.get_trace(info.trace_id))
    kinds = [span.span_type for span in trace.data.spans if span.span_type != SpanType.TOOL]  # only some need it
    assert kinds == [SpanType.AGENT, SpanType.RETRIEVER, SpanType.CHAT_MODEL, SpanType.CHAT_MODEL]
    usage = json.loads(info.trace_metadata["mlflow.trace.tokenUsage"])
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0


def test_step_production_context(cookbook: Cookbook) -> None:
    """Every trace says where it ran, which version, who asked and in which conversation."""
    for info in cookbook.infos:
        assert VERSIONS[info.tags["environment"]] == info.tags["app_version"]
        assert info.trace_metadata["mlflow.trace.user"] in USERS
        assert info.trace_metadata["mlflow.trace.session"].startswith(info.trace_metadata["mlflow.trace.user"])


def test_step_asynchronous_logging(cookbook: Cookbook) -> None:
    """While MLflow is away an answer takes no longer, and the traces of that time arrive later."""
    billing = [each["seconds"] for each in cookbook.answers if each["path"] == "billing"]
    away = [each["seconds"] for each in cookbook.during_outage]
    assert np.median(away) < 2 * np.median(billing) + 60
    assert max(away) < 120, "MLflow's client tries for four minutes"
    arrived = Counter(info.tags["mlflow.traceName"] for info in cookbook.infos)
    assert arrived["billing"] == ASKED["billing"] + DURING_OUTAGE["billing"]


@pytest.mark.parametrize(("path", "ratio"), [("support", RATIO), ("faq", 0.05), ("billing", 1.0)])
def test_step_sampling(cookbook: Cookbook, path: str, ratio: float) -> None:
    """The share of traces that arrive is the ratio; of questions about money all do."""
    asked = ASKED[path] + DURING_OUTAGE.get(path, 0)
    arrived = sum(info.tags["mlflow.traceName"] == path for info in cookbook.infos)
    assert arrived == pytest.approx(asked * ratio, abs=5 * sqrt(asked * ratio * (1 - ratio)))
    assert (arrived == asked) == (ratio == 1)


def test_step_traffic(cookbook: Cookbook) -> None:
    """Users in two environments asked; some questions failed, which their traces say too."""
    assert {each["environment"] for each in cookbook.answers} == set(VERSIONS)
    assert {each["user"] for each in cookbook.answers} == set(USERS)
    billing = [each for each in (*cookbook.answers, *cookbook.during_outage) if each["path"] == "billing"]
    failed = len(cookbook.search("trace.name = 'billing' AND trace.status = 'ERROR'"))
    assert failed == sum(each["failed"] for each in billing) > 0


SIX_QUERIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "production": ("tag.environment = 'production'", {"environment": "production"}),
    "errors": ("trace.status = 'ERROR'", {"status": "error"}),
    "slow": ("trace.execution_time_ms >= 1000", {"min_duration_s": 1}),
    "a user": ("metadata.`mlflow.trace.user` = 'ada'", {"user": "ada"}),
    "a session": ("metadata.`mlflow.trace.session` = 'ada-1'", {}),
    "errors of a version in production": (
        "tag.environment = 'production' AND tag.app_version = '2.1.0' AND trace.status = 'ERROR'",
        {"environment": "production", "version": "2.1.0", "status": "error"},
    ),
}


@pytest.mark.parametrize("name", SIX_QUERIES)
def test_step_six_queries(cookbook: Cookbook, name: str) -> None:
    """What MLflow's filter finds, `report --filter` counts; and where there is a flag for it, so does the flag."""
    filter_string, flags = SIX_QUERIES[name]
    found = cookbook.search(filter_string)
    assert 0 < len(found) < len(cookbook.infos)
    assert cookbook.report(filter_string=filter_string).total.traces == len(found)
    if flags:
        assert cookbook.report(**flags).total.traces == len(found)


def test_step_latency(cookbook: Cookbook) -> None:
    """Median, p95 and p99 are numpy's."""
    total = cookbook.report().total
    quantiles = np.quantile(seconds(cookbook.infos), [0.5, 0.95, 0.99, 1])
    assert (total.p50_s, total.p95_s, total.p99_s, total.max_s) == pytest.approx(tuple(quantiles))


def test_step_errors(cookbook: Cookbook) -> None:
    """The error rate, and the traces that failed with links."""
    report = cookbook.report(errors=500)
    failed = {info.trace_id for info in cookbook.infos if info.state.value == "ERROR"}
    assert report.total.error_rate == pytest.approx(len(failed) / len(cookbook.infos))
    assert {line.trace_id for line in report.errors} == failed


def test_step_tokens(cookbook: Cookbook) -> None:
    """Tokens in and out, and what they cost."""
    usages = [
        json.loads(text) for info in cookbook.infos if (text := info.trace_metadata.get("mlflow.trace.tokenUsage"))
    ]
    costs = [json.loads(text) for info in cookbook.infos if (text := info.trace_metadata.get("mlflow.trace.cost"))]
    total = cookbook.report().total
    assert total.input_tokens == sum(usage["input_tokens"] for usage in usages)
    assert total.output_tokens == sum(usage["output_tokens"] for usage in usages)
    assert total.total_tokens == sum(usage["total_tokens"] for usage in usages)
    assert total.without_usage == len(cookbook.infos) - len(usages) > 0, "those that failed before the LLM was asked"
    assert total.cost_usd == pytest.approx(sum(cost["total_cost"] for cost in costs))


def test_step_per_user(cookbook: Cookbook) -> None:
    """A row for each user, those with the most traces first."""
    counts = Counter(info.trace_metadata["mlflow.trace.user"] for info in cookbook.infos)
    rows = cookbook.report(by=["user"]).rows
    assert {row.key["user"]: row.traces for row in rows} == counts
    assert [row.traces for row in rows] == sorted(counts.values(), reverse=True)


def test_step_health_check(cookbook: Cookbook, tmp_path: Path) -> None:
    """The look-back of 30 minutes, with thresholds on both sides of what is."""
    file = config_file(tmp_path, cookbook.mlflow, "cookbook")
    total = cookbook.report(environment="production").total
    for factor, code in ((1.01, 0), (0.99, 1)):
        limits = [f"--error-rate={total.error_rate * factor}", f"--p95={int(total.p95_s * factor * 1000)}ms"]
        check = ["health", f"--config.file={file}", "--environment=production", "--lookback=30m", *limits]
        done = invoke(*check)
        assert done.exit_code == code, done.output
        assert len(done.stdout.splitlines()) == (2 if code == 0 else 3)
