"""The dashboards as files: what Grafana's own linter asks of them, and what a person would stumble over.

The linter is https://github.com/grafana/dashboard-linter; the names of its rules stand at the tests.
"""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from click.testing import CliRunner

from exporter import packaged
from exporter.cli import cli
from grafana.__main__ import texts
from tests.panels import DASHBOARDS, PANELS, Panel, filled
from tests.real import tool
from tests.unit.test_rules import ALERTS, Rule

boards = pytest.mark.parametrize("board", DASHBOARDS.values(), ids=lambda board: board["uid"])
each_panel = pytest.mark.parametrize("panel", PANELS, ids=str)

WITHOUT_INSTANCE = re.compile(r"environment:\w+:\w+|ALERTS")
"""An exception to target-instance-rule: what rules record is of all exporters of a job."""

SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in board["templating"]["list"]}


def test_the_files_are_what_the_code_writes() -> None:
    folder = packaged.grafana("dashboards")
    assert texts() == {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}, (
        "run python -m grafana"
    )


@boards
def test_template_datasource_rule(board: dict[str, Any]) -> None:
    datasource = variables(board)["datasource"]
    assert (datasource["type"], datasource["query"], datasource["label"]) == ("datasource", "prometheus", "Data source")


@boards
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(board: dict[str, Any], name: str) -> None:
    found = variables(board)[name]
    assert found["datasource"]["uid"] == "${datasource}"
    assert (found["type"], found["label"], found["multi"], found["allValue"]) == (
        "query",
        name.capitalize(),
        True,
        ".+",
    )


@boards
def test_template_on_time_change_reload_rule(board: dict[str, Any]) -> None:
    assert {each["refresh"] for each in variables(board).values() if each["type"] == "query"} == {2}


