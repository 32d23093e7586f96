"""Every link of every alert shows the traces that the alert is about, and no others.

A real Prometheus writes the links, for the labels of an alert and the numbers that its text asks for; a real exporter
answers them from a real MLflow, and so does MLflow itself what a program would search for.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import requests
import yaml

from mlflow_trace_exporter.bundled import rules
from mlflow_trace_exporter.demo.processes import fetch
from tests.integration.test_trace_list import ids
from tests.support.real import Exporter, Mlflow, Prometheus, Trace, eventually, now_ms
from tests.support.waiting import HANG_S
from tests.unit.bundled.test_rules import OF_ALL_APPLICATIONS

MINUTE, HOUR, DAY = 60, 3_600, 86_400
LATENCY_S, OTHERS_P95_S, OTHERS_TOKENS, LAST_EDGE_S = 5, 2, 500, 600
"""The objective of all environments, what the other versions take, and the last edge of the buckets."""

TOKENS = {"mlflow.trace.tokenUsage": '{"input_tokens": 400, "output_tokens": 101, "total_tokens": 501}'}
FEWER_TOKENS = {"mlflow.trace.tokenUsage": '{"input_tokens": 400, "output_tokens": 100, "total_tokens": 500}'}
COST = {"mlflow.trace.cost": '{"input_cost": 0.25, "output_cost": 0.5, "total_cost": 0.75}'}
NO_COST = {"mlflow.trace.cost": '{"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.0}'}


def ended(ago_s: float, took_s: float = 1, **fields: Any) -> Trace:
    """A trace that ended so long ago."""
    return Trace(now_ms() - round((ago_s + took_s) * 1000), round(took_s * 1000), **fields)


def failed(ago_s: float, took_s: float = 1) -> Trace:
    return ended(ago_s, took_s, state="ERROR")


def running(ago_s: float, state: str = "IN_PROGRESS") -> Trace:
    """A trace that started so long ago, and runs."""
    return Trace(now_ms() - round(ago_s * 1000), None, state)


@dataclass(frozen=True)
class Inside:
    """A span inside a trace."""

    name: str
    span_type: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def call(cls, model: str, provider: str) -> "Inside":
        """A call of a model."""
        return cls("call", "CHAT_MODEL", {"mlflow.llm.model": model, "mlflow.llm.provider": provider})


@dataclass(frozen=True)
class Case:
    """What an alert is about in its application (and version, where it is one of a version), and what it is not.
    ``labels``: others that it has. ``failed_span``: the name of the span that failed in the first of the traces that it
    is about, if it is about a span. ``spans``: what there is inside the traces that it is about, and what there is
    inside others that are otherwise the same. ``said``: likewise, the value of an assessment, and who gave it."""

    alert: str
    about: Sequence[Trace]
    not_about: Sequence[Trace]
    labels: Mapping[str, str] = field(default_factory=dict)
    failed_span: str = ""
    spans: tuple[Inside, Inside] | None = None
    said: tuple[tuple[str, str], tuple[str, str]] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.alert, self.labels.get("burn_rate", "")

    @property
    def environment(self) -> str:
        return f"prod & é={self.alert} {self.labels.get('burn_rate', '')}".rstrip()

    @property
    def of_all_applications(self) -> bool:
        return self.alert in OF_ALL_APPLICATIONS

    @property
    def of_version(self) -> bool:
        return "Version" in self.alert


CORRECTNESS = {"assessment": "correctness"}
OPENAI = {"provider": "openai", "model": "gpt-4o"}
CALL = Inside.call("gpt-4o", "openai")
CALLS = {
    "Provider": (CALL, Inside.call("gpt-4o", "azure")),
    "Model": (CALL, Inside.call("gpt-4o-mini", "openai")),
}
"""A call of what an alert is about, and one of what it is not about, by the subject of the alert."""


def burn(rate: str, window: str) -> dict[str, str]:
    return {"burn_rate": rate, "long_window": window, "short_window": "5m"}


def evaluated() -> list[Trace]:
    """What does not count as traffic of the application."""
    return [replace(each, tags={"mlflow.eval.requestId": "x"}) for each in (failed(MINUTE, 10), running(2 * HOUR))]


def cases() -> list[Case]:
    """One for each alert that has such a link, or more; their traces are as old as they say now."""
    well = [ended(MINUTE), running(MINUTE)]  # neither failed nor slow
    return [
        Case(
            "MlflowErrorBudgetBurn",
            [failed(10), failed(50 * MINUTE, 3 * HOUR)],
            [*well, failed(2 * HOUR)],
            burn("14.4", "1h"),
        ),
        Case("MlflowErrorBudgetBurn", [failed(10), failed(20 * HOUR)], [*well, failed(30 * HOUR)], burn("3", "1d")),
        Case("MlflowErrorRatioHigh", [failed(10), failed(20 * MINUTE, HOUR)], [*well, failed(40 * MINUTE)]),
        Case("MlflowMostTracesFail", [failed(10), failed(MINUTE, HOUR)], [*well, failed(20 * MINUTE)]),
        Case(
            "MlflowLatencyBudgetBurn",
            [ended(10, 6), ended(50 * MINUTE, 3 * HOUR)],
            [*well, ended(10, LATENCY_S), ended(2 * HOUR, 6)],
            burn("6", "1h"),
        ),
        Case(
            "MlflowLatencyBudgetBurn",
            [ended(10, 6), ended(60 * HOUR, 6)],
            [*well, ended(80 * HOUR, 6)],
            burn("1", "3d"),
        ),
        Case("MlflowLatencyHigh", [ended(10, 6), ended(20 * MINUTE, HOUR)], [*well, ended(40 * MINUTE, 6)]),
        Case(
            "MlflowCostAboveObjective",
            [ended(MINUTE, metadata=COST), ended(20 * HOUR, metadata=COST)],
            [*well, ended(MINUTE, metadata=NO_COST), ended(30 * HOUR, metadata=COST)],
        ),
        Case(
            "MlflowCostAboveObjectiveSoon",
            [ended(MINUTE, metadata=COST), ended(5 * HOUR, metadata=COST)],
            [*well, ended(MINUTE, metadata=NO_COST), ended(7 * HOUR, metadata=COST)],
        ),
        Case("MlflowVersionFailsMore", [failed(10), failed(50 * MINUTE, HOUR)], [*well, failed(2 * HOUR)]),
        Case(
            "MlflowVersionSlower",
            [ended(10, 3), ended(50 * MINUTE, HOUR)],
            [*well, ended(10, OTHERS_P95_S), ended(2 * HOUR, 3)],
        ),
        Case(
            "MlflowVersionUsesMoreTokens",
            [ended(10, metadata=TOKENS), ended(50 * MINUTE, HOUR, metadata=TOKENS)],
            [*well, ended(10, metadata=FEWER_TOKENS), ended(2 * HOUR, metadata=TOKENS)],
        ),
        Case("MlflowTokenUsageMissing", [ended(10), failed(20 * MINUTE)], [ended(10, metadata=TOKENS), ended(HOUR)]),
        Case("MlflowNoTraces", [ended(40 * MINUTE), failed(20 * HOUR)], [ended(30 * HOUR)]),
        Case(
            "MlflowTracesStuckInProgress",
            [running(2 * HOUR), running(3 * DAY, "STATE_UNSPECIFIED"), running(30 * DAY)],
            [running(MINUTE), ended(2 * HOUR), failed(2 * HOUR)],
        ),
        Case("MlflowTracesAbandoned", [running(8 * DAY), running(30 * DAY)], [running(2 * DAY), ended(8 * DAY)]),
        Case(
            "MlflowDurationBeyondBuckets",
            [ended(10, LAST_EDGE_S + 1), failed(50 * MINUTE, HOUR)],
            [*well, ended(10, LAST_EDGE_S), ended(2 * HOUR, LAST_EDGE_S + 1)],
        ),
        *(
            Case(f"Mlflow{name}Fails", [failed(10)], [*well, failed(20 * MINUTE)], OPENAI, spans=spans)
            for name, spans in CALLS.items()
        ),
        *(
            Case(
                f"Mlflow{name}Slow",
                [ended(20 * MINUTE, 3)],
                [ended(40 * MINUTE, 3), ended(MINUTE, 2)],
                OPENAI,
                spans=spans,
            )
            for name, spans in CALLS.items()
        ),
        Case("MlflowNewModel", [ended(MINUTE), failed(MINUTE)], [ended(20 * MINUTE)], OPENAI, spans=CALLS["Model"]),
        Case("MlflowFirstChunkLate", [ended(MINUTE), failed(20 * MINUTE)], [ended(40 * MINUTE)]),
        Case(
            "MlflowToolFails",
            [ended(MINUTE), ended(20 * MINUTE)],
            [ended(40 * MINUTE)],
            {"span_type": "TOOL", "span_name": "search"},
            failed_span="search",
            spans=(Inside("search", "TOOL"), Inside("another", "TOOL")),
        ),
        Case(
            "MlflowQualityBudgetBurn",
            [ended(MINUTE), failed(6 * DAY)],
            [ended(8 * DAY)],
            {**burn("14.4", "1h"), **CORRECTNESS},
            said=(("no", "HUMAN"), ("yes", "HUMAN")),
        ),
        Case(
            "MlflowVersionRatedWorse",
            [ended(MINUTE), failed(7 * DAY)],
            [ended(9 * DAY)],
            CORRECTNESS,
            said=(("no", "HUMAN"), ("yes", "HUMAN")),
        ),
        Case(
            "MlflowScorerFails",
            [ended(MINUTE), failed(6 * DAY)],
            [ended(8 * DAY)],
            {**CORRECTNESS, "source": "code"},
            said=(("no", "CODE"), ("no", "HUMAN")),
        ),
        Case(
            "MlflowAssessmentsStopped",
            [ended(MINUTE), failed(6 * DAY)],
            [ended(8 * DAY)],
            {**CORRECTNESS, "source": "code"},
            said=(("yes", "CODE"), ("yes", "HUMAN")),
        ),
    ]


KEYS = [case.key for case in cases()]


@dataclass(frozen=True)
class Shown:
    """What the links of an alert lead to, and which traces it is about."""

    urls: Mapping[str, str]
    listed: set[str]
    searched: set[str] | None
    made: "Made"
    of_all_applications: bool


@dataclass(frozen=True)
class Made:
    """The experiment of a case, its version, and the ids of its traces: what it is about, what a search has to find,
    and what it is not about."""

    experiment: str
    version: str
    about: set[str]
    to_find: set[str]
    not_about: set[str]


def make(mlflow: Mlflow, case: Case, experiment: str, other: str) -> Made:
    """Have MLflow hold the traces of a case, and as many of another version, environment and experiment."""
    version = f"m-{'0123456789abcdef' * 2}" if case.alert.endswith("Slower") else "1.5.0"
    of_model = version.startswith("m-")
    tags = {"environment": case.environment, **({} if of_model else {"app_version": version})}

    def with_labels(traces: Sequence[Trace], **others: str) -> list[Trace]:
        named = {"mlflow.modelId": version} if of_model and "app_version" not in others else {}
        return [
            replace(each, tags={**tags, **each.tags, **others}, metadata={**each.metadata, **named}) for each in traces
        ]

    of_it, of_others = case.spans or (None, None)
    said_of_it, said_of_others = case.said or (None, None)

    def insert(
        traces: Sequence[Trace],
        span: Inside | None = of_it,
        to: str = experiment,
        said: tuple[str, str] | None = said_of_it,
        **others: str,
    ) -> list[str]:
        made = mlflow.insert(to, with_labels(traces, **others))
        say(mlflow, made, said)
        if span:
            mlflow.insert_span(to, made, span.name, span_type=span.span_type, attributes=span.attributes)
        return made

    about = insert(case.about)
    not_about = insert([*case.not_about, *evaluated()])
    if of_others:
        not_about += [*insert(case.about, of_others), *insert(case.about, None)]
    if case.said:
        not_about += [*insert(case.about, said=said_of_others), *insert(case.about, said=None)]
    if case.failed_span:
        mlflow.insert_span(experiment, about[:1], case.failed_span, "ERROR")
        mlflow.insert_span(experiment, about[1:2], "another", "ERROR")
        mlflow.insert_span(experiment, not_about[:1], case.failed_span, "ERROR")
    insert(case.about, environment="elsewhere")
    insert(case.about, to=other)
    if case.of_version:
        insert(case.about, app_version="1.4.0")
    return Made(experiment, version, set(about), set(about[:1] if case.failed_span else about), set(not_about))


def say(mlflow: Mlflow, trace_ids: Sequence[str], said: tuple[str, str] | None) -> None:
    """Assess traces."""
    if said is not None:
        for trace_id in trace_ids:
            mlflow.assess(trace_id, "correctness", *said)


def labels_of(case: Case, made: Made) -> dict[str, str]:
    version = {"version": made.version} if case.of_version else {}
    if case.of_all_applications:
        return {"job": "exporter", **case.labels}
    return {
        "job": "exporter",
        "experiment": made.experiment,
        "environment": case.environment,
        **version,
        **case.labels,
    }


def as_firing(exporter_url: str, made: Sequence[tuple[Case, Made]]) -> str:
    """The alerts that come with the exporter, as a file of rules by which each fires at once with its labels."""
    printed = yaml.safe_load(rules.for_prometheus(rules.Links(exporter=exporter_url)))
    annotations = {
        (rule["alert"], rule["labels"]["severity"]): rule["annotations"]
        for group in printed["groups"]
        for rule in group["rules"]
        if "traces_url" in rule.get("annotations", {})
    }
    assert {name for name, _ in annotations} == {name for name, _ in KEYS}, "each has a case"
    found = []
    for case, made_for in made:
        texts = next(each for (name, _), each in annotations.items() if name == case.alert)
        labels, expr = labels_of(case, made_for), "vector(0.5)"
        for name, value in labels.items():
            expr = f"label_replace({expr}, {json.dumps(name)}, {json.dumps(value, ensure_ascii=False)}, '', '')"
        found += [*recorded(labels), {"alert": case.alert, "expr": expr, "annotations": texts}]
    return yaml.safe_dump({"groups": [{"name": "all", "interval": "1s", "rules": found}]})


def recorded(labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The numbers that the texts of alerts ask for."""
    where = {name: labels[name] for name in ("job", "experiment", "environment") if name in labels}
    bucket = "experiment_environment_le:mlflow_trace_duration_seconds_bucket:increase1h"
    for name, value, extra in (
        ("experiment_environment:mlflow_objective_latency_seconds:max", LATENCY_S, {}),
        (bucket, 95, {"le": f"{LAST_EDGE_S}.0"}),
        (bucket, 100, {"le": "+Inf"}),
    ):
        yield {"record": name, "expr": f"vector({value})", "labels": {**where, **extra}}
    if "model" in labels:
        of_model = {name: labels[name] for name in ("job", "provider", "model")}
        for name, factor in (("duration_seconds_of_week:quantile_increase30m", OTHERS_P95_S / 2), ("slowdown:slow", 3)):
            yield {"record": f"provider_model:mlflow_llm_call_{name}", "expr": f"vector({factor})", "labels": of_model}
    if "version" in labels:
        of_version = {**where, "version": labels["version"]}
        level = "experiment_environment_version:mlflow_"
        for name, value in (
            (f"{level}trace_duration_seconds_of_others:quantile_increase1h", OTHERS_P95_S),
            (f"{level}tokens_per_trace_of_others:mean_increase1h", OTHERS_TOKENS),
        ):
            yield {"record": name, "expr": f"vector({value})", "labels": of_version}


