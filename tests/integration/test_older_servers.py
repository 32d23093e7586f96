"""Commands and a server that lacks what newer ones have.

It is a real one, behind a proxy that refuses in the very words of MLflow 3.5.1 what that does not know.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mlflow_trace_exporter.demo.processes import fetch
from tests.support.commands import invoke
from tests.support.proxy import Request, proxy, respond
from tests.support.real import Exporter, Mlflow, Trace, eventually, now_ms
from tests.support.waiting import HANG_S

UNKNOWN = {
    "end_time_ms": "Invalid attribute key 'end_time_ms' specified. Valid keys are '{'name', 'request_id'}'",
    "LIKE": "Invalid comparator 'LIKE' not one of '{'!=', '='}",
}


@pytest.fixture
def config(mlflow: Mlflow, tmp_path: Path) -> Iterator[Path]:
    """The configuration for such a server, which has three traces of production, and two of alice among five."""
    experiment = mlflow.experiment()
    for environment, user in ("pa", "pb", "pa", "sb", "sc"):
        tags = {"environment": {"p": "production", "s": "staging"}[environment], "app_version": "1.0"}
        mlflow.log(experiment, Trace(now_ms() - 60_000, tags=tags, metadata={"mlflow.trace.user": f"{user}lice"}))

    def as_3_5(request: Request, _: bytes) -> bool:
        if request.path == "/version":
            respond(request, 200, b"3.5.1")
        elif request.path.endswith("/traces/metrics"):
            respond(request, 405, b"<!doctype html><title>405 Method Not Allowed</title>")
        elif words := [words for term, words in UNKNOWN.items() if term.encode() in request.body]:
            respond(request, 400, json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": words[0]}).encode())
        else:
            return False
        return True

    with proxy(mlflow.uri) as old:
        old.misbehave = as_3_5
        file = tmp_path / "exporter.yml"
        file.write_text(
            f"mlflow: {{tracking_uri: '{old.url}', experiments: {experiment}}}\n"
            f"ledger: {{path: {tmp_path}/ledger.db}}\n"
        )
        yield file


@pytest.mark.parametrize("command", [("check",), ("doctor",), ("serve", "--config.check")])
def test_checks_say_what_is_done_without(config: Path, command: tuple[str, ...]) -> None:
    done = invoke(*command, f"--config.file={config}")
    assert done.exit_code == 0, done.output
    for words in ("search by end time", "own trace counts", "part of a tag", "15 s after its last", "cost is missing"):
        assert words in done.output
    assert "traces       5 in the last hour" in done.output


def test_reports_read_everything_and_count_what_is_asked_for(config: Path) -> None:
    for question, traces in ((("--environment=production",), 3), (("--user=alice",), 2), ((), 5)):
        done = invoke("report", f"--config.file={config}", "--format=json", *question)
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["total"]["traces"] == traces


def test_an_environment_that_no_trace_has_is_named_with_those_that_there_are(config: Path) -> None:
    done = invoke("report", f"--config.file={config}", "--environment=prodution")
    assert done.exit_code == 2, done.output
    assert "did you mean production?" in done.output


def test_health(config: Path) -> None:
    question = ("--environment=production", "--error-rate=5%", "--min-traces=3", "--format=json")
    done = invoke("health", f"--config.file={config}", *question)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["environments"][0]["traces"] == 3


def test_traces_are_listed_by_environment(config: Path, tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, yaml.safe_load(config.read_text()))
    with exporter.running():
        page = eventually(lambda: fetch(f"{exporter.url}/traces?environment=production", HANG_S), "the page")
    assert len(re.findall(r"<tr>\s*<td", page)) == 3