@boards
def test_uneditable_dashboard_rule_and_what_else_a_dashboard_has(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert (board["timezone"], board["refresh"], board["tags"]) == ("browser", "1m", ["mlflow-trace-exporter"])
    assert board["description"].endswith((".", "?"))
    (deployments,) = board["annotations"]["list"]
    assert "mlflow_trace_version_first_seen_timestamp_seconds" in deployments["expr"]
    others = next(link for link in board["links"] if link["type"] == "dashboards")
    assert (others["tags"], others["keepTime"], others["includeVars"]) == (board["tags"], True, True)


@each_panel
def test_panel_title_description_rule_and_panel_units_rule(panel: Panel) -> None:
    assert panel.title
    assert panel.content["description"].endswith((".", "?"))
    assert panel.content["fieldConfig"]["defaults"]["unit"]
    assert panel.content["fieldConfig"]["defaults"]["noValue"] == "no data"
    if panel.uid == "mlflow-exporter":
        assert "Normal: " in panel.content["description"]


@each_panel
def test_panel_datasource_rule(panel: Panel) -> None:
    sources = [panel.content["datasource"], *(target["datasource"] for target in panel.content["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


@each_panel
def test_target_job_rule_and_target_instance_rule(panel: Panel) -> None:
    for expr in panel.queries.values():
        found = SELECTOR.findall(expr)
        assert found
        for metric, matchers in found:
            assert 'job=~"$job' in matchers, metric
            assert WITHOUT_INSTANCE.fullmatch(metric) or 'instance=~"$instance"' in matchers, metric


@each_panel
def test_target_rate_interval_rule(panel: Panel) -> None:
    for expr in panel.queries.values():
        assert re.findall(r"rate\([^[]*\[(?!\$__rate_interval\])", expr) == []


@each_panel
def test_target_counter_agg_rule(panel: Panel) -> None:
    """A counter is never shown as it is, unless it counts something so rare that its value is what one wants."""
    for expr in panel.queries.values():
        bare = re.sub(r"(rate|increase)\([^)]*\)", "", expr)
        assert set(re.findall(r"\w+_total\b", bare)) <= {"mlflow_trace_exporter_ledger_resets_total"}


@each_panel
def test_a_panel_knows_the_variables_that_it_uses(panel: Panel) -> None:
    known = {*variables(DASHBOARDS[panel.uid]), "__range", "__range_s", "__rate_interval"}
    for expr in panel.queries.values():
        assert set(re.findall(r"\$\{?(\w+)", expr)) <= known


OF_CACHE = {
    "in the input": {("chat", 100): (30, 10)},
    "all of the input": {("chat", 100): (100, 0)},
    "all of the input, by extrapolated rates": {("chat", 99): (100, 0)},
    "beside the input": {("code", 7): (15_000, 500)},
    "of both kinds": {("chat", 1_000): (200, 0), ("code", 7): (15_000, 500)},
    "beside an input that is as long": {("code", 100): (100, 0)},
    "without input": {("code", 0): (50, 10)},
    "without a cache": {("chat", 100): (0, 0)},
}
"""Tokens per minute: of a trace name the input, and what was read from the cache and written to it."""


@pytest.mark.parametrize(
    ("name", "share", "uncached"),
    [
        ("in the input", 0.3, 60),
        ("all of the input", 1, 0),
        ("all of the input, by extrapolated rates", 1, 0),
        ("beside the input", 15_000 / 15_507, 7),
        ("of both kinds", 15_200 / 16_507, 807),
        ("beside an input that is as long", 1, 0),  # a half, but nothing tells; it is not above 100 %
        ("without input", 50 / 60, 0),
        ("without a cache", 0, 100),
    ],
)
def test_cached_tokens_are_part_of_the_input_or_beside_it(
    name: str, share: float, uncached: float, tmp_path: Path
) -> None:
    """No integration says which, and no share is above 100 %."""
    series = [
        {"series": f'mlflow_trace_{kind}_tokens_total{{{of}, trace_name="{trace_name}"}}', "values": f"0+{tokens}x20"}
        for (trace_name, all_input), (read, created) in OF_CACHE[name].items()
        for kind, tokens in (("input", all_input), ("cache_read_input", read), ("cache_creation_input", created))
        for of in ['job="j", instance="i", experiment="e", environment="production", version="1"']
    ]
    found = {panel.title: filled(panel.queries["A"], rate="5m") for panel in PANELS if panel.uid == "mlflow-cost"}
    expected = (
        ("Cache hit share", '{environment="production"}', share),
        ("Tokens", '{job="j"}', uncached / 60),
    )
    nearest = 2**20  # a power of two, so that both sides round to the same number
    asked = [
        {
            "expr": f"round({found[title]}, 1 / {nearest})",
            "eval_time": "15m",
            "exp_samples": [{"labels": labels, "value": round(value * nearest) / nearest}],
        }
        for title, labels, value in expected
    ]
    file = tmp_path / "cache.yml"
    file.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": asked}]}))
    done = subprocess.run([tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_heatmap_has_colours() -> None:
    colours = [panel.content["options"]["color"] for panel in PANELS if panel.content["type"] == "heatmap"]
    assert [(each["steps"], each["exponent"]) for each in colours] == [(64, 0.5)]


@boards
def test_ids_are_unique(board: dict[str, Any]) -> None:
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


@boards
def test_no_panel_overlaps_another_and_the_first_answers_fit_a_laptop(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert all(place["x"] + place["w"] <= 24 for place in places)
    lines = sorted({(place["y"], place["h"]) for place in places})
    assert lines[1][0] + lines[1][1] <= 16, "two lines of 38 pixels each are on a screen of 768 pixels"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alerts_lead_to_a_dashboard_that_knows_what_they_say(rule: Rule) -> None:
    url = urlsplit(re.sub(r"\{\{.*?\}\}", "x", rule["annotations"]["dashboard_url"]))
    board = DASHBOARDS[url.path.removeprefix("/d/")]
    assert parse_qs(url.query).keys() <= {f"var-{name}" for name in variables(board)}


def test_what_grafana_is_provisioned_with() -> None:
    folder = packaged.grafana("provisioning")
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    (exemplars,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert (source["type"], source["isDefault"], exemplars["name"]) == ("prometheus", True, "trace_id")
    assert exemplars["url"].endswith("/trace/$${__value.raw}"), "a single $ would be a variable of the environment"
    (provider,) = yaml.safe_load((folder / "dashboards" / "mlflow.yml").read_text())["providers"]
    assert provider["folder"] == "MLflow traces"
    assert provider["allowUiUpdates"] is False


def test_the_command_writes_them_with_links_that_lead_where_they_are_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "boards"
    url = "https://exporter.example.com/e"
    done = CliRunner().invoke(cli, ["dashboards", f"--output={folder}", f"--exporter-url={url}"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [str(folder / f"{uid}.json") for uid in DASHBOARDS]
    written = "".join(file.read_text() for file in folder.iterdir())
    assert f"{url}/traces?environment=" in written
    assert "127.0.0.1" not in written


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(cli, ["dashboards", f"--output={tmp_path}/file/boards"])
    assert (done.exit_code, "; choose another folder" in done.output) == (2, True), done.output
