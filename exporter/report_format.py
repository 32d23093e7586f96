"""Reports as text: a table for people, and forms for programs."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from io import StringIO

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.quantiles import RELATIVE_ERROR
from exporter.report import Report, Row, TraceLine

FORMATS = ("table", "json", "csv", "markdown")
WIDE = 400
"""Columns for what does not go to a terminal: nothing is wrapped or cut."""

_NUMBERS = ("traces", "errors", "p50", "p95", "p99", "max", "input", "output", "cache read", "tokens", "cost")
_LINES = ("start", "duration", "state", "environment", "version", "trace name", "user", "trace")


def top(report: Report, rows: int | None) -> tuple[Report, int]:
    """A report with no more than that many rows, and how many were left out."""
    if rows is None or len(report.rows) <= rows:
        return report, 0
    return replace(report, rows=report.rows[:rows]), len(report.rows) - rows


def write(report: Report, form: str, left_out: int) -> None:
    """Print it on standard output in one of FORMATS; ``left_out`` rows are missing."""
    match form:
        case "json":
            click.echo(as_json(report))
        case "csv":
            click.echo(as_csv(report), nl=False)
        case _:
            console = Console(highlight=False, markup=False)
            if not console.is_terminal or form == "markdown":
                console = Console(highlight=False, markup=False, width=WIDE)
            print_tables(report, console, form == "markdown", left_out)


def as_json(report: Report) -> str:
    """All of it as one object."""
    found = {
        "since": report.since,
        "until": report.until,
        "by": report.by,
        "rows": report.as_dicts(),
        "total": report.total.as_dict(),
        "slowest": [asdict(line) for line in report.slowest],
        "errors": [asdict(line) for line in report.errors],
    }
    return json.dumps(found, indent=2, default=lambda time: time.isoformat())


def as_csv(report: Report) -> str:
    """The rows, or the total where there is no ``by``, with a line of names before them."""
    rows = [row.as_dict() for row in _rows(report)]
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [*report.by, *report.total.as_dict()], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(report: Report) -> Sequence[Row]:
    return report.rows if report.by else [report.total]


def print_tables(report: Report, console: Console, markdown: bool, left_out: int) -> None:
    """The rows and the total, the traces that were asked for, and what should be known about the numbers."""
    console.print(f"{report.total.traces:,} finished traces from {_time(report.since)} to {_time(report.until)} UTC")
    if not report.total.traces:
        return
    console.print()
    rows = [(*row.key.values(), *_numbers(row)) for row in _rows(report)]
    total = [("total", *[""] * (len(report.by) - 1), *_numbers(report.total))] if len(report.rows) > 1 else []
    names = [name.replace("_", " ") for name in report.by]
    _print(console, (*names, *_NUMBERS), [*rows, *total], markdown, bool(total), len(names))
    for title, lines in (("slowest", report.slowest), ("latest errors", report.errors)):
        if lines:
            console.print(f"\n{title}\n")
            _print(console, _LINES, map(_line, lines), markdown, False, len(_LINES))
    notes = list(_notes(report, left_out))
    if notes:
        console.print("\n" + "\n".join(notes))


def _notes(report: Report, left_out: int) -> Iterable[str]:
    if left_out:
        yield f"{left_out:,} more rows are not shown; --top says how many are"
    if not all(row.exact for row in (*report.rows, report.total)):
        yield f"~ is from a sketch, within {RELATIVE_ERROR:.0%}; all other quantiles are exact"
    total = report.total
    for what, traces in (
        ("duration", total.without_duration),
        ("token usage", total.without_usage),
        ("cost", total.without_cost),
    ):
        if traces:
            yield f"{traces:,} of {total.traces:,} traces have no {what}, and are not in those columns"


def _print(
    console: Console, head: Sequence[str], rows: Iterable[Sequence[str]], markdown: bool, last_apart: bool, texts: int
) -> None:
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, pad_edge=markdown, show_edge=markdown)
    for at, name in enumerate(head):
        table.add_column(Text(name), justify="left" if at < texts else "right", overflow="fold", no_wrap=at >= texts)
    cells = [[_cell(text, markdown) for text in row] for row in rows]
    for at, row in enumerate(cells):
        table.add_row(*row, end_section=last_apart and not markdown and at == len(cells) - 2)
    console.print(table)


def _cell(text: str, markdown: bool) -> Text:
    return Text(text.replace("|", "\\|") if markdown else text)


def _numbers(row: Row) -> tuple[str, ...]:
    errors = "-" if row.error_rate is None else f"{row.errors:,} ({row.error_rate:.1%})"
    about = "" if row.exact else "~"
    quantiles = (_seconds(value, about) for value in (row.p50_s, row.p95_s, row.p99_s))
    tokens = (row.input_tokens, row.output_tokens, row.cache_read_input_tokens, row.total_tokens)
    cost = "-" if row.cost_usd is None else f"${row.cost_usd:,.4f}"
    return (f"{row.traces:,}", errors, *quantiles, _seconds(row.max_s), *map(_count, tokens), cost)


def _seconds(value: float | None, about: str = "") -> str:
    return "-" if value is None else f"{about}{value:,.2f}s"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _line(line: TraceLine) -> tuple[str, ...]:
    return (
        f"{line.start:%Y-%m-%d %H:%M:%S}",
        _seconds(line.duration_s),
        line.state,
        line.environment,
        line.version,
        line.trace_name,
        line.user or "-",
        line.url,
    )


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
