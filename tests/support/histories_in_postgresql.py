"""Random histories with a ledger in PostgreSQL, whose connections are cut."""

from itertools import count
from pathlib import Path
from typing import ClassVar

from hypothesis.stateful import rule

from mlflow_trace_exporter.ledger.place import Database, Place
from tests.support.histories import TIMES_MS, History
from tests.support.postgresql import PostgreSQL, cut


class HistoryInPostgresql(History):
    """See the module."""

    server: ClassVar[PostgreSQL]
    numbers: ClassVar["count[int]"] = count()

    def new_place(self, _: Path) -> Place:
        return self.server.ledger(f"history_{next(self.numbers)}")

    @rule(after_ms=TIMES_MS)
    def all_connections_are_cut(self, after_ms: int) -> None:
        assert isinstance(self.place, Database)
        self.rig.witness.crash_in = None
        cut(self.place)
        self.rig.tick(after_ms)
        self.rig.restart()
