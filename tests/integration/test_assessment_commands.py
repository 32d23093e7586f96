"""What the commands say about assessments, with a real MLflow server."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from mlflow_trace_exporter import make_report
from tests.support.commands import config_file, invoke
from tests.support.real import Mlflow, Trace, now_ms

PRODUCTION = {"environment": "production", "app_version": "1.4.0"}
STAGING = {"environment": "staging", "app_version": "1.4.0"}


@dataclass(frozen=True)
class Assessed:
    """An experiment with assessments, and its traces."""

    mlflow: Mlflow
    experiment: str
    traces: list[str]

    def run(self, directory: Path, command: str, *arguments: str, **settings: Any) -> Result:
        file = config_file(directory, self.mlflow, self.experiment, **settings)
        return invoke(command, f"--config.file={file}", *arguments)


@pytest.fixture(scope="module")
def assessed(mlflow: Mlflow) -> Assessed:
    """In production a judge finds 7 of 10 correct, and changes its mind about one of them. One scorer fails."""
    experiment, at_ms = mlflow.experiment(), now_ms() - 60_000
    traces = mlflow.insert(experiment, [Trace(at_ms - at, tags=PRODUCTION) for at in range(10)])
    traces += mlflow.insert(experiment, [Trace(at_ms, tags=STAGING)])
    for at, trace_id in enumerate(traces[:10]):
        cost = {"mlflow.assessment.judgeCost": "0.25"}
        judged = mlflow.assess(trace_id, "correctness", "yes" if at < 8 else "no", "LLM_JUDGE", metadata=cost)
        if at == 7:
            mlflow.assess(trace_id, "correctness", "no", "LLM_JUDGE", overrides=judged)
    mlflow.assess(traces[0], "relevance", 0.5, "CODE")
    mlflow.assess(traces[1], "relevance", 1, "CODE")
    mlflow.assess(traces[2], "relevance", None, "CODE", error=ValueError("no answer"))
    mlflow.assess(traces[10], "correctness", True)
    return Assessed(mlflow, experiment, traces)


def test_a_report_by_assessment(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "report", "--by=assessment,source", "--environment=production")
    assert done.exit_code == 0, done.output
    summary, *lines = done.stdout.splitlines()
    assert summary.startswith("13 assessments of 10 of 10 finished traces from ")
    cells = {tuple(line.split()[:2]): line.split()[2:] for line in lines if line}
    assert cells["correctness", "llm_judge"] == [
        *("yes", "70.0%,", "no", "30.0%", "10", "10", "(100.0%)", "-", "-", "0", "(0.0%)", "$2.2500")
    ]
    assert cells["relevance", "code"] == ["-", "3", "3", "(30.0%)", "0.750", "0.750", "1", "(33.3%)", "-"]
    found = assessed.run(tmp_path, "report", "--by=assessment,source", "--environment=production", "--format=json")
    report = make_report(
        by=["assessment", "source"], environment="production", config=tmp_path / "exporter.yml", since="24h"
    )
    assert json.loads(found.stdout)["rows"] == report.as_dicts()


def test_a_report_without_assessments_says_so(assessed: Assessed, tmp_path: Path) -> None:
    done = assessed.run(tmp_path, "report", "--by=assessment", "--until=1h")
    assert done.stdout.startswith("0 assessments of 0 of 0 finished traces from ")
