"""The tests with another MLflow, or another Python, than `make test` uses.

    python -m tests.compatibility --server 3.10.1 tests/integration/test_report.py
    python -m tests.compatibility --mlflow 3.12.0 tests/integration/test_source.py
    python -m tests.compatibility --python python3.13

``--server`` is only the MLflow server that the tests start; ``--mlflow`` is the client as well, which has to be 3.12 or
newer. Each combination gets a virtual environment of its own under .compatibility, which is kept for the next run. Its
packages come from the package index, in the newest versions that fit together, because requirements.lock is for one
MLflow only. What follows the options goes to pytest; without it, every test runs.
"""

import argparse
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support import PROJECT
from tests.support.real import SERVER_PYTHON

VENVS = PROJECT / ".compatibility"


def requirements(project: dict[str, Any], mlflow: str | None) -> list[str]:
    """What to install for the tests, besides the project itself."""
    groups = project["dependency-groups"]
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["demo"],
        *_of_group("dev", groups),
    ]
    return wanted if mlflow is None else [*wanted, f"mlflow=={mlflow}", f"mlflow-skinny=={mlflow}"]


def _of_group(name: str, groups: dict[str, list[Any]]) -> Iterator[str]:
    for each in groups[name]:
        if isinstance(each, str):
            yield each
        else:
            yield from _of_group(each["include-group"], groups)


def server(python: str, mlflow: str) -> Path:
    """The Python of a virtual environment that only has an MLflow server, which is created if it does not exist."""
    folder = VENVS / f"server-{mlflow}"
    inside, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, f"mlflow=={mlflow}", "sqlalchemy<2.1"], check=True)  # 3.6 needs the latter
        ready.touch()
    return inside


def environment(python: str, mlflow: str | None) -> Path:
    """The Python of the virtual environment for a combination, which is created if it does not exist."""
    folder = VENVS / f"{Path(python).name}-mlflow-{mlflow or 'newest'}"
    inside, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *requirements(project, mlflow)], check=True)
        subprocess.run([*install, "--no-deps", "--no-build-isolation", "--editable", PROJECT], check=True)
        ready.touch()
    return inside


def main(arguments: Sequence[str]) -> int:
    """Run the tests; returns pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility", description="Run the tests elsewhere.")
    parser.add_argument("--mlflow", help="a version of MLflow, such as 3.12.0; the newest by default")
    parser.add_argument("--server", help="a version of the MLflow server, such as 3.10.1; that of --mlflow by default")
    parser.add_argument("--python", default=sys.executable, help="a Python; this one by default")
    options, for_pytest = parser.parse_known_args(arguments)
    inside = environment(options.python, options.mlflow)
    env = {**os.environ, **({SERVER_PYTHON: str(server(options.python, options.server))} if options.server else {})}
    return subprocess.run([inside, "-m", "pytest", *for_pytest], cwd=PROJECT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
