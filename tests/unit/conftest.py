from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.rig import IN_MEMORY, Rig
from tests.support.simulated import SimulatedMlflow

MakeRig = Callable[..., Rig]


@pytest.fixture
def mlflow() -> SimulatedMlflow:
    return SimulatedMlflow()


@pytest.fixture
def make_rig() -> Iterator[MakeRig]:
    """Make a rig on this test's ledger."""
    made: list[Rig] = []
    with TemporaryDirectory(dir=IN_MEMORY) as directory:

        def make(mlflow: SimulatedMlflow, **options: Any) -> Rig:
            made.append(Rig(mlflow, Path(directory) / "ledger.db", **options))
            return made[-1]

        yield make
        for rig in made:
            rig.ledger.close()


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: MakeRig) -> Rig:
    return make_rig(mlflow)
