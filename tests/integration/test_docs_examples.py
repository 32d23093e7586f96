"""The examples of the documentation are run as they are written there."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.integration.test_cli import complaint, run
from tests.support import PROJECT, docs
from tests.support.real import Mlflow, Trace, now_ms

DOCS = docs.everything()
FLAG = re.compile(r"--[a-z][\w.-]*")


def test_python(mlflow: Mlflow, tmp_path: Path) -> None:
    mlflow.insert(mlflow.experiment(), [Trace(now_ms() - 1_000, tags={"environment": "production"})])
    (example,) = re.findall(r"```python\n(from datetime.*?)```", DOCS, re.DOTALL)
    file = tmp_path / "example.py"
    file.write_text(example + "print(len(rows), len(worst), health.verdict)\n")
    environment = {"MLFLOW_TRACKING_URI": mlflow.uri, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Verdict." in done.stdout
    assert (tmp_path / "latency.png").stat().st_size


def test_every_flag_that_is_shown_exists() -> None:
    for command in ("report", "health", "doctor", "backfill", "probe", "serve"):
        known = set(FLAG.findall(run(command, "--help").stdout))
        shown = {
            flag for line in re.findall(rf"mlflow-trace-exporter {command} (.*)", DOCS) for flag in FLAG.findall(line)
        }
        assert shown <= known, command


def test_the_probe_of_kubernetes_with_certificates() -> None:
    (shown,) = re.findall(r"```yaml\n(livenessProbe:.*?)```", DOCS, re.DOTALL)
    program, *arguments = yaml.safe_load(shown)["livenessProbe"]["exec"]["command"]
    message = complaint(*arguments)
    assert message == f"{program}: --cert-file: cannot read /etc/{program}/client.pem: No such file or directory\n"


def test_the_type_checker_sees_what_is_exported(tmp_path: Path) -> None:
    file = tmp_path / "use.py"
    file.write_text(
        "from mlflow_trace_exporter import check_health, make_report\n"
        "make_report().rows[0].p95_s\ncheck_health(p95_s='5s')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", "--follow-imports=silent", file],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    assert 'Argument "p95_s" to "check_health" has incompatible type "str"' in done.stdout, done.stdout
    assert done.stdout.count("error:") == 1, done.stdout
