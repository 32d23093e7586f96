"""The status page, which shows the latest snapshot. Needs no JavaScript. The template escapes all values."""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from urllib.parse import urlencode

from mlflow_trace_exporter import templating
from mlflow_trace_exporter.domain.labels import ASSESSMENT_LABELS, LabelValues
from mlflow_trace_exporter.metrics.exposition import trace_metrics
from mlflow_trace_exporter.metrics.families import LATE
from mlflow_trace_exporter.metrics.overview import AssessmentRow, Row, assessment_rows, rows
from mlflow_trace_exporter.metrics.status import Reading, Snapshot, Status

MAX_ROWS = 50

_write = templating.page("mlflow_trace_exporter.web", "status.html")


@dataclass(frozen=True, slots=True)
class Links:
    """The links of the page: to the metrics (relative to the page) and to MLflow."""

    metrics: str
    mlflow: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A tile: a name, a value, what it means, and its tone (good, bad, or neither)."""

    name: str
    value: str
    meaning: str
    tone: str = ""


class StatusPage:
    """Renders the page once per snapshot. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._written: tuple[Snapshot, Links, bytes] | None = None

    def text(self, snapshot: Snapshot, links: Links, now_s: float) -> bytes:
        """The page for a snapshot that was published at about ``now_s`` (Unix seconds)."""
        with self._lock:
            if self._written is None or self._written[0] is not snapshot or self._written[1] != links:
                self._written = (snapshot, links, write(snapshot, links, now_s))
            return self._written[2]


def write(snapshot: Snapshot, links: Links, now_s: float) -> bytes:
    """The page as HTML in UTF-8."""
    status, reading = snapshot.status, snapshot.status.reading
    samples = [sample for metric in trace_metrics(snapshot.families, snapshot.totals) for sample in metric.samples]
    table, assessed = rows(samples), assessment_rows(samples)
    last_ms = _last_ms(snapshot)
    return _write(
        version=status.build.version,
        links=links,
        facts=[
            *_of_leader(status),
            *_of_mlflow(status, now_s),
            *(_of_reading(reading, now_s) if reading else ()),
            *_of_totals(snapshot),
        ],
        failure=status.failure and {"message": status.failure.message, "at": templating.time_text(status.failure.at_s)},
        experiments=reading.experiments if reading else (),
        rows=[_texts(row, last_ms.get((row.experiment, row.environment, row.version))) for row in table[:MAX_ROWS]],
        more_rows=max(0, len(table) - MAX_ROWS),
        assessments=[_assessment_texts(row) for row in assessed[:MAX_ROWS]],
        more_assessments=max(0, len(assessed) - MAX_ROWS),
        stands_by=status.stands_by is not None,
        as_of=templating.time_text(now_s),
    )


def _of_leader(status: Status) -> Iterator[Fact]:
    """Which process counts, if it is not this one. Only a ledger in PostgreSQL can have several."""
    if (leader := status.stands_by) is not None:
        since = f" since {templating.time_text(leader.since_s)}" if leader.since_s else ""
        meaning = "Another process counts traces and exposes them. This one takes over when that one ends."
        if leader.holder:
            yield Fact("Standing by", f"{leader.holder} leads{since}", meaning)
        else:
            yield Fact("Standing by", "nobody is known to lead", "This process counts as soon as it may.", "bad")


def _of_mlflow(status: Status, now_s: float) -> Iterator[Fact]:
    meaning = "Whether MLflow answered the last poll."
    since = f"since {templating.time_text(status.mlflow_since_s)}"
    match status.mlflow_up:
        case None:
            yield Fact("MLflow", "not asked yet", meaning)
        case True:
            yield Fact("MLflow", f"reachable {since}", meaning, "good")
        case False:
            yield Fact("MLflow", f"not reachable {since}", meaning, "bad")
    lag = "-" if status.last_success_s is None else _age(now_s - status.last_success_s)
    yield Fact("Last successful poll", templating.time_text(status.last_success_s), "When MLflow was last read.")
    yield Fact("Lag", lag, "Time since the last successful poll. Normally at most poll.interval.")
    if status.reload and not status.reload.successful:
        meaning = "The previous configuration is in use. The log has the error."
        yield Fact("Configuration", "the file is invalid", meaning, "bad")


