from collections.abc import Iterator

import pytest

from exporter.demo.processes import Processes, free_port
from tests.real import Mlflow


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """One MLflow server for all tests; each makes an experiment of its own."""
    data = tmp_path_factory.mktemp("mlflow")
    with Processes(data) as processes:
        yield Mlflow(data, processes, free_port())
