"""Links into an MLflow with workspaces, in a browser: without the name of the workspace its pages show another one."""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import requests

from mlflow_trace_exporter.demo.processes import Process, Processes, free_port
from tests.support.browser import browse
from tests.support.commands import config_file, invoke
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms

WORKSPACE = "team-a"


class WithWorkspaces(Processes):
    """Starts MLflow servers that have workspaces."""

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        return super().start(name, arguments, {**environment, "MLFLOW_ENABLE_WORKSPACES": "true"})


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mlflow]:
    """A server of its own; its client reads the workspace."""
    data = tmp_path / "mlflow"
    data.mkdir()
    with WithWorkspaces(data) as processes:
        server = Mlflow(data, processes, free_port())
        made = requests.post(f"{server.uri}/api/3.0/mlflow/workspaces", json={"name": WORKSPACE}, timeout=10)
        assert made.ok, made.text
        monkeypatch.setenv("MLFLOW_WORKSPACE", WORKSPACE)
        yield server


@pytest.mark.long
def test_links_into_mlflow_lead_to_the_workspace_that_is_read(mlflow: Mlflow, tmp_path: Path) -> None:
    experiment = mlflow.experiment("chatbot")
    (trace_id,) = mlflow.log(experiment, Trace(now_ms() - 5_000))
    file = config_file(tmp_path, mlflow, experiment)
    report = json.loads(invoke("report", f"--config.file={file}", "--slowest=1", "--format=json").stdout)
    exporter = Exporter(tmp_path, {"mlflow": {"tracking_uri": mlflow.uri}, "poll": {"interval": "1s", "start": "1h"}})
    with exporter.running():
        eventually(lambda: exporter.samples().get("mlflow_up"), "it has polled")
        pages = [requests.get(f"{exporter.url}/{path}", timeout=10).text for path in ("", "traces")]
        redirect = requests.get(f"{exporter.url}/trace/{trace_id}", allow_redirects=False, timeout=10)
    links = [html.unescape(link) for page in pages for link in re.findall(rf'href="({mlflow.uri}[^"]*)"', page)]
    of_trace = f"{mlflow.uri}/#/experiments/{mlflow.experiment_id(experiment)}/traces/{trace_id}?workspace={WORKSPACE}"
    assert len(links) == 3, "MLflow, the trace, and all traces"
    assert links[1] == redirect.headers["Location"] == report["slowest"][0]["url"] == of_trace
    for number, link in enumerate(links):
        browser = tmp_path / f"browser-{number}"  # one remembers the workspace that was open last
        browser.mkdir()
        assert experiment in browse(browser, link, "--dump-dom", "--virtual-time-budget=20000"), link
    other = browse(tmp_path, of_trace.partition("?")[0], "--dump-dom", "--virtual-time-budget=20000")
    assert experiment not in other
