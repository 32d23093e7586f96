"""`demo` as a user sees it: everything is real but the LLM."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from mlflow_trace_exporter.demo.processes import HOST, fetch
from tests.support.ended import ended
from tests.support.ports import free_port
from tests.support.real import eventually, samples, tool
from tests.support.waiting import HANG_S

RUN_S = 3 * HANG_S
"""A demo that hangs. All that it starts takes long on a slow machine."""

Start = Callable[..., tuple[subprocess.Popen[str], *tuple[int, ...]]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a demo, which ends with the test."""
    with ExitStack() as running:

        def start(directory: Path, *arguments: str) -> tuple[subprocess.Popen[str], *tuple[int, ...]]:
            demo, *ports = _started(directory, *arguments)
            running.enter_context(ended(demo))
            return demo, *ports

        yield start


def _started(directory: Path, *arguments: str) -> tuple[subprocess.Popen[str], *tuple[int, ...]]:
    ports = {name: free_port() for name in ("mlflow", "exporter", "prometheus", "alertmanager")}
    command = [sys.executable, "-m", "mlflow_trace_exporter", "demo", f"--data-dir={directory}", *arguments]
    command += [f"--{name}-port={port}" for name, port in ports.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI", "GROQ"))}
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    return demo, *ports.values()


def left_behind(directory: Path, *ports: int) -> list[str]:
    """Processes that name the directory, and ports that still answer."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    found = [line for line in listing.splitlines() if str(directory) in line]
    for port in ports:
        with socket.socket() as probe:
            found += [f"port {port}"] if probe.connect_ex((HOST, port)) == 0 else []
    return found


GROQ = "calls of llama-3.3-70b-versatile of provider groq"


@pytest.mark.long
def test_incident_from_start_to_summary(start: Start, tmp_path: Path) -> None:
    tool("prometheus")
    tool("alertmanager")
    demo, *ports = start(tmp_path, "--duration=15m", "--rate=5", "--scenario=incident")
    output = read_until(
        demo,
        "team: firing MlflowErrorBudgetBurn in production of tideline-support: Traces fail so often",
        f"pager: firing MlflowModelFails in {GROQ}: Calls of a model fail",
        "team: firing MlflowVersionRatedWorse in production of tideline-support: A version is rated worse",
    )
    output += read_until(demo, "environment=staging")  # the table once more, by then of all versions
    page = re.search(rf"^\d+s pager: firing \w+ in {GROQ}: .*\n    (.*)\n    its traces: (.*)$", output, re.M)
    assert page is not None, output
    assert "for other providers, 0% more of the calls failed than usual" in page[1]
    assert "tideline-support in production, " in page[1]
    assert "tr-" in requests.get(page[2], timeout=HANG_S).text
    demo.send_signal(signal.SIGINT)
    output += demo.communicate(timeout=RUN_S)[0]
    assert demo.returncode == 0, output
    assert "Traceback" not in output
    assert left_behind(tmp_path, *ports) == []

    values = r"environment=production version=1\.4\.0 traces=\d+ errors=\S+% p50=\S+s"
    assert re.search(rf"^\d+s experiment=tideline-support {values} .*$", output, re.M), output
    assert "incident: 1.5.0 is being rolled out" in output
    thumbs = dict(re.findall(r"production +(\S+) +thumb +human +\d+ +\S+ (true|false)", output))
    assert thumbs == {"1.4.0": "true", "1.5.0": "false"}, "what most users say"
    assert not re.search(rf"^\d+s \w+: firing \w+ in (?!production of tideline-support|{GROQ})", output, re.M), output
    search, support = output.split("what was counted")[1].split("tideline-support")
    assert "tideline-search" in search
    assert not list(Path.cwd().glob("mlflow.db")), "nothing is left where it was started either"
    healthy, rows = counted(search), counted(support)
    assert healthy.keys() == {("production", "2.3.0")}, output
    assert healthy["production", "2.3.0"][1] == 0, "the incident does not reach the other application"
    assert rows.keys() == {("production", "1.4.0"), ("production", "1.5.0"), ("staging", "1.5.0")}, output
    for traces, _, _, tokens, cost in (*healthy.values(), *rows.values()):
        assert min(traces, tokens, cost) > 0, output
    assert rows["production", "1.5.0"][2] > rows["production", "1.4.0"][2], "the new version is slower"
    assert f"http://{HOST}:{ports[0]}" in output
    assert f"http://{HOST}:{ports[1]}/metrics" in output
    asked = re.search(r"asked (\d+) questions; sampling ratio 0\.5", (tmp_path / "logs" / "chatbot.log").read_text())
    assert asked is not None
    assert 0 < sum(row[0] for row in rows.values()) < int(asked[1]), "not every question is sampled"


def counted(summary: str) -> dict[tuple[str, str], tuple[int, float, float, int, float]]:
    """Traces, errors in percent, p95 in seconds, tokens and cost by environment and version."""
    return {
        (environment, version): (int(traces), float(errors), float(p95), int(tokens.replace(",", "")), float(cost))
        for environment, version, traces, errors, p95, tokens, cost in re.findall(
            r"(\w+) +(\S+) +(\d+) +([\d.]+)% +[\d.]+s +([\d.]+)s +[\d.]+s +([\d,]+) +\$([\d.]+)",
            summary,
        )
    }


@pytest.mark.long
def test_a_run_ends_after_its_duration_and_a_second_one_goes_on_from_the_first(start: Start, tmp_path: Path) -> None:
    demo, *ports = start(tmp_path, "--rate=10", "--duration=20s")
    output, _ = demo.communicate(timeout=RUN_S)
    assert demo.returncode == 0, output
    assert "stopping" in output
    assert left_behind(tmp_path, *ports) == []
    summary = re.findall(r"^ *(?:production|staging) +\S+ +(\d+) ", output.split("what was counted")[1], re.M)
    traces = sum(map(int, summary))
    assert traces > 5, output

    demo, *ports = start(tmp_path, "--rate=0.1")
    metrics = f"http://{HOST}:{ports[1]}/metrics"
    assert eventually(lambda: total(fetch(metrics)), "the exporter runs again", 90) >= traces
    read_until(demo, "everything is running")
    demo.send_signal(signal.SIGHUP)  # its terminal was closed
    read_until(demo, "what was counted")
    for _ in range(3):  # and while it cleans up, somebody cannot wait
        demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=RUN_S)
    assert left_behind(tmp_path, *ports) == [], f"exit code {demo.returncode}: {output}"


def read_until(demo: subprocess.Popen[str], *words: str) -> str:
    """What it says up to the line by which it has said all these words; fails the test if it ends before."""
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if all(each in said for each in words):
            return said
    pytest.fail(f"it ended without saying {words!r}:\n{said}")


def total(text: str | None) -> float:
    return sum(value for sample, value in samples(text or "").items() if sample.startswith("mlflow_traces_total{"))


def test_a_process_that_fails_is_told_with_its_last_words(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database\n" * 50)
    demo, *ports = start(tmp_path)
    output, _ = demo.communicate(timeout=RUN_S)
    assert demo.returncode == 2, output
    assert "mlflow exited with code" in output
    assert f"full log: {tmp_path}/logs/mlflow.log" in output
    assert left_behind(tmp_path, *ports) == []
