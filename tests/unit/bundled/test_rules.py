"""The rules as text: what is promised of each, what the command prints, and what promtool says of them."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mlflow_trace_exporter.bundled import packaged
from mlflow_trace_exporter.commands.cli import cli
from mlflow_trace_exporter.web import runbook
from prometheus import __main__ as written
from tests.support.real import tool

RULES = sorted(packaged.prometheus("rules").glob("*.yml"))
PROMTOOL_TESTS = sorted(packaged.prometheus("tests").glob("*.yml"))
SEVERITIES = {"critical", "warning", "info", "none"}

LEVELS = {
    "environment": ("environment",),
    "experiment_environment": ("experiment", "environment"),
    "experiment_environment_version": ("experiment", "environment", "version"),
    "provider": ("provider",),
    "provider_model": ("provider", "model"),
    "experiment_environment_provider_model": ("experiment", "environment", "provider", "model"),
    "experiment_environment_assessment": ("experiment", "environment", "assessment"),
    "experiment_environment_version_assessment": ("experiment", "environment", "version", "assessment"),
    "experiment_environment_assessment_source": ("experiment", "environment", "assessment", "source"),
    "experiment_environment_span_type_span_name": ("experiment", "environment", "span_type", "span_name"),
}
"""The labels of recorded series, by the first part of their names."""

OF_ALL_APPLICATIONS = ("MlflowProviderFails", "MlflowProviderSlow", "MlflowModelFails", "MlflowModelSlow")
"""Alerts on traces that have no experiment, environment and team."""

Rule = Mapping[str, Any]


def rules_in(text: str) -> list[Rule]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


ALL = [rule for file in RULES for rule in rules_in(file.read_text())]
ALERTS = [rule for rule in ALL if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
RECORDED = [rule for rule in ALL if "record" in rule]


@pytest.mark.parametrize(("files", "texts"), [(RULES, written.rules), (PROMTOOL_TESTS, written.tests)])
def test_the_files_are_what_the_code_writes(files: list[Path], texts: Callable[[], dict[str, str]]) -> None:
    assert texts() == {file.name: file.read_text(encoding="utf-8") for file in files}, "run python -m prometheus"


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    """With all that it then says."""
    tests = [test for file in PROMTOOL_TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(NAMES)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_what_every_alert_says(rule: Rule) -> None:
    name, labels, annotations = rule["alert"], rule["labels"], rule["annotations"]
    assert re.fullmatch(r"Mlflow([A-Z][a-z]+)+", name)
    assert labels["severity"] in SEVERITIES
    assert "{{" not in annotations["summary"], "the summary is a fixed sentence"
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith((".", "{{ end }}."))
    assert "{{" in annotations["description"]
    assert annotations["runbook_url"] == f"http://127.0.0.1:10500/runbook#{name.lower()}"
    assert f'id="{name.lower()}"' in runbook.page().decode()
    assert annotations["dashboard_url"].startswith("http://127.0.0.1:3000/d/mlflow-")
    if labels.get("data") == "traces":
        assert annotations["traces_url"].startswith("http://127.0.0.1:10500/traces?")


def test_alerts_on_traces_are_marked_and_those_on_the_exporter_wake_nobody() -> None:
    for rule in ALERTS:
        own = "Exporter" in rule["alert"] or rule["alert"] in ("MlflowUnreachable", "MlflowTracesStale")
        assert ("data" in rule["labels"]) is not own, rule["alert"]
        assert not (own and rule["labels"]["severity"] == "critical"), rule["alert"]


def test_the_runbook_knows_no_alert_that_there_is_not() -> None:
    assert sorted(re.findall(r'<h3 id="(\w+)"', runbook.page().decode())) == [name.lower() for name in NAMES]


@pytest.mark.parametrize("name", sorted({rule["record"] for rule in RECORDED}))
def test_names_of_recorded_series(name: str) -> None:
    level, metric, operation = name.split(":")
    assert level.removesuffix("_le") in LEVELS
    assert metric.startswith("mlflow_")
    assert re.fullmatch(
        r"(max|min1h|burn|burning|burning5m|failing|slow|latest(5m|30m|2h|6h)"
        r"|z_increase(1h|1d)|(\w+_)?increase(5m|10m|30m|1h|2h|6h|1d|3d))",
        operation,
    )


def test_no_two_rules_record_the_same() -> None:
    keys = [(rule["record"], *sorted(rule.get("labels", {}).items())) for rule in RECORDED]
    assert len(keys) == len(set(keys))


def test_rules_ask_only_for_series_that_are_recorded() -> None:
    texts = [text for rule in ALL for text in (rule["expr"], *rule.get("annotations", {}).values())]
    asked = set(re.findall(r"\b[a-z_]+:mlflow\w+:\w+", " ".join(texts)))
    assert asked <= {rule["record"] for rule in RECORDED}


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["rules", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_prints_all_rules_with_their_comments() -> None:
    text = printed()
    key = str
    assert sorted(rules_in(text), key=key) == sorted(ALL, key=key)
    for file in RULES:
        assert file.read_text().splitlines()[0] in text


def test_links_lead_where_they_are_told_to() -> None:
    text = printed("--exporter-url=https://exporter.example.com/e/", "--grafana-url=https://grafana.example.com")
    annotations = [pair for rule in rules_in(text) for pair in rule.get("annotations", {}).items()]
    urls = {url for name, url in annotations if name.endswith("_url")}
    assert all(url.startswith(("https://exporter.example.com/e/", "https://grafana.example.com/d/")) for url in urls)
    assert "127.0.0.1" not in text
    swapped = printed("--exporter-url=http://127.0.0.1:3000", "--grafana-url=http://127.0.0.1:10500")
    assert "http://127.0.0.1:3000/runbook#" in swapped
    assert "http://127.0.0.1:10500/d/mlflow-" in swapped


def test_an_object_for_the_operator() -> None:
    found = yaml.safe_load(printed("--format=operator", "--label=release=kube-prometheus-stack", "--label=team=llm"))
    assert (found["apiVersion"], found["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert found["metadata"]["name"] == "mlflow-trace-exporter"
    assert {"release": "kube-prometheus-stack", "team": "llm"}.items() <= found["metadata"]["labels"].items()
    assert found["spec"] == yaml.safe_load(printed())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--label=release"], "'release' is not a label; write NAME=VALUE"),
        (["--label=release=x y"], "'release=x y' is not a label"),
        (["--label=re lease=x"], "'re lease=x' is not a label"),
        (["--label=release=x"], "--label: needs --format=operator"),
        (["--exporter-url=exporter:10500"], "not the address of a web page"),
    ],
)
def test_mistakes_are_told(arguments: list[str], complaint: str) -> None:
    done = CliRunner().invoke(cli, ["rules", *arguments])
    assert (done.exit_code, complaint in done.output) == (2, True), done.output


def run(*arguments: str | Path) -> None:
    command = [tool(str(arguments[0])), *arguments[1:]]
    environment = {**os.environ, "GOGC": "400"}  # a fifth of its time goes into collecting garbage
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_has_no_complaint() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES)
    run("promtool", "check", "config", "--lint=all", "--lint-fatal", packaged.prometheus("prometheus.yml"))


def test_promtool_has_no_complaint_about_what_is_printed(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(printed())
    spec = yaml.safe_load(printed("--format=operator"))["spec"]
    (tmp_path / "operator.yml").write_text(yaml.safe_dump(spec))
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml", tmp_path / "operator.yml")


@pytest.mark.long
@pytest.mark.parametrize("file", PROMTOOL_TESTS, ids=lambda file: file.stem)
def test_rules_do_what_they_should(file: Path) -> None:
    run("promtool", "test", "rules", file)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("severity=critical environment=production data=traces", "pager,team"),
        ("severity=critical environment=staging data=traces", "team"),
        ("severity=warning environment=production data=traces", "team"),
        ("severity=info", "team"),
        ("severity=warning alertname=MlflowUnreachable", "team"),
        ("severity=critical alertname=MlflowProviderFails provider=openai data=traces", "pager,team"),
        ("severity=warning alertname=MlflowModelFails provider=openai model=gpt-4o data=traces", "team"),
        ("severity=info alertname=MlflowNewModel provider=openai environment=production data=traces", "team"),
        ("severity=none alertname=MlflowTracesStale", "nobody"),
    ],
)
def test_who_is_told(labels: str, receivers: str) -> None:
    verify_route(packaged.prometheus("alertmanager.yml"), labels, receivers)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("team=checkout severity=critical environment=production data=traces", "checkout-pager,checkout"),
        ("team=checkout severity=critical environment=staging data=traces", "checkout"),
        ("team=checkout severity=info environment=production data=traces", "checkout"),
        ("team=discovery severity=critical environment=production data=traces", "pager,team"),
        ("severity=critical environment=production data=traces", "pager,team"),
        ("severity=none alertname=MlflowTracesStale", "nobody"),
    ],
)
def test_who_is_told_once_the_example_of_a_team_is_no_longer_a_comment(
    labels: str, receivers: str, tmp_path: Path
) -> None:
    text = packaged.prometheus("alertmanager.yml").read_text()
    example = re.compile(r"^( *)# - (?:matchers: \[team=|name: checkout).*(?:\n\1#   .*)*", re.MULTILINE)
    file = tmp_path / "alertmanager.yml"
    file.write_text(example.sub(lambda found: re.sub("^( *)# ", r"\1", found[0], flags=re.MULTILINE), text))
    verify_route(file, labels, receivers)


def verify_route(file: Path, labels: str, receivers: str) -> None:
    run("amtool", "check-config", file)
    command = ["config", "routes", "test", f"--config.file={file}", f"--verify.receivers={receivers}", *labels.split()]
    run("amtool", *command)


def test_alerts_on_traces_are_grouped_and_inhibited_by_application() -> None:
    config = yaml.safe_load(packaged.prometheus("alertmanager.yml").read_text())
    assert config["route"]["group_by"] == ["job", "experiment", "environment", "provider"]
    equal = [set(rule["equal"]) for rule in config["inhibit_rules"]]
    assert all({"experiment", "environment"} <= names for names in equal if {"experiment", "environment"} & names)
    assert all("assessment" in names for names in equal if "objective" in names)
    (stale,) = (
        rule for rule in config["inhibit_rules"] if rule["source_matchers"] == ['alertname="MlflowTracesStale"']
    )
    assert stale["equal"] == ["job", "shard", "cluster"]
