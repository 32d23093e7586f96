"""`report --format html` and `--output` against a real MLflow server."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import Result

from mlflow_trace_exporter import make_report
from mlflow_trace_exporter.domain.moments import utc
from tests.support.commands import config_file, invoke
from tests.support.real import EXPORTER, Mlflow, Trace, now_ms

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def config(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = mlflow.experiment()
    traces = [
        Trace(
            now_ms() - number * 60_000 - 30_000,
            100 + number,
            "ERROR" if number % 10 == 0 else "OK",
            tags={"environment": "production", "app_version": f"{number % 3}"},
            metadata={"mlflow.trace.tokenUsage": json.dumps({"input_tokens": number, "output_tokens": 2})},
        )
        for number in range(300)
    ]
    mlflow.insert(experiment, traces)
    return config_file(tmp_path_factory.mktemp("report"), mlflow, experiment)


def run(config: Path, *arguments: str) -> Result:
    return invoke("report", f"--config.file={config}", "--since=6h", *arguments)


def test_the_charts_hold_every_trace(mlflow: Mlflow, config: Path) -> None:
    report = make_report(since="6h", config=config)
    for parts in (report.charts.over_time, report.charts.latency):
        assert sum(each.traces for each in parts) == report.total.traces == 300
        assert sum(each.errors for each in parts) == report.total.errors == 30
    (versions,) = report.charts.groupings
    assert sum(row.input_tokens or 0 for row in versions.rows) == report.total.input_tokens
    assert report.figures().keys() == {"traces", "latency", "quantiles", "version"}
    assert report.server == mlflow.uri


def test_the_page_says_what_was_asked_and_lists_traces_with_links(mlflow: Mlflow, config: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    asked = (
        "--environment=production",
        "--version=1",
        "--status=ok",
        "--min-duration=150ms",
        "--filter=trace.name != 'x'",
    )
    done = run(config, *asked, "--format=html", f"--output={file}")
    assert (done.exit_code, done.stdout) == (0, "")
    text = file.read_text(encoding="utf-8")
    (title,) = re.findall("<title>(Traces of .*)</title>", text)
    assert title.startswith(f"Traces of {mlflow.uri}, experiments ")
    assert ", environment production, version 1, status ok, duration at least 0.15 s, filter trace.name != " in title
    assert text.count(f'<a href="{mlflow.uri}/#/experiments/') == 10, "the slowest"
    assert "Latest failed traces" not in text, "there are none among them"
    assert "Latest failed traces" in run(config, "--format=html", "--slowest=0").stdout


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown", "html"])
def test_a_file_holds_what_is_printed_otherwise(config: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / "report"
    asked = (f"--since={utc(now_ms() - 5 * HOUR_MS):%Y-%m-%dT%H:%M}", f"--until={utc(now_ms()):%Y-%m-%dT%H:%M}")
    printed = invoke("report", f"--config.file={config}", *asked, f"--format={form}").stdout
    done = invoke("report", f"--config.file={config}", *asked, f"--format={form}", f"--output={file}")
    assert (done.exit_code, done.stdout) == (0, "")
    assert file.read_text(encoding="utf-8") == printed
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_mistake_leaves_the_file_as_it_was(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("yesterday's")
    done = run(config, "--format=html", "--environment=prodcution", f"--output={file}")
    assert done.exit_code == 2
    assert file.read_text() == "yesterday's"
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    done = run(config, "--format=html", f"--output={tmp_path / 'nowhere' / 'report.html'}")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "--output: cannot write" in done.stderr


def test_a_pipe_is_not_replaced_by_a_file(config: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = run(config, f"--output={pipe}")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert f"--output: {pipe} is not a regular file" in done.stderr
    assert pipe.is_fifo()


def test_without_matplotlib_one_line_says_what_to_install_before_mlflow_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("mlflow: {tracking_uri: 'http://127.0.0.1:1'}")
    command = [*EXPORTER, "report", f"--config.file={file}", "--format=html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "pip install 'mlflow-trace-exporter[plots]'" in done.stderr


def test_a_terminal_gets_no_page(config: Path) -> None:
    command = f"{shlex.join(EXPORTER)} report --config.file={config} --format=html"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--format html: is for a browser; name a file with --output" in done.stdout
