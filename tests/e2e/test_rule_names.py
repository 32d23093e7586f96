"""Every metric and every label that a rule uses exists: in the exporter's tables, or in a rule that records it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from mlflow_trace_exporter.demo.processes import fetch
from tests.support.promql import TARGET, Checker, Labels, Node, UnknownNameError, exported
from tests.support.real import Prometheus
from tests.support.waiting import HANG_S
from tests.unit.bundled.test_rules import ALERTS, LEVELS, OF_ALL_APPLICATIONS, RECORDED, Rule

Parse = Callable[[str], Node]


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parse]:
    """A real Prometheus' parser."""
    with Prometheus(tmp_path_factory.mktemp("parser"), {}).running() as prometheus:

        def tree(expression: str) -> Node:
            answer = fetch(f"{prometheus.url}/api/v1/parse_query?{urlencode({'query': expression})}", HANG_S)
            assert answer is not None, f"cannot be parsed: {expression}"
            node: Mapping[str, Any] = json.loads(answer)["data"]
            return node

        yield tree


def declared(rule: Rule) -> Labels:
    """The labels that a recorded series says it has by its level. The team and the shard have a series of their own."""
    level, metric, _ = rule["record"].split(":")
    team = {"team", "shard"} if metric == "mlflow_objective_info" else set()
    bucket = {"le"} if level.endswith("_le") else set()
    return frozenset({"job", *LEVELS[level.removesuffix("_le")], *bucket, *rule.get("labels", {}), *team})


ALERTING = {"ALERTS": TARGET | {"alertname", "alertstate", "severity", "experiment", "environment", "version", "team"}}
CHECKER = Checker({**exported(), **ALERTING, **{rule["record"]: declared(rule) for rule in RECORDED}})


@pytest.mark.parametrize("rule", RECORDED, ids=lambda rule: rule["record"])
def test_recorded_series_have_the_labels_of_their_level(rule: Rule, parse: Parse) -> None:
    assert CHECKER.labels(parse(rule["expr"])) | set(rule.get("labels", {})) == declared(rule)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alerts_use_what_there_is(rule: Rule, parse: Parse) -> None:
    labels = CHECKER.labels(parse(rule["expr"]))
    texts = " ".join(rule["annotations"].values())
    used = set(re.findall(r"\$labels\.(\w+)", texts))
    maybe = (
        TARGET if "absent_over_time(" in rule["expr"] else frozenset()
    )  # what is absent has no labels, and the text knows
    assert used <= labels | maybe
    if rule["labels"].get("data") == "traces" and rule["alert"] not in OF_ALL_APPLICATIONS:
        assert labels >= {"job", "experiment", "environment", "team", "shard"}, "it goes to the team of its application"
    queries = re.findall(r'(?:printf|query) ("(?:[^"\\]|\\.)+")', texts)
    for query in (json.loads(each) for each in queries if "(" in each or "{" in each):
        CHECKER.labels(parse(query.replace("%q", '"x"').replace("%f", "1")))


@pytest.mark.parametrize(
    "expression",
    [
        "mlflow_trace_total",
        'mlflow_traces_total{user="bob"}',
        "sum by (model) (mlflow_traces_total)",
        "mlflow_traces_total / on (status) mlflow_trace_errors_total",
        "mlflow_traces_total / mlflow_up",
        "histogram_quantile(0.9, mlflow_trace_duration_seconds_count)",
    ],
)
def test_what_there_is_not_is_found(expression: str, parse: Parse) -> None:
    with pytest.raises(UnknownNameError):
        CHECKER.labels(parse(expression))
