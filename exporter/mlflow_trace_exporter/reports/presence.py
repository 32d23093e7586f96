"""Finds out whether any trace has a label value that a user asks for."""

from collections.abc import Iterator
from itertools import islice

from mlflow_trace_exporter.domain.horizon import AHEAD_MS, Window
from mlflow_trace_exporter.domain.labels import Labels
from mlflow_trace_exporter.errors import ArgumentError
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.tracking.query import Library, Query

SAMPLE = 1_000
"""How many of the latest traces are read to list the values of a label."""

SEARCHED = 5_000
"""How many of the traces that MLflow finds for a value are examined, latest first."""


def values(library: Library, name: str, now_ms: int, others: Labels) -> tuple[str, ...]:
    """The values of a label in the latest traces that have these ``others`` labels. Raises PollError."""
    return tuple(sorted({labels[name] for labels in islice(_latest(library, others, now_ms), SAMPLE)}))


def require(library: Library, asked: Labels, now_ms: int) -> None:
    """Raise ArgumentError for the first of these label values that no trace, however old, has together with those
    before it. Raises PollError if MLflow cannot be read. Does nothing if there are no traces."""
    before: dict[str, str] = {}
    for name, value in asked.items():
        known = values(library, name, now_ms, before)
        if known and value not in known and not _is_there(library, {**before, name: value}, now_ms):
            of_others = "".join(f" with {other} {each!r}" for other, each in before.items())
            raise ArgumentError(
                name,
                f"no trace{of_others} has {value!r}{did_you_mean(value, known)}; the latest traces have {few(known)}",
            )
        before[name] = value


def _is_there(library: Library, labels: Labels, now_ms: int) -> bool:
    return next(_latest(library, labels, now_ms), None) is not None


def _latest(library: Library, asked: Labels, now_ms: int) -> Iterator[Labels]:
    """The labels of traces with these values, in any state, latest start first, among SEARCHED that MLflow finds."""
    terms = library.terms(Query(0, now_ms, asked))
    found = library.source.newest(Window(0, now_ms + AHEAD_MS), *terms, experiment=asked.get("experiment"))
    for record in islice(found, SEARCHED):
        labels = library.rules.values(record)
        if all(labels[name] == value for name, value in asked.items()):
            yield labels
