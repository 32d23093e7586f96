"""What somebody gets who installs the package and has no clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from click.testing import CliRunner

from mlflow_trace_exporter.commands.cli import cli
from tests.support import PROJECT


def test_the_wheel_has_the_files_for_other_programs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = run("-c", "import mlflow_trace_exporter; print(mlflow_trace_exporter.__file__)")
    assert place.startswith(str(tmp_path / "installed"))
    assert run("-m", "mlflow_trace_exporter", "rules") == CliRunner().invoke(cli, ["rules"]).output
    run("-m", "mlflow_trace_exporter", "dashboards", "--output", "boards")
    assert {file.name: file.read_bytes() for file in (tmp_path / "boards").iterdir()} == {
        file.name: file.read_bytes() for file in (PROJECT / "grafana" / "dashboards").iterdir()
    }
    assert 'id="mlflowunreachable"' in run(
        "-c", "from mlflow_trace_exporter.web import runbook; print(runbook.page().decode())"
    )
    packaged = "from mlflow_trace_exporter.bundled import packaged; print(packaged.prometheus({!r}).read_text())"
    for name in ("prometheus.yml", "alertmanager.yml"):
        assert run("-c", packaged.format(name)).strip() == (PROJECT / "prometheus" / name).read_text().strip()
