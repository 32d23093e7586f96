"""`backfill`: the history that MLflow has, for Prometheus. See history.py for what is written."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from mlflow_trace_exporter import wiring
from mlflow_trace_exporter.counting import ledger_look
from mlflow_trace_exporter.domain.moments import asked_ms, text, utc
from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.reports.history import History, Span
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.shown import is_fit
from mlflow_trace_exporter.tracking.query import Progress, Query

HEAD_MS = 3 * 3_600_000
"""Prometheus keeps about three hours in memory before it makes a block of them (two, and half of that more)."""

LEAST_STEP_MS = 1000
MINUTE_MS = 60_000


def until_ms(chosen_ms: int | None, origin_ms: int | None, now_ms: int) -> int:
    """Where the history ends: where it was asked to, or where `serve` began to count by its ledger, or three hours ago.

    Raises UserError where Prometheus would not take it, and where traces would be counted twice.
    """
    latest_ms = now_ms - HEAD_MS
    if chosen_ms is None:
        return latest_ms // MINUTE_MS * MINUTE_MS if origin_ms is None or origin_ms > latest_ms else origin_ms
    if chosen_ms > latest_ms:
        raise UserError(
            f"--until: must be three hours ago or earlier, {text(latest_ms)} UTC now: Prometheus still has what came"
            " since then in memory, and blocks must not overlap with that"
        )
    if origin_ms is not None and chosen_ms > origin_ms:
        raise UserError(
            f"--until: serve counts the traces from {text(origin_ms)} UTC on, as its ledger says; a history that goes"
            " on after that would count them twice. Leave --until out"
        )
    return chosen_ms


def plan(settings: Config, since: str, until: str | None, step: timedelta, target: Mapping[str, str]) -> Span:
    """What to write. Raises UserError for a mistake in one of these, and as ``until_ms`` does."""
    now_ms = wiring.now_ms()
    origin_ms = ledger_look.origin_ms(settings.ledger.path)
    step_ms = wiring.ms(step)
    if step_ms < LEAST_STEP_MS:
        raise UserError("--step: must be at least 1s")
    for flag, value in target.items():
        if not value or not is_fit(value):
            raise UserError(f"--{flag}: {value!r} is no label that Prometheus gives")
    since_ms = asked_ms("--since", since, now_ms)
    end_ms = until_ms(None if until is None else asked_ms("--until", until, now_ms), origin_ms, now_ms)
    if since_ms >= end_ms:
        counted = "" if origin_ms is None else f"; serve counts from {text(origin_ms)} UTC on"
        raise UserError(
            f"--since: {text(since_ms)} UTC is not before the end of the history, {text(end_ms)} UTC{counted}"
        )
    span = Span(since_ms, end_ms, step_ms)
    if span.first_ms > span.last_ms:
        raise UserError(f"--step: there is none from {text(since_ms)} to {text(end_ms)} UTC; take a shorter one")
    return span


def gap(settings: Config, span: Span) -> str | None:
    """What to say where the history ends before `serve` began."""
    origin_ms = ledger_look.origin_ms(settings.ledger.path)
    if origin_ms is None:
        return f"there is no ledger at {settings.ledger.path}: the history ends at {text(span.until_ms)} UTC"
    if origin_ms <= span.until_ms:
        return None
    return (
        f"traces from {text(span.until_ms)} to {text(origin_ms)} UTC, when serve began, are missing in it; after"
        f" {text(origin_ms + HEAD_MS)} UTC a second file can have them: --since {utc(span.until_ms).isoformat()}"
    )


def run(settings: Config, span: Span, output: Path, target: Mapping[str, str], progress: Progress) -> str:
    """Write the file; returns what to tell. Raises PollError and UserError, and leaves no file then."""
    library, meter = wiring.open_library(settings), wiring.open_meter(settings)
    library.source.require_experiments()
    history = History(meter, span, target, wiring.ms(settings.series.ttl))
    found = library.read(Query(span.since_ms, span.until_ms), progress)
    with _file_at(output) as file:
        for piece in history.lines(record for record, _ in found):
            file.write(piece)
        written = history.written
        if not written.traces:
            raise UserError(
                f"no finished traces from {text(span.since_ms)} to {text(span.until_ms)} UTC: nothing to write"
            )
    return (
        f"{output}: {written.traces:,} traces from {text(span.since_ms)} to {text(span.until_ms)} UTC,"
        f" {len(written.groups)} label sets, {written.samples:,} samples, {output.stat().st_size / 1e6:,.1f} MB"
    )


@contextmanager
def _file_at(path: Path) -> Iterator[IO[str]]:
    """A file to write to that is at ``path`` only once it is whole. Raises UserError where it cannot be written."""
    path = path.resolve()  # where it is a link, what it leads to
    if path.exists() and not path.is_file():
        raise UserError(f"--output: {path} is no file; promtool needs one")
    try:
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            try:
                yield file
                file.close()
                part.chmod(0o644)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"--output: cannot write {path}: {what_failed(error)}") from None
