"""Text formats of reports: a table for people, and JSON, CSV and Markdown."""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mlflow_trace_exporter.domain.quantiles import RELATIVE_ERROR
from mlflow_trace_exporter.reports.columns import cells, columns, heads, seconds
from mlflow_trace_exporter.reports.report import Report
from mlflow_trace_exporter.reports.rows import Row
from mlflow_trace_exporter.reports.trace_lines import TraceLine

WIDE = 10_000
"""The width for output that does not go to a terminal, so that nothing is wrapped or cut."""

LINES = ("start", "duration", "state", "environment", "version", "trace name", "user", "trace")


def top(report: Report, rows: int | None) -> tuple[Report, int]:
    """Keep the ``rows`` rows with the most traces. Returns the report and the number of rows left out."""
    if rows is None or len(report.rows) <= rows:
        return report, 0
    ranked = sorted(range(len(report.rows)), key=lambda at: -report.rows[at].traces)
    return replace(report, rows=tuple(report.rows[at] for at in sorted(ranked[:rows]))), len(report.rows) - rows


def text(report: Report, form: str, most: int | None, width: int) -> str:
    """The ``most`` rows with the most traces, or all, as table, json, csv or markdown. A table is for a terminal of
    this ``width``."""
    report, left_out = top(report, most)
    match form:
        case "json":
            return f"{as_json(report, left_out)}\n"
        case "csv":
            return as_csv(report)
        case _:
            return as_tables(report, form == "markdown", left_out, width)


def as_json(report: Report, left_out: int) -> str:
    """The whole report as one JSON object."""
    found = {
        "since": report.since,
        "until": report.until,
        "by": report.by,
        "rows": report.as_dicts(),
        "rows_left_out": left_out,
        "total": report.total.as_dict(),
        "slowest": [asdict(line) for line in report.slowest],
        "errors": [asdict(line) for line in report.errors],
    }
    return json.dumps(found, indent=2, default=lambda time: time.isoformat())


def as_csv(report: Report) -> str:
    """The rows as CSV with a header, or the total if there is no ``by``. Spreadsheets do not take any text in it for a
    formula, see ``_defused``."""
    rows = [_csv_row(row) for row in shown_rows(report)]
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [*report.by, *report.total.as_dict()], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(row: Row) -> dict[str, Any]:
    """A row whose cells are texts and numbers. How often there is which value is a JSON object."""
    found = {**row.as_dict(), **{name: _defused(value) for name, value in row.key.items()}}
    return found if row.opinions is None else {**found, "values": json.dumps(row.opinions.values, ensure_ascii=False)}


def _defused(text: str) -> str:
    """Prefix a text with an apostrophe if spreadsheets would take it for a formula.

    Users can choose these texts, and a formula can send other cells of the sheet elsewhere. See
    https://owasp.org/www-community/attacks/CSV_Injection.
    """
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) else text


_FORMULA_SIGNS = (
    *"=+-@\t\r\n",
    *"\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}",
)
"""The last four are full-width forms, which some spreadsheets treat like the first four."""


def shown_rows(report: Report) -> Sequence[Row]:
    """The rows, or the total if there is no ``by``."""
    return report.rows if report.by else [report.total]


def as_tables(report: Report, markdown: bool, left_out: int, width: int) -> str:
    """The report as text: rows and total, the lists of traces, and notes on the numbers.

    Columns are left out to fit into ``width`` if that helps. Longer lines are left for the terminal to wrap.
    """
    text = StringIO()
    # everything is set here, because rich would otherwise derive it from environment variables
    console = Console(
        file=text,
        width=WIDE,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
        highlight=False,
        markup=False,
    )
    _print_tables(report, console, markdown, left_out, width)
    return text.getvalue()


