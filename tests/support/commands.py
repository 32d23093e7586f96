"""Commands called in this process, which is quicker than a process each."""

import signal
from math import inf
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from click.testing import CliRunner, Result

from mlflow_trace_exporter.commands.cli import cli
from tests.support.real import Mlflow


def config_file(directory: Path, mlflow: Mlflow, experiment: str, /, **settings: Any) -> Path:
    """A configuration that reads an experiment and keeps its ledger in the directory, if not said otherwise."""
    file = directory / "exporter.yml"
    defaults = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "ledger": {"path": str(directory / "ledger.db")},
    }
    file.write_text(yaml.safe_dump({**defaults, **settings}))
    return file


def invoke(*arguments: str) -> Result:
    """Call a command; how this process logs, what it asks of MLflow's client, and what ends it, is as before then."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with (
            patch("mlflow_trace_exporter.logs.setup"),
            patch("mlflow_trace_exporter.commands.progress.LINE_S", inf),  # not even on a machine that stands still
            patch.dict("os.environ"),
        ):
            return CliRunner().invoke(cli, arguments)
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # backfill has a handler of its own
