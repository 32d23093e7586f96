"""The source of traces: scans, lookups by id, and counts."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Protocol

from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Window
from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.domain.shards import THE_WHOLE, Shard
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Pending
from mlflow_trace_exporter.errors import NotUnderstoodError, PollError, Reason, UserError
from mlflow_trace_exporter.tracking import filters
from mlflow_trace_exporter.tracking.client import MAX_COUNTS, PAGE_SIZE, Client, FoundTraces
from mlflow_trace_exporter.tracking.experiments import Experiment, Selection, select
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.merging import MergedPage, merged
from mlflow_trace_exporter.tracking.parsing import to_record
from mlflow_trace_exporter.tracking.pending import PendingAnswer, answers, together
from mlflow_trace_exporter.tracking.scanning import Found, Page, Scan, Tokens
from mlflow_trace_exporter.tracking.slices import STEP_MS, Extent, Known
from mlflow_trace_exporter.tracking.span_source import SpanAnswer, SpanSource
from mlflow_trace_exporter.tracking.workspaces import WorkspaceReader

log = logging.getLogger(__name__)

MAX_EXCLUDED = 4_000
"""The maximum number of ids in NOT IN: MLflow 3.17 accepts a filter with 4,900 ids and rejects one with 6,000."""

EXPERIMENTS_AGE_MS = 60_000
"""How long the list of experiments is cached. It is less than the minimum ``poll.overlap``, so the next fresh window
still includes the traces that a new experiment received before it was found."""

OPTIONAL = (Feature.SPANS, Feature.ASSESSMENT_METRICS)
"""Features that not every exporter needs."""

FEATURES_AGE_MS = 600_000
"""How long a feature is considered missing before it is tried again, because servers are upgraded or fail
temporarily."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Up to PAGE_SIZE ids that ``can_be_asked_for``, a window in which their traces start, and their experiments. With
    a range of start times MLflow's databases search that range. Without one SQLite searches all traces of the
    experiments. Without experiments all workspaces are searched."""

    trace_ids: Sequence[str]
    window: Window
    experiment_ids: frozenset[str] | None = None

    @classmethod
    def of(cls, traces: Sequence[TraceRecord | Pending]) -> "Lookup":
        """The lookup of traces that were read before. OTLP spans that arrive late can move a start; if it has moved by
        more than BUCKET_MS, the trace is not found."""
        starts_ms = [each.start_ms for each in traces] or [0]
        window = Window(min(starts_ms) - BUCKET_MS, max(starts_ms) + BUCKET_MS)
        return cls([each.trace_id for each in traces], window, frozenset(each.experiment_id for each in traces))


class Source(Protocol):
    """A source of traces. Every method raises PollError if MLflow cannot be read."""

    def clocks(self) -> Clocks:
        """The current time by our clock and by MLflow's."""
        ...

    def experiments(self) -> Mapping[str, Experiment]:
        """The selected experiments by id."""
        ...

    def workspaces(self) -> Mapping[str, bool]:
        """The workspaces of the last ``experiments``, and whether MLflow lets them be read; empty if the server has
        none."""
        ...

    def features(self) -> Mapping[Feature, bool]:
        """Which features the server supports; empty while there is no experiment to try them on."""
        ...

    def scan(self, window: Window, *, known: Known = ()) -> Iterator[Page]:
        """All traces of the window, each once, ordered by start. The next pages are requested while the caller
        processes one. ``known`` traces are left out where MLflow supports this, because that costs MLflow less than
        returning them."""
        ...

    def get(self, lookups: Sequence[Lookup]) -> Iterator[Sequence[TraceRecord]]:
        """The traces of each lookup that exist, in any order. The next ones are requested while the caller processes
        one."""
        ...

    def spans(self, records: Sequence[TraceRecord]) -> Iterator[SpanAnswer]:
        """The spans of these traces, in parts, see ``SpanSource.read``. Requires Feature.SPANS."""
        ...

    def counts(self, window: Window, step_ms: int, experiment_ids: Sequence[str]) -> Mapping[int, int]:
        """The number of traces of these experiments that start in the window, by steps of ``step_ms`` (whole seconds)
        since 1970. Requires Feature.TRACE_METRICS."""
        ...

    def assessment_counts(
        self, window: Window, experiment_ids: Sequence[str], by_value: bool = True
    ) -> Counter[int] | None:
        """The number of valid assessments of traces of these experiments that start in the window, see
        ``Client.count_assessments``. Requires Feature.ASSESSMENT_METRICS."""
        ...


