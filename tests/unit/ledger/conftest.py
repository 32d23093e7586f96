from pathlib import Path

import pytest

from mlflow_trace_exporter.ledger.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where the ledger of a test is. The tests of PostgreSQL have another place."""
    return tmp_path / "deep" / "ledger.db"
