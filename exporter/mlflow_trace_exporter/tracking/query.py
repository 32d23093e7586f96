"""Finds traces by label, state, duration and user. MLflow filters as much as it can, and we filter the rest."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, product

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.labels import UNKNOWN, LabelRules, Labels, LabelSource, clean
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic, traffic_of
from mlflow_trace_exporter.errors import NotUnderstoodError
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.source import MlflowSource

USER_KEY = "mlflow.trace.user"

MAX_SEARCHES = 4
"""The maximum number of searches for labels. If more are needed, MLflow does not filter by label."""

Progress = Callable[[int, int], None]
"""Called after each page with the number of traces read and the start time reached (Unix ms)."""


def no_progress(*_: int) -> None:
    """Do not report progress."""


@dataclass(frozen=True, slots=True)
class Query:
    """Selects finished traces that start in [since_ms, until_ms) and have all of these label values. ``state``: OK or
    ERROR. ``min_duration_ms``: the minimum duration. ``user``: the user, cleaned like a label. ``filter_string``: a
    search filter of MLflow. None: any."""

    since_ms: int
    until_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)
    state: State | None = None
    min_duration_ms: int | None = None
    user: str | None = None
    filter_string: str | None = None

    @property
    def window(self) -> Window:
        """The range of start times to read."""
        return Window(self.since_ms, self.until_ms)

    def terms(self, rules: LabelRules, like: bool = True) -> list[str]:
        """The filter terms for MLflow, which reduce the traces to read. MLflow may return more traces than ``matches``
        accepts, above all if it does not support LIKE."""
        terms = [_STATE_TERMS[self.state]] if self.state else []
        if self.min_duration_ms is not None:
            terms.append(f"trace.execution_time_ms >= {self.min_duration_ms}")
        if like and self.user is not None:
            terms += _label_terms(self.user, (LabelSource("metadata", USER_KEY),))
        for name, sources in _sources(rules) if like else ():
            terms += _label_terms(self.labels.get(name, UNKNOWN), sources)
        return [*terms, self.filter_string] if self.filter_string else terms

    def matches(self, record: TraceRecord, labels: Labels) -> bool:
        """Whether a trace with these labels matches, because MLflow may return more traces."""
        return (
            record.ended()
            and (self.state is None or (self.state is State.ERROR) is (record.state is State.ERROR))
            and (self.min_duration_ms is None or _lasted(record, self.min_duration_ms))
            and (self.user is None or clean(record.user) == self.user)
            and all(labels[name] == value for name, value in self.labels.items())
        )


_STATE_TERMS = {State.ERROR: "trace.status = 'ERROR'", State.OK: "trace.status != 'ERROR'"}
"""A trace that MLflow shows as in progress may have ended. Then it counts as OK."""

_MLFLOWS_OWN = {"name", "prompt", "run_id", "text", "timestamp", "execution_time", "end_time"}
"""Keys that MLflow does not interpret as a tag or metadata of that name (case-insensitive)."""


def _lasted(record: TraceRecord, min_ms: int) -> bool:
    return record.duration_ms is not None and record.duration_ms >= min_ms


def _sources(rules: LabelRules) -> Iterable[tuple[str, tuple[LabelSource, ...]]]:
    return (("environment", rules.environment), ("version", rules.version), *rules.extra)


def label_searches(labels: Mapping[str, str], rules: LabelRules) -> list[list[str]]:
    """Searches that together find all traces with these labels, and possibly others. All terms of a search must match.

    There is one search for each source of a value, because MLflow does not support OR. Example: the version 1.5.0 can
    be in a tag or in the metadata of a trace.
    """
    each_place = [
        [_label_terms(labels.get(name, UNKNOWN), (source,)) for source in sources] for name, sources in _sources(rules)
    ]
    found = [list(chain(*terms)) for terms in product(*(terms for terms in each_place if all(terms)))]
    return found if len(found) <= MAX_SEARCHES else [[]]


def _label_terms(value: str, sources: tuple[LabelSource, ...]) -> list[str]:
    """A term for a label with only one source, because MLflow supports AND but not OR.

    All traces with the label match the term; others may match, too. A label is the cleaned text of the trace: without
    surrounding spaces, truncated, and with control characters replaced. A plain value has no replaced characters, so
    the text of the trace contains it. `_` matches any character, which only makes MLflow find more.
    """
    (source, *others) = sources
    if value == UNKNOWN or others or not (_is_plain(value) and _is_plain(source.key)):
        return []
    if source.key.lower() in _MLFLOWS_OWN:
        return []
    return [f"{source.kind}.`{source.key}` LIKE '%{value}%'"]


def _is_plain(text: str) -> bool:
    """Whether MLflow's filters can contain the text and databases compare it as we do."""
    return re.fullmatch(r"[\w.:/@+ -]+", text, re.ASCII) is not None


@dataclass(frozen=True, slots=True)
class Library:
    """The traces of a server, with the labels and traffic of the configuration."""

    source: MlflowSource
    rules: LabelRules
    traffic: frozenset[Traffic]

    def read(self, query: Query, progress: Progress = no_progress) -> Iterator[tuple[TraceRecord, Labels]]:
        """The matching traces with their labels, ordered by start, read a page at a time. Raises PollError."""
        try:
            yield from self._read(query, progress)
        except NotUnderstoodError as error:
            raise (error.perhaps("the filter", query.filter_string) if query.filter_string else error) from None

    def terms(self, query: Query) -> list[str]:
        """The filter terms of a query that this server supports. Raises PollError."""
        return query.terms(self.rules, self.source.features().get(Feature.LIKE, False))

    def _read(self, query: Query, progress: Progress) -> Iterator[tuple[TraceRecord, Labels]]:
        count = 0
        for page in self.source.scan(query.window, *self.terms(query), experiment=query.labels.get("experiment")):
            for record in page.records:
                labels = self.rules.values(record)
                if query.matches(record, labels) and traffic_of(record) in self.traffic:
                    yield record, labels
            count += len(page.records)
            progress(count, page.next_lo_ms)
