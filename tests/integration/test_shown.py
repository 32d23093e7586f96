"""What a client wrote into MLflow moves no cursor, wherever it is shown."""

import re
from pathlib import Path

import pytest
import requests

from tests.support.commands import config_file, invoke
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms
from tests.support.waiting import HANG_S

ODD = "a\0b\x1b[31m\r\n\x9bc"


@pytest.fixture(scope="module")
def experiment(mlflow: Mlflow) -> str:
    """With traces that have odd ids, names, tags and users."""
    name = mlflow.experiment(f"odd\x1b[31m\r\n{now_ms()}")
    tags, metadata = {"environment": ODD, ODD: ODD, "app_version": ODD}, {"mlflow.trace.user": ODD}
    for number in range(3):
        trace_id = f"{ODD}{now_ms()}{number}"
        mlflow.log(name, Trace(now_ms() - 1_000, 5, "ERROR", ODD, trace_id=trace_id, tags=tags, metadata=metadata))
    return name


def fit(text: str) -> bool:
    return re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text) is None


@pytest.mark.parametrize(
    "command",
    [
        *(["check"], ["doctor"], ["health", "--error-rate=5%"], ["report"], ["report", "--format=json"]),
        *(["report", "--by=user", "--by=trace_name", f"--format={form}"] for form in ("csv", "markdown", "table")),
        ["report", "--slowest=5", "--errors=5"],
    ],
    ids=" ".join,
)
def test_commands(mlflow: Mlflow, experiment: str, tmp_path: Path, command: list[str]) -> None:
    file = config_file(tmp_path, mlflow, experiment)
    done = invoke(command[0], f"--config.file={file}", *command[1:])
    assert done.exit_code in (0, 1, 3), done.output
    assert fit(done.output)
    assert "\ufffd" in done.output or command[0] == "health" or "\\ufffd" in done.output


def test_complaints(mlflow: Mlflow, experiment: str, tmp_path: Path) -> None:
    selects_none = config_file(tmp_path, mlflow, experiment + "x")
    refused = invoke("check", f"--config.file={selects_none}")
    assert refused.exit_code == 2
    assert fit(refused.output)
    file = config_file(tmp_path, mlflow, "*", mlflow={"tracking_uri": mlflow.uri, "filter": f"{ODD} is odd"})
    refused = invoke("check", f"--config.file={file}")
    assert refused.exit_code == 2
    assert fit(refused.output)


def test_pages_and_the_log(mlflow: Mlflow, experiment: str, tmp_path: Path) -> None:
    poll = {"interval": "1s", "start": "1h"}
    settings = {"mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment}, "poll": poll}
    for fmt in ("logfmt", "json"):
        with Exporter(tmp_path, settings, "--log.level=debug", f"--log.format={fmt}").running() as exporter:
            eventually(lambda: exporter.samples().get("mlflow_up"), "it has polled")
            page = exporter.traces_page()
            assert fit(page)
            links = re.findall(r'href="[^"]*/traces/([^"?]+)"', page)
            assert len(links) == 3, "each leads to the trace"
            for link in links:
                answer = requests.get(f"{exporter.url}/trace/{link}", allow_redirects=False, timeout=HANG_S)
                assert answer.status_code == 302
                assert answer.headers["Location"].endswith(f"/traces/{link}")
            assert fit(requests.get(f"{exporter.url}/", timeout=HANG_S).text)
            assert fit(exporter.text())
        assert fit(exporter.log())
