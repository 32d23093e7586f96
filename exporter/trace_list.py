"""The traces that an alert or a panel is about, as a page: which are asked for, and how they are shown.

MLflow's own list of traces cannot be opened with a filter for their state: its address knows times and tags only, and
changes from version to version. So the list is ours, and each trace leads to MLflow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from math import isfinite
from urllib.parse import quote

from exporter import templating
from exporter.admission import OTHER
from exporter.horizon import AHEAD_MS, Window
from exporter.labels import LabelRules, clean
from exporter.objectives import Objectives
from exporter.trace import State, TraceRecord

MAX_ROWS = 50
MAX_LOOKED_AT = 5_000
"""At how many traces is looked for those that have the labels: MLflow does not know what a label is."""

HOUR_MS = 3_600_000

_write = templating.page("traces.html")


class Kind(Enum):
    """Which traces."""

    ERROR = "error"
    SLOW = "slow"
    IN_PROGRESS = "in_progress"


_TERMS = {
    Kind.ERROR: ["trace.status = 'ERROR'"],
    Kind.IN_PROGRESS: ["trace.status != 'OK'", "trace.status != 'ERROR'"],  # also one that MLflow does not know
}


@dataclass(frozen=True, slots=True)
class Question:
    """Traces with these values of labels, of a kind (None: any), that start in [start_ms, end_ms). ``others`` are the
    labels that were asked for as `other`, which can be any value."""

    labels: Mapping[str, str]
    others: Sequence[str]
    kind: Kind | None
    start_ms: int
    end_ms: int

    @classmethod
    def parse(cls, query: Iterable[tuple[str, str]], label_names: Sequence[str], now_ms: int) -> "Question":
        """Read it from the query of an address; ``start`` and ``end`` are Unix seconds, an hour ago and open if they
        are not said. Raises ValueError with what is wrong."""
        given = dict(query)
        start, end, status = given.pop("start", ""), given.pop("end", ""), given.pop("status", "")
        unknown = sorted(set(given) - set(label_names))
        if unknown:
            known = ", ".join(("status", "start", "end", *label_names))
            raise ValueError(f"{unknown[0]!r} cannot be asked for; there are {known}")
        kinds = [kind.value for kind in Kind]
        if status and status not in kinds:
            raise ValueError(f"status {status!r}: there are {', '.join(kinds)}")
        values = {name: clean(value) for name, value in given.items() if value}
        labels = {name: value for name, value in values.items() if value != OTHER}
        others = [name for name, value in values.items() if value == OTHER]
        start_ms = _unix_ms("start", start) if start else now_ms - HOUR_MS
        end_ms = _unix_ms("end", end) if end else now_ms + AHEAD_MS
        return cls(labels, others, Kind(status) if status else None, start_ms, end_ms)

    @property
    def window(self) -> Window:
        """The starts to look at."""
        return Window(self.start_ms, self.end_ms)

    @property
    def experiment(self) -> str | None:
        """The label of the only one to look at, or of all of them; None for any."""
        return self.labels.get("experiment")

    def terms(self, objectives: Objectives) -> list[str]:
        """What MLflow can look for. It does not know which environment has which latency: the least goes for all."""
        if self.kind is not Kind.SLOW:
            return _TERMS[self.kind] if self.kind else []
        least_s = objectives.least_latency_s
        return [f"trace.execution_time_ms > {int(least_s * 1000)}"] if least_s is not None else []


def _unix_ms(name: str, text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not isfinite(seconds) or abs(seconds) > 1e11:
        raise ValueError(f"{name} {text!r}: write Unix seconds")
    return max(0, int(seconds * 1000))


def answer(
    question: Question, newest: Iterable[TraceRecord], rules: LabelRules, objectives: Objectives
) -> list[TraceRecord]:
    """The first MAX_ROWS that are asked for of ``newest``, of which no more than necessary are taken."""

    def is_asked_for(record: TraceRecord) -> bool:
        values = rules.values(record)
        if any(values[name] != value for name, value in question.labels.items()):
            return False
        return _is_of(question.kind, record, objectives.latency_s(values["environment"]))

    return list(islice(filter(is_asked_for, islice(newest, MAX_LOOKED_AT)), MAX_ROWS))


def _is_of(kind: Kind | None, record: TraceRecord, latency_s: float | None) -> bool:
    """Whether a trace is of a kind, where MLflow may have given more; above ``latency_s`` it is slow."""
    match kind:
        case Kind.ERROR:
            return record.state is State.ERROR
        case Kind.IN_PROGRESS:
            return not record.ended()
        case Kind.SLOW:
            return latency_s is not None and record.duration_s is not None and record.duration_s > latency_s
    return True


def trace_url(mlflow_url: str, experiment_id: str, trace_id: str) -> str:
    """The page of a trace in MLflow."""
    return f"{mlflow_url}/#/experiments/{quote(experiment_id, safe='')}/traces/{quote(trace_id, safe='')}"


def list_url(mlflow_url: str, experiment_id: str, question: Question) -> str:
    """MLflow's own list of the traces of an experiment, at the same time."""
    times = (datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z") for ms in _span(question))
    start, end = map(quote, times)
    return (
        f"{mlflow_url}/#/experiments/{quote(experiment_id, safe='')}/traces"
        f"?startTimeLabel=CUSTOM&startTime={start}&endTime={end}"
    )


def _span(question: Question) -> tuple[int, int]:
    latest = 253_402_300_799_000  # the end of the year 9999
    return min(question.start_ms, latest), min(question.end_ms, latest)


def write(question: Question, found: Sequence[TraceRecord], rules: LabelRules, mlflow_url: str) -> bytes:
    """The page as HTML in UTF-8."""
    experiments = {record.experiment_id: record.experiment for record in found}
    return _write(
        kind=question.kind.value.replace("_", " ") if question.kind else "",
        labels=question.labels,
        others=question.others,
        since=templating.time_text(question.start_ms / 1000),
        rows=[_row(record, rules, mlflow_url) for record in found],
        cut=len(found) == MAX_ROWS,
        lists=[(name, list_url(mlflow_url, key, question)) for key, name in sorted(experiments.items())],
    )


def _state(record: TraceRecord) -> str:
    """What it is counted as."""
    if not record.ended():
        return "in progress"
    return "error" if record.state is State.ERROR else "ok"


def _row(record: TraceRecord, rules: LabelRules, mlflow_url: str) -> dict[str, object]:
    return {
        "url": trace_url(mlflow_url, record.experiment_id, record.trace_id),
        "start": templating.time_text(record.start_ms / 1000).removesuffix(" UTC"),
        "duration": "-" if record.duration_s is None else f"{record.duration_s:.2f} s",
        "state": _state(record),
        "failed": record.state is State.ERROR,
        "labels": rules.values(record),
        "trace_id": record.trace_id,
    }
