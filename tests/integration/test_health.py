"""`health` and `check_health` against a real MLflow server: what each exit code stands for."""

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from mlflow_trace_exporter import Verdict, check_health
from mlflow_trace_exporter.demo.processes import HOST
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.reports import api
from tests.integration.test_cli import run
from tests.support.commands import config_file, invoke
from tests.support.ports import free_port
from tests.support.real import EXPORTER, Mlflow, Trace, now_ms

SLOW_MS = [100] * 18 + [4_000, 8_000]
"""Durations of 20 traces: their p95 is 4.2 s."""


@dataclass(frozen=True)
class Checked:
    """An experiment, and a configuration that reads it and no other."""

    mlflow: Mlflow
    experiment: str

    def config(self, directory: Path, **settings: Any) -> Path:
        return config_file(directory, self.mlflow, self.experiment, **settings)

    def run(self, directory: Path, *arguments: str, **settings: Any) -> Result:
        return invoke("health", f"--config.file={self.config(directory, **settings)}", *arguments)


@pytest.fixture(scope="module")
def checked(mlflow: Mlflow) -> Checked:
    """Of production one in twenty fails, which is 5 %; staging fails always; older ones are worse."""
    experiment, now = mlflow.experiment(), now_ms()

    def made(environment: str, errors: int, durations: list[int], at_ms: int = now - 60_000) -> list[Trace]:
        tags = {"environment": environment}
        cost = {"mlflow.trace.cost": json.dumps({"input_cost": 1, "output_cost": 1})}
        return [
            Trace(at_ms - at, ms, "ERROR" if at < errors else "OK", tags=tags, metadata=cost)
            for at, ms in enumerate(durations)
        ]

    mlflow.insert(experiment, made("production", 1, SLOW_MS))
    mlflow.insert(experiment, made("production", 20, [60_000] * 20, now - 7_200_000))
    mlflow.insert(experiment, made("staging", 20, SLOW_MS))
    mlflow.insert(experiment, made("canary", 3, [100] * 3))
    return Checked(mlflow, experiment)


def test_exit_code_0_at_the_thresholds_exactly(checked: Checked, tmp_path: Path) -> None:
    p95_ms = np.quantile(SLOW_MS, 0.95)
    assert p95_ms == pytest.approx(4_200)
    done = checked.run(tmp_path, "--environment=production", "--error-rate=5%", "--p95=4201ms")
    assert done.exit_code == 0, done.output
    within, summary = done.stdout.splitlines()
    assert (
        within
        == f"within: {checked.experiment} in production: error rate 5%, at most 5%, p95 latency 4.2s, at most 4.201s"
    )
    assert summary.startswith("healthy: 20 finished traces from ")


def test_exit_code_1_with_a_line_for_each_breach(checked: Checked, tmp_path: Path) -> None:
    done = checked.run(tmp_path, "--environment=production", "--error-rate=4.9%", "--p95=4199ms")
    assert done.exit_code == 1
    *breaches, summary = done.stdout.splitlines()
    assert breaches == [
        f"breached: {checked.experiment} in production: error rate 5%, at most 4.9%",
        f"breached: {checked.experiment} in production: p95 latency 4.2s, at most 4.199s",
    ]
    assert summary.startswith("BREACHED: 20 finished traces")


def test_exit_code_2_where_it_could_not_be_checked(checked: Checked, tmp_path: Path) -> None:
    nowhere = {"tracking_uri": f"http://{HOST}:{free_port()}", "timeout": "1s"}
    for done, words in (
        (checked.run(tmp_path, mlflow=nowhere), "cannot be reached"),
        (checked.run(tmp_path, "--environment=staging"), "'staging' has no objective"),
        (
            checked.run(tmp_path, objectives=[{"environment": "prod*", "error_ratio": "5%"}]),
            "nothing to check: the objectives use only globs; name an environment or an experiment",
        ),
        (checked.run(tmp_path, "--error-rate=500%"), "is not a ratio"),
        (checked.run(tmp_path, "--lookback=soon"), "is not a duration"),
        (checked.run(tmp_path, "--lookback=0s"), "--lookback: 0:00:00 is not before now"),
        (checked.run(tmp_path, "--lookback=999999y"), "--lookback"),
        (checked.run(tmp_path, "--p95=0s", "--environment=canary"), "--p95: "),
        (checked.run(tmp_path, "--p95=5s", "--environment="), "--environment: is empty"),
    ):
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert done.stdout == ""