def _of_reading(reading: Reading, now_s: float) -> Iterator[Fact]:
    yield _complete(reading, now_s)
    yield _audited(reading)
    yield Fact(
        "Pending", f"{reading.pending:,}", "Traces in progress, or that have just ended. They are not counted yet."
    )
    yield Fact(
        "Unaccounted",
        "-" if reading.unaccounted is None else f"{reading.unaccounted:,}",
        "Traces that are in MLflow but missing from the counters. Normally 0.",
        "bad" if reading.unaccounted else "",
    )
    full = reading.series > 0.9 * reading.series_limit
    series = f"{reading.series:,} of {reading.series_limit:,}"
    meaning = "Used, of series.limit. Beyond the limit, new label values are counted as other."
    yield Fact("Series", series, meaning, "bad" if full else "")


def _complete(reading: Reading, now_s: float) -> Fact:
    """The time up to which all traces are known. After the first start there is none for at least poll.lateness."""
    if reading.first_complete_s is None:
        meaning = "All traces that started before this time are known. It lags by poll.lateness (by default 2 h)."
        return Fact("Complete until", templating.time_text(reading.complete_until_s or None), meaning)
    origin_s, first = reading.counts_from_s, templating.time_text(reading.first_complete_s)
    since = f"Counts traces that started since {templating.time_text(origin_s)}." if origin_s else "Counts all traces."
    meaning = f"{since} The first complete time is known after poll.lateness, at {first}."
    if reading.first_complete_s <= now_s:
        meaning = f"{since} The exporter is still reading older traces."
    return Fact("Complete until", "not yet", meaning)


def _audited(reading: Reading) -> Fact:
    meaning = "When the counters were last compared with MLflow's own count of traces."
    if reading.audit_supported is False:
        return Fact("Audited", "not possible", "This MLflow server cannot count traces, or mlflow.filter is set.")
    at = "not yet" if reading.audited_until_s is None else templating.time_text(reading.audited_until_s)
    return Fact("Audited", at, meaning)


def _of_totals(snapshot: Snapshot) -> Iterator[Fact]:
    catching_up = "yes" if snapshot.status.catching_up else "no"
    yield Fact("Catching up", catching_up, "Whether the exporter is reading a backlog of older traces.")
    (late,) = snapshot.totals.get(LATE, {}).get((), (0,))
    meaning = "Traces that appeared in MLflow later than poll.lateness. They are counted nevertheless."
    yield Fact("Late", f"{late:,.0f}", meaning, "bad" if late else "")


def _last_ms(snapshot: Snapshot) -> dict[LabelValues, int]:
    """When a trace of each version was last counted, by VERSION_LABELS."""
    last: dict[LabelValues, int] = {}
    for group, active_ms in snapshot.active_ms.items():
        if not group.is_place:
            last[group.version] = max(active_ms, last.get(group.version, 0))
    return last


def _texts(row: Row, last_ms: int | None) -> dict[str, str]:
    return {
        "experiment": row.experiment,
        "environment": row.environment,
        "version": row.version,
        "traces": f"{row.traces:,}",
        "errors": f"{row.errors / row.traces:.1%}" if row.traces else "-",
        "p50": "-" if row.p50_s is None else f"{row.p50_s:.2f} s",
        "p95": "-" if row.p95_s is None else f"{row.p95_s:.2f} s",
        "tokens": "-" if row.tokens is None else f"{row.tokens:,}",
        "cost": templating.usd_text(row.cost_usd),
        "last": templating.time_text(last_ms / 1000 if last_ms else None).removesuffix(" UTC"),
    }


def _assessment_texts(row: AssessmentRow) -> dict[str, str]:
    return {
        "experiment": row.experiment,
        "environment": row.environment,
        "version": row.version,
        "assessment": row.assessment,
        "query": urlencode({name: getattr(row, name) for name in ASSESSMENT_LABELS}),
        "assessed": f"{row.assessed:,}",
        "share": f"{row.assessed / row.traces:.1%}" if row.traces else "-",
        "mean": "-" if row.mean is None else f"{row.mean:,.3f}",
        "good": "-" if row.good is None else f"{row.good:.1%}",
    }


def _age(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 3600} h {whole % 3600 // 60} min"
