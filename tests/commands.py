"""Commands called in this process, which is quicker than a process each."""

from unittest.mock import patch

from click.testing import CliRunner, Result

from exporter.cli import cli


def invoke(*arguments: str) -> Result:
    """Call a command; how this process logs, and what it asks of MLflow's client, is as before then."""
    with patch("exporter.logs.setup"), patch.dict("os.environ"):
        return CliRunner().invoke(cli, arguments)
