"""Selects traces for a page: parses the question, plans the searches in MLflow, and filters their results. Pure.

MLflow's own list of traces cannot be opened with a filter on their state: its URL supports only times and tags, and
changes between versions. So the exporter has its own list, and each trace in it links to MLflow.

Traces are counted when they end, and an alert is about the traces that were counted in a time window. So ``since``
refers to the end of a trace, not to its start: a trace that takes hours never both starts and ends in the last half
hour. A trace in progress is in any such window.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import islice
from math import isfinite

from mlflow_trace_exporter.domain.admission import OTHER
from mlflow_trace_exporter.domain.calls import labels_of
from mlflow_trace_exporter.domain.horizon import AHEAD_MS, Window
from mlflow_trace_exporter.domain.labels import PLACE_LABELS, LabelRules, Labels, clean
from mlflow_trace_exporter.domain.moments import LATEST_MS, unix_ms
from mlflow_trace_exporter.domain.objectives import Objectives
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic, traffic_of
from mlflow_trace_exporter.domain.triage import GIVE_UP_MS
from mlflow_trace_exporter.metrics.families import MISSING_FIELDS, missing_fields
from mlflow_trace_exporter.shown import shown
from mlflow_trace_exporter.tracking.query import label_searches
from mlflow_trace_exporter.web import assessed

MAX_ROWS = 50
MAX_LOOKED_AT = 5_000
"""How many traces are examined for one page. MLflow's search does not support every condition."""

HOUR_MS = 3_600_000


class Kind(Enum):
    """The state of traces that can be selected."""

    OK = "ok"
    ERROR = "error"
    SLOW = "slow"
    IN_PROGRESS = "in_progress"


RUNNING_TERMS = ("trace.status != 'OK'", "trace.status != 'ERROR'")
"""This also finds traces whose state is unknown to MLflow."""

_TERMS: Mapping[Kind | None, Sequence[str]] = {
    Kind.OK: ("trace.status != 'ERROR'",),  # a trace in progress according to MLflow may have ended
    Kind.ERROR: ("trace.status = 'ERROR'",),
    Kind.IN_PROGRESS: RUNNING_TERMS,
}

TIMES = ("since", "start", "end")
AMOUNTS = ("duration_above", "tokens_above", "cost_above")
PARAMETERS = ("status", *TIMES, *AMOUNTS, "missing")
"""The parameters of a query besides labels."""


