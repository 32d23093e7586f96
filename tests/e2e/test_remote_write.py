"""What Prometheus writes to VictoriaMetrics: the queries of dashboards and rules find the same there.

Both are asked about the same moments. They differ by design in one thing: Prometheus extrapolates what a counter gained
to the ends of the window. VictoriaMetrics compares its last value with the last one before the window.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from time import time
from typing import Any

import pytest
import yaml

from mlflow_trace_exporter.bundled import packaged
from mlflow_trace_exporter.demo.processes import HOST, Processes
from tests.e2e.test_dashboards import CHOSEN, log_known, scraping
from tests.support.panels import PANELS, Panel, filled
from tests.support.ports import free_port
from tests.support.prometheus_api import PrometheusApi, StoodStillError, undisturbed
from tests.support.real import Mlflow, eventually, tool
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.long

RANGE_S = 600
"""The time range of the dashboards, which is longer than the test."""

RATE_S = 20
"""The window of rates. The series are older: VictoriaMetrics divides by the time for which there is a series."""

QUIET_S = 12
"""How long nothing has changed at the last moment, so that windows of 5 s contain no change."""

AGO_S = (0, 4, 8)
"""Both are asked about so many seconds before the last moment. At one of them, a counter may have changed just when a
window began, which VictoriaMetrics sees and Prometheus does not."""

EXTRAPOLATED = 1 / 9
"""By how much of itself a number can be higher in Prometheus: by one scrape in a window of 10 s."""

ERRATIC = "process_cpu_seconds_total"
"""A counter that does not move evenly, so that the second before the window is not like those in it."""

Found = dict[tuple[tuple[str, str], ...], float]


@dataclass(frozen=True)
class Both:
    """A Prometheus, and a VictoriaMetrics that has all of its samples until ``at_s`` (Unix s)."""

    prometheus: PrometheusApi
    victoria_metrics: PrometheusApi
    experiment: str
    at_s: float
    rules: Path

    def differences(self, expr: str) -> list[str]:
        """What is not the same at every moment. Where Prometheus extrapolates, what is not nearly the same at any."""
        if re.search(r"\b(rate|increase)\(", expr):
            return min((self._differences(expr, ago_s, EXTRAPOLATED) for ago_s in AGO_S), key=len)
        return [text for ago_s in AGO_S for text in self._differences(expr, ago_s, 1e-9)]

    def _differences(self, expr: str, ago_s: int, near: float) -> list[str]:
        here, there = (_found(api, expr, self.at_s - ago_s) for api in (self.prometheus, self.victoria_metrics))
        if here.keys() != there.keys():
            return [f"only one of them has {sorted(here.keys() ^ there.keys())}"]
        different = [key for key in here if here[key] != pytest.approx(there[key], rel=near, abs=1e-9)]
        return [] if ERRATIC in expr else [f"{key}: {here[key]}, {there[key]}" for key in different]


def _found(api: PrometheusApi, expr: str, at_s: float) -> Found:
    """The values by labels. What is not a number is left out, because VictoriaMetrics has no result there."""
    values = ((_labels(each["metric"]), float(each["value"][1])) for each in api.query(expr, at_s))
    return {labels: value for labels, value in values if not isnan(value)}


def _labels(metric: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """All but the name, which VictoriaMetrics keeps in other cases."""
    return tuple(sorted(pair for pair in metric.items() if pair[0] != "__name__"))


@pytest.fixture(scope="module")
def both(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with undisturbed(partial(writing, mlflow), tmp_path_factory.mktemp("remote-write")) as found:
        yield found


@contextmanager
def writing(mlflow: Mlflow, directory: Path) -> Iterator[Both]:
    """Raises StoodStillError if a scrape is missing, after which nothing is evenly spread any more."""
    program = tool("victoria-metrics")
    url = f"http://{HOST}:{free_port()}"
    # it hides the last 30 seconds otherwise, in which samples can be missing
    flags = [f"-storageDataPath={directory / 'victoria-metrics'}", "-search.latencyOffset=0s"]
    written = {"url": f"{url}/api/v1/write", "queue_config": {"batch_send_deadline": "1s"}}
    with Processes(directory) as processes:
        processes.start_program("victoria-metrics", [program, *flags, f"-httpListenAddr={url[7:]}"], {})
        processes.wait_until_ready(f"{url}/health", lambda: False, HANG_S)
        with scraping(mlflow, directory, remote_write=[written]) as (prometheus, experiment, _):
            query, other = PrometheusApi(prometheus).query, PrometheusApi(url)
            past = f"min(count_over_time(mlflow_traces_total[10m])) > {RATE_S + 10}"
            eventually(lambda: query(past), "it has a past")
            log_known(mlflow, experiment)
            eventually(lambda: query("sum(mlflow_traces_total) == 83"), "what is new is scraped")
            changed_s = time()
            eventually(lambda: time() > changed_s + QUIET_S, "nothing changes")
            at_s = time()
            # series are not written in the order of time, and a rule takes a moment to be evaluated
            eventually(lambda: (other.value("min(timestamp(mlflow_up))") or 0) > at_s + 3, "all is written")
            if (gap_s := PrometheusApi(prometheus).longest_gap_s(f"mlflow_up[{2 * RATE_S}s]", at_s)) > 3:
                raise StoodStillError(f"no scrape for {gap_s:.0f} s")
            yield Both(PrometheusApi(prometheus), other, experiment, at_s, directory / "stack" / "rules.yml")


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("panel", PANELS, ids=str)
def test_every_panel_shows_the_same(panel: Panel, both: Both) -> None:
    chosen = {**CHOSEN, "experiment": both.experiment}
    for expr in panel.queries.values():
        assert both.differences(filled(expr, chosen, RANGE_S, rate=f"{RATE_S}s")) == [], expr


def test_every_rule_finds_the_same(both: Both) -> None:
    expressions = [rule["expr"] for rule in rules(both.rules)]
    assert {expr: found for expr in expressions if (found := both.differences(expr))} == {}


def test_most_rules_find_something(both: Both) -> None:
    """Otherwise they would find the same however they differ."""
    records = [rule["expr"] for rule in rules(both.rules) if "record" in rule]
    assert len([expr for expr in records if both.victoria_metrics.query(expr, both.at_s)]) > 0.7 * len(records)


def test_what_is_recorded_is_exactly_the_same(both: Both) -> None:
    for name in {rule["record"] for rule in rules(both.rules) if "record" in rule}:
        assert both.differences(name) == []


def test_vmalert_reads_the_rules() -> None:
    files = packaged.prometheus("rules") / "*.yml"
    command = [tool("vmalert"), "-dryRun", f"-rule={files}", f"-datasource.url=http://{HOST}:1", "-notifier.blackhole"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
