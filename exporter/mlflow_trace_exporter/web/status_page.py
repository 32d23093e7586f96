"""The status page: a snapshot for people. Needs no JavaScript; the template escapes all that it is given."""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from mlflow_trace_exporter.domain.admission import Group
from mlflow_trace_exporter.domain.labels import VERSION_LABELS
from mlflow_trace_exporter.metrics.exposition import trace_metrics
from mlflow_trace_exporter.metrics.families import LATE
from mlflow_trace_exporter.metrics.meter import Cell
from mlflow_trace_exporter.metrics.overview import Row, rows
from mlflow_trace_exporter.metrics.status import Reading, Snapshot, Status
from mlflow_trace_exporter.web import templating

MAX_ROWS = 50

_write = templating.page("status.html")


@dataclass(frozen=True, slots=True)
class Links:
    """Where the page leads: to the metrics (from the page), and to MLflow."""

    metrics: str
    mlflow: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A name, a value, what it means, and how it is: good, bad, or neither."""

    name: str
    value: str
    meaning: str
    tone: str = ""


class StatusPage:
    """The page of the latest snapshot, written once for each. May be called from different threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._written: tuple[Snapshot, Links, bytes] | None = None

    def text(self, snapshot: Snapshot, links: Links, now_s: float) -> bytes:
        """The page of a snapshot that was published about ``now_s`` (Unix seconds)."""
        with self._lock:
            if self._written is None or self._written[0] is not snapshot or self._written[1] != links:
                self._written = (snapshot, links, write(snapshot, links, now_s))
            return self._written[2]


def write(snapshot: Snapshot, links: Links, now_s: float) -> bytes:
    """The page as HTML in UTF-8."""
    status, reading = snapshot.status, snapshot.status.reading
    metrics = trace_metrics(snapshot.families, snapshot.totals)
    table = rows(sample for metric in metrics for sample in metric.samples)
    last_ms = _last_ms(snapshot)
    return _write(
        version=status.build.version,
        links=links,
        facts=[*_of_mlflow(status, now_s), *(_of_reading(reading, now_s) if reading else ()), *_of_totals(snapshot)],
        failure=status.failure and {"message": status.failure.message, "at": templating.time_text(status.failure.at_s)},
        experiments=reading.experiments if reading else (),
        rows=[_texts(row, last_ms.get((row.experiment, row.environment, row.version))) for row in table[:MAX_ROWS]],
        more_rows=max(0, len(table) - MAX_ROWS),
        as_of=templating.time_text(now_s),
    )


def _of_mlflow(status: Status, now_s: float) -> Iterator[Fact]:
    meaning = "Whether it answered the last poll."
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
    yield Fact("Lag", lag, "How long ago that is. Normally no longer than poll.interval.")
    if status.reload and not status.reload.successful:
        yield Fact("Configuration", "the file cannot be used", "The one before it is in use. The log says why.", "bad")


def _of_reading(reading: Reading, now_s: float) -> Iterator[Fact]:
    yield _complete(reading, now_s)
    yield _audited(reading)
    yield Fact("Pending", f"{reading.pending:,}", "Traces that still run, or ended just now: not counted yet.")
    yield Fact(
        "Unaccounted",
        "-" if reading.unaccounted is None else f"{reading.unaccounted:,}",
        "Traces that MLflow has and the counters miss. Normally 0.",
        "bad" if reading.unaccounted else "",
    )
    full = reading.series > 0.9 * reading.series_limit
    series = f"{reading.series:,} of {reading.series_limit:,}"
    meaning = "In use, of series.limit. Beyond it, new label values are counted as other."
    yield Fact("Series", series, meaning, "bad" if full else "")


def _complete(reading: Reading, now_s: float) -> Fact:
    """Up to when all traces are known. In the beginning that is not known of any time, for poll.lateness at least."""
    if reading.first_complete_s is None:
        meaning = "All traces that started before are known. It stays poll.lateness (normally 2 h) behind."
        return Fact("Complete until", templating.time_text(reading.complete_until_s or None), meaning)
    origin_s, first = reading.counts_from_s, templating.time_text(reading.first_complete_s)
    since = f"Traces from {templating.time_text(origin_s) if origin_s else 'the earliest'} on are counted."
    meaning = f"{since} The first time is complete after poll.lateness, at {first}."
    if reading.first_complete_s <= now_s:
        meaning = f"{since} What MLflow has of the past is being read."
    return Fact("Complete until", "not yet", meaning)


def _audited(reading: Reading) -> Fact:
    meaning = "When MLflow's own count of traces was last compared with the counters."
    if reading.audit_supported is False:
        return Fact("Audited", "not possible", "This server has no count of its own, or mlflow.filter is set.")
    at = "not yet" if reading.audited_until_s is None else templating.time_text(reading.audited_until_s)
    return Fact("Audited", at, meaning)


def _of_totals(snapshot: Snapshot) -> Iterator[Fact]:
    catching_up = "yes" if snapshot.status.catching_up else "no"
    yield Fact("Catching up", catching_up, "Whether traces that were missed meanwhile are being read.")
    late = snapshot.totals.get(Cell(LATE, ()), 0)
    meaning = "Traces that MLflow showed later than poll.lateness. They are counted all the same."
    yield Fact("Late", f"{late:,.0f}", meaning, "bad" if late else "")


def _last_ms(snapshot: Snapshot) -> dict[Group, int]:
    """When traces of a version were last counted, by VERSION_LABELS."""
    last: dict[Group, int] = {}
    for group, active_ms in snapshot.active_ms.items():
        if len(group) > len(VERSION_LABELS):
            key = group[: len(VERSION_LABELS)]
            last[key] = max(active_ms, last.get(key, 0))
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


def _age(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 3600} h {whole % 3600 // 60} min"
