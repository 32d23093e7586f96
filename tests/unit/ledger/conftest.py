from pathlib import Path

import pytest

from mlflow_trace_exporter.ledger.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where the ledger of a test is. The tests of PostgreSQL have another place."""
    return tmp_path / "deep" / "ledger.db"


@pytest.fixture
def source(tmp_path: Path) -> Place:
    """The ledger that a test copies. The tests of PostgreSQL have another one, as for ``target``."""
    return tmp_path / "source" / "ledger.db"


@pytest.fixture
def target(tmp_path: Path) -> Place:
    """Where to."""
    return tmp_path / "target" / "ledger.db"
