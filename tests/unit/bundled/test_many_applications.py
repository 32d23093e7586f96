"""The dashboards with many applications, in promtool: few lines in a graph, and the worst application first."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.panels import DASHBOARDS, PANELS, Panel, column, filled, query_variables
from tests.support.real import tool
from tests.unit.bundled.test_dashboards import SELECTOR, variables

ASKED_AT = "2h"
GRAPHS = [
    panel
    for panel in PANELS
    if panel.content["type"] == "timeseries"
    and panel.uid in ("mlflow-overview", "mlflow-objectives", "mlflow-cost", "mlflow-models", "mlflow-quality")
]
TITLE = "Applications"


def over_an_hour(expr: str) -> str:
    return filled(expr, range_s=3600, rate="5m")


def series(metric: str, rate: float, **labels: str) -> dict[str, str]:
    """A counter that grows by ``rate`` a minute, or the constant ``rate`` of a gauge or a recorded series."""
    labels = {"job": "j", "instance": "i", **labels}
    text = ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
    is_counter = re.search("_(total|sum|count|bucket)$", metric) and not metric.startswith("experiment_")
    return {"series": f"{metric}{{{text}}}", "values": f"0+{rate}x150" if is_counter else f"{rate}x150"}


def check(folder: Path, given: Iterable[Mapping[str, str]], asked: Sequence[Mapping[str, Any]]) -> None:
    """Asserts with promtool what each query gives."""
    cases = [{"eval_time": ASKED_AT, **each} for each in asked]
    file = folder / "many.yml"
    file.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": [*given], "promql_expr_test": cases}]}))
    done = subprocess.run([tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def of_fourteen_applications(expr: str) -> Iterator[dict[str, str]]:
    """All series that a query could select, of fourteen applications, each in two environments and with a model and a
    tool of its own."""
    selected = {(metric, *re.findall(r'(\w+)="([^"$]+)"', matchers)) for metric, matchers in SELECTOR.findall(expr)}
    for metric, *matchers in sorted(selected):
        chosen = dict(matchers)
        edges = ("0.5", "1", "+Inf") if metric.endswith("_bucket") else (None,)
        for at, environment, edge in product(range(1, 15), ("production", "staging"), edges):
            labels = {"experiment": f"app-{at}", "environment": environment, "version": "1", "trace_name": "t"}
            labels |= {"provider": "p", "model": f"m-{at}", "span_type": "TOOL", "span_name": f"s-{at}"}
            labels |= {"assessment": "correctness", "source": "human", "value": "yes"}
            is_share = "objective" in metric or "ratio" in metric
            yield series(metric, 0.5 if is_share else at, **(labels | chosen), **({"le": edge} if edge else {}))


@pytest.mark.parametrize("panel", GRAPHS, ids=str)
def test_a_graph_has_ten_lines_of_many_applications(panel: Panel, tmp_path: Path) -> None:
    """Of each query, and not none."""
    for query in map(over_an_hour, panel.queries.values()):
        few = {"expr": f"count({query}) <= bool 10", "exp_samples": [{"labels": "{}", "value": 1}]}
        check(tmp_path, of_fourteen_applications(query), [few])


@pytest.mark.parametrize("panel", GRAPHS, ids=str)
def test_the_lines_of_a_graph_are_the_same_at_all_times(panel: Panel) -> None:
    """Each rank is of the end of the time range, wherever a point is."""
    for expr in panel.queries.values():
        _, _, rank = expr.partition("topk(")
        assert re.findall(r"\}(?:\[[^]]*\])?(?! @ end\(\)|\[)", rank) == []


PER_MINUTE = {"big": (1000, 10), "small": (10, 10), "tiny": (0.05, 0.025), "healthy": (100, 0), "free": (10, 10)}
"""Traces, and how many of them fail."""


def of_different_sizes() -> Iterator[dict[str, str]]:
    for name, (traces, errors) in PER_MINUTE.items():
        labels = {"experiment": name, "environment": "production"}
        more = {"version": "1", "trace_name": "t"}
        yield series("mlflow_traces_total", traces, **labels, **more)
        yield series("mlflow_trace_errors_total", errors, **labels, **more)
        if name != "free":
            yield series("mlflow_objective_error_ratio", 0.05, **labels)
            yield series("mlflow_objective_min_traces", 20, **labels)


def test_the_small_application_that_fails_is_worse_than_the_big_one(tmp_path: Path) -> None:
    """One that has too few traces to be judged is not the worst. Without an objective, none is bad."""
    expected = {"big": 0.01 / 0.05, "small": 1 / 0.05, "tiny": 1.5 / (0.05 * 20), "healthy": 0}
    samples = [
        {"labels": f'{{experiment="{name}", environment="production"}}', "value": round(value, 6)}
        for name, value in expected.items()
    ]
    for name in ("Worst", "Error budget burned"):
        expr = f"round({over_an_hour(column('mlflow-overview', TITLE, name))}, 1e-6)"
        check(tmp_path, of_different_sizes(), [{"expr": expr, "exp_samples": samples}])


def panel_of(uid: str, title: str) -> Mapping[str, Any]:
    (found,) = [panel.content for panel in PANELS if (panel.uid, panel.title) == (uid, title)]
    return found


@pytest.mark.parametrize(
    ("uid", "title", "first"),
    [
        ("mlflow-overview", TITLE, "Worst"),
        ("mlflow-overview", "Versions and trace names", "Traces"),
        ("mlflow-objectives", "30-day error budgets", "Error budget used"),
        ("mlflow-cost", "Top spenders", "Cost"),
        ("mlflow-models", "Models", "Cost"),
        ("mlflow-models", "Tools and other spans", "Failures"),
        ("mlflow-quality", "Assessments", "Bad vs allowed"),
    ],
)
def test_the_highest_comes_first(uid: str, title: str, first: str) -> None:
    panel = panel_of(uid, title)
    assert panel["options"]["sortBy"] == [{"displayName": first, "desc": True}]
    assert first in panel["transformations"][1]["options"]["renameByName"].values()


def links(panel: Mapping[str, Any]) -> dict[str, str]:
    """The URL behind the cells of a column, by its title."""
    return {
        override["matcher"]["options"]: link["url"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "links"
        for link in each["value"]
    }


@pytest.mark.parametrize(("uid", "title"), [("mlflow-overview", TITLE), ("mlflow-objectives", "30-day error budgets")])
def test_a_row_leads_to_its_application_at_the_same_time(uid: str, title: str) -> None:
    assert links(panel_of(uid, title))["experiment"] == (
        f"/d/{uid}?${{datasource:queryparam}}&${{job:queryparam}}&${{instance:queryparam}}"
        "&var-experiment=${__data.fields.experiment:percentencode}"
        "&var-environment=${__data.fields.environment:percentencode}&${__url_time_range}"
    )


def test_a_row_leads_to_its_traces() -> None:
    found = links(panel_of("mlflow-overview", TITLE))
    for name, status in (("Traces/s", ""), ("Failed", "status=error&"), ("Slow", "status=slow&")):
        assert found[name].startswith(
            "${exporter_url:raw}/traces?experiment=${__data.fields.experiment:percentencode}"
            f"&environment=${{__data.fields.environment:percentencode}}&{status}since="
        )


@pytest.mark.parametrize(
    "uid",
    ["mlflow-overview", "mlflow-objectives", "mlflow-versions", "mlflow-cost", "mlflow-models", "mlflow-quality"],
)
def test_the_dashboard_is_of_the_experiments_of_a_team(uid: str) -> None:
    names = [each["name"] for each in query_variables(DASHBOARDS[uid])]
    assert names[:4] == ["job", "instance", "team", "experiment"]
    team, experiment = (variables(DASHBOARDS[uid])[name] for name in ("team", "experiment"))
    assert team["allValue"] == ".*", "an application without a team is in no other choice"
    assert 'team=~"$team"' in experiment["query"]["query"]
    assert "allValue" not in experiment, "All is what is offered: the experiments of the team"


def test_versions_are_compared_within_one_application() -> None:
    board = DASHBOARDS["mlflow-versions"]
    experiment = variables(board)["experiment"]
    assert (experiment["multi"], experiment["includeAll"]) == (False, False)
    text = json.dumps(board).replace('\\"', '"')
    assert 'experiment="$experiment"' in text
    assert "experiment=~" not in text, "Grafana escapes only what can be several"
