from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from tests.simulated import SimulatedMlflow

MakeRig = Callable[..., Rig]


@pytest.fixture
def mlflow() -> SimulatedMlflow:
    return SimulatedMlflow()


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    """Make a rig on this test's ledger."""
    made: list[Rig] = []

    def make(mlflow: SimulatedMlflow, **options: Any) -> Rig:
        made.append(Rig(mlflow, tmp_path / "ledger.db", **options))
        return made[-1]

    yield make
    for rig in made:
        rig.ledger.close()


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: MakeRig) -> Rig:
    return make_rig(mlflow)