def _print_tables(report: Report, console: Console, markdown: bool, left_out: int, width: int) -> None:
    console.print(f"{_counted(report.total)} from {_time(report.since)} to {_time(report.until)} UTC")
    if not report.total.traces:
        return
    console.print()
    found = rows_of(report)
    left_out_first = columns(report.total.unit).left_out_first
    table, without = _fitting(console, found, left_out_first, markdown, width)
    console.print(table)
    for title, lines in (("slowest", report.slowest), ("latest errors", report.errors)):
        if lines:
            console.print(f"\n{title}\n")
            console.print(_table(Cells(LINES, list(map(line_cells, lines)), len(LINES), False), markdown))
    remarks = list(notes(report))
    if left_out:
        remarks.insert(0, f"{left_out:,} more rows are not shown; set --top to show more")
    if without:
        remarks.insert(0, f"without {', '.join(without)}: this terminal is too narrow; --format=json has all columns")
    if remarks:
        console.print("\n" + "\n".join(remarks))


def _counted(total: Row) -> str:
    """How many of what the report is about."""
    if total.opinions is not None:
        of, among = total.opinions.assessed_traces, total.opinions.finished_traces
        return f"{total.traces:,} assessments of {of:,} of {among:,} finished traces"
    what = {
        "traces": "finished traces",
        "calls": "calls of models in finished traces",
        "spans": "other spans in traces",
    }
    return f"{total.traces:,} {what[total.unit]}"


def notes(report: Report) -> Iterable[str]:
    """What a reader of the numbers has to know."""
    if not all(row.exact for row in (*report.rows, report.total)):
        yield f"~ marks estimates, within {RELATIVE_ERROR:.0%}; all other quantiles are exact"
    total = report.total
    of_models = [("token usage", total.without_usage), ("cost", total.without_cost)] if total.unit != "spans" else []
    for what, traces in (("duration", total.without_duration), *of_models):
        if traces:
            yield f"{traces:,} of {total.traces:,} {total.unit} have no {what} and are not included in those columns"


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a table. The first ``texts`` columns contain text, the others numbers. ``total``: whether the last
    row is a total."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int
    total: bool

    def without(self, names: Sequence[str]) -> "Cells":
        """A copy without some of the number columns."""
        kept = [at for at, name in enumerate(self.head) if at < self.texts or name not in names]
        rows = [[row[at] for at in kept] for row in self.rows]
        return replace(self, head=[self.head[at] for at in kept], rows=rows)


def rows_of(report: Report) -> Cells:
    """The rows and, if there are several, their total."""
    unit = report.total.unit
    rows = [(*row.key.values(), *cells(row)) for row in shown_rows(report)]
    total = [("total", *[""] * (len(report.by) - 1), *cells(report.total))] if len(report.rows) > 1 else []
    head = (*(name.replace("_", " ") for name in report.by), *heads(unit))
    return Cells(head, [*rows, *total], len(report.by) + len(columns(unit).texts), bool(total))


def _fitting(
    console: Console, found: Cells, left_out_first: Sequence[str], markdown: bool, width: int
) -> tuple[Table, Sequence[str]]:
    """A table that fits into ``width`` if leaving out columns helps, and the names of the columns left out."""
    for number in range(len(left_out_first) + 1):
        without = left_out_first[:number]
        table = _table(found.without(without), markdown)
        if Measurement.get(console, console.options, table).maximum <= width:
            return table, without
    return _table(found, markdown), ()


def _table(found: Cells, markdown: bool) -> Table:
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, pad_edge=markdown, show_edge=markdown)
    for at, name in enumerate(found.head):
        table.add_column(Text(name), justify="left" if at < found.texts else "right", no_wrap=True)
    for at, row in enumerate(found.rows):
        last_before_total = found.total and not markdown and at == len(found.rows) - 2
        table.add_row(*(_cell(text, markdown) for text in row), end_section=last_before_total)
    return table


def _cell(text: str, markdown: bool) -> Text:
    """The text of a cell. In Markdown, special characters are escaped with a backslash."""
    return Text(re.sub(r"[\\|<>*`\[\]]", r"\\\g<0>", text) if markdown else text)


def line_cells(line: TraceLine) -> tuple[str, ...]:
    """The cells of a trace, as LINES names them."""
    return (
        f"{line.start:%Y-%m-%d %H:%M:%S}",
        seconds(line.duration_s),
        line.state,
        line.environment,
        line.version,
        line.trace_name,
        line.user,
        line.url,
    )


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
