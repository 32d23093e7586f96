"""Measures what batches of traces add to the totals. Pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from mlflow_trace_exporter.domain.activity import Active, Activity, activities
from mlflow_trace_exporter.domain.admission import Admission, Admitted, Caps
from mlflow_trace_exporter.domain.assessed import Assessed
from mlflow_trace_exporter.domain.calls import DIFFERENCES, Difference, differs
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.growth import Change
from mlflow_trace_exporter.domain.labels import (
    ALL_ASSESSMENT_LABELS,
    INSIDE_LABELS,
    PART_LABELS,
    PLACE_LABELS,
    LabelRules,
    Labels,
    LabelValues,
    part_names,
)
from mlflow_trace_exporter.domain.late_spans import differences
from mlflow_trace_exporter.domain.objectives import Objectives
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic, traffic_of
from mlflow_trace_exporter.domain.triage import Batch, Place
from mlflow_trace_exporter.metrics.assessments import assessment_parts
from mlflow_trace_exporter.metrics.inside import inside_parts
from mlflow_trace_exporter.metrics.model import SUM, Cell, Exemplar, Observations, Part, TraceFamily, exemplar_of, later


@dataclass(frozen=True, slots=True)
class Increments:
    """The amounts that a batch adds to the totals.

    ``groups``: the groups with increments, or with traces that will be counted soon. ``group_of``: the group of each
    counted trace, by id. ``first_ms``: the earliest start of a trace (Unix ms) by VERSION_LABELS.
    ``overflowed``: the number of traces by the label whose value was not admitted. ``left_out``: the number of traces
    that are not counted, by the kind of their traffic. ``differing``: the number of traces by the amount in which they
    differ from the sum of their calls. ``changed_assessments``: how many have changed; None if they are not counted.
    ``active``: the users and sessions of counted traces.
    """

    amounts: Mapping[Cell, float] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    group_of: Mapping[str, Group] = field(default_factory=dict)
    first_ms: Mapping[LabelValues, int] = field(default_factory=dict)
    exemplars: Mapping[Cell, Exemplar] = field(default_factory=dict)
    overflowed: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[Traffic, int] = field(default_factory=dict)
    differing: Mapping[Difference, int] = field(default_factory=dict)
    changed_assessments: int | None = None
    active: Active = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures batches with the labels, kinds of traffic and objectives of the configuration.

    Families whose names are ``excluded`` are measured, but not exposed. ``step_types``: the types of spans that have
    series, besides calls of models; None if spans are not read. ``with_assessments``: whether assessments are counted.
    ``with_active``: whether active users and sessions are.
    """

    families: tuple[TraceFamily, ...]
    rules: LabelRules
    caps: Caps
    traffic: frozenset[Traffic]
    objectives: Objectives
    excluded: frozenset[str] = frozenset()
    step_types: frozenset[str] | None = None
    with_assessments: bool = False
    with_active: bool = False

    @property
    def part_labels(self) -> tuple[tuple[str, ...], ...]:
        """The labels of all series about parts of traces."""
        inside = () if self.step_types is None else INSIDE_LABELS
        return (*inside, *(ALL_ASSESSMENT_LABELS if self.with_assessments else ()))

    @property
    def exposed(self) -> tuple[TraceFamily, ...]:
        """The families that are exposed."""
        return tuple(family for family in self.families if family.name not in self.excluded)

    def admission(self, shown: Iterable[Group]) -> Admission:
        """An ``Admission`` for new label values, given the groups that are exposed."""
        return Admission(shown, self.caps, self._series_of)

    def place(self, record: TraceRecord, admission: Admission) -> Place:
        """The place of a trace that is not counted yet."""
        return Place(*admission.place(self.rules.values(record)), traffic_of(record) in self.traffic)

    def measure(self, batch: Batch, admission: Admission, begun: Collection[Group] = ()) -> Increments:
        """The amounts that a batch adds. For groups that are not in ``begun``, cells that get no amount yet are
        included with 0."""
        sums = _Sums(self, admission)
        for each in (*(each for each in batch.pending if each.running), *batch.abandoned):
            sums.groups[Group(PLACE_LABELS, (each.experiment, each.environment))] = None
        for record in batch.ended:
            sums.open(record)
        for record in batch.counted:
            sums.count(record)
        for change in batch.changed:
            if change.grew:
                sums.correct(change)
        for about in batch.assessed:
            sums.assess(about)
        return sums.increments(begun)

    def _series_of(self, group: Group) -> int:
        return sum(family.series_per_group for family in self.exposed if family.is_of(group))


_Key = tuple[int, str, str]
"""A cell of a group: the position of its family, the value of its own label, and its part."""