def fired(prometheus: Prometheus) -> dict[tuple[str, str], dict[str, str]] | None:
    """The annotations of all alerts, once the numbers that they ask for are there."""
    answer = json.loads(fetch(f"{prometheus.url}/api/v1/alerts", HANG_S) or "{}").get("data", {}).get("alerts", [])
    found = {(each["labels"]["alertname"], each["labels"].get("burn_rate", "")): each["annotations"] for each in answer}
    links = [
        text for texts in found.values() for name, text in texts.items() if name in ("traces_url", "search_traces")
    ]
    complete = not any("above=&" in link or "> AND" in link or ">  AND" in link for link in links)
    return found if len(found) == len(KEYS) and complete else None


@pytest.fixture(scope="module")
def shown(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Shown]:
    """What every alert leads to."""
    directory = tmp_path_factory.mktemp("links")
    experiment, other = mlflow.experiment(), mlflow.experiment()
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": [experiment, other]},
        "poll": {"interval": "1s"},
        "spans": {"enabled": True},
        "objectives": [
            {
                "environment": "*",
                "latency": f"{LATENCY_S}s",
                "quality": [{"assessment": "correctness", "good": "yes", "ratio": "90%"}],
            }
        ],
    }
    exporter = Exporter(directory, settings)
    made = [(case, make(mlflow, case, experiment, other)) for case in cases()]
    file = directory / "rules.yml"
    file.write_text(as_firing(exporter.url, made))
    with exporter.running(), Prometheus(directory, {}, rules=file).running() as prometheus:
        eventually(lambda: exporter.samples().get("mlflow_up"), "it has polled")
        texts = eventually(lambda: fired(prometheus), "all alerts fire")
        return {
            case.key: Shown(
                texts[case.key],
                set(ids(requests.get(texts[case.key]["traces_url"], timeout=HANG_S).text)),
                searched(mlflow, experiment, texts[case.key].get("search_traces")),
                traces,
                case.of_all_applications,
            )
            for case, traces in made
        }


def searched(mlflow: Mlflow, experiment: str, text: str | None) -> set[str] | None:
    """What MLflow finds for a filter, of what counts: filters do not know what that is."""
    if text is None:
        return None
    where = [mlflow.experiment_id(experiment)]
    found = mlflow.client.search_traces(locations=where, filter_string=text, max_results=500, include_spans=False)
    return {each.info.trace_id for each in found if "mlflow.eval.requestId" not in each.info.tags}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: " ".join(key).rstrip())
def test_the_links_of_an_alert_show_what_it_is_about(
    key: tuple[str, str], shown: Mapping[tuple[str, str], Shown]
) -> None:
    found = shown[key]
    made = found.made
    assert made.about
    if found.of_all_applications:  # those of the other cases, too
        assert found.listed >= made.about, found.urls["traces_url"]
        assert not found.listed & made.not_about
    else:
        assert found.listed == made.about, found.urls["traces_url"]
    assert found.searched in (None, made.to_find), found.urls["search_traces"]
