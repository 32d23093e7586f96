"""Which values a label has, where somebody asks for one that no trace may have."""

from collections.abc import Iterator
from itertools import islice

from mlflow_trace_exporter.domain.horizon import AHEAD_MS, Window
from mlflow_trace_exporter.domain.labels import Labels
from mlflow_trace_exporter.errors import ArgumentError
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.tracking.query import Library, Query

SAMPLE = 1_000
"""How many of the latest traces tell which values there are."""

SEARCHED = 5_000
"""Among how many of the latest traces a value is looked for, of those that MLflow finds for it."""


def values(library: Library, name: str, now_ms: int, others: Labels) -> tuple[str, ...]:
    """The values of a label that the latest traces have, of those with these values of ``others``. Raises PollError."""
    return tuple(sorted({labels[name] for labels in islice(_latest(library, others, now_ms), SAMPLE)}))


def require(library: Library, asked: Labels, now_ms: int) -> None:
    """Raise ArgumentError for the first of these label values that no trace has, of any time, together with those
    before it; PollError where MLflow cannot be read. Where there are no traces at all nobody can say."""
    before: dict[str, str] = {}
    for name, value in asked.items():
        known = values(library, name, now_ms, before)
        if known and value not in known and not _is_there(library, {**before, name: value}, now_ms):
            of_others = "".join(f" of {other} {each!r}" for other, each in before.items())
            raise ArgumentError(
                name,
                f"no trace{of_others} has {value!r}{did_you_mean(value, known)}; the latest traces have {few(known)}",
            )
        before[name] = value


def _is_there(library: Library, labels: Labels, now_ms: int) -> bool:
    return next(_latest(library, labels, now_ms), None) is not None


def _latest(library: Library, asked: Labels, now_ms: int) -> Iterator[Labels]:
    """The labels of traces with these values, in any state, the latest start first: of SEARCHED that MLflow finds."""
    terms = library.terms(Query(0, now_ms, asked))
    for record in islice(library.source.newest(Window(0, now_ms + AHEAD_MS), *terms), SEARCHED):
        labels = library.rules.values(record)
        if all(labels[name] == value for name, value in asked.items()):
            yield labels
