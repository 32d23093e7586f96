"""Where traces come from, as the rest of the program sees it: scans, look-ups by id, and counts."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from exporter.client import PAGE_SIZE, Client
from exporter.clocks import Clocks
from exporter.errors import PollError, Reason, UserError
from exporter.experiments import Experiment, Selection, select
from exporter.features import Feature
from exporter.horizon import Window
from exporter.labels import clean
from exporter.records import to_record
from exporter.trace import PLAIN_ID, TraceRecord

log = logging.getLogger(__name__)

MAX_EXCLUDED = 4_000
"""How many ids a NOT IN can carry: MLflow 3.17 reads a filter with 4,900 of them and refuses one with 6,000."""

EXPERIMENTS_AGE_MS = 60_000
"""How long a list of experiments is used. Below the least ``poll.overlap``, so that what a new experiment received
before it was found is still inside the next fresh window."""

FEATURES_AGE_MS = 600_000
"""How long a feature is taken to be missing before it is tried again: servers are upgraded, or fail for a while."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some traces in the order of their start. Whoever has stored them may go on reading at ``next_lo_ms``."""

    records: tuple[TraceRecord, ...]
    next_lo_ms: int


class Source(Protocol):
    """Where traces come from. Every method raises PollError where MLflow cannot be read."""

    def clocks(self) -> Clocks:
        """What time it is, by our clock and by MLflow's."""
        ...

    def experiments(self) -> Mapping[str, Experiment]:
        """The selected experiments by id."""
        ...

    def features(self) -> Mapping[Feature, bool]:
        """What of the server can be used; empty as long as there is nothing to try it on."""
        ...

    def scan(self, window: Window) -> Iterator[Page]:
        """All traces of the window, each once, by start; fetched page by page as the caller asks for the next."""
        ...

    def get(self, trace_ids: Sequence[str]) -> list[TraceRecord]:
        """Those of these traces that are there, in any order. Only for ids that ``can_be_asked_for``."""
        ...

    def counts(self, window: Window, step_ms: int, experiment_ids: Sequence[str]) -> Mapping[int, int]:
        """How many traces of these experiments start in the window, in steps of ``step_ms`` (whole seconds) from 1970
        on. Only where there is Feature.TRACE_METRICS."""
        ...


