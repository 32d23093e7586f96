"""Running totals of a report, grouped by chosen dimensions. Pure."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import get_args

from mlflow_trace_exporter.domain.labels import Labels, clean
from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.reports.opinions import Opinions, OpinionTally
from mlflow_trace_exporter.reports.rows import Row, Tally, opinion_row
from mlflow_trace_exporter.reports.subjects import OF_PARTS, Subject, Unit, subjects

MAX_ROWS = 100_000
"""The most rows of a report. Traces of further groups are added up in one extra row."""

OTHERS = "(others)"
"""The key of that row."""

Key = tuple[str, ...]
"""The values of some dimensions."""

Dimension = Callable[[TraceRecord, Labels], str]


def _hour(record: TraceRecord, _: Labels) -> str:
    return f"{utc(record.start_ms):%Y-%m-%dT%H:00Z}"


_DIMENSIONS: Mapping[str, Dimension] = {
    "user": lambda record, _: clean(record.user),
    "session": lambda record, _: clean(record.session),
    "hour": _hour,
}


def dimensions(label_names: Sequence[str]) -> tuple[str, ...]:
    """All dimensions of a report: the labels of the metrics, and others that never become labels.

    A label with the name of a column is left out, because it would hide the column.
    """
    columns = {each.name for columns in (Row, Opinions) for each in fields(columns)} | {*get_args(Unit)}
    known = (*(name for name in label_names if name not in columns), *_DIMENSIONS)
    of_parts = dict.fromkeys(name for names in OF_PARTS.values() for name in names)
    return (*known, *(name for name in of_parts if name not in known))


def _dimension(name: str) -> Dimension:
    return _DIMENSIONS.get(name) or (lambda _, labels: labels[name])


class Tallies:
    """Tallies of traces, or of what is inside them, grouped by some dimensions."""

    def __init__(self, by: Sequence[str], unit: Unit = "traces") -> None:
        self._by, self._unit = tuple(by), unit
        self._values = [_dimension(name) for name in by]
        self._tallies: dict[Key, Tally] = {}
        self._total = Tally()

    def add(self, record: TraceRecord, labels: Labels) -> None:
        """Add one finished trace."""
        for subject in subjects(record, self._unit):
            all_labels = {**subject.labels, **labels} if subject.labels else labels
            self._add(subject, tuple(value(record, all_labels) for value in self._values))

    def _add(self, subject: Subject, key: Key) -> None:
        self._tallies.setdefault(_kept(key, self._tallies), Tally()).add(subject)
        if self._by:
            self._total.add(subject)

    def rows(self) -> list[Row]:
        """All tallies as rows, in the order of ``Report.rows``."""
        found = ((dict(zip(self._by, key, strict=True)), tally) for key, tally in sorted(self._tallies.items()))
        return _in_order((tally.row(key, self._unit) for key, tally in found), self._by)

    def total(self) -> Row:
        """The total of all rows."""
        return (self._total if self._by else self._tallies.get((), self._total)).row({}, self._unit)


@dataclass(slots=True)
class _Assessed:
    """Totals of assessments. ``of``: the key of the traces of which some are assessed; None: all traces."""

    of: Key | None
    tally: OpinionTally = field(default_factory=OpinionTally)


class OpinionTallies:
    """Tallies of assessments, grouped by some dimensions.

    The share of traces that are assessed is one of all traces that have the same values of the other dimensions, which
    are not those of assessments. Example: by assessment and version, it is a share of the traces of a version.
    """

    def __init__(self, by: Sequence[str]) -> None:
        self._by = tuple(by)
        self._values = [_dimension(name) for name in by]
        self._found: dict[Key, _Assessed] = {}
        self._traces: Counter[Key] = Counter()
        self._total = OpinionTally()

    def add(self, record: TraceRecord, labels: Labels) -> None:
        """Add one finished trace."""
        of_trace = tuple(
            value(record, labels)
            for name, value in zip(self._by, self._values, strict=True)
            if name in labels or name in _DIMENSIONS
        )
        self._traces[_kept(of_trace, self._traces)] += 1
        before: set[Key] = set()
        for each in record.valid_assessments:
            all_labels = {"assessment": each.name, "source": each.source, **labels}
            wanted = tuple(value(record, all_labels) for value in self._values)
            key = _kept(wanted, self._found)
            self._found.setdefault(key, _Assessed(of_trace if key == wanted else None)).tally.add(
                each, key not in before
            )
            self._total.add(each, not before)
            before.add(key)

    def rows(self) -> list[Row]:
        """All tallies as rows, in the order of ``Report.rows``."""
        found = ((dict(zip(self._by, key, strict=True)), each) for key, each in sorted(self._found.items()))
        return _in_order((opinion_row(key, each.tally, self._traces_of(each)) for key, each in found), self._by)

    def total(self) -> Row:
        """The total of all rows."""
        return opinion_row({}, self._total, self._traces.total())

    def _traces_of(self, found: _Assessed) -> int:
        return self._traces.total() if found.of is None else self._traces[_kept(found.of, self._traces)]


def _kept(key: Key, known: Collection[Key]) -> Key:
    """The key under which to add up what has this key."""
    return key if key in known or len(known) < MAX_ROWS else (OTHERS,) * len(key)


def _in_order(rows: Iterable[Row], by: Sequence[str]) -> list[Row]:
    if "hour" in by:
        return sorted(rows, key=lambda row: row.key["hour"])
    return sorted(rows, key=lambda row: -row.traces)
