"""Fault 3: kill -9 at random moments, under traffic, on a real MLflow server."""

from pathlib import Path

import pytest
from mlflow_trace_exporter.demo.processes import Processes, free_port

from tests.crashes import Crashes
from tests.real import Mlflow


@pytest.mark.long
def test_fault_3_killed_at_random_under_traffic(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        crashes = Crashes(Mlflow(tmp_path, processes, free_port()), tmp_path, seed=1)
        crashes.run(kills=10)
        counted = crashes.counted()
        assert crashes.decreased == []
        assert counted["traces"] > 100
        assert counted == {**crashes.truth(), "late": 0, "changed": 0}