@dataclass(frozen=True, slots=True)
class Question:
    """Selects traces with these ``labels`` and of this ``kind`` (None: any) that start in [start_ms, end_ms). If
    ``since_ms`` is set, they must also be in progress, or have ended then or later.

    ``others``: labels that were queried as `other`, which matches any value. ``above``: lower bounds by AMOUNTS, in
    seconds, tokens and USD. ``missing``: the field that a trace lacks, one of MISSING_FIELDS, or "". ``inside``: labels
    of a call or step that a trace must have inside. ``assessed``: labels of an assessment that it must have. ``given``:
    the query as it was read.
    """

    labels: Mapping[str, str]
    others: Sequence[str]
    kind: Kind | None
    since_ms: int | None
    start_ms: int
    end_ms: int
    above: Mapping[str, float] = field(default_factory=dict)
    missing: str = ""
    inside: Mapping[str, str] = field(default_factory=dict)
    assessed: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(
        cls,
        query: Iterable[tuple[str, str]],
        label_names: Sequence[str],
        now_ms: int,
        inside_names: Sequence[str] = (),
    ) -> "Question":
        """Parse the query of a URL. Times are Unix seconds, or written as in ``moments``. Without ``since`` and
        ``start`` the window is the hour before ``end``, or the last hour. ``inside_names``: the labels of calls and
        steps, if spans are read. A label of traces hides one of the same name. Raises ValueError for an invalid
        query."""
        given = {name: value for name, value in query if value}
        known = dict.fromkeys((*PARAMETERS, *label_names, *inside_names, *assessed.PARAMETERS))
        if unknown := sorted(given.keys() - known.keys()):
            raise ValueError(f"unknown parameter {unknown[0]!r}; known parameters are {', '.join(known)}")
        _require("status", given.get("status"), [kind.value for kind in Kind])
        if "rating" not in label_names:
            _require("rating", given.get("rating"), assessed.RATINGS)
        _require("missing", given.get("missing"), MISSING_FIELDS)
        values = {name: clean(value) for name, value in given.items() if name not in PARAMETERS}

        def of(names: Collection[str]) -> dict[str, str]:
            return {name: value for name, value in values.items() if value != OTHER and name in names}

        times = {name: _unix_ms(name, given[name], now_ms) for name in TIMES if name in given}
        end_ms = times.get("end", now_ms + AHEAD_MS)
        since_ms = times.get("since")
        if since_ms is None and "start" not in times:
            since_ms = min(now_ms, end_ms) - HOUR_MS
        return cls(
            labels=of(label_names),
            others=[name for name, value in values.items() if value == OTHER],
            kind=Kind(given["status"]) if "status" in given else None,
            since_ms=since_ms,
            start_ms=times.get("start", max(0, (since_ms or 0) - GIVE_UP_MS)),
            end_ms=end_ms,
            above={name: _amount(name, given[name]) for name in AMOUNTS if name in given},
            missing=given.get("missing", ""),
            inside=of({*inside_names} - {*label_names}),
            assessed=of({*assessed.PARAMETERS} - {*label_names}),
            given={name: shown(value) for name, value in given.items()},
        )

    @property
    def experiment(self) -> str | None:
        """The value of the label experiment, if it is queried; else None."""
        return self.labels.get("experiment")

    def asks_for_assessments(self, rules: LabelRules) -> bool:
        """Whether any is asked for, also one that is counted as `other`."""
        return bool(({*self.assessed, *self.others} & {*assessed.PARAMETERS}) - {*rules.all_names})

    def searches(
        self, rules: LabelRules, objectives: Objectives, like: bool = True, more: Sequence[str] = ()
    ) -> list[list[str]]:
        """The searches that together find all traces in question. Each search is a list of terms that must all match.

        MLflow does not know the latency objectives, so the lowest one that can be used for these labels is used for
        all. ``like``: whether MLflow supports LIKE, without which it cannot search by label. ``more``: more terms.
        """
        above_s = [self.above["duration_above"]] if "duration_above" in self.above else []
        if self.kind is Kind.SLOW:
            above_s += sorted(objectives.narrowed(*map(self.labels.get, PLACE_LABELS)).latencies_s)[:1]
        durations = [f"trace.execution_time_ms > {int(max(above_s) * 1000)}"] if above_s else []
        labels = self.labels if like else {}
        return [[*_TERMS.get(self.kind, ()), *durations, *more, *each] for each in label_searches(labels, rules)]


