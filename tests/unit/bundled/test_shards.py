"""The dashboards with shards, in promtool: they show the same as with one exporter that counts all applications."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.panels import PANELS, Panel, filled
from tests.unit.bundled.test_many_applications import check, of_fourteen_applications

APPLICATIONS, SHARDS = 4, 3
"""There are not more applications than the shortest ranking shows, because many of them are equal."""

COMPARED = {"experiment": "app-1", "candidate": "1", "baseline": "1"}
OF_TRACES = [panel for panel in PANELS if panel.uid != "mlflow-exporter"]


def of_both(expr: str) -> Iterator[dict[str, str]]:
    """The series of an exporter, and the same from shards that each have some of the applications. Two shards have two
    replicas, each with a ledger of its own."""
    for each in of_fourteen_applications(expr):
        name, labels = each["series"].split("{")
        number = int(re.findall(r'experiment="app-(\d+)"', labels)[0])
        if number > APPLICATIONS or "staging" in labels:
            continue
        more = 'team="t", alertname="MlflowMostTracesFail"' + ("" if "kind=" in labels else ', kind="input"')
        shard = number % SHARDS
        of_shard = [
            f'job="shards", instance="{shard}{replica}", shard="{shard}"' for replica in ("ab" if shard else "a")
        ]
        recorded = ":" in name or name == "ALERTS"
        for target in ('job="j", instance="i"', *(['job="shards"'] if recorded else of_shard)):
            others = labels.replace('job="j", instance="i"', f"{target}, {more}")
            yield {**each, "series": f"{name}{{{others}"}


@pytest.mark.parametrize("panel", OF_TRACES, ids=str)
def test_a_panel_shows_the_same_as_without_shards(panel: Panel, tmp_path: Path) -> None:
    chosen = COMPARED if panel.uid == "mlflow-versions" else {}
    for expr in panel.queries.values():
        one, shards = (filled(expr, {**chosen, "job": job}, range_s=3600, rate="5m") for job in ("j", "shards"))
        same = f"count(abs(({one}) - ignoring (job) ({shards})) < 1e-9)"
        asked = [
            {"expr": f"{same} == bool count({one})", "exp_samples": [{"labels": "{}", "value": 1}]},
            {"expr": f"{same} == bool count({shards})", "exp_samples": [{"labels": "{}", "value": 1}]},
        ]
        check(tmp_path, of_both(expr), asked)
