"""Fault 3: kill -9 at random moments, under traffic, on a real MLflow server."""

from pathlib import Path

import pytest

from tests.support.crashes import require_that_kills_change_nothing
from tests.support.ports import free_port
from tests.support.real import Mlflow, ServerProcesses


@pytest.mark.long
def test_fault_3_killed_at_random_under_traffic(tmp_path: Path) -> None:
    with ServerProcesses(tmp_path) as processes:
        require_that_kills_change_nothing(Mlflow(tmp_path, processes, free_port()), tmp_path)
