"""What other commands read from the ledger of `serve`, which may be running."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.ledger import file_look
from mlflow_trace_exporter.ledger.awake import Stage
from mlflow_trace_exporter.ledger.connection import LedgerDamagedError, load
from mlflow_trace_exporter.ledger.opening import require_client
from mlflow_trace_exporter.ledger.outlook import Outlook, Rows
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.ledger.schema import SCHEMA_VERSION
from mlflow_trace_exporter.metrics.families import TRACES


def outlook(place: Place) -> Outlook:
    """The state of the ledger that `serve` would find at ``place``. Changes nothing and leaves no files. Raises
    UserError if `serve` could not store a ledger there."""
    if isinstance(place, Database):
        require_client()
        from mlflow_trace_exporter.ledger import database_look  # an extra

        return database_look.outlook(place)
    return file_look.outlook(place)


@contextmanager
def _reading(place: Place) -> Iterator[tuple[int, Rows] | None]:
    if isinstance(place, Database):
        require_client()
        from mlflow_trace_exporter.ledger import database_look  # an extra

        with database_look.reading(place) as found:
            yield found
    else:
        with file_look.reading(place) as found:
            yield found


def origin_ms(place: Place) -> int | None:
    """The start time from which `serve` counts (Unix ms), from the ledger at ``place``; None if there is none yet.
    Raises UserError for one that `serve` would refuse."""
    with _reading(place) as found:
        rows = [] if found is None else found[1]("SELECT origin_ms FROM horizon")
    return int(rows[0][0]) if rows else None


@dataclass(frozen=True, slots=True)
class LabelSets:
    """The label names of the series about traces in a ledger, and the groups that `serve` exposes."""

    names: tuple[str, ...]
    groups: tuple[Group, ...]


def label_sets(place: Place) -> LabelSets | None:
    """The label sets in the ledger at ``place``; None if there is none yet, an older or a damaged one. Raises UserError
    for one that `serve` would refuse."""
    with _reading(place) as found, suppress(sqlite3.DatabaseError, LedgerDamagedError, ValueError):
        if found is not None and found[0] == SCHEMA_VERSION:
            rows = found[1]
            shape = rows("SELECT shape FROM shapes WHERE family = ?", TRACES)
            groups = rows("SELECT names, labels FROM groups WHERE stage != ?", Stage.ASLEEP)
            names = json.loads(shape[0][0])[0] if shape else ()
            return LabelSets(tuple(names), tuple(Group(load(each), load(labels)) for each, labels in groups))
    return None
