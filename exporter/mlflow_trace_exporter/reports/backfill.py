"""`backfill`: exports the history in MLflow for Prometheus. See history.py for the format."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from mlflow_trace_exporter import wiring
from mlflow_trace_exporter.domain.moments import asked_ms, text, utc
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import look
from mlflow_trace_exporter.reports import written_file
from mlflow_trace_exporter.reports.history import History, Span
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.shown import is_fit
from mlflow_trace_exporter.tracking.query import Progress, Query

HEAD_MS = 3 * 3_600_000
"""Prometheus keeps up to three hours in memory before it writes a block (1.5 times its block range of two hours)."""

LEAST_STEP_MS = 1000
MINUTE_MS = 60_000


def until_ms(chosen_ms: int | None, origin_ms: int | None, now_ms: int) -> int:
    """The end of the history: as chosen, or where `serve` started to count according to its ledger, or three hours ago.

    Raises UserError if Prometheus would not accept the blocks, or if traces would be counted twice.
    """
    latest_ms = now_ms - HEAD_MS
    if chosen_ms is None:
        return latest_ms // MINUTE_MS * MINUTE_MS if origin_ms is None or origin_ms > latest_ms else origin_ms
    if chosen_ms > latest_ms:
        raise UserError(
            f"--until: must be at least three hours ago, now {text(latest_ms)} UTC: Prometheus still has later samples"
            " in memory, and blocks must not overlap with them"
        )
    if origin_ms is not None and chosen_ms > origin_ms:
        raise UserError(
            f"--until: according to its ledger, serve counts traces since {text(origin_ms)} UTC; a history beyond that"
            " would count them twice. Leave --until out"
        )
    return chosen_ms


def plan(settings: Config, since: str, until: str | None, step: timedelta, target: Mapping[str, str]) -> Span:
    """The time range and step to write. Raises UserError for an invalid argument, and as ``until_ms`` does."""
    now_ms = wiring.now_ms()
    origin_ms = look.origin_ms(wiring.ledger_place(settings))
    step_ms = wiring.ms(step)
    if step_ms < LEAST_STEP_MS:
        raise UserError("--step: must be at least 1s")
    for flag, value in target.items():
        if not value or not is_fit(value):
            raise UserError(f"--{flag}: {value!r} is not a valid label value in Prometheus")
    since_ms = asked_ms("--since", since, now_ms)
    end_ms = until_ms(None if until is None else asked_ms("--until", until, now_ms), origin_ms, now_ms)
    if since_ms >= end_ms:
        counted = "" if origin_ms is None else f"; serve counts traces since {text(origin_ms)} UTC"
        raise UserError(
            f"--since: {text(since_ms)} UTC is not before the end of the history, {text(end_ms)} UTC{counted}"
        )
    span = Span(since_ms, end_ms, step_ms)
    if span.first_ms > span.last_ms:
        raise UserError(f"--step: there is no step between {text(since_ms)} and {text(end_ms)} UTC; use a shorter one")
    return span


def gap(settings: Config, span: Span) -> str | None:
    """The message about a gap between the end of the history and the start of `serve`; None if there is no gap."""
    origin_ms = look.origin_ms(wiring.ledger_place(settings))
    if origin_ms is None:
        return f"no ledger at {wiring.ledger_place(settings)}: the history ends at {text(span.until_ms)} UTC"
    if origin_ms <= span.until_ms:
        return None
    return (
        f"the file lacks traces from {text(span.until_ms)} until serve started, at {text(origin_ms)} UTC; after"
        f" {text(origin_ms + HEAD_MS)} UTC you can write them to a second file: --since"
        f" {utc(span.until_ms).isoformat()}"
    )


def run(settings: Config, span: Span, output: Path, target: Mapping[str, str], progress: Progress) -> str:
    """Write the file. Returns a summary. Raises PollError or UserError, and then leaves no file."""
    library, meter = wiring.open_library(settings), wiring.open_meter(settings)
    library.source.require_experiments()
    history = History(meter, span, target, wiring.ms(settings.series.ttl), library.source.workspaces())
    found = library.read(Query(span.since_ms, span.until_ms), progress, inside=settings.spans.enabled)
    with written_file.at(output) as file:
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
