"""The totals of the ledger by series and group, and which of them are exposed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from mlflow_trace_exporter.counting.ledger_connection import Connection, dump, load
from mlflow_trace_exporter.domain.admission import Group
from mlflow_trace_exporter.metrics.meter import Cell, TraceFamily


class Stage(IntEnum):
    """How a group is exposed, see release.py: at the values it slept with, at its current values, or not at all."""

    HELD = 0
    RELEASED = 1
    ASLEEP = 2


@dataclass(frozen=True, slots=True)
class GroupState:
    """When a group last had increments (Unix ms), and how it is exposed."""

    active_ms: int
    stage: Stage


class Totals:
    """The totals in a ledger. Methods raise PollError like those of Connection."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def add(self, amounts: Mapping[Cell, float], active_ms: Mapping[Group, int], first_ms: Mapping[Group, int]) -> None:
        """Add to totals inside a transaction. ``active_ms``: the groups with increments, and the current time (Unix
        ms). ``first_ms``: the earliest start of a trace by VERSION_LABELS."""
        self._db.each(
            "INSERT INTO totals VALUES (?, ?, ?, ?, 0)"
            " ON CONFLICT DO UPDATE SET value = value + excluded.value WHERE excluded.value != 0",
            [(cell.family, dump(cell.labels), cell.part, amount) for cell, amount in amounts.items()],
        )
        self._db.each(
            "INSERT INTO groups (labels, active_ms, stage) VALUES (?1, ?2, ?3)"
            " ON CONFLICT DO UPDATE SET active_ms = ?2, stage = iif(stage = ?4, ?3, stage)",
            [(dump(group), ms, Stage.HELD, Stage.ASLEEP) for group, ms in active_ms.items()],
        )
        self._db.each(
            "INSERT INTO versions VALUES (?, ?) ON CONFLICT DO UPDATE SET first_ms = min(first_ms, excluded.first_ms)",
            [(dump(labels), ms) for labels, ms in first_ms.items()],
        )

    def first_seen(self) -> dict[Group, int]:
        """When the first trace of each version started (Unix ms), by VERSION_LABELS, if known."""
        rows = self._db.rows("SELECT labels, first_ms FROM versions WHERE first_ms IS NOT NULL")
        return {load(labels): first_ms for labels, first_ms in rows}

    def all(self) -> dict[Cell, float]:
        """All totals at the last commit."""
        return self._cells("SELECT family, labels, part, value FROM totals ORDER BY family, labels")

    def values(self, cells: Iterable[Cell]) -> dict[Cell, float]:
        """The totals of these cells, if they exist."""
        return self._look_up("value", cells)

    def slept(self, cells: Iterable[Cell]) -> dict[Cell, float]:
        """The value at which each of these cells went to sleep; 0 if it never did."""
        return self._look_up("slept", cells)

    def groups(self) -> dict[Group, GroupState]:
        """The groups that are not asleep."""
        rows = self._db.rows("SELECT labels, active_ms, stage FROM groups WHERE stage != ?", Stage.ASLEEP)
        return {load(labels): GroupState(active_ms, Stage(stage)) for labels, active_ms, stage in rows}

    def stage(self, released: Iterable[Group], asleep: Iterable[Group], at_rest: Iterable[Cell]) -> None:
        """Store how groups are exposed from now on: ``released`` groups at their values, ``asleep`` groups not at all.
        ``at_rest`` are the exposed cells of the latter. When they return, they are first exposed at the value that they
        have now."""
        stages = {**dict.fromkeys(released, Stage.RELEASED), **dict.fromkeys(asleep, Stage.ASLEEP)}
        with self._db.transaction():
            self._set_stages(stages, at_rest)

    def adopt(self, families: Iterable[TraceFamily]) -> list[str]:
        """Use these families from now on.

        A family whose label names or bucket edges have changed cannot be continued: its totals restart at zero. Returns
        the names of such families, for the log. If a group that is exposed gets a new series, the group is held at its
        current values, so that the series is first exposed at 0.
        """
        families = tuple(families)
        shapes = {family.name: dump((family.label_names, family.buckets)) for family in families}
        with self._db.transaction():
            before = dict(self._db.rows("SELECT family, shape FROM shapes"))
            changed = sorted(name for name, shape in shapes.items() if before.get(name, shape) != shape)
            self._db.each("DELETE FROM totals WHERE family = ?", [(name,) for name in changed])
            self._db.each("INSERT OR REPLACE INTO shapes VALUES (?, ?)", shapes.items())
            if changed:
                self._forget_groups([family for family in families if family.name not in changed])
            self._begin(families)
        return changed

    def _forget_groups(self, families: Iterable[TraceFamily]) -> None:
        """Keep only the groups of unchanged families, because the others have values of other labels."""
        lengths = {len(family.labels) for family in families}
        gone = [(dump(group),) for group in self._all_groups() if len(group) not in lengths]
        self._db.each("DELETE FROM groups WHERE labels = ?", gone)
        self._db.execute("UPDATE done SET group_id = NULL WHERE group_id NOT IN (SELECT id FROM groups)")

    def _begin(self, families: Sequence[TraceFamily]) -> None:
        """Add missing series of groups at 0: those of a new family, of a family with a new value of its own label, or
        of a family that applies to more groups than before."""
        there, groups = self.all(), self._all_groups()
        lacking = {
            group: cells
            for group in groups
            if (cells := [cell for family in families for cell in family.cells_of(group) if cell not in there])
        }
        self._db.each(
            "INSERT INTO totals VALUES (?, ?, ?, 0, 0)",
            [(cell.family, dump(cell.labels), cell.part) for cells in lacking.values() for cell in cells],
        )
        held = {group for group, state in self.groups().items() if state.stage is Stage.RELEASED and group in lacking}
        lengths = {family.name: len(family.labels) for family in families}
        at_rest = [cell for cell in there if held and cell.labels[: lengths.get(cell.family, 0)] in held]
        self._set_stages(dict.fromkeys(held, Stage.HELD), at_rest)

    def _set_stages(self, stages: Mapping[Group, Stage], at_rest: Iterable[Cell]) -> None:
        """Store the stages of groups, and the values at which the cells ``at_rest`` return."""
        self._db.each(
            "UPDATE groups SET stage = ? WHERE labels = ?", [(stage, dump(group)) for group, stage in stages.items()]
        )
        self._db.each(
            "UPDATE totals SET slept = value WHERE family = ? AND labels = ? AND part = ?",
            [(cell.family, dump(cell.labels), cell.part) for cell in at_rest],
        )

    def _all_groups(self) -> list[Group]:
        return [load(labels) for (labels,) in self._db.rows("SELECT labels FROM groups")]

    def _look_up(self, column: Literal["value", "slept"], cells: Iterable[Cell]) -> dict[Cell, float]:
        query = f"SELECT {column} FROM totals WHERE family = ? AND labels = ? AND part = ?"  # noqa: S608 - no values
        found = ((cell, self._db.rows(query, cell.family, dump(cell.labels), cell.part)) for cell in cells)
        return {cell: value for cell, rows in found for (value,) in rows}

    def _cells(self, query: str) -> dict[Cell, float]:
        labels: dict[str, tuple[str, ...]] = {}  # each text occurs once per part, so parse it only once
        rows = self._db.rows(query)
        return {
            Cell(family, labels.get(text) or labels.setdefault(text, load(text)), part): value
            for family, text, part, value in rows
        }
