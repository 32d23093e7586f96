"""`report`: latency, errors, tokens and cost of traces, or what their assessments say, by chosen dimensions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_trace_exporter.domain.labels import Labels
from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.reports.charts import Charts, Collector
from mlflow_trace_exporter.reports.rows import Row
from mlflow_trace_exporter.reports.subjects import Unit
from mlflow_trace_exporter.reports.tallies import OpinionTallies, Tallies
from mlflow_trace_exporter.reports.trace_lines import Greatest, TraceLine
from mlflow_trace_exporter.tracking.query import Library, Progress, Query, no_progress

if TYPE_CHECKING:  # it is optional
    from matplotlib.figure import Figure

DEFAULT_BY = ("environment", "version")


@dataclass(frozen=True, slots=True)
class Report:
    """The result of ``make_report``.

    ``rows``: one per combination of the dimensions ``by``, most traces first, or in order of time if hour is one of
    them. ``slowest`` and ``errors``: the requested lists of traces; of errors the latest. ``charts``: the numbers
    behind ``figures``. ``server``: the address of MLflow. ``selection``: which traces were asked for, by name of the
    condition.

    A notebook shows a report as a page with charts, if the extra ``plots`` is installed.
    """

    since: datetime
    until: datetime
    by: tuple[str, ...]
    rows: tuple[Row, ...]
    total: Row
    slowest: tuple[TraceLine, ...] = ()
    errors: tuple[TraceLine, ...] = ()
    charts: Charts = field(default=Charts(), repr=False)
    server: str = ""
    selection: Mapping[str, str] = field(default_factory=dict)

    def as_dicts(self) -> list[dict[str, Any]]:
        """The rows for a data frame: ``pandas.DataFrame(report.as_dicts())``."""
        return [row.as_dict() for row in self.rows]

    def figures(self) -> dict[str, "Figure"]:
        """The charts as matplotlib figures, by name: traces, latency, quantiles, version and model. A chart without
        numbers is left out. Raises UserError if the extra ``plots`` is not installed."""
        from mlflow_trace_exporter.reports import plots  # imports matplotlib, which takes long and is optional

        return plots.figures(self.charts)

    def as_html(self, top: int | None = 50) -> str:
        """The report as a page that needs no network, with the ``top`` rows. Raises UserError if the extra ``plots`` is
        not installed."""
        from mlflow_trace_exporter.reports import html_report  # the same

        return html_report.page(self, top)

    def _repr_html_(self) -> str | None:
        """What a notebook shows; None, so that it shows ``repr``, if the extra ``plots`` is not installed."""
        from mlflow_trace_exporter.reports import html_report  # the same

        return html_report.in_notebook(self)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report should contain: rows ``by`` these dimensions of a ``unit``, so many ``slowest`` traces and latest
    ``errors``. ``inside``: whether to read what is inside traces."""

    by: tuple[str, ...] = DEFAULT_BY
    slowest: int = 0
    errors: int = 0
    unit: Unit = "traces"
    inside: bool = False


def report(
    library: Library,
    query: Query,
    wanted: Wanted,
    url_of: Callable[[TraceRecord], str],
    progress: Progress = no_progress,
) -> Report:
    """Read the traces and add them up. At most one page of traces is in memory at a time. Raises PollError."""
    return summarize(library.read(query, progress, wanted.inside), query, wanted, url_of)


def summarize(
    found: Iterable[tuple[TraceRecord, Labels]],
    query: Query,
    wanted: Wanted,
    url_of: Callable[[TraceRecord], str],
) -> Report:
    """Add up traces, given with their labels."""
    tallies = OpinionTallies(wanted.by) if wanted.unit == "assessments" else Tallies(wanted.by, wanted.unit)
    slowest = Greatest(wanted.slowest, lambda record: record.duration_s)
    errors = Greatest(wanted.errors, lambda record: record.start_ms if record.state is State.ERROR else None)
    charts = Collector()
    for record, labels in found:
        for each in (tallies, slowest, errors, charts):
            each.add(record, labels)
    return Report(
        since=utc(query.since_ms),
        until=utc(query.until_ms),
        by=wanted.by,
        rows=tuple(tallies.rows()) if wanted.by else (),
        total=tallies.total(),
        slowest=slowest.lines(url_of),
        errors=errors.lines(url_of),
        charts=charts.charts(query.since_ms, query.until_ms),
    )
