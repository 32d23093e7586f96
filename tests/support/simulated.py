"""A simulated MLflow: the source's interface over traces in memory; its own clock, races and failures on demand."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, NoReturn, TypeVar

from mlflow_trace_exporter.domain.assessments import HUMAN, Assessment
from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.tracking.assessment_parsing import ALL, form_of
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.pending import PendingAnswer, answers
from mlflow_trace_exporter.tracking.scanning import Found, Page, Scan, Tokens
from mlflow_trace_exporter.tracking.slices import STEP_MS, Extent, Known
from mlflow_trace_exporter.tracking.source import MAX_EXCLUDED, Lookup
from mlflow_trace_exporter.tracking.span_source import SpanAnswer

T = TypeVar("T")

EPOCH_MS = 1_790_000_000_000 // 600_000 * 600_000
"""When the simulation begins; on the edge of a bucket, so that tests can reckon from it."""

CHATBOT = Experiment("1", "chatbot", EPOCH_MS - 30 * 24 * 3_600_000)


SPANS_AT_ONCE = 100


class SimulatedMlflow:
    """Holds traces and answers as MLflow would.

    ``clock_ms`` is the time. Its own clock is wrong by ``server_error_ms``, that of whoever polls it by
    ``own_error_ms``. A trace is there from its ``visible_ms`` on. ``before_request`` is called with the number of each
    request, counted from 1, before it is answered: to move, add or delete traces between two pages, or to raise.
    """

    def __init__(self, page_size: int = 500) -> None:
        self.clock_ms = EPOCH_MS
        self.own_error_ms = 0
        self.server_error_ms = 0
        self.page_size = page_size
        self.max_excluded = MAX_EXCLUDED
        self.traces: dict[str, TraceRecord] = {}
        self.visible_ms: dict[str, int] = {}
        self.spans_of: dict[str, tuple[Span, ...]] = {}
        self.selected = {CHATBOT.experiment_id: CHATBOT}
        self.lacks: set[Feature] = set()
        self.max_forms = 1_000
        self.counts_overridden = False
        self.requests = 0
        self.before_request: Callable[[int], None] = lambda _: None
        self.fail_at_request: dict[int, Exception] = {}
        self._numbers = count()

    def own_ms(self) -> int:
        """The clock of whoever polls."""
        return self.clock_ms + self.own_error_ms

    def add(self, record: TraceRecord, visible_after_ms: int = 0) -> TraceRecord:
        """Put a trace there, or another form of it; visible from so long after now."""
        self.traces[record.trace_id] = record
        self.visible_ms[record.trace_id] = self.clock_ms + visible_after_ms
        return record

    def change(self, record: TraceRecord, **fields: object) -> TraceRecord:
        """Give a trace that is there other fields."""
        self.traces[record.trace_id] = replace(self.traces[record.trace_id], **fields)  # type: ignore[arg-type]  # any
        return self.traces[record.trace_id]

    def delete(self, record: TraceRecord) -> None:
        del self.traces[record.trace_id]

    def trace(
        self,
        start_ms: int,
        duration_ms: int | None = 0,
        state: State = State.OK,
        finalized: bool = True,
        visible_after_ms: int = 0,
        environment: str = "production",
        odd: str = "",
    ) -> TraceRecord:
        """Add a trace that starts so long before (or after) EPOCH_MS; ``odd`` is part of its id."""
        record = TraceRecord(
            trace_id=f"tr-{odd}{next(self._numbers):032x}",
            experiment_id=CHATBOT.experiment_id,
            experiment=CHATBOT.name,
            state=state,
            start_ms=EPOCH_MS + start_ms,
            seen_ms=0,
            duration_ms=duration_ms,
            finalized=finalized,
            session="s",
            usage=TokenUsage(input=1, output=1),
            cost=Cost(input_usd=0.5, output_usd=0.5),
            tags={"environment": environment, "app_version": "1.0"},
        )
        return self.add(record, visible_after_ms)

    def visible(self) -> list[TraceRecord]:
        """What there is to see now, in the selected experiments."""
        return [
            record
            for record in self.traces.values()
            if self.visible_ms[record.trace_id] <= self.clock_ms and record.experiment_id in self.selected
        ]

    def clocks(self) -> Clocks:
        return Clocks(self.own_ms(), self.clock_ms + self.server_error_ms)

    def experiments(self) -> Mapping[str, Experiment]:
        return self.selected

    def workspaces(self) -> Mapping[str, bool]:
        return {each.workspace: True for each in self.selected.values() if each.workspace}

    def features(self) -> Mapping[Feature, bool]:
        return {feature: feature not in self.lacks for feature in Feature}

    def scan(self, window: Window, *, known: Known = ()) -> Iterator[Page]:
        max_excluded = 0 if Feature.NOT_IN in self.lacks else self.max_excluded
        known = known if max_excluded else ()
        counts = None if Feature.TRACE_METRICS in self.lacks else self._counts_by_second
        return Scan(self._begin, unreadable, self.page_size, max_excluded, known, counts).pages(window)

    def _counts_by_second(self, window: Window) -> Mapping[int, int]:
        return self.counts(window, STEP_MS, list(self.selected))

    def _begin(
        self, window: Window, excluded: frozenset[str] = frozenset(), tokens: Tokens | None = None
    ) -> PendingAnswer[Found]:
        return _begun(lambda: self._search(window, excluded, int((tokens or {}).get(None, 0))))

    def get(self, lookups: Sequence[Lookup]) -> Iterator[Sequence[TraceRecord]]:
        return answers(self._begin_lookup(lookup) for lookup in lookups)

    def _begin_lookup(self, lookup: Lookup) -> PendingAnswer[Sequence[TraceRecord]]:
        return _begun(lambda: self._look_up(lookup) if lookup.trace_ids else ())

    def _look_up(self, lookup: Lookup) -> Sequence[TraceRecord]:
        self._answer()
        inside = [record for record in self.visible() if _inside(record, lookup.window)]
        return [self._as_seen(record) for record in inside if record.trace_id in lookup.trace_ids]

    def spans(self, records: Sequence[TraceRecord]) -> Iterator[SpanAnswer]:
        """MLflow does not return traces of which not all spans are there."""
        for at in range(0, len(records), SPANS_AT_ONCE):
            self._answer()
            asked = tuple(records[at : at + SPANS_AT_ONCE])
            there = {record.trace_id for record in self.visible()} & self.spans_of.keys()
            found = {record.trace_id: self.spans_of[record.trace_id] for record in asked if record.trace_id in there}
            yield SpanAnswer(asked, found)

    def counts(self, window: Window, step_ms: int, experiment_ids: Sequence[str]) -> Mapping[int, int]:
        self._answer()
        counts: dict[int, int] = {}
        for record in self.visible():
            if window.lo_ms <= record.start_ms < window.hi_ms and record.experiment_id in experiment_ids:
                at_ms = record.start_ms // step_ms * step_ms
                counts[at_ms] = counts.get(at_ms, 0) + 1
        return counts

    def assess(
        self, record: TraceRecord, name: str = "correctness", value: str | float | None = "yes", **more: Any
    ) -> str:
        """Add an assessment to a trace, or replace the one with the same id. Returns its id."""
        assessment_id = str(more.pop("assessment_id", f"a-{next(self._numbers)}"))
        given = Assessment(assessment_id, name, more.pop("source", HUMAN), value, form_of(name, value), **more)
        others = [each for each in self.traces[record.trace_id].assessments if each.assessment_id != assessment_id]
        self.change(record, assessments=(*others, given))
        return assessment_id

    def override(self, record: TraceRecord, assessment_id: str, value: str | float) -> str:
        """Override an assessment of a trace. Returns the id of the new one."""
        before = self.traces[record.trace_id].assessments
        name = next(each.name for each in before if each.assessment_id == assessment_id)
        gone = (replace(each, valid=each.valid and each.assessment_id != assessment_id) for each in before)
        self.change(record, assessments=tuple(gone))
        return self.assess(record, name, value)

    def assessment_counts(
        self, window: Window, experiment_ids: Sequence[str], by_value: bool = True
    ) -> Counter[int] | None:
        """As MLflow since 3.16, which does not count what is overridden."""
        self._answer()
        counts = Counter(
            each.form if by_value else ALL
            for record in self.visible()
            if window.lo_ms <= record.start_ms < window.hi_ms and record.experiment_id in experiment_ids
            for each in record.assessments
            if each.valid or self.counts_overridden
        )
        return None if len(counts) >= self.max_forms else counts

    def _search(self, window: Window, excluded: frozenset[str], offset: int) -> Found:
        self._answer()
        assert window.ended_after_ms is None or Feature.END_TIME_FILTER not in self.lacks, "it would be refused"
        assert not excluded or Feature.NOT_IN not in self.lacks, "it would be refused"
        found = [record for record in self.visible() if _inside(record, window) and record.trace_id not in excluded]
        found.sort(key=lambda record: (record.start_ms, record.trace_id))
        page = tuple(self._as_seen(record) for record in found[offset : offset + self.page_size])
        more = len(page) == self.page_size
        return Found(Extent.of(page, more), lambda: page, {None: str(offset + self.page_size)} if more else {})

    def _as_seen(self, record: TraceRecord) -> TraceRecord:
        return replace(record, seen_ms=self.clocks().earliest_ms)

    def _answer(self) -> None:
        self.requests += 1
        self.before_request(self.requests)
        if error := self.fail_at_request.pop(self.requests, None):
            raise error


def _begun(find: Callable[[], T]) -> PendingAnswer[T]:
    """A request that sees what is there now. A failure shows only when the answer is due."""
    try:
        found = find()
    except Exception as error:
        return PendingAnswer(partial(_raise, error), lambda: None)
    return PendingAnswer(lambda: found, lambda: None)


def _inside(record: TraceRecord, window: Window) -> bool:
    """A trace without a duration counts as ended at its start, as it does in MLflow."""
    ended_ms = record.start_ms + (record.duration_ms or 0)
    ended_late_enough = window.ended_after_ms is None or ended_ms >= window.ended_after_ms
    return window.lo_ms <= record.start_ms < window.hi_ms and ended_late_enough


def unreachable() -> PollError:
    return PollError(Reason.UNREACHABLE, "MLflow at http://simulated cannot be reached")


def unreadable(complaint: str) -> PollError:
    return PollError(Reason.BAD_ANSWER, complaint)


def _raise(error: Exception) -> NoReturn:
    raise error
