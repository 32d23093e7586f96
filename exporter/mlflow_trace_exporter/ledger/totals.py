"""The totals of the ledger by series and group, and which of them are exposed."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import groupby

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.ledger.awake import Awake, GroupState, Stage, Stored
from mlflow_trace_exporter.ledger.connection import Connection, dump, load, upsert
from mlflow_trace_exporter.metrics.model import Cell, TraceFamily
from mlflow_trace_exporter.metrics.series import SeriesTotals, by_series


class Totals:
    """The totals in a ledger. After ``adopt``, those that are not asleep are also kept in memory. Methods raise
    PollError as those of Connection do."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._awake = Awake()
        self.sleeps = 0
        """Increases when groups fall asleep, because their label values then make room for others."""

    def groups(self) -> Mapping[Group, GroupState]:
        """The groups that are not asleep."""
        return self._awake.groups

    def shown(self) -> SeriesTotals:
        """The totals that may be exposed. What has not changed since the last call is the same object."""
        return self._awake.shown

    def first_seen(self) -> Mapping[LabelValues, int]:
        """When the first trace of each version started (Unix ms), by VERSION_LABELS, if known."""
        return {version: ms for version, ms in self._awake.first_ms.items() if ms is not None}

    def add(
        self, amounts: Mapping[Cell, float], active_ms: Mapping[Group, int], first_ms: Mapping[LabelValues, int]
    ) -> Awake:
        """Add to totals inside a transaction. ``active_ms``: the groups with increments, and the current time (Unix
        ms). ``first_ms``: the earliest start of a trace by VERSION_LABELS. Returns what to ``keep`` after COMMIT."""
        before = self._awake
        added = by_series((cell, amount) for cell, amount in amounts.items() if amount or not before.has(cell))
        self._db.each(
            "INSERT INTO totals (family, labels, part, value, slept) VALUES (?, ?, ?, ?, 0)"
            " ON CONFLICT (family, labels, part) DO UPDATE SET value = totals.value + excluded.value"
            " WHERE excluded.value != 0",
            (
                (family, text, part, amount)
                for family, series in added.items()
                for text, parts in ((dump(labels), parts) for labels, parts in series.items())
                for part, amount in parts.items()
            ),
        )
        self._db.each(
            "INSERT INTO groups (names, labels, active_ms, stage) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (labels, names) DO UPDATE SET active_ms = excluded.active_ms,"
            " stage = CASE WHEN groups.stage = ? THEN excluded.stage ELSE groups.stage END",
            [(*key_of(group), ms, Stage.HELD, Stage.ASLEEP) for group, ms in active_ms.items()],
        )
        self._db.each(
            "INSERT INTO versions (labels, first_ms) VALUES (?, ?)"
            " ON CONFLICT (labels) DO UPDATE SET first_ms = excluded.first_ms"
            " WHERE excluded.first_ms < versions.first_ms",
            [(dump(labels), ms) for labels, ms in first_ms.items()],
        )
        woken = [group for group in active_ms if group not in before.groups]
        return before.with_amounts(added).with_active(active_ms, first_ms).with_series(self._series_of(woken))

    def keep(self, committed: Awake) -> None:
        """Expose what ``add`` returned, after COMMIT."""
        self._awake = committed

    def all(self) -> dict[Cell, float]:
        """All totals at the last commit, including those of groups that are asleep."""
        query = "SELECT family, labels, part, value FROM totals WHERE family NOT LIKE '% %' ORDER BY family, labels"
        rows = self._db.rows(query)
        return {Cell(family, load(text), part): value for family, text, part, value in rows}

    def stage(self, released: Collection[Group], asleep: Collection[Group]) -> None:
        """Store how groups are exposed from now on: ``released`` groups at their values, ``asleep`` groups not at all.
        When the latter return, they are first exposed at the values that they have now."""
        stages = {**dict.fromkeys(released, Stage.RELEASED), **dict.fromkeys(asleep, Stage.ASLEEP)}
        after = self._awake.with_stages(released, asleep)
        with self._db.transaction():
            self._set_stages(stages, self._awake.series_of(asleep))
        self._awake = after
        self.sleeps += bool(asleep)

    def adopt(self, families: Iterable[TraceFamily]) -> list[str]:
        """Use these families from now on.

        A family whose label names or bucket edges have changed cannot be continued: its totals restart at zero. Returns
        the names of such families, for the log. If it had these names and edges before, it continues from there, so
        that no series ever decreases. If a group that is exposed gets a new series, the group is held at its
        current values, so that the series is first exposed at 0.
        """
        families = tuple(families)
        shapes = {family.name: dump((family.label_names, family.buckets)) for family in families}
        with self._db.transaction():
            before = dict(self._db.rows("SELECT family, shape FROM shapes"))
            changed = sorted(name for name, shape in shapes.items() if before.get(name, shape) != shape)
            for name in changed:
                self._rename(name, _retired(name, before[name]), before[name])
                self._rename(_retired(name, shapes[name]), name, shapes[name])
            self._db.each(_SHAPE, shapes.items())
            if changed:
                self._forget_groups([family for family in families if family.name not in changed])
            self._begin(families)
            awake = self._load(families)
        self._awake = awake
        self.sleeps += 1  # groups may have been forgotten
        return [name for name in changed if _retired(name, shapes[name]) not in before]

    def _rename(self, family: str, name: str, shape: str) -> None:
        """Store the totals of a family under another name. Its series are at rest until their group has new traces."""
        self._db.execute("UPDATE totals SET family = ?, slept = value WHERE family = ?", name, family)
        self._db.execute("DELETE FROM shapes WHERE family = ?", family)
        self._db.execute(_SHAPE, name, shape)

    def _forget_groups(self, families: Iterable[TraceFamily]) -> None:
        """Keep only the groups of unchanged families, because the others have values of other labels."""
        names = {family.labels for family in families}
        gone = [key_of(group) for group in self._states() if group.names not in names]
        self._db.each("DELETE FROM groups WHERE names = ? AND labels = ?", gone)
        self._db.execute("UPDATE done SET group_id = NULL WHERE group_id NOT IN (SELECT id FROM groups)")

    def _begin(self, families: tuple[TraceFamily, ...]) -> None:
        """Add missing series of groups at 0: those of a new family, of a family with a new value of its own label, or
        of a family that applies to more groups than before."""
        there, states = set(self._db.rows("SELECT DISTINCT family, labels FROM totals")), self._states()
        missing = [
            (group, family, text)
            for group in states
            for family in families
            if family.is_of(group)
            for text in map(dump, family.labels_of(group))
            if (family.name, text) not in there
        ]
        self._db.each(
            "INSERT INTO totals (family, labels, part, value, slept) VALUES (?, ?, ?, 0, 0)",
            ((family.name, text, part) for _, family, text in missing for part in family.parts),
        )
        held = {group for group, _, _ in missing if states[group].stage is Stage.RELEASED}
        series = ((family.name, labels) for group in held for family in families for labels in family.labels_of(group))
        self._set_stages(dict.fromkeys(held, Stage.HELD), series)

    def _set_stages(self, stages: Mapping[Group, Stage], at_rest: Iterable[tuple[str, LabelValues]]) -> None:
        """Store the stages of groups. The series ``at_rest`` will return at the values that they have now."""
        self._db.each(
            "UPDATE groups SET stage = ? WHERE names = ? AND labels = ?",
            [(stage, *key_of(group)) for group, stage in stages.items()],
        )
        self._db.each(
            "UPDATE totals SET slept = value WHERE family = ? AND labels = ?",
            ((family, dump(labels)) for family, labels in at_rest),
        )

    def _load(self, families: tuple[TraceFamily, ...]) -> Awake:
        groups = {group: state for group, state in self._states().items() if state.stage is not Stage.ASLEEP}
        first_ms = {load(labels): ms for labels, ms in self._db.rows("SELECT labels, first_ms FROM versions")}
        awake = Awake(families, groups, first_ms=first_ms)
        query = "SELECT labels, part, value, slept FROM totals WHERE family = ? ORDER BY labels"
        return awake.with_series(
            each for family in families for each in _stored(family, self._db.rows(query, family.name))
        )

    def _series_of(self, groups: Iterable[Group]) -> Iterator[Stored]:
        """The series of these groups."""
        query = "SELECT labels, part, value, slept FROM totals WHERE family = ? AND labels = ?"
        for group in groups:
            for family in self._awake.families:
                for labels in family.labels_of(group):
                    yield from _stored(family, self._db.rows(query, family.name, dump(labels)))

    def _states(self) -> dict[Group, GroupState]:
        """All groups."""
        rows = self._db.rows("SELECT names, labels, active_ms, stage FROM groups")
        return {
            Group(load(names), load(labels)): GroupState(active_ms, Stage(stage))
            for names, labels, active_ms, stage in rows
        }


_SHAPE = upsert("shapes", ("family", "shape"), ("family",))


def key_of(group: Group) -> tuple[str, str]:
    """The columns ``names`` and ``labels`` of a group."""
    return dump(group.names), dump(group.values)


def _retired(family: str, shape: str) -> str:
    """The name under which the totals of a family are stored while it has other label names or bucket edges."""
    return f"{family} {blake2b(shape.encode(), digest_size=8).hexdigest()}"


def _stored(family: TraceFamily, rows: Iterable[tuple[str, str, float, float]]) -> Iterator[Stored]:
    """The series in rows of labels, part, value and slept, which are ordered by labels."""
    for text, cells in groupby(rows, lambda row: row[0]):
        numbers = {part: (value, slept) for _, part, value, slept in cells}
        found = [numbers.get(part, (0, 0)) for part in family.parts]
        yield Stored(family.name, load(text), tuple(value for value, _ in found), tuple(slept for _, slept in found))
