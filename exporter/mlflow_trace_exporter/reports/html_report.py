"""Reports as HTML: a page that needs no network and runs no script, or the part of it that a notebook shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from mlflow_trace_exporter import templating
from mlflow_trace_exporter.reports import palette, plots, svg
from mlflow_trace_exporter.reports.charts import Charts, Grouping
from mlflow_trace_exporter.reports.columns import count, share
from mlflow_trace_exporter.reports.report import Report
from mlflow_trace_exporter.reports.report_format import LINES, line_cells, notes, rows_of, top
from mlflow_trace_exporter.reports.rows import Row
from mlflow_trace_exporter.reports.timeline import Slice
from mlflow_trace_exporter.reports.words import seconds_text, step_text
from mlflow_trace_exporter.templating import usd_text

_page = templating.page("mlflow_trace_exporter.reports", "report.html")
_part = templating.page("mlflow_trace_exporter.reports", "notebook.html")


def page(report: Report, rows: int | None = None) -> str:
    """The whole page, with the ``rows`` rows that have the most traces. Raises UserError if matplotlib is missing."""
    return _page(**_values(report, rows)).decode()


def in_notebook(report: Report, rows: int = 50) -> str | None:
    """The page without what only a whole page has; None if matplotlib is missing."""
    return _part(**_values(report, rows)).decode() if plots.are_possible() else None


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first ``texts`` columns contain text, the others numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, with the table of its numbers. ``name`` is unique in the page."""

    name: str
    title: str
    drawing: Markup
    numbers: Table


def _values(report: Report, most: int | None) -> Mapping[str, object]:
    """What the templates need."""
    plots.require()
    report, left_out = top(report, most)
    by = [name.replace("_", " ") for name in report.by]
    return {
        "title": _title(report),
        "server": report.server,
        "link": report.server if report.server.startswith(("http://", "https://")) else None,
        "since": _minute(report.since),
        "until": _minute(report.until),
        "selection": report.selection,
        "tiles": list(_tiles(report.total)),
        "charts": list(_charts(report.charts)),
        "by": by,
        "rows": rows_of(report),
        "left_out": left_out,
        "lists": [
            (title, LINES, [(line_cells(line)[:-1], line) for line in lines])
            for title, lines in (("Slowest traces", report.slowest), ("Latest failed traces", report.errors))
            if lines
        ],
        "notes": list(notes(report)),
        "colours": palette.COLOURS,
    }


def _title(report: Report) -> str:
    chosen = "".join(f", {name} {value}" for name, value in report.selection.items())
    times = f"{_minute(report.since)} to {_minute(report.until)} UTC"
    return f"Traces of {report.server or 'MLflow'}{chosen}, {times}"


def _tiles(total: Row) -> Iterator[tuple[str, str, str]]:
    """The name, value and colour of the numbers at the top of the page."""
    about = "" if total.exact else "~"
    yield total.unit, f"{total.traces:,}", ""
    failed = f"{total.errors:,} ({share(total.error_rate)})" if total.traces else "-"
    yield "failed", failed, "bad" if total.errors else ""
    if total.opinions is not None:
        yield "traces", f"{total.opinions.finished_traces:,}", ""
        yield "assessed", share(total.opinions.assessed_share), ""
    else:
        for name in ("p50", "p95", "p99"):
            value = getattr(total, f"{name}_s")
            yield name, "-" if value is None else f"{about}{seconds_text(value)}", ""
        yield "input tokens", count(total.input_tokens), ""
        yield "output tokens", count(total.output_tokens), ""
    yield "cost", usd_text(total.cost_usd), ""


def _charts(charts: Charts) -> Iterator[Chart]:
    described = {each.name: each for each in _descriptions(charts)}
    for name, figure in plots.figures(charts, palette.mark).items():
        found = described[name]
        drawing = svg.inline(figure, name, found.alternative, plots.TIP)
        yield Chart(name, found.title, Markup(drawing), found.numbers)  # noqa: S704 - svg escapes all texts in it


@dataclass(frozen=True, slots=True)
class Description:
    """A chart in words. ``alternative`` is what is read to people who cannot see it."""

    name: str
    title: str
    alternative: str
    numbers: Table


def _descriptions(charts: Charts) -> Iterator[Description]:
    slices = [each for each in charts.over_time if each.traces]
    if not slices:
        return
    per = f"per {step_text(charts.step)}"
    most = max(slices, key=lambda each: each.traces)
    yield Description(
        "traces",
        "Traces and failures over time",
        f"Bar chart of ok and failed traces {per}. The highest bar has {most.traces:,} traces, at"
        f" {_minute(most.start)} UTC.",
        Table(
            ("start (UTC)", "traces", "failed", "share"),
            [(_minute(each.start), *_failed(each.traces, each.errors)) for each in slices],
        ),
    )
    fullest = max(charts.latency, key=lambda each: each.traces, default=None)
    yield Description(
        "latency",
        "Latency distribution",
        "Histogram of durations on a logarithmic scale."
        + (f" The highest bar is at {seconds_text(fullest.low_s)}." if fullest else ""),
        Table(
            ("from", "to", "traces", "failed", "share"),
            [
                (seconds_text(each.low_s), seconds_text(each.high_s), *_failed(each.traces, each.errors))
                for each in charts.latency
                if each.traces
            ],
        ),
    )
    yield Description(
        "quantiles",
        "Latency over time",
        f"Lines of the 50th, 95th and 99th percentile of the duration {per}, on a logarithmic scale.",
        Table(("start (UTC)", "p50", "p95", "p99"), list(map(_quantiles, slices))),
    )
    yield from map(_described, charts.groupings)


def _described(grouping: Grouping) -> Description:
    rows = [
        (row.label, f"{row.count:,}", count(row.input_tokens), count(row.output_tokens), usd_text(row.cost_usd))
        for row in grouping.rows
    ]
    return Description(
        grouping.name,
        f"Tokens and cost by {grouping.name}",
        f"Bar chart of input tokens, output tokens and cost of {len(rows)} rows. The first is {rows[0][0]}.",
        Table((grouping.name, grouping.counted, "input tokens", "output tokens", "cost"), rows),
    )


def _failed(traces: int, errors: int) -> Sequence[str]:
    return f"{traces:,}", f"{errors:,}", f"{errors / traces:.1%}"


def _quantiles(each: Slice) -> Sequence[str]:
    about = "" if each.exact else "~"
    values = (each.p50_s, each.p95_s, each.p99_s)
    return _minute(each.start), *("-" if value is None else f"{about}{seconds_text(value)}" for value in values)


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
