from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from mlflow_trace_exporter.ledger.place import Place
from tests.support.rig import IN_MEMORY, Rig
from tests.support.simulated import SimulatedMlflow

MakeRig = Callable[..., Rig]


@pytest.fixture
def mlflow() -> SimulatedMlflow:
    return SimulatedMlflow()


@pytest.fixture
def rig_place() -> Iterator[Place]:
    """Where the ledger of a rig is. The tests of PostgreSQL have another place."""
    with TemporaryDirectory(dir=IN_MEMORY) as directory:
        yield Path(directory) / "ledger.db"


@pytest.fixture
def make_rig(rig_place: Place) -> Iterator[MakeRig]:
    """Make a rig on this test's ledger."""
    made: list[Rig] = []

    def make(mlflow: SimulatedMlflow, **options: Any) -> Rig:
        made.append(Rig(mlflow, rig_place, **options))
        return made[-1]

    yield make
    for rig in made:
        rig.ledger.close()


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: MakeRig) -> Rig:
    return make_rig(mlflow)
