"""Finds traces by label, state, duration and user. MLflow filters as much as it can, and we filter the rest."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby, tee

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.labels import MAX_VALUE_LENGTH, UNKNOWN, LabelRules, Labels, LabelSource, clean
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic, traffic_of
from mlflow_trace_exporter.errors import NotUnderstoodError, UserError
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.scanning import Page
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.tracking.span_source import with_inside

USER_KEY = "mlflow.trace.user"

MAX_SEARCHES = 4
"""The maximum number of searches for labels. If more are needed, MLflow does not filter by all labels."""

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

    def searches(self, rules: LabelRules, like: bool = True) -> list[list[str]]:
        """The filter terms of searches in MLflow that together find all matching traces, and possibly others, above all
        if MLflow does not support LIKE."""
        terms = [_STATE_TERMS[self.state]] if self.state else []
        if self.min_duration_ms is not None:
            terms.append(f"trace.execution_time_ms >= {self.min_duration_ms}")
        if like and self.user is not None and self.user != UNKNOWN:
            terms += filter(None, [_term(LabelSource("metadata", USER_KEY), self.user)])
        if self.filter_string:
            terms.append(self.filter_string)
        return [[*terms, *each] for each in label_searches(self.labels if like else {}, rules)]

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
"""Keys that MLflow does not interpret as a tag, metadata or assessment of that name (case-insensitive)."""


def _lasted(record: TraceRecord, min_ms: int) -> bool:
    return record.duration_ms is not None and record.duration_ms >= min_ms


def label_searches(labels: Mapping[str, str], rules: LabelRules) -> list[list[str]]:
    """Searches that together find all traces with these labels, and possibly others. All terms of a search must match.

    There is one search for each source and text of a value, because MLflow does not support OR. Example: the version
    1.5.0 can be in a tag or in the metadata of a trace. If that would take more than MAX_SEARCHES, MLflow does not
    filter by some of the labels. It filters by those first that have the most values.
    """
    found: list[list[str]] = [[]]
    for name, sources in reversed(rules.sources):
        texts = _shortest(rules.texts(name, labels[name])) if name in labels else ()
        terms = [_term(source, text) for source in sources for text in texts]
        if len(terms) * len(found) <= MAX_SEARCHES and all(terms):
            found = [[*each, term] for each in found for term in terms if term] or found
    return found


def _shortest(texts: Collection[str]) -> list[str]:
    """The texts without those that contain another one: a search for `prod` finds `production`, too."""
    return [text for text in texts if not any(other in text for other in texts if other != text)]


def _term(source: LabelSource, text: str) -> str | None:
    """A term that matches all traces with this text in the value of a source, and possibly others. None if MLflow
    cannot search for it.

    A label is the cleaned text of the trace: without surrounding spaces, truncated, and with control characters
    replaced. A plain text has no replaced characters, so the text of the trace contains it. `_` matches any character,
    which only makes MLflow find more. MLflow cannot search by experiment or apply a pattern.
    """
    can_search = source.kind in ("tag", "metadata") and source.pattern is None
    if not (can_search and _is_plain(text) and _is_plain(source.key)):
        return None
    if source.key.lower() in _MLFLOWS_OWN:
        return None
    return f"{source.kind}.`{source.key}` LIKE '%{text}%'"


def assessment_term(asked: Labels) -> str | None:
    """A term that matches all traces with an assessment that has these values of ASSESSMENT_NAMES, and possibly others.
    None if MLflow cannot search for it. MLflow 3.6 or newer understands it.

    MLflow keeps values as JSON, so a word is in quotes, and a truth value is not. A label value is at most as long as
    the text that it is made of. Scores are not compared: 4 and 4.0 are different texts. MLflow compares the whole name,
    so one with spaces around it is not found.
    """
    name, value = asked.get("assessment", UNKNOWN), asked.get("value", UNKNOWN)
    if name == UNKNOWN or len(name) >= MAX_VALUE_LENGTH or name.lower() in _MLFLOWS_OWN or not _is_plain(name):
        return None
    is_word = value != UNKNOWN and _is_plain(value) and re.search(r"\d", value) is None
    return f"feedback.`{name}` LIKE '%{value if is_word else ''}%'"


def _is_plain(text: str) -> bool:
    """Whether MLflow's filters can contain the text and databases compare it as we do."""
    return re.fullmatch(r"[\w.:/@+ -]+", text, re.ASCII) is not None


@dataclass(frozen=True, slots=True)
class Library:
    """The traces of a server, with the labels and traffic of the configuration."""

    source: MlflowSource
    rules: LabelRules
    traffic: frozenset[Traffic]

    def read(
        self, query: Query, progress: Progress = no_progress, inside: bool = False
    ) -> Iterator[tuple[TraceRecord, Labels]]:
        """The matching traces with their labels, ordered by start, read a page at a time; with what is ``inside`` them
        if asked for. Raises PollError, and UserError if the server cannot return that."""
        try:
            found = self._read(query, progress)
            yield from self._with_inside(found) if inside else found
        except NotUnderstoodError as error:
            raise (error.perhaps("the filter", query.filter_string) if query.filter_string else error) from None

    def searches(self, query: Query) -> list[list[str]]:
        """The searches for a query that this server supports. See ``Query.searches``. Raises PollError."""
        return query.searches(self.rules, self.source.features().get(Feature.LIKE, False))

    def _with_inside(self, found: Iterable[tuple[TraceRecord, Labels]]) -> Iterator[tuple[TraceRecord, Labels]]:
        if self.source.features().get(Feature.SPANS) is False:
            raise UserError(Feature.SPANS.without)
        for_records, for_labels = tee(found)
        records = with_inside(self.source.spans, (record for record, _ in for_records))
        yield from zip(records, (labels for _, labels in for_labels), strict=True)

    def _read(self, query: Query, progress: Progress) -> Iterator[tuple[TraceRecord, Labels]]:
        searches = self.searches(query)
        reading = _Reading(progress, query.until_ms, [query.since_ms] * len(searches))
        experiment = query.labels.get("experiment")
        found = (self.source.scan(query.window, *terms, experiment=experiment) for terms in searches)
        scans = [reading.of(at, pages) for at, pages in enumerate(found)]
        for record in _once(merge(*scans, key=lambda each: each.start_ms)):
            labels = self.rules.values(record)
            if query.matches(record, labels) and traffic_of(record) in self.traffic:
                yield record, labels


@dataclass(slots=True)
class _Reading:
    """Reports the progress of several scans up to ``until_ms``. ``reached_ms``: the start time that each reached."""

    progress: Progress
    until_ms: int
    reached_ms: list[int]
    count: int = 0

    def of(self, at: int, pages: Iterable[Page]) -> Iterator[TraceRecord]:
        """The traces of the scan number ``at``."""
        for page in pages:
            yield from page.records
            self.count += len(page.records)
            self.reached_ms[at] = page.next_lo_ms
            self.progress(self.count, min(self.reached_ms))
        self.reached_ms[at] = self.until_ms


def _once(records: Iterable[TraceRecord]) -> Iterator[TraceRecord]:
    """Traces ordered by start without duplicates: several searches can find the same one."""
    for _, same_start in groupby(records, lambda record: record.start_ms):
        yield from {record.trace_id: record for record in same_start}.values()
