"""The dashboards as files: what Grafana's own linter asks of them, and what a person would stumble over.

The linter is https://github.com/grafana/dashboard-linter; the names of its rules stand at the tests.
"""

import json
import re
import subprocess
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from click.testing import CliRunner

from grafana.__main__ import texts
from mlflow_trace_exporter.bundled import packaged
from mlflow_trace_exporter.commands.cli import cli
from tests.support.builders import FAMILIES
from tests.support.panels import DASHBOARDS, PANELS, Panel, filled, query_variables
from tests.support.real import tool
from tests.unit.bundled.test_rules import ALERTS, Rule

boards = pytest.mark.parametrize("board", DASHBOARDS.values(), ids=lambda board: board["uid"])
each_panel = pytest.mark.parametrize("panel", PANELS, ids=str)

WITHOUT_INSTANCE = re.compile(r"experiment_environment:\w+:\w+|ALERTS")
"""An exception to target-instance-rule: what rules record is of all exporters of a job."""

SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")


def used_in(*texts: str) -> set[str]:
    """The variables that stand there."""
    return set(re.findall(r"\$\{?(\w+)", " ".join(texts)))


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
def test_no_series_needs_the_name_of_its_trace(board: dict[str, Any]) -> None:
    """labels.trace_name can be false; then it is as if that label was empty."""
    found = variables(board).get("trace_name", {"allValue": ".*"})
    assert re.fullmatch(found["allValue"], "")


@boards
def test_template_on_time_change_reload_rule(board: dict[str, Any]) -> None:
    assert {each["refresh"] for each in variables(board).values() if each["type"] == "query"} == {2}


@boards
def test_a_variable_is_narrowed_only_by_those_that_the_dashboard_has(board: dict[str, Any]) -> None:
    known = {"datasource", "__range"}
    for variable in query_variables(board):
        assert used_in(variable["query"]["query"]) <= known
        known.add(variable["name"])


@boards
def test_what_a_dashboard_has(board: dict[str, Any]) -> None:
    """Against the linter's uneditable-dashboard-rule: who imports one wants to change it."""
    assert board["editable"] is True
    assert (board["timezone"], board["refresh"], board["tags"]) == ("browser", "1m", ["mlflow-trace-exporter"])
    assert board["description"].endswith((".", "?"))
    (deployments,) = board["annotations"]["list"]
    assert "mlflow_trace_version_first_seen_timestamp_seconds" in deployments["expr"]
    others = next(link for link in board["links"] if link["type"] == "dashboards")
    assert (others["tags"], others["keepTime"], others["includeVars"]) == (board["tags"], True, True)


@boards
def test_links_lead_to_the_exporter_that_one_variable_names(board: dict[str, Any]) -> None:
    url = "http://127.0.0.1:10500"
    variable = variables(board)["exporter_url"]
    assert (variable["type"], variable["query"], variable["current"]["value"]) == ("constant", url, url)
    assert variable["skipUrlSync"] is True, "nobody's link chooses where ours lead"
    elsewhere = json.dumps({**board, "templating": None})
    assert "127.0.0.1" not in elsewhere
    urls = re.findall(r'"url": "([^"]+)"', elsewhere)
    assert urls
    assert all(found.startswith(("${exporter_url:raw}/", "/d/mlflow-")) for found in urls)


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
    assert used_in(*panel.queries.values()) <= known


def unused(board: dict[str, Any], panel: Mapping[str, Any]) -> list[str]:
    """The labels of the variables that none of its queries has. A team is a choice of experiments."""
    used = used_in(*(target["expr"] for target in panel["targets"]))
    used |= {"team"} if "experiment" in used else set()
    return [each["label"] for each in query_variables(board) if each["name"] not in used]