class MlflowSource:
    """Reads the selected experiments of a tracking server.

    ``selectors`` are experiment ids, names or globs of names. Without selectors all active experiments are read.
    ``workspaces`` are names or globs of names, see ``WorkspaceReader``. What comes from several is merged here.
    ``optional``: the features that are only needed for spans or assessments and will be used.
    ``filter_string`` is an MLflow search filter that all traces must match. ``now_ms`` is our own clock. Only those
    experiments are read that are in the ``shard``.
    """

    def __init__(
        self,
        client: Client,
        now_ms: Callable[[], int],
        selectors: Sequence[str] = (),
        filter_string: str | None = None,
        workspaces: Sequence[str] = (),
        optional: Collection[Feature] = (),
        shard: Shard = THE_WHOLE,
    ) -> None:
        self.client = client
        self._own_ms = now_ms
        self._selectors = tuple(selectors)
        self._filter = filter_string
        self._shard = shard
        self._workspaces = WorkspaceReader(client, workspaces, now_ms)
        self._selection: Selection | None = None
        self._selection_ms = 0
        self._needed = tuple(each for each in Feature if each not in OPTIONAL or each in optional)
        self._features: dict[Feature, bool] = {}
        self._features_ms = 0
        self._max_excluded = MAX_EXCLUDED
        self._spans = SpanSource(client)

    def clocks(self) -> Clocks:
        """See ``Source.clocks``."""
        server_ms = self.client.server_ms()
        return Clocks(self._own_ms(), server_ms)

    def experiments(self) -> Mapping[str, Experiment]:
        """See ``Source.experiments``. Read from MLflow once a minute."""
        now_ms, before = self._own_ms(), self._selection
        if before is None or not before.chosen or not 0 <= now_ms - self._selection_ms < EXPERIMENTS_AGE_MS:
            self._selection, self._selection_ms = self.selection(), now_ms
            if before is None or before.names != self._selection.names:
                self._selection.log()
        assert self._selection is not None, "chosen above"
        return self._selection.chosen

    def selection(self) -> Selection:
        """Read the active experiments from MLflow and select from them."""
        return select(self._workspaces.experiments(), self._selectors, self._workspaces.selected, self._shard)

    def workspaces(self) -> Mapping[str, bool]:
        """See ``Source.workspaces``."""
        return self._workspaces.selected.readable

    def require_experiments(self) -> None:
        """Raise UserError if no experiment is selected: for commands, which do not wait for one."""
        if not self.experiments():
            raise UserError(self.selection().complaint(self.client.tracking_uri))

    def features(self) -> Mapping[Feature, bool]:
        """See ``Source.features``. Each feature is tried once. A missing one is tried again after FEATURES_AGE_MS."""
        now_ms, chosen = self._own_ms(), self._chosen()
        again = not 0 <= now_ms - self._features_ms < FEATURES_AGE_MS
        for feature in self._needed if chosen else ():
            before = self._features.get(feature)
            if before is None or (again and not before):
                has = self._has(feature, *_by_workspace(chosen)[0])
                self._features[feature], self._features_ms = has, now_ms
                if not has and before is None:
                    log.warning(feature.without, extra={"feature": feature.value})
        return dict(self._features)

    def scan(self, window: Window, *terms: str, known: Known = (), experiment: str | None = None) -> Iterator[Page]:
        """See ``Source.scan``, and ``Scan`` for how. Traces must match all terms. If ``experiment`` is set, only traces
        of experiments with this label."""
        features = self.features()
        max_excluded = self._max_excluded if features.get(Feature.NOT_IN, False) else 0
        can_count = features.get(Feature.TRACE_METRICS, False) and not terms and experiment is None

        def search(
            window: Window, excluded: frozenset[str] = frozenset(), tokens: Tokens | None = None
        ) -> PendingAnswer[Found]:
            pending = self._begin_search(window, [*terms, *filters.without_ids(excluded)], experiment, tokens=tokens)
            return replace(pending, answer=lambda: self._exclude_fewer_if_refused(pending, len(excluded)))

        def counts(window: Window) -> Mapping[int, int]:
            return self.counts(window, STEP_MS, list(self._chosen()))

        known = known if max_excluded else ()
        scan = Scan(search, self.client.bad_answer, PAGE_SIZE, max_excluded, known, counts if can_count else None)
        return scan.pages(window)

    def _exclude_fewer_if_refused(self, pending: PendingAnswer[Found], excluded: int) -> Found:
        """The answer to a search that excludes so many ids. Databases and proxies limit the size of a query in their
        own ways, so the next searches exclude only half as many if this one is refused."""
        try:
            return pending.answer()
        except PollError as error:
            if excluded > PAGE_SIZE and error.reason in (Reason.SERVER_ERROR, Reason.CONFIGURATION):
                self._max_excluded = max(PAGE_SIZE, excluded // 2)
                log.warning("searches exclude fewer traces from now on", extra={"at_most": self._max_excluded})
            raise

    def get(self, lookups: Sequence[Lookup]) -> Iterator[Sequence[TraceRecord]]:
        """See ``Source.get``. The user's filter is not applied: the traces matched it when they were first seen."""
        all_found = answers(map(self._begin_lookup, lookups))
        for lookup, found in zip(lookups, all_found, strict=True):
            yield self._requested(lookup.trace_ids, found)

    def _begin_lookup(self, lookup: Lookup) -> PendingAnswer[Found]:
        if not lookup.trace_ids:
            return _NOTHING
        chosen = self._chosen()
        ids = chosen.keys() if lookup.experiment_ids is None else lookup.experiment_ids & chosen.keys()
        workspaces = {chosen[each].workspace for each in ids}
        among = {key: each for key, each in chosen.items() if each.workspace in workspaces}
        return self._begin([*filters.of_window(lookup.window), filters.with_ids(lookup.trace_ids)], among)

    def _requested(self, trace_ids: Sequence[str], found: Found) -> Sequence[TraceRecord]:
        """The traces of an answer, if it is complete and has none but these. Otherwise raises PollError."""
        records = found.records()
        there, asked = {record.trace_id for record in records}, set(trace_ids)
        if not there <= asked:  # otherwise the requested traces would be considered deleted
            raise self.client.bad_answer("it contains traces that were not requested")
        if found.extent.more and there != asked:
            raise self.client.bad_answer("there are more traces, but not all requested ones are in the page")
        return records

    def spans(self, records: Sequence[TraceRecord]) -> Iterator[SpanAnswer]:
        """See ``Source.spans``. If MLflow says that there is no such request, ``features`` tries it again: the server
        may have been replaced, and each trace would be requested by itself."""
        for answer in self._spans.read(records):
            if answer.error is not None and answer.error.reason is Reason.CONFIGURATION:
                self._features.pop(Feature.SPANS, None)
            yield answer

    def newest(self, window: Window, *terms: str, experiment: str | None = None) -> Iterator[TraceRecord]:
        """The traces of the window that match all terms, latest start first, fetched when the caller needs them. If
        ``experiment`` is set, only traces of experiments with this label.

        For display only: if more than PAGE_SIZE traces start in one millisecond, some are omitted.
        """
        read: set[str] = set()
        while True:
            found = self._search(window, terms, experiment)
            records = found.records()
            yield from (record for record in records if record.trace_id not in read)
            if not found.extent.more:
                return
            if not records:
                raise self.client.bad_answer("there are more traces, but the page is empty")
            read = {record.trace_id for record in records}
            first_ms, last_ms = records[0].start_ms, records[-1].start_ms
            window = replace(window, hi_ms=last_ms if first_ms == last_ms else last_ms + 1)

    def find(self, trace_id: str) -> TraceRecord | None:
        """The trace with this id; None if it is in no selected experiment."""
        found = self._find([filters.with_ids([trace_id])]).records() if can_be_asked_for(trace_id) else ()
        return next((record for record in found if record.trace_id == trace_id), None)  # some databases ignore case

    def counts(self, window: Window, step_ms: int, experiment_ids: Sequence[str]) -> Mapping[int, int]:
        """See ``Source.counts``. Requested in parts, because MLflow limits the number of counts in a response."""
        counts: dict[int, int] = {}
        chosen = self._chosen()
        among = {each: chosen[each] for each in experiment_ids if each in chosen}
        for part in filters.parts(window, step_ms, MAX_COUNTS - 1):
            for workspace, ids in _by_workspace(among):
                with self._refusals_noted():
                    found = self.client.count(ids, part.lo_ms, part.hi_ms - 1, step_ms // 1000, workspace)
                if not all(at_ms % step_ms == 0 and part.lo_ms - step_ms < at_ms < part.hi_ms for at_ms in found):
                    raise self.client.bad_answer("it contains counts of times that were not requested")
                for at_ms, count in found.items():
                    counts[at_ms] = counts.get(at_ms, 0) + count
        return counts

    def assessment_counts(
        self, window: Window, experiment_ids: Sequence[str], by_value: bool = True
    ) -> Counter[int] | None:
        """See ``Source.assessment_counts``."""
        chosen = self._chosen()
        counts: Counter[int] = Counter()
        for workspace, ids in _by_workspace({each: chosen[each] for each in experiment_ids if each in chosen}):
            with self._refusals_noted():
                found = self.client.count_assessments(ids, window.lo_ms, window.hi_ms - 1, by_value, workspace)
            if found is None:
                return None
            counts += found
        return counts

    def _search(self, window: Window, terms: Sequence[str], experiment: str | None = None) -> Found:
        """The latest traces of the window, latest first."""
        return self._begin_search(window, terms, experiment, newest_first=True).answer()

    def _begin_search(
        self,
        window: Window,
        terms: Sequence[str],
        experiment: str | None = None,
        newest_first: bool = False,
        tokens: Tokens | None = None,
    ) -> PendingAnswer[Found]:
        all_terms = [*filters.of_window(window), *terms, *([self._filter] if self._filter else [])]
        among = {key: each for key, each in self._chosen().items() if experiment in (None, clean(each.unique_name))}
        pending = self._begin(all_terms, among, newest_first, tokens)

        def answer() -> Found:
            try:
                found = pending.answer()
            except NotUnderstoodError as error:
                raise (error.perhaps("mlflow.filter", self._filter) if self._filter else error) from None
            return replace(found, records=lambda: self._in_order(found.records(), window, newest_first))

        return PendingAnswer(answer, pending.drop)

    def _in_order(
        self, records: tuple[TraceRecord, ...], window: Window, newest_first: bool
    ) -> tuple[TraceRecord, ...]:
        """These records, if their order and times are those of the request. Otherwise raises PollError."""
        starts = [record.start_ms for record in records]
        if starts != sorted(starts, reverse=newest_first):
            raise self.client.bad_answer("its traces are not in the requested order")
        if any(not window.lo_ms <= start_ms < window.hi_ms for start_ms in starts):
            raise self.client.bad_answer("it contains traces of times that were not requested")
        return records

    def _find(self, terms: Sequence[str]) -> Found:
        return self._begin(terms, self._chosen()).answer()

    def _begin(
        self,
        terms: Sequence[str],
        experiments: Mapping[str, Experiment],
        newest_first: bool = False,
        tokens: Tokens | None = None,
    ) -> PendingAnswer[Found]:
        """Begin a search in these experiments. All traces come through this method."""
        parts = [part for part in _by_workspace(experiments) if tokens is None or part[0] in tokens]
        if not parts:
            return _NOTHING
        filter_string = " AND ".join(terms)
        pending = together(
            self._begin_part(workspace, ids, filter_string, newest_first, (tokens or {}).get(workspace))
            for workspace, ids in parts
        )

        def answer() -> Found:
            pages = pending.answer()
            with self.client.errors_classified():
                page = merged(dict(zip((workspace for workspace, _ in parts), pages, strict=True)), newest_first)
                extent = Extent.of(page.traces, page.more)
            return Found(extent, lambda: self._records(page, experiments), page.tokens)

        return PendingAnswer(answer, pending.drop)

    def _begin_part(
        self,
        workspace: str | None,
        experiment_ids: Sequence[str],
        filter_string: str,
        newest_first: bool,
        token: str | None,
    ) -> PendingAnswer[FoundTraces]:
        """Begin the part of a search that concerns one workspace."""
        pending = self.client.begin_search(experiment_ids, filter_string, newest_first, token, workspace)

        def answer() -> FoundTraces:
            with self._refusals_noted():
                return pending.answer()

        return PendingAnswer(answer, pending.drop)

    def _records(self, page: MergedPage, experiments: Mapping[str, Experiment]) -> tuple[TraceRecord, ...]:
        waited_ms = int((monotonic() - page.arrived_s) * 1000)
        seen_ms = self.clocks().earliest_ms - waited_ms
        with self.client.errors_classified():
            records = _once(to_record(trace, experiments, seen_ms) for trace in page.traces)
        if any(record.experiment_id not in experiments for record in records):
            raise self.client.bad_answer("it contains traces of experiments that were not requested")
        return records

    def _chosen(self) -> Mapping[str, Experiment]:
        """The experiments of the last selection. Only ``experiments`` updates it, so the caller knows each experiment
        before its traces arrive."""
        if self._selection is None:
            self.experiments()
        return self._selection.chosen if self._selection else {}

    @contextmanager
    def _refusals_noted(self) -> Iterator[None]:
        """Select experiments again after a refusal, because permissions may have changed, and try all features again,
        because the server may have been replaced."""
        try:
            yield
        except PollError as error:
            if error.reason in (Reason.CONFIGURATION, Reason.CREDENTIALS):
                self._selection_ms = 0
            if error.reason is Reason.CONFIGURATION:
                self._features = {}
            raise

    def _has(self, feature: Feature, workspace: str | None, experiment_ids: Sequence[str]) -> bool:
        if feature is Feature.TRACE_METRICS and self._filter is not None:
            return False  # counts do not support filters
        try:
            self._try(feature, workspace, experiment_ids)
        except NotUnderstoodError:
            return False
        except PollError as error:
            answered = error.reason not in (Reason.UNREACHABLE, Reason.TIMEOUT, Reason.THROTTLED)
            if feature is Feature.SPANS and error.reason is Reason.CREDENTIALS:
                return True  # with basic auth, MLflow denies access to the trace because there is none
            if feature in (Feature.TRACE_METRICS, *OPTIONAL) and answered:
                return False
            raise
        return True

    def _try(self, feature: Feature, workspace: str | None, experiment_ids: Sequence[str]) -> None:
        search = partial(self.client.search, experiment_ids, workspace=workspace)
        match feature:
            case Feature.END_TIME_FILTER:
                search(f"{filters.NOTHING} AND trace.end_time_ms >= 0")
            case Feature.NOT_IN:
                search(f"{filters.NOTHING} AND trace.request_id NOT IN ('tr-1','tr-2')")
            case Feature.LIKE:
                search(f"{filters.NOTHING} AND tag.environment LIKE '%a%'")
            case Feature.TRACE_METRICS:
                self.client.count(experiment_ids, 0, 0, 60, workspace)
            case Feature.ASSESSMENT_METRICS:
                self.client.count_assessments(experiment_ids, 0, 0, True, workspace)
            case Feature.SPANS:
                self.client.begin_spans(["tr-1"], workspace).answer()


_NOTHING = PendingAnswer(lambda: Found(Extent.of((), more=False), tuple), lambda: None)
"""What is found without a request."""


def _by_workspace(experiments: Mapping[str, Experiment]) -> list[tuple[str | None, list[str]]]:
    """The ids of experiments by workspace."""
    found: dict[str | None, list[str]] = {}
    for key, each in experiments.items():
        found.setdefault(each.workspace, []).append(key)
    return list(found.items())


def can_be_asked_for(trace_id: str) -> bool:
    """Whether ``Source.get`` can look up this id: any text that can be encoded as UTF-8."""
    return not re.search("[\ud800-\udfff]", trace_id)


def _once(records: Iterable[TraceRecord]) -> tuple[TraceRecord, ...]:
    """Remove duplicate traces and keep the first of each."""
    found: dict[str, TraceRecord] = {}
    for record in records:
        found.setdefault(record.trace_id, record)
    return tuple(found.values())