def _require(name: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise ValueError(f"{name} {value!r}: must be one of {', '.join(known)}")


def _unix_ms(name: str, text: str, now_ms: int) -> int:
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = unix_ms(text, now_ms) / 1000
        except (ValueError, OverflowError):
            seconds = float("nan")
    if not isfinite(seconds) or abs(seconds) > LATEST_MS / 1000:
        raise ValueError(f"{name} {text!r}: write Unix seconds, a time such as 2026-11-25T14:30, or an age such as 6h")
    return max(0, int(seconds * 1000))


def _amount(name: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = float("nan")
    if not 0 <= amount <= 1e12:
        raise ValueError(f"{name} {text!r}: must be a number, 0 or more")
    return amount


@dataclass(frozen=True, slots=True)
class Search:
    """One search in MLflow: the traces in a window that match all terms."""

    window: Window
    terms: Sequence[str]


def steps(question: Question, terms: Sequence[Sequence[str]], can_ask_for_ends: bool) -> list[list[Search]]:
    """Plan the searches, step by step. Each step covers older start times than the one before, and the results of its
    searches must be merged. ``terms`` come from ``Question.searches``. The first step is fast and usually enough.

    Example: ``since`` 12:00 first finds traces that started at 12:00 or later. The second step finds traces that
    started in the week before, and that ended at 12:00 or later or are in progress.
    """
    split_ms = question.since_ms if question.since_ms is not None else question.end_ms - GIVE_UP_MS
    split_ms = min(max(question.start_ms, split_ms), question.end_ms)
    newer = [Search(Window(split_ms, question.end_ms), each) for each in terms]
    older = [Search(Window(question.start_ms, split_ms), each) for each in terms]
    if question.since_ms is not None and question.kind is not Kind.IN_PROGRESS and can_ask_for_ends:
        running = [Search(each.window, [*each.terms, *RUNNING_TERMS]) for each in older]
        older = [replace(each, window=replace(each.window, ended_after_ms=question.since_ms)) for each in older]
        older += [] if question.kind else running
    return [step for step in (newer, older) if step[0].window.lo_ms < step[0].window.hi_ms]


def answer(
    question: Question,
    newest: Iterable[TraceRecord],
    rules: LabelRules,
    objectives: Objectives,
    traffic: frozenset[Traffic],
    look_inside: Callable[[Iterable[TraceRecord]], Iterator[TraceRecord]] = iter,
) -> list[TraceRecord]:
    """The first MAX_ROWS matching traces of ``newest``, which is read no further than necessary. ``traffic``: the kinds
    of traces that are counted. ``look_inside`` returns traces with what is inside them."""

    def place_of(values: Labels) -> Iterator[str]:
        """What its objective is looked up by: `other`, as when it was counted, if that is asked for."""
        return (OTHER if name in question.others else values[name] for name in PLACE_LABELS)

    def quality_of(values: Labels) -> assessed.QualityOf:
        return partial(objectives.quality, *place_of(values))

    def is_asked_for(record: TraceRecord) -> bool:
        values = rules.values(record)
        return (
            traffic_of(record) in traffic
            and all(values[name] == value for name, value in question.labels.items())
            and (question.since_ms is None or _ran_since(record, question.since_ms))
            and all(amount > question.above[name] for name, amount in _amounts(record, question.above))
            and (not question.assessed or assessed.has_assessment(record, question.assessed, quality_of(values)))
            and (not question.missing or question.missing in missing_fields(record, values, rules))
            and _is_of(question.kind, record, objectives.latency_s(*place_of(values)))
        )

    found = _once(filter(is_asked_for, newest))
    if question.inside:
        found = (record for record in look_inside(found) if _has_inside(record, question.inside))
    return list(islice(found, MAX_ROWS))


def _has_inside(record: TraceRecord, labels: Labels) -> bool:
    """Whether there is a call or step with these labels inside a trace."""
    found = record.inside.all if record.inside else ()
    return any(labels.items() <= labels_of(each).items() for each in found)


def _once(records: Iterable[TraceRecord]) -> Iterator[TraceRecord]:
    """Drop duplicates: several searches can find the same trace. The first one is kept."""
    seen: set[str] = set()
    for record in records:
        if record.trace_id not in seen:
            seen.add(record.trace_id)
            yield record


def _ran_since(record: TraceRecord, since_ms: int) -> bool:
    """Whether a trace is in progress, or ended then or later. Without an end time, its start time is used."""
    return not record.ended() or (record.start_ms if record.end_ms is None else record.end_ms) >= since_ms


def _amounts(record: TraceRecord, names: Iterable[str]) -> list[tuple[str, float]]:
    """The amounts of a trace by name; -1 for an unknown one, which is never above a bound."""
    found = {
        "duration_above": record.duration_s,
        "tokens_above": tokens_of(record),
        "cost_above": cost_of(record),
    }
    return [(name, -1.0 if (amount := found[name]) is None else amount) for name in names]


def tokens_of(record: TraceRecord) -> int | None:
    """Input plus output tokens of a trace; None if unknown."""
    return None if record.usage is None else (record.usage.input or 0) + (record.usage.output or 0)


def cost_of(record: TraceRecord) -> float | None:
    """The cost of a trace in USD; None if unknown."""
    return None if record.cost is None else record.cost.total_usd


def _is_of(kind: Kind | None, record: TraceRecord, latency_s: float | None) -> bool:
    """Whether a trace is of a kind. MLflow's searches may find others too. Traces above ``latency_s`` are slow."""
    match kind:
        case Kind.OK:
            return record.ended() and record.state is not State.ERROR
        case Kind.ERROR:
            return record.state is State.ERROR
        case Kind.IN_PROGRESS:
            return not record.ended()
        case Kind.SLOW:
            return latency_s is not None and record.duration_s is not None and record.duration_s > latency_s
    return True
