"""From traces in MLflow to a notification: a real MLflow, exporter, Prometheus and Alertmanager.

They run with the files that come with the exporter. Their windows are a sixtieth here: an hour is a minute.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from mlflow_trace_exporter.demo.monitoring import Stack
from mlflow_trace_exporter.demo.pager import Notification, Pager
from mlflow_trace_exporter.demo.processes import Processes, fetch
from tests.integration.test_trace_list import ids
from tests.support.ports import free_port
from tests.support.prometheus_api import PrometheusApi
from tests.support.real import Exporter, Mlflow, ServerProcesses, Trace, eventually, now_ms, tool
from tests.support.waiting import HANG_S

PRODUCTION = {"environment": "production", "app_version": "1.4.0"}
BROKEN = {"environment": "production", "app_version": "1.5.0"}
STAGING = {"environment": "staging", "app_version": "1.5.0"}
TEAM = "checkout"
ERRORS = {"MlflowErrorBudgetBurn", "MlflowErrorRatioHigh", "MlflowMostTracesFail", "MlflowVersionFailsMore"}


@dataclass
class Watch:
    """Prometheus, Alertmanager, and the receiver of their notifications."""

    stack: Stack
    pager: Pager
    told: list[Notification] = field(default_factory=list)

    def notified(self, receiver: str, name: str, status: str) -> Notification | None:
        """The first notification of an alert, if it has come."""
        self.told += self.pager.news()
        found = (each for each in self.told if (each.receiver, each.status) == (receiver, status))
        return next((each for each in found if each.labels["alertname"] == name), None)

    def alerts(self) -> dict[str, Mapping[str, Any]]:
        """What Alertmanager knows, by the name of the alert."""
        found = json.loads(fetch(f"{self.stack.alertmanager}/api/v2/alerts", HANG_S) or "[]")
        return {each["labels"]["alertname"]: each for each in found}

    @property
    def prometheus(self) -> PrometheusApi:
        """What Prometheus finds."""
        return PrometheusApi(self.stack.prometheus)

    def missed_scrapes(self) -> bool:
        """Whether the exporter did not answer within a second at some time, as on a machine that is too busy."""
        return self.prometheus.query('min_over_time(up{job="mlflow-trace-exporter"}[1h]) == 0') != []

    def stood_still(self) -> bool:
        """Whether nothing was scraped for longer than a few seconds, which are minutes here. Alerts on that are right,
        and on what was not counted meanwhile."""
        return self.prometheus.longest_gap_s('up{job="mlflow-trace-exporter"}[1h]') > 3

    def state(self, name: str) -> str | None:
        """Whether an alert is active or suppressed."""
        found = self.alerts().get(name)
        return found["status"]["state"] if found else None


def is_before_the_first_scrape(told: Notification) -> bool:
    """Whether an alert fired because Prometheus, which has just started, did not scrape the exporter in time."""
    return told.labels["alertname"] == "MlflowTraceExporterDown" and "instance" not in told.labels


@contextmanager
def watching(exporter: Exporter, directory: Path) -> Iterator[Watch]:
    """Run both with the files that come with the exporter."""
    receiver_port = free_port()
    exporter_port = int(exporter.url.rpartition(":")[2])
    stack = Stack(exporter_port, free_port(), free_port(), receiver_port, scrape_s=1, shorter=60)
    stack.write(directory)
    with Pager(receiver_port) as pager, Processes(directory) as processes:
        processes.start_program("alertmanager", stack.alertmanager_command(tool("alertmanager"), directory), {})
        processes.start_program("prometheus", stack.prometheus_command(tool("prometheus"), directory), {})
        for address in (stack.alertmanager, stack.prometheus):
            processes.wait_until_ready(f"{address}/-/ready", lambda: False, HANG_S)
        yield Watch(stack, pager)


class Traffic:
    """Logs traces several times a second, as ``mix`` says at the moment; a context manager."""

    def __init__(self, mlflow: Mlflow, experiment: str, mix: Callable[[int], Trace]) -> None:
        self._mlflow, self._experiment = mlflow, experiment
        self.mix = mix
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._log, daemon=True)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _log(self) -> None:
        number = 0
        while not self._stopping.wait(0.08):
            number += 1
            self._mlflow.log(self._experiment, self.mix(number))


def healthy(number: int) -> Trace:
    return Trace(now_ms() - 500, tags=STAGING if number % 4 == 0 else PRODUCTION)


def broken(number: int) -> Trace:
    """Most of production runs the new version, which always fails."""
    if number % 4 == 0:
        return healthy(number)
    return Trace(now_ms() - 500, state="ERROR" if number % 8 else "OK", tags=BROKEN if number % 8 else PRODUCTION)


def settings(mlflow: Mlflow, *experiments: str) -> dict[str, Any]:
    """The first experiment has a team."""
    return {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": list(experiments)},
        "poll": {"interval": "1s"},
        "objectives": [
            {"experiment": experiments[0], "environment": "production", "error_ratio": 0.05, "team": TEAM},
            {"environment": "production", "error_ratio": 0.05},
        ],
    }


@pytest.mark.long
def test_an_incident_pages_with_its_traces_and_is_resolved(mlflow: Mlflow, tmp_path: Path) -> None:
    """And only with its own: another application beside it is healthy."""
    experiment, beside = mlflow.experiment(), mlflow.experiment()
    exporter = Exporter(tmp_path, settings(mlflow, experiment, beside))
    with exporter.running(), watching(exporter, tmp_path / "watch") as watch:
        with Traffic(mlflow, experiment, healthy) as traffic, Traffic(mlflow, beside, healthy):
            eventually(lambda: counted(exporter) > 50, "healthy traces are counted")
            assert watch.notified("team", "MlflowErrorRatioHigh", "firing") is None
            traffic.mix = broken
            page = eventually(lambda: watch.notified("pager", "MlflowErrorBudgetBurn", "firing"), "a page")
            eventually(lambda: watch.notified("team", "MlflowVersionFailsMore", "firing"), "the version is named")
            eventually(lambda: watch.state("MlflowErrorRatioHigh") == "suppressed", "critical is enough")
            traffic.mix = healthy
            eventually(lambda: watch.notified("pager", "MlflowErrorBudgetBurn", "resolved"), "it is resolved")
        stood_still = watch.stood_still()
        known = [each for each in watch.told if not stood_still or each.labels["alertname"] in ERRORS]
        of_traces = [each for each in known if "data" in each.labels]
        assert {each.labels["alertname"] for each in of_traces} <= ERRORS
        assert {each.labels["environment"] for each in of_traces} == {"production"}
        assert {(each.labels["experiment"], each.labels["team"]) for each in of_traces} == {(experiment, TEAM)}
        others = {each.labels["alertname"] for each in known if not is_before_the_first_scrape(each)} - ERRORS
        assert others <= ({"MlflowTraceExporterDown"} if watch.missed_scrapes() else set())
        assert {each.labels["alertname"] for each in known if each.receiver == "pager"} <= {
            "MlflowErrorBudgetBurn",
            "MlflowMostTracesFail",
        }
        assert f"In production of {experiment}, " in page.annotations["description"]
        assert "version 1.5.0, " in page.annotations["description"]
        leads_to_its_traces(page, mlflow, experiment)
        assert 'id="mlflowerrorbudgetburn"' in requests.get(page.annotations["runbook_url"], timeout=HANG_S).text


def leads_to_its_traces(page: Notification, mlflow: Mlflow, experiment: str) -> None:
    """What a program would ask, and what a person would click on."""

    def found(filter_string: str) -> dict[str, str]:
        traces = mlflow.client.search_traces(
            locations=[mlflow.experiment_id(experiment)],
            filter_string=filter_string,
            max_results=500,
            include_spans=False,
        )
        return {each.info.trace_id: each.info.tags["app_version"] for each in traces}

    searched = found(page.annotations["search_traces"])
    assert len(searched) > 30
    assert set(searched.values()) == {"1.5.0"}
    listed = ids(requests.get(page.annotations["traces_url"], timeout=HANG_S).text)
    assert len(listed) > 30
    assert set(listed) <= found("trace.status = 'ERROR'").keys()


def counted(exporter: Exporter) -> float:
    return sum(value for sample, value in exporter.samples().items() if sample.startswith("mlflow_traces_total{"))


@pytest.mark.long
def test_mlflow_is_killed_and_what_depends_on_it_is_inhibited(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    with ServerProcesses(tmp_path / "mlflow") as processes:
        mlflow = Mlflow(tmp_path / "mlflow", processes, free_port())
        experiment = mlflow.experiment()
        exporter = Exporter(tmp_path, settings(mlflow, experiment))
        with exporter.running(), watching(exporter, tmp_path / "watch") as watch:
            with Traffic(mlflow, experiment, broken):
                eventually(lambda: watch.notified("pager", "MlflowErrorBudgetBurn", "firing"), "a page")
            mlflow.stop()
            eventually(lambda: watch.notified("team", "MlflowUnreachable", "firing"), "the team is told")
            eventually(lambda: all_inhibited(watch.alerts()), "what depends on fresh numbers is inhibited")
            alerts = watch.alerts()
            assert {"MlflowUnreachable", "MlflowTracesStale", "MlflowErrorBudgetBurn"} <= alerts.keys()
            assert alerts["MlflowUnreachable"]["status"]["state"] == "active"
            assert alerts["MlflowTracesStale"]["receivers"] == [{"name": "nobody"}]
            quiet = "absent_over_time(experiment_environment:mlflow_trace_errors:ratio_increase5m[10s])"
            eventually(lambda: watch.prometheus.query(quiet), "the short window of the page is empty")
            assert watch.state("MlflowErrorBudgetBurn") == "suppressed", "it is not known to have ended"
            mlflow.start()
            eventually(lambda: watch.notified("pager", "MlflowErrorBudgetBurn", "resolved"), "the page is resolved")
            eventually(lambda: watch.notified("team", "MlflowUnreachable", "resolved"), "it is resolved")
            assert not [each for each in watch.told if each.labels["alertname"] == "MlflowTracesStale"]


def all_inhibited(alerts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether there are alerts on traces, and all of them are kept back because nothing is known of traces now."""
    stale = alerts.get("MlflowTracesStale", {}).get("fingerprint")
    reasons = [each["status"]["inhibitedBy"] for each in alerts.values() if each["labels"].get("data") == "traces"]
    return bool(reasons) and all(stale in each for each in reasons)