class MlflowSource:
    """A tracking server, and the selection of its experiments.

    ``selectors`` are experiment ids, names or globs of names; none selects all active experiments. ``filter_string`` is
    an MLflow search filter that all traces must match. ``now_ms`` is our own clock.
    """

    def __init__(
        self,
        client: Client,
        now_ms: Callable[[], int],
        selectors: Sequence[str] = (),
        filter_string: str | None = None,
    ) -> None:
        self.client = client
        self._own_ms = now_ms
        self._selectors = tuple(selectors)
        self._filter = filter_string
        self._selection: Selection | None = None
        self._selection_ms = 0
        self._features: dict[Feature, bool] = {}
        self._features_ms = 0

    def clocks(self) -> Clocks:
        """See ``Source.clocks``."""
        server_ms = self.client.server_ms()
        return Clocks(self._own_ms(), server_ms)

    def experiments(self) -> Mapping[str, Experiment]:
        """See ``Source.experiments``; asked of MLflow once a minute."""
        now_ms, before = self._own_ms(), self._selection
        if before is None or not before.chosen or not 0 <= now_ms - self._selection_ms < EXPERIMENTS_AGE_MS:
            self._selection, self._selection_ms = self.selection(), now_ms
            if before is None or before.chosen != self._selection.chosen:
                self._selection.log()
        assert self._selection is not None, "chosen above"
        return self._selection.chosen

    def selection(self) -> Selection:
        """Which of the active experiments are selected now."""
        return select(self.client.experiments(), self._selectors)

    def require_experiments(self) -> None:
        """Raise UserError if none is selected: for who reads once, and does not wait for one."""
        if not self.experiments():
            raise UserError(self.selection().complaint(self.client.tracking_uri))

    def features(self) -> Mapping[Feature, bool]:
        """See ``Source.features``; tried out once, and what is missing again after FEATURES_AGE_MS."""
        now_ms, ids = self._own_ms(), list(self._names())
        again = not 0 <= now_ms - self._features_ms < FEATURES_AGE_MS
        for feature in Feature if ids else ():
            before = self._features.get(feature)
            if before is None or (again and not before):
                self._features[feature], self._features_ms = self._has(feature, ids), now_ms
                if not self._features[feature] and before is None:
                    log.warning(feature.without, extra={"feature": feature.value})
        return dict(self._features)

    def scan(self, window: Window, *terms: str) -> Iterator[Page]:
        """See ``Source.scan``; of those that match all terms. No page tokens: MLflow's are offsets, which a deleted row
        shifts by one.

        The next page begins at the start of the last row, that row's millisecond included, without the rows of it that
        are read already. Example: a page ends with traces a at 5 ms, b and c at 7 ms: next come the traces from 7 ms
        on, not b, not c. Where a millisecond has more rows than can be left out, it is read in parts.
        """
        not_in = self.features().get(Feature.NOT_IN, False)
        read: frozenset[str] = frozenset()  # ids read so far of those that start in the millisecond window.lo_ms
        while True:
            can_exclude = not_in and len(read) <= MAX_EXCLUDED
            excluded = sorted(filter(can_be_asked_for, read)) if can_exclude else []
            found = self._search(_terms(window, *terms, *_without(excluded)))
            page = _page(found, read)
            yield from page
            if len(found) < PAGE_SIZE:
                return
            last_ms = found[-1].start_ms
            at_last = frozenset(record.trace_id for record in found if record.start_ms == last_ms)
            read = read | at_last if last_ms == window.lo_ms else at_last
            window = replace(window, lo_ms=last_ms)
            if not page or (len(at_last) == PAGE_SIZE and not can_exclude):
                yield from self._in_parts(window, terms, read)
                window, read = replace(window, lo_ms=last_ms + 1), frozenset()

    def get(self, trace_ids: Sequence[str]) -> list[TraceRecord]:
        """See ``Source.get``. Without the user's filter: the traces matched it when they were seen first."""
        parts = [trace_ids[at : at + PAGE_SIZE] for at in range(0, len(trace_ids), PAGE_SIZE)]
        return [record for part in parts for record in self._find([f"trace.request_id IN ({_quoted(part)})"])]

    def newest(self, window: Window, *terms: str, experiment: str | None = None) -> Iterator[TraceRecord]:
        """The traces of the window that match all terms, the latest start first, as the caller asks for them; where
        ``experiment`` is the value of a label, of the experiments that have it.

        For people: of more than PAGE_SIZE in one millisecond some are left out.
        """
        read: set[str] = set()
        while True:
            found = self._search(_terms(window, *terms), experiment, newest_first=True)
            yield from (record for record in found if record.trace_id not in read)
            if len(found) < PAGE_SIZE:
                return
            read = {record.trace_id for record in found}
            first_ms, last_ms = found[0].start_ms, found[-1].start_ms
            window = replace(window, hi_ms=last_ms if first_ms == last_ms else last_ms + 1)

    def experiment_of(self, trace_id: str) -> str | None:
        """The id of the experiment that a trace is in; None if it is in none that is read."""
        found = self.get([trace_id]) if can_be_asked_for(trace_id) else []
        return found[0].experiment_id if found else None

    def counts(self, window: Window, step_ms: int, experiment_ids: Sequence[str]) -> Mapping[int, int]:
        """See ``Source.counts``."""
        with self._refusals_noted():
            return self.client.count(experiment_ids, window.lo_ms, window.hi_ms - 1, step_ms // 1000)

    def _in_parts(
        self, window: Window, terms: Sequence[str], read: frozenset[str], prefix: str = "tr-"
    ) -> Iterator[Page]:
        """The rest of the one millisecond with which the window begins, by the digits of MLflow's own ids."""
        at_ms = replace(window, hi_ms=window.lo_ms + 1)
        for digit in "0123456789abcdef":
            found = self._search(_terms(at_ms, *terms, f"trace.request_id LIKE '{prefix}{digit}%'"))
            if len(found) < PAGE_SIZE:
                yield from _page(found, read)
            else:
                yield from self._in_parts(window, terms, read, prefix + digit)

    def _search(
        self, terms: Sequence[str], experiment: str | None = None, newest_first: bool = False
    ) -> list[TraceRecord]:
        return self._find([*terms, self._filter] if self._filter else terms, experiment, newest_first)

    def _find(
        self, terms: Sequence[str], experiment: str | None = None, newest_first: bool = False
    ) -> list[TraceRecord]:
        names = {key: name for key, name in self._names().items() if experiment in (None, clean(name))}
        if not names:
            return []
        with self._refusals_noted():
            infos = self.client.search(list(names), " AND ".join(terms), newest_first)
        seen_ms = self.clocks().earliest_ms
        return [to_record(info, names, seen_ms) for info in infos]

    def _names(self) -> Mapping[str, str]:
        """The experiments as they were selected last: ``experiments`` alone looks for others, so that who reads knows
        of each before its traces come."""
        if self._selection is None:
            self.experiments()
        return self._selection.names if self._selection else {}

    @contextmanager
    def _refusals_noted(self) -> Iterator[None]:
        """After a refusal all features are tried out again: the server may be another one than it was."""
        try:
            yield
        except PollError as error:
            if error.reason is Reason.CONFIGURATION:
                self._features = {}
            raise

    def _has(self, feature: Feature, experiment_ids: Sequence[str]) -> bool:
        nothing = "trace.timestamp_ms < 0"
        try:
            match feature:
                case Feature.END_TIME_FILTER:
                    self.client.search(experiment_ids, f"{nothing} AND trace.end_time_ms >= 0")
                case Feature.NOT_IN:
                    self.client.search(experiment_ids, f"{nothing} AND trace.request_id NOT IN ('tr-1','tr-2')")
                case Feature.TRACE_METRICS:
                    self.client.count(experiment_ids, 0, 0, 60)
                    return self._filter is None  # the counts could not be narrowed by it
        except PollError as error:
            answered = error.reason not in (Reason.UNREACHABLE, Reason.TIMEOUT, Reason.THROTTLED)
            if error.reason is Reason.CONFIGURATION or (feature is Feature.TRACE_METRICS and answered):
                return False
            raise
        return True


def can_be_asked_for(trace_id: str) -> bool:
    """Whether ``Source.get`` can say that a trace is there, or not."""
    return PLAIN_ID.fullmatch(trace_id) is not None


def _page(found: Sequence[TraceRecord], read: frozenset[str]) -> list[Page]:
    """What is new as a page, or none."""
    new = tuple(record for record in found if record.trace_id not in read)
    return [Page(new, new[-1].start_ms)] if new else []


def _terms(window: Window, *more: str) -> list[str]:
    """MLflow knows AND only. ``end_time_ms`` is computed and has no index, hence always beside a range of starts."""
    terms = [f"trace.timestamp_ms >= {window.lo_ms}", f"trace.timestamp_ms < {window.hi_ms}", *more]
    return terms if window.ended_after_ms is None else [*terms, f"trace.end_time_ms >= {window.ended_after_ms}"]


def _without(trace_ids: Sequence[str]) -> list[str]:
    return [f"trace.request_id NOT IN ({_quoted(trace_ids)})"] if trace_ids else []


def _quoted(trace_ids: Sequence[str]) -> str:
    return ",".join(f"'{trace_id}'" for trace_id in trace_ids)
