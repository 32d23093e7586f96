"""The status page: a snapshot for people. Needs no JavaScript; the template escapes all that it is given."""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from exporter import templating
from exporter.exposition import trace_metrics
from exporter.families import LATE
from exporter.metrics import Cell
from exporter.overview import Row, rows
from exporter.status import Reading, Snapshot, Status

MAX_ROWS = 50

_write = templating.page("status.html")


@dataclass(frozen=True, slots=True)
class Links:
    """Where the page leads: to the metrics (from the page), and to MLflow."""

    metrics: str
    mlflow: str


Fact = tuple[str, str, str]
"""A name, a value, and how it is: good, bad, or neither."""


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
        facts=[*_of_mlflow(status, now_s), *(_of_reading(reading) if reading else ()), *_of_totals(snapshot)],
        failure=status.failure and {"message": status.failure.message, "at": templating.time_text(status.failure.at_s)},
        experiments=reading.experiments if reading else (),
        rows=[_texts(row, last_ms.get((row.environment, row.version))) for row in table[:MAX_ROWS]],
        more_rows=max(0, len(table) - MAX_ROWS),
        as_of=templating.time_text(now_s),
    )


def _of_mlflow(status: Status, now_s: float) -> Iterator[Fact]:
    since = f"since {templating.time_text(status.mlflow_since_s)}"
    match status.mlflow_up:
        case None:
            yield "MLflow", "not asked yet", ""
        case True:
            yield "MLflow", f"reachable {since}", "good"
        case False:
            yield "MLflow", f"not reachable {since}", "bad"
    yield "Last successful poll", templating.time_text(status.last_success_s), ""
    yield "Lag", "-" if status.last_success_s is None else _age(now_s - status.last_success_s), ""
    if status.reload and not status.reload.successful:
        yield "Configuration", "the file cannot be used; the one before it goes on", "bad"


def _of_reading(reading: Reading) -> Iterator[Fact]:
    yield "Complete until", templating.time_text(reading.complete_until_s or None), ""
    yield "Audited until", templating.time_text(reading.audited_until_s), ""
    yield "Pending", f"{reading.pending:,}", ""
    yield (
        "Unaccounted",
        "-" if reading.unaccounted is None else f"{reading.unaccounted:,}",
        ("bad" if reading.unaccounted else ""),
    )
    full = reading.series > 0.9 * reading.series_limit
    yield "Series", f"{reading.series:,} of {reading.series_limit:,}", "bad" if full else ""


def _of_totals(snapshot: Snapshot) -> Iterator[Fact]:
    yield "Catching up", "yes" if snapshot.status.catching_up else "no", ""
    late = snapshot.totals.get(Cell(LATE, ()), 0)
    yield "Late", f"{late:,.0f}", "bad" if late else ""


def _last_ms(snapshot: Snapshot) -> dict[tuple[str, str], int]:
    """When traces of an environment and version were last counted."""
    last: dict[tuple[str, str], int] = {}
    for group, active_ms in snapshot.active_ms.items():
        if len(group) > 3:
            key = (group[1], group[2])
            last[key] = max(active_ms, last.get(key, 0))
    return last


def _texts(row: Row, last_ms: int | None) -> dict[str, str]:
    return {
        "environment": row.environment,
        "version": row.version,
        "traces": f"{row.traces:,}",
        "errors": f"{row.errors / row.traces:.1%}" if row.traces else "-",
        "p50": "-" if row.p50_s is None else f"{row.p50_s:.2f} s",
        "p95": "-" if row.p95_s is None else f"{row.p95_s:.2f} s",
        "tokens": f"{row.tokens:,}",
        "cost": f"${row.cost_usd:,.2f}" if row.cost_usd >= 1 else f"${row.cost_usd:.4f}",
        "last": templating.time_text(last_ms / 1000 if last_ms else None).removesuffix(" UTC"),
    }


def _age(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 3600} h {whole % 3600 // 60} min"