class _Sums:
    """The sums over a batch, by group, because there are many more traces than groups."""

    def __init__(self, meter: Meter, admission: Admission) -> None:
        self._meter = meter
        self._admission = admission
        self._names = meter.rules.names
        self._amounts: dict[Group, dict[_Key, float]] = {}
        self._exemplars: dict[tuple[Group, _Key], Exemplar] = {}
        self._group_of: dict[str, Group] = {}
        self._first_ms: dict[LabelValues, int] = {}
        self._families: defaultdict[tuple[str, ...], list[tuple[int, TraceFamily]]] = defaultdict(list)
        for at, family in enumerate(meter.families):
            self._families[family.labels if family.labels in PART_LABELS else self._names].append((at, family))
        self._overflowed = Counter(dict.fromkeys((*self._names, *part_names(meter.part_labels)), 0))
        self._left_out = Counter(dict.fromkeys(Traffic, 0))
        self._differing: Counter[Difference] = Counter(
            {} if meter.step_types is None else dict.fromkeys(DIFFERENCES, 0)
        )
        self._changed_assessments = 0 if meter.with_assessments else None
        self._active: defaultdict[Activity, set[int]] = defaultdict(set)
        self.groups: dict[Group, None] = {}  # an ordered set

    def open(self, record: TraceRecord) -> None:
        """Begin the series of a trace that will be counted."""
        if traffic_of(record) in self._meter.traffic:
            self._sums_of(self._admit(record).group)

    def count(self, record: TraceRecord) -> None:
        """Add a trace."""
        traffic = traffic_of(record)
        if traffic not in self._meter.traffic:
            self._left_out[traffic] += 1
            return
        admitted = self._admit(record)
        group = admitted.group
        self._group_of[record.trace_id] = group
        version = group.version
        self._first_ms[version] = min(record.start_ms, self._first_ms.get(version, record.start_ms))
        self._observe(admitted, record, record, record.end_ms)
        if self._meter.with_active:
            for activity, who in activities(record, group.place.values).items():
                self._active[activity].add(who)
        if record.inside is not None:
            self._differing.update(differs(record.usage, record.cost, record.inside.calls))
            self._count_parts(record, inside_parts(record.inside, admitted.labels, self._meter.step_types or ()))

    def assess(self, assessed: Assessed) -> None:
        """Add assessments of a trace."""
        record = assessed.record
        if traffic_of(record) in self._meter.traffic:
            self._changed_assessments = (self._changed_assessments or 0) + assessed.changed
            labels = self._labels_of(record, assessed.group)
            for added in assessed.added:
                self._count_parts(record, assessment_parts(added, labels))

    def _count_parts(self, record: TraceRecord, parts: Iterable[Part]) -> None:
        for part in parts:
            self._observe(self._admission.admit(part.labels, part.names), part.what, record, part.end_ms)

    def _labels_of(self, record: TraceRecord, group: Group | None) -> Labels:
        """The labels of the series that count a trace: those of the group in which it was counted, if that is known."""
        return self._admit(record).labels if group is None else group.labels

    def _observe(self, admitted: Admitted, what: object, record: TraceRecord, end_ms: int | None) -> None:
        """Add ``what`` to the series of its group: a trace, or a part of it that ended at ``end_ms``."""
        group, labels = admitted.group, admitted.labels
        if admitted.overflowed:
            self._overflowed.update(admitted.overflowed)
        sums = self._sums_of(group)
        for at, family in self._families[group.names]:
            observations = family.observe(what, labels)
            if observations:
                _add(sums, at, family, observations)
                if family.has_exemplars:
                    self._note_exemplars(group, at, record, observations, end_ms)

    def _note_exemplars(
        self, group: Group, at: int, record: TraceRecord, observations: Observations, end_ms: int | None
    ) -> None:
        for own, value in observations:
            exemplar = exemplar_of(record, value, end_ms)
            if exemplar is not None:
                key = (group, (at, own, self._meter.families[at].bucket_of(value)))
                self._exemplars[key] = later(exemplar, self._exemplars.get(key))

    def correct(self, change: Change) -> None:
        """Add what a trace has grown by since it was counted, to the series that count it."""
        before, after = change.before.amounts, change.after.amounts
        assert before is not None, "a trace without amounts cannot grow"
        assert after is not None, "a trace without amounts cannot grow"
        group = change.before.group or self._admit(change.record).group
        labels = self._labels_of(change.record, group)
        sums = self._sums_of(group)
        for at, family in self._families[self._names]:
            if family.is_of(group):
                grown = family.growth(before.put_into(change.record), after.put_into(change.record), labels)
                _add(sums, at, family, grown)
        self._differing.update(differences(change))
        if change.late is not None:
            self._count_parts(change.record, inside_parts(change.late, labels, self._meter.step_types or ()))

    def increments(self, begun: Collection[Group]) -> Increments:
        """The sums by cell. See ``Meter.measure``."""
        families = self._meter.families
        amounts: dict[Cell, float] = dict.fromkeys(self._cells(group for group in self.groups if group not in begun), 0)
        for group, sums in self._amounts.items():
            for (at, own, part), amount in sums.items():
                cell = families[at].cell(group, own, part)
                amounts[cell] = amounts.get(cell, 0) + amount
        return Increments(
            amounts,
            tuple(self.groups),
            self._group_of,
            self._first_ms,
            {families[at].cell(group, own, part): each for (group, (at, own, part)), each in self._exemplars.items()},
            self._overflowed,
            self._left_out,
            self._differing,
            self._changed_assessments,
            {activity: frozenset(found) for activity, found in self._active.items()},
        )

    def _admit(self, record: TraceRecord) -> Admitted:
        return self._admission.admit(self._meter.rules.values(record), self._names)

    def _sums_of(self, group: Group) -> dict[_Key, float]:
        if group not in self._amounts:
            self.groups |= dict.fromkeys((group, group.place))
            self._amounts[group] = {}
        return self._amounts[group]

    def _cells(self, groups: Iterable[Group]) -> Iterable[Cell]:
        for group in groups:
            for family in self._meter.families:
                yield from family.cells_of(group)


def _add(sums: dict[_Key, float], at: int, family: TraceFamily, observations: Observations) -> None:
    """Add observations of a family to the sums of a group."""
    for own, amount in observations:
        if family.edges:
            bucket = (at, own, family.bucket_of(amount))
            sums[bucket] = sums.get(bucket, 0) + 1
        if amount:
            key = (at, own, SUM if family.edges else "")
            sums[key] = sums.get(key, 0) + amount