@each_panel
def test_a_panel_says_which_variables_make_no_difference(panel: Panel) -> None:
    missing = unused(DASHBOARDS[panel.uid], panel.content)
    said = re.findall(r"Not filtered by (.*)\.", panel.content["description"])
    assert said == ([" or ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))] if missing else [])


@each_panel
def test_what_the_others_are_held_against_is_dashed_by_its_query(panel: Panel) -> None:
    """And not by what it is called: an environment could be called so."""
    overrides = [each for each in panel.content["fieldConfig"]["overrides"] if "lineStyle" in json.dumps(each)]
    dashed = {each["matcher"]["options"] for each in overrides if each["matcher"]["id"] == "byFrameRefID"}
    assert len(dashed) == len(overrides)
    if panel.content["type"] == "timeseries":
        lines = {
            ref
            for ref, expr in panel.queries.items()
            if re.search(r"^max by \(environment(, assessment)?\) \(mlflow_objective|_poll_interval_seconds", expr)
        }
        assert dashed == lines
    assert "byRegexp" not in json.dumps(panel.content["fieldConfig"])


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
    found = {
        panel.title: filled(panel.queries["A"], range_s=600, rate="5m")
        for panel in PANELS
        if panel.uid == "mlflow-cost"
    }
    expected = (
        ("Cache hit share", '{experiment="e", environment="production"}', share),
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
    assert {(each["steps"], each["exponent"]) for each in colours} == {(64, 0.5)}


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
    for file in folder.iterdir():
        assert variables(json.loads(file.read_text()))["exporter_url"]["query"] == url
        assert "127.0.0.1" not in file.read_text()


def written(folder: Path, extra: str) -> dict[str, dict[str, Any]]:
    """The dashboards for a configuration with these labels.extra."""
    config_file = folder / "exporter.yml"
    config_file.write_text(f"labels: {{extra: {extra}}}")
    done = CliRunner().invoke(cli, ["dashboards", f"--output={folder / 'boards'}", f"--config.file={config_file}"])
    assert done.exit_code == 0, done.output
    return {file.stem: json.loads(file.read_text()) for file in (folder / "boards").iterdir()}


def test_labels_of_the_configuration_have_variables(tmp_path: Path) -> None:
    found = written(tmp_path, "{team: tag.team, candidate: tag.candidate, team_name: tag.name}")
    for uid, board in found.items():
        extra = [name for name in variables(board) if name not in variables(DASHBOARDS[uid])]
        taken = "label_candidate" if uid == "mlflow-versions" else "candidate"
        assert extra == ([] if uid == "mlflow-exporter" else ["label_team", taken, "team_name"])
        assert len(variables(board)) == len(board["templating"]["list"])
        for panel in board["panels"]:
            used = used_in(*(target["expr"] for target in panel["targets"]))
            said = f" {panel['description']} "
            for name in extra:
                label = variables(board)[name]["label"]
                assert (name in used) is not bool(re.search(rf"Not filtered by [^.]*\b{label}( or |, |\.)", said)), (
                    name,
                    said,
                )


def test_such_a_variable_is_narrowed_as_the_others_are(tmp_path: Path) -> None:
    for uid, board in written(tmp_path, "{region: tag.region}").items():
        if uid != "mlflow-exporter":
            narrowed = variables(board)["region"]["query"]["query"]
            assert ('experiment="$experiment"' in narrowed) is (uid == "mlflow-versions"), narrowed


def test_only_series_that_have_the_label_are_filtered_by_it(tmp_path: Path) -> None:
    have = {family.name for family in FAMILIES if "trace_name" in family.label_names}
    for board in written(tmp_path, "{team: tag.team}").values():
        for panel in board["panels"]:
            for metric, matchers in SELECTOR.findall(" ".join(target["expr"] for target in panel["targets"])):
                name = re.sub("_(bucket|count|sum)$", "", metric)
                assert ('team=~"$label_team"' in matchers) is (name in have), metric


def test_without_such_labels_they_are_as_they_stand_in_a_clone(tmp_path: Path) -> None:
    assert written(tmp_path, "{}") == DASHBOARDS


def test_a_mistake_in_the_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "exporter.yml").write_text("labels: {extra: {version: tag.x}}")
    arguments = ["dashboards", f"--output={tmp_path / 'boards'}", f"--config.file={tmp_path / 'exporter.yml'}"]
    done = CliRunner().invoke(cli, arguments)
    assert (done.exit_code, "version is already a label" in done.output) == (2, True), done.output
    assert not (tmp_path / "boards").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(cli, ["dashboards", f"--output={tmp_path}/file/boards"])
    assert (done.exit_code, "; choose another folder" in done.output) == (2, True), done.output