def test_where_mlflow_cannot_be_reached_nothing_but_that_is_said(tmp_path: Path) -> None:
    uri = f"http://{HOST}:{free_port()}"
    for command in ("health", "report", "check", "doctor", f"backfill --output={tmp_path}/history.om"):
        done = run(*command.split(), MLFLOW_TRACKING_URI=uri, XDG_STATE_HOME=str(tmp_path))
        assert done.returncode == 2, command
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_exit_code_2_after_a_mistake_of_ours(checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "health", lambda *_: 1 / 0)
    done = checked.run(tmp_path)
    assert done.exit_code == 2, "1 would say that something is breached"
    assert "could not be checked: unexpected ZeroDivisionError" in done.stderr


def test_exit_code_3_with_too_few_traces(checked: Checked, tmp_path: Path) -> None:
    done = checked.run(tmp_path, "--environment=canary", "--error-rate=5%")
    assert done.exit_code == 3
    too_few = f"too few traces: {checked.experiment} in canary: error rate not checked: 3 traces, fewer than"
    assert done.stdout.splitlines()[0] == f"{too_few} 20 (the default of --min-traces)"
    assert checked.run(tmp_path, "--environment=canary", "--error-rate=5%", "--min-traces=3").exit_code == 1
    done = checked.run(tmp_path, "--environment=canary", "--error-rate=5%", "--min-traces=1000")
    assert done.stdout.splitlines()[0] == f"{too_few} 1000 (--min-traces)"
    strict = {"environment": "can*", "error_ratio": "5%", "min_traces": 4}
    done = checked.run(tmp_path, "--environment=canary", objectives=[strict])
    assert done.stdout.startswith(f"{too_few} 4 (min_traces of its objective)\n")


def test_exit_code_3_names_the_environments_that_there_are(checked: Checked, tmp_path: Path) -> None:
    done = checked.run(tmp_path, "--environment=prodcution", "--environment=canary", "--error-rate=5%")
    assert done.exit_code == 3
    absent, *_ = done.stdout.splitlines()
    assert absent == (
        "no recent trace has environment 'prodcution'; did you mean production?; existing: canary, production, staging"
    )
    quiet = checked.run(tmp_path, "--environment=canary", "--error-rate=5%", "--lookback=1s")
    assert (quiet.exit_code, "no recent trace" in quiet.stdout) == (3, False)


def test_exit_code_3_where_traces_do_not_tell_what_is_asked(mlflow: Mlflow, tmp_path: Path) -> None:
    tags, checked = {"environment": "unmeasured"}, Checked(mlflow, mlflow.experiment())
    mlflow.insert(
        checked.experiment,
        [Trace(now_ms() - 60_000, None, tags=tags)] * 30 + [Trace(now_ms() - 60_000, 9_000, tags=tags)],
    )
    done = checked.run(tmp_path, "--environment=unmeasured", "--p95=5s", "--error-rate=5%")
    assert done.exit_code == 3, "their durations are unknown"
    too_few, within, _ = done.stdout.splitlines()
    name = f"{checked.experiment} in unmeasured"
    assert too_few.startswith(
        f"too few traces: {name}: p95 latency not checked: measured on 1 of 31 traces, fewer than 20 (the"
    )
    assert within == f"within: {name}: error rate 0%, at most 5%"
    assert checked.run(tmp_path, objectives=[{"environment": "unmeasured", "cost_usd_per_day": 1}]).exit_code == 3


