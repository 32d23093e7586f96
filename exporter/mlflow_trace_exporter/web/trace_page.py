"""The page with a list of traces and its filter form. Needs no JavaScript. The template escapes all values."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from mlflow_trace_exporter import templating
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.labels import INSIDE_NAMES, LabelRules
from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.metrics.families import MISSING_FIELDS
from mlflow_trace_exporter.tracking.mlflow_pages import MlflowPages
from mlflow_trace_exporter.web.assessed import PARAMETERS as PARAMETERS_OF_ASSESSMENTS
from mlflow_trace_exporter.web.assessed import RATINGS, texts
from mlflow_trace_exporter.web.trace_list import (
    AMOUNTS,
    MAX_LOOKED_AT,
    MAX_ROWS,
    PARAMETERS,
    TIMES,
    Kind,
    Question,
    cost_of,
    tokens_of,
)

RANGES = {"last hour": "1h", "6 hours": "6h", "day": "1d", "7 days": "7d"}
"""Links for time ranges, by their text."""

MAX_SUGGESTIONS = 100
"""The most suggested values per label."""

_LABELS = {"environment": "environment", "version": "version", "trace_name": "trace name", "experiment": "experiment"}
"""The labels that people filter by first, and their names on the page."""

_AMOUNTS = {
    "duration_above": "longer than (seconds)",
    "tokens_above": "tokens above",
    "cost_above": "cost above (USD)",
}
_ASSESSMENTS = {
    "assessment": "assessment",
    "source": "source of an assessment",
    "value": "value of an assessment",
    "rating": "rating of an assessment",
}
_TIMES = {"since": "in progress, or ended since (UTC)", "start": "started since (UTC)", "end": "started before (UTC)"}

_TITLES = {
    None: "All traces",
    Kind.OK: "Successful traces",
    Kind.ERROR: "Failed traces",
    Kind.SLOW: "Slow traces",
    Kind.IN_PROGRESS: "Traces in progress",
}

_write = templating.page("mlflow_trace_exporter.web", "traces.html")


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search: its traces, and whether some may not have been examined."""

    records: Sequence[TraceRecord]
    ended_early: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form: its parameter, its text, its value, and its choices or suggestions."""

    name: str
    text: str
    value: str
    kind: str = "text"
    choices: Sequence[str] = ()


def values_of(label_sets: Iterable[tuple[str, ...]], groups: Collection[Group]) -> dict[str, list[str]]:
    """The known values of each label, from the series with these label names. The last that has the label counts."""
    return {
        name: sorted({group.values[at] for group in groups if group.names == names})
        for names in label_sets
        for at, name in enumerate(names)
    }


def write(
    question: Question, found: Found, rules: LabelRules, pages: MlflowPages, known: Mapping[str, Sequence[str]]
) -> bytes:
    """Render the page as HTML in UTF-8. ``known``: values to suggest, by label."""
    experiments = {record.experiment_id: record for record in found.records}
    lo_ms = question.start_ms if question.since_ms is None else question.since_ms
    extra = [name for name, _ in rules.extra if name not in PARAMETERS]
    return _write(
        title=_TITLES[question.kind],
        conditions=_conditions(question),
        others=[_text(name) for name in question.others],
        rows=[_row(record, rules, extra, pages, question.assessed) for record in found.records],
        extra=[_text(name) for name in extra],
        cut=len(found.records) == MAX_ROWS,
        ended_early=found.ended_early,
        looked_at=MAX_LOOKED_AT,
        lists=[
            (record.experiment, pages.traces(record, lo_ms, question.end_ms))
            for _, record in sorted(experiments.items())
        ],
        ranges=[(name, _with_since(question.given, since)) for name, since in RANGES.items()],
        fields=_first_fields(question, known),
        more=_more_fields(question, extra, known),
        filtered=bool(question.given),
        more_asked=bool(
            {*question.given} & {*extra, *INSIDE_NAMES, *PARAMETERS_OF_ASSESSMENTS, *AMOUNTS, "missing", "start", "end"}
        ),
        assessed=question.asks_for_assessments(rules),
    )


def _text(name: str) -> str:
    return name.replace("_", " ")


def _conditions(question: Question) -> list[tuple[str, str]]:
    """The conditions of the query, as names and values."""
    labels = [(_text(name), value) for name, value in question.labels.items()]
    above = [(_AMOUNTS[name], f"{amount:,.6g}") for name, amount in question.above.items()]
    missing = [("without", _text(question.missing))] if question.missing else []
    inside = [(_text(name), value) for name, value in question.inside.items()]
    assessed = [(_ASSESSMENTS[name], value) for name, value in question.assessed.items()]
    return [*_times(question), *labels, *inside, *assessed, *above, *missing]


def _times(question: Question) -> list[tuple[str, str]]:
    name = "ended since" if question.kind in (Kind.OK, Kind.ERROR, Kind.SLOW) else "in progress, or ended since"
    since = [] if question.since_ms is None or question.kind is Kind.IN_PROGRESS else [(name, _time(question.since_ms))]
    start = [("started since", _time(question.start_ms))] if "start" in question.given else []
    return [*since, *start, *([("started before", _time(question.end_ms))] if "end" in question.given else [])]


def _time(ms: int) -> str:
    return templating.time_text(ms / 1000)


def _with_since(given: Mapping[str, str], since: str) -> str:
    """The same query for another time range."""
    return urlencode({**{name: value for name, value in given.items() if name not in TIMES}, "since": since})


def _first_fields(question: Question, known: Mapping[str, Sequence[str]]) -> list[Field]:
    kind = question.kind.value if question.kind else ""
    labels = [Field(name, text, _label(question, name), choices=_some(known, name)) for name, text in _LABELS.items()]
    return [
        Field("status", "status", kind, "select", [kind.value for kind in Kind]),
        *labels,
        Field("since", _TIMES["since"], _local(question.since_ms), "datetime-local"),
    ]


def _more_fields(question: Question, extra: Sequence[str], known: Mapping[str, Sequence[str]]) -> list[Field]:
    times = {"start": question.start_ms, "end": question.end_ms}
    return [
        *(Field(name, _text(name), _label(question, name), choices=_some(known, name)) for name in extra),
        *(
            Field(name, _text(name), question.inside.get(name, ""), choices=_some(known, name))
            for name in INSIDE_NAMES
            if name in known and name not in extra
        ),
        *_assessment_fields(question, extra, known),
        *(Field(name, _AMOUNTS[name], question.given.get(name, ""), "number") for name in AMOUNTS),
        Field("missing", "without", question.missing, "select", MISSING_FIELDS),
        *(
            Field(name, _TIMES[name], _local(ms if name in question.given else None), "datetime-local")
            for name, ms in times.items()
        ),
    ]


def _assessment_fields(question: Question, extra: Sequence[str], known: Mapping[str, Sequence[str]]) -> Iterator[Field]:
    """The fields for assessments, if there are any or one is asked for."""
    if not known.get("assessment") and not {*_ASSESSMENTS} & {*question.given}:
        return
    for name, text in _ASSESSMENTS.items():
        if name not in extra:
            kind, choices = ("select", RATINGS) if name == "rating" else ("text", _some(known, name))
            yield Field(name, text, _label(question, name), kind, choices)


def _label(question: Question, name: str) -> str:
    values = {**question.labels, **question.assessed}
    return "other" if name in question.others else values.get(name, "")


def _some(known: Mapping[str, Sequence[str]], name: str) -> Sequence[str]:
    return known.get(name, ())[:MAX_SUGGESTIONS]


def _local(ms: int | None) -> str:
    """A time as the value of a datetime-local field, in UTC."""
    return "" if ms is None else f"{utc(ms):%Y-%m-%dT%H:%M:%S}"


def _state(record: TraceRecord) -> str:
    """The state as which a trace is counted."""
    if not record.ended():
        return "in progress"
    return "error" if record.state is State.ERROR else "ok"


def _row(
    record: TraceRecord, rules: LabelRules, extra: Sequence[str], pages: MlflowPages, assessed: Mapping[str, str]
) -> dict[str, object]:
    tokens, labels = tokens_of(record), rules.values(record)
    return {
        "url": pages.trace(record),
        "start": templating.time_text(record.start_ms / 1000).removesuffix(" UTC"),
        "duration": "-" if record.duration_s is None else f"{record.duration_s:.2f} s",
        "state": _state(record),
        "failed": record.state is State.ERROR,
        "names": [labels[name] for name in ("environment", "version", "trace_name", "experiment", *extra)],
        "assessments": ", ".join(texts(record, assessed)) or "-",
        "tokens": "-" if tokens is None else f"{tokens:,}",
        "cost": templating.usd_text(cost_of(record)),
        "trace_id": record.trace_id,
    }
