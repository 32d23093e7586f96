"""Validates the contents of a ledger's tables.

SQLite checks only the structure of a file. A flipped bit in a value passes that check, and could make every start or
every poll fail.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from math import isfinite
from typing import Any

from mlflow_trace_exporter.domain.activity import WINDOWS, Who
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Kind
from mlflow_trace_exporter.domain.labels import PLACE_LABELS, VERSION_LABELS
from mlflow_trace_exporter.ledger.sketches import is_sound
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS
from mlflow_trace_exporter.metrics.model import SUM


class DamagedError(sqlite3.DatabaseError):
    """The ledger contains invalid data."""


_ALLOWED = {"INTEGER": ("integer",), "TEXT": ("text",), "NUMERIC": ("integer", "real"), "BLOB": ("blob",)}
"""The storage classes that are valid for each declared column type."""

_STAGES = 3

Rows = Callable[[str], Iterable[tuple[Any, ...]]]
"""Runs a query."""


def require_sound(db: sqlite3.Connection, schema: str) -> None:
    """Raise DamagedError if the database contains data that this program cannot have written. ``schema`` creates the
    expected tables.

    A number that was changed to another valid number is not detected.
    """
    try:
        with closing(sqlite3.connect(":memory:")) as model:
            model.executescript(schema)
            _require(_columns(db) == _columns(model), "the tables do not match the schema")
        for table in _columns(db):
            _require(_storage_classes_fit(db, table), f"a column of {table} contains a value of the wrong type")
        require_valid(db.execute)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR:
            raise DamagedError(str(error)) from None  # a table or column is missing, or a text is not UTF-8
        raise


def require_valid(rows: Rows) -> None:
    """Raise DamagedError if the tables contain data that this program cannot have written. The columns must have the
    right types. Reads the tables in full."""
    try:
        _require(_horizon_fits(rows), "the horizon is inconsistent")
        _require(_passes_fit(rows), "a pass includes retired start times")
        _require(_groups_fit(rows), "a label set is invalid")
        _require(_versions_fit(rows), "a version is invalid")
        _require(_totals_fit(rows), "a total is invalid, or a series is incomplete")
        _require(_sketches_fit(rows), "a sketch of users or sessions is invalid")
        for table in ("pending", "experiments"):
            sum(1 for _ in rows(f"SELECT * FROM {table}"))  # noqa: S608 - no values
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedError(f"a value is invalid: {error}") from None


def _require(fits: bool, what: str) -> None:
    if not fits:
        raise DamagedError(what)


def _columns(db: sqlite3.Connection) -> dict[str, list[Any]]:
    """The columns of each table: name, type, whether it is NOT NULL, and its position in the primary key."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    query = 'SELECT name, type, "notnull", pk FROM pragma_table_info(?)'
    return {table: db.execute(query, (table,)).fetchall() for (table,) in tables}


def _storage_classes_fit(db: sqlite3.Connection, table: str) -> bool:
    wrong = []
    for name, declared, not_null, in_key in _columns(db)[table]:
        allowed = (*_ALLOWED[declared], *(() if not_null or in_key else ("null",)))
        wrong.append(f"typeof({name}) NOT IN ({','.join(map(repr, allowed))})")
    query = f'SELECT count(*) FROM "{table}" WHERE {" OR ".join(wrong)}'  # noqa: S608 - names of our own schema
    return bool(db.execute(query).fetchone() == (0,))


def _horizon_fits(rows: Rows) -> bool:
    found = rows("SELECT closed_ms, retired_ms, forgotten_ms FROM horizon")
    return all(
        retired_ms <= closed_ms and (forgotten_ms == 0 or forgotten_ms + BUCKET_MS <= retired_ms)
        for closed_ms, retired_ms, forgotten_ms in found
    )


def _passes_fit(rows: Rows) -> bool:
    kinds = {kind.value for kind in Kind}
    found = rows("SELECT kind, lo_ms >= retired_ms FROM passes CROSS JOIN horizon")
    return all(kind in kinds and after_retired for kind, after_retired in found)


def _groups_fit(rows: Rows) -> bool:
    found = rows("SELECT names, labels, stage FROM groups")
    return all(
        _is_group(json.loads(names), json.loads(labels)) and stage in range(_STAGES) for names, labels, stage in found
    )


def _is_group(names: Any, labels: Any) -> bool:
    begins_with_place = _is_texts(names) and tuple(names[: len(PLACE_LABELS)]) == PLACE_LABELS
    return begins_with_place and _is_texts(labels) and len(labels) == len(names)


def _versions_fit(rows: Rows) -> bool:
    found = [json.loads(labels) for (labels,) in rows("SELECT labels FROM versions")]
    return all(_is_texts(labels) and len(labels) == len(VERSION_LABELS) for labels in found)


def _totals_fit(rows: Rows) -> bool:
    shapes = {family: json.loads(shape) for family, shape in rows("SELECT family, shape FROM shapes")}
    if not all(_is_texts(names) and _is_texts(buckets) for names, buckets in shapes.values()):
        return False
    parts: Counter[tuple[str, str]] = Counter()
    for family, labels, part, value, slept in rows("SELECT * FROM totals"):
        if not (isfinite(value) and 0 <= slept <= value):
            return False
        _, buckets = shapes.get(family, (None, ()))
        parts[family, labels] += part in (*buckets, SUM) if buckets else part == ""
    if shapes and not {family for family, _ in parts} <= {*shapes, LEDGER_RESETS}:
        return False
    return all(_series_fits(json.loads(labels), count, shapes.get(family)) for (family, labels), count in parts.items())


def _series_fits(labels: Any, parts: int, shape: Any) -> bool:
    """Whether a series has the labels and all parts of its family. Without a shape, only the labels are checked."""
    if not _is_texts(labels):
        return False
    if shape is None:
        return True
    names, buckets = shape
    return len(labels) == len(names) and parts == (len(buckets) + 1 if buckets else 1)


def _sketches_fit(rows: Rows) -> bool:
    kinds, periods_ms = {who.value for who in Who}, {window.period_ms for window in WINDOWS}
    return all(
        who in kinds
        and period_ms in periods_ms
        and start_ms % period_ms == 0
        and _is_place(json.loads(labels))
        and is_sound(sketch)
        for period_ms, start_ms, who, labels, sketch in rows("SELECT * FROM sketches")
    )


def _is_place(labels: Any) -> bool:
    return _is_texts(labels) and len(labels) == len(PLACE_LABELS)


def _is_texts(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(each, str) for each in found)