@pytest.mark.parametrize(("error_rate", "code"), [("50%", 0), ("1%", 1)])
@pytest.mark.parametrize("ending", [">/dev/full", "2>&-", ">&-", "| true"])
def test_the_exit_code_is_the_answer_whoever_reads(
    checked: Checked, tmp_path: Path, error_rate: str, code: int, ending: str
) -> None:
    checked.config(tmp_path)
    flags = f"--config.file={tmp_path}/exporter.yml --environment=production --error-rate={error_rate}"
    command = f"set -o pipefail; {shlex.join(EXPORTER)} health {flags} {ending}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"error_rate": 5}, "error_rate: 5 is not a ratio"),
        ({"p95_s": 0}, "p95_s: 0 is not"),
        ({"p95_s": 1, "min_traces": 0}, "min_traces: 0 is not a whole number of at least 1"),
        ({"environments": "staging"}, "environment 'staging' has no objective"),
        ({"experiments": "chatbot", "environments": "staging"}, "experiment 'chatbot' in environment 'staging' has no"),
        ({"experiments": ["", "chatbot"], "p95_s": 1}, "experiments: is empty"),
    ],
)
def test_a_mistake_in_a_notebook_is_told_and_not_called_healthy(mistake: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_health(**mistake)


def test_the_worst_of_several_environments_is_told(checked: Checked, tmp_path: Path) -> None:
    done = checked.run(tmp_path, "--environment=canary", "--environment=staging", "--error-rate=50%")
    assert done.exit_code == 1
    assert f"breached: {checked.experiment} in staging: error rate 100%, at most 50%" in done.stdout
    assert f"too few traces: {checked.experiment} in canary: error rate not checked: 3 traces" in done.stdout
    assert checked.run(tmp_path, "--environment=canary", "--environment=production", "--p95=9s").exit_code == 3


def test_the_objectives_of_the_configuration(checked: Checked, tmp_path: Path) -> None:
    assert checked.run(tmp_path).exit_code == 0, "production: 5 % errors, 95 % within 5 s"
    objective = {"environment": "production", "latency": "100ms", "latency_ratio": "50%", "cost_usd_per_day": 39.99}
    done = checked.run(tmp_path, objectives=[objective])
    assert done.exit_code == 1
    assert f"within: {checked.experiment} in production: p50 latency 0.1s, at most 0.1s" in done.stdout
    assert f"breached: {checked.experiment} in production: cost per day $40.00, at most $39.99" in done.stdout
    strict = {"environment": "production", "error_ratio": "5%", "min_traces": 21}
    assert checked.run(tmp_path, objectives=[strict]).exit_code == 3


@dataclass(frozen=True)
class Two:
    """A big application that is healthy, and a small one that fails; both are in production."""

    mlflow: Mlflow
    big: str
    small: str

    def run(self, directory: Path, *arguments: str, **settings: Any) -> Result:
        settings["mlflow"] = {"tracking_uri": self.mlflow.uri, "experiments": [self.big, self.small]}
        return invoke("health", f"--config.file={config_file(directory, self.mlflow, '', **settings)}", *arguments)


@pytest.fixture(scope="module")
def two(mlflow: Mlflow) -> Two:
    names, tags, at_ms = (mlflow.experiment(), mlflow.experiment()), {"environment": "production"}, now_ms() - 60_000
    big, small = sorted(names)
    mlflow.insert(big, [Trace(at_ms - at, 100, tags=tags) for at in range(1_000)])
    mlflow.insert(small, [Trace(at_ms - at, 100, "ERROR", tags=tags) for at in range(25)])
    return Two(mlflow, big, small)


def test_a_small_application_is_not_hidden_by_a_big_one(two: Two, tmp_path: Path) -> None:
    done = two.run(tmp_path)
    assert done.exit_code == 1, "all of production has 2.4 % errors, of 5 %"
    within, breached, *_ = done.stdout.splitlines()
    assert within.startswith(f"within: {two.big} in production: error rate 0%, at most 5%")
    assert breached == f"breached: {two.small} in production: error rate 100%, at most 5%"
    assert two.run(tmp_path, f"--experiment={two.big}").exit_code == 0
    alone = two.run(tmp_path, f"--experiment={two.small}", "--environment=production", "--error-rate=99%")
    assert (alone.exit_code, two.big in alone.stdout) == (1, False)


def test_each_application_has_its_own_objective(two: Two, tmp_path: Path) -> None:
    lenient = {"experiment": two.small, "error_ratio": 0.999, "latency": "50ms", "min_traces": 26}
    default = {"environment": "production", "error_ratio": 0.05}
    done = two.run(tmp_path, objectives=[lenient, default])
    assert done.exit_code == 3
    assert f"{two.small} in production: p95 latency not checked: 25 traces, fewer than 26 (min_traces" in done.stdout
    owner = {"experiment": two.small, "team": "search"}
    assert two.run(tmp_path, objectives=[owner, default]).exit_code == 0, "an owner is no objective"
    asked = (f"--experiment={two.small}", "--environment=production")
    done = two.run(tmp_path, *asked, objectives=[owner, default])
    assert (done.exit_code, "has no objective in the configuration" in done.stderr) == (2, True)
    assert two.run(tmp_path, *asked, "--error-rate=5%", objectives=[owner, default]).exit_code == 1


def test_names_without_traces_are_not_called_healthy(two: Two, tmp_path: Path) -> None:
    absent = {"experiment": "absent", "environment": "production", "error_ratio": 0.05}
    named = {"experiment": two.big, "error_ratio": 0.05}
    done = two.run(tmp_path, objectives=[absent, named])
    assert done.exit_code == 3
    assert done.stdout.startswith("no recent trace has experiment 'absent'")
    assert "too few traces: absent in production: error rate not checked: 0 traces, fewer than 20 (min" in done.stdout
    elsewhere = {"environment": "elsewhere", "error_ratio": 0.05}
    done = two.run(tmp_path, objectives=[named, elsewhere])
    assert done.exit_code == 3
    assert "too few traces: * in elsewhere: error rate not checked: 0 traces" in done.stdout
    for odd in ("prod[uction]", "prod*", "*"):
        done = two.run(tmp_path, f"--environment={odd}", "--error-rate=5%")
        assert done.exit_code == 3, "a name that is asked for is no glob"
        assert f"no recent trace has environment '{odd}'" in done.stdout or odd == "*"
    team = {"experiment": "*", "environment": "prod*", "team": "all", "error_ratio": 0.05}
    assert two.run(tmp_path, "--environment=production", objectives=[team]).exit_code == 1


def test_older_traces_are_not_looked_at(checked: Checked, tmp_path: Path) -> None:
    assert checked.run(tmp_path, "--error-rate=5%", "--environment=production").exit_code == 0
    assert checked.run(tmp_path, "--error-rate=5%", "--environment=production", "--lookback=3h").exit_code == 1


def test_json_says_all_of_it(checked: Checked, tmp_path: Path) -> None:
    done = checked.run(tmp_path, "--error-rate=4%", "--format=json")
    found = json.loads(done.stdout)
    assert (found["verdict"], found["exit_code"], done.exit_code) == ("breached", 1, 1)
    (production,) = found["environments"]
    assert production == {
        "experiment": checked.experiment,
        "environment": "production",
        "verdict": "breached",
        "traces": 20,
        "min_traces": 20,
        "checks": [
            {
                "what": "error rate",
                "unit": "ratio",
                "traces": 20,
                "measured": 0.05,
                "threshold": 0.04,
                "at_least": False,
                "breached": True,
            }
        ],
    }


def test_what_is_not_asked_for_is_not_read(checked: Checked, tmp_path: Path) -> None:
    read: list[int] = []
    file = checked.config(tmp_path)
    found = check_health(
        environments=["canary"], p95_s=1, min_traces=1, config=file, progress=lambda n, _: read.append(n)
    )
    assert found.verdict is Verdict.HEALTHY
    assert read == [3], "MLflow has looked for the environment"
