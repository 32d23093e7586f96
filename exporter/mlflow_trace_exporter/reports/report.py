"""`report`: latency, errors, tokens and cost of traces, grouped by chosen dimensions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_trace_exporter.domain.labels import Labels, clean
from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.quantiles import Quantiles
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.reports.charts import Charts, Collector
from mlflow_trace_exporter.reports.subjects import OF_CALLS, OF_SPANS, Subject, Unit, subjects
from mlflow_trace_exporter.reports.trace_lines import Greatest, TraceLine
from mlflow_trace_exporter.tracking.query import Library, Progress, Query, no_progress

if TYPE_CHECKING:  # it is optional
    from matplotlib.figure import Figure

MAX_ROWS = 100_000
"""The most rows of a report. Traces of further groups are added up in one extra row."""

OTHERS = "(others)"
"""The key of that row."""

DEFAULT_BY = ("environment", "version")


@dataclass(frozen=True, slots=True)
class Row:
    """The totals of all traces with the same ``key``, or of the calls of models or other spans inside them, as ``unit``
    says: then ``traces`` is their number.

    Durations are in seconds, and None if no trace has one. ``exact``: whether the quantiles are exact, or within 1 % of
    the exact ones. Tokens and cost (USD) include only traces that have them, and are None if none has.
    ``total_tokens`` is input plus output. With most MLflow integrations, input includes the two cache counts, see
    ``TokenUsage``. ``without_…``: the number of traces without duration, token usage or cost.
    """

    key: Mapping[str, str]
    traces: int
    errors: int
    error_rate: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    max_s: float | None
    exact: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_read_input_tokens: int | None
    cache_creation_input_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    without_duration: int
    without_usage: int
    without_cost: int
    unit: Unit = "traces"

    def as_dict(self) -> dict[str, Any]:
        """The dimensions and all numbers, by name."""
        _, _, *others, _ = fields(self)
        return {**self.key, self.unit: self.traces, **{each.name: getattr(self, each.name) for each in others}}


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


@dataclass(slots=True)
class Tally:
    """Running totals of traces."""

    traces: int = 0
    errors: int = 0
    durations: Quantiles = field(default_factory=Quantiles)
    usages: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    costs: int = 0
    cost_usd: float = 0.0
    without_duration: int = 0

    def add(self, subject: Subject) -> None:
        """Add one finished trace, or something inside it."""
        self.traces += 1
        self.errors += subject.failed
        if subject.duration_s is None:
            self.without_duration += 1
        else:
            self.durations.add(subject.duration_s)
        if subject.usage is not None:
            self.usages += 1
            self._add_tokens(subject.usage)
        if subject.cost is not None:
            self.costs += 1
            self.cost_usd += subject.cost.total_usd

    def _add_tokens(self, usage: TokenUsage) -> None:
        for each in fields(usage):
            tokens = getattr(usage, each.name)
            if tokens is not None:
                self.tokens[each.name] = self.tokens.get(each.name, 0) + tokens

    def row(self, key: Mapping[str, str], unit: Unit = "traces") -> Row:
        """The totals as a row of a report."""
        quantile = self.durations.reader()
        tokens = self.tokens
        return Row(
            key=key,
            traces=self.traces,
            errors=self.errors,
            error_rate=self.errors / self.traces if self.traces else None,
            p50_s=quantile(0.5),
            p95_s=quantile(0.95),
            p99_s=quantile(0.99),
            max_s=self.durations.max,
            exact=self.durations.is_exact,
            input_tokens=tokens.get("input"),
            output_tokens=tokens.get("output"),
            cache_read_input_tokens=tokens.get("cache_read_input"),
            cache_creation_input_tokens=tokens.get("cache_creation_input"),
            total_tokens=tokens.get("input", 0) + tokens.get("output", 0) if self.usages else None,
            cost_usd=self.cost_usd if self.costs else None,
            without_duration=self.without_duration,
            without_usage=self.traces - self.usages,
            without_cost=self.traces - self.costs,
            unit=unit,
        )


Dimension = Callable[[TraceRecord, Labels], str]


def _hour(record: TraceRecord, _: Labels) -> str:
    return f"{utc(record.start_ms):%Y-%m-%dT%H:00Z}"


_DIMENSIONS: Mapping[str, Dimension] = {
    "user": lambda record, _: clean(record.user),
    "session": lambda record, _: clean(record.session),
    "hour": _hour,
}


def dimensions(label_names: Sequence[str]) -> tuple[str, ...]:
    """All dimensions of a report: the labels of the metrics, and others that never become labels.

    A label with the name of a column is left out, because it would hide the column.
    """
    columns = {each.name for each in fields(Row)}
    known = (*(name for name in label_names if name not in columns), *_DIMENSIONS)
    return (*known, *(name for name in (*OF_CALLS, *OF_SPANS) if name not in known))


def _dimension(name: str) -> Dimension:
    return _DIMENSIONS.get(name) or (lambda _, labels: labels[name])


class Tallies:
    """Tallies of traces, or of what is inside them, grouped by some dimensions."""

    def __init__(self, by: Sequence[str], unit: Unit = "traces") -> None:
        self._by, self._unit = tuple(by), unit
        self._values = [_dimension(name) for name in by]
        self._tallies: dict[tuple[str, ...], Tally] = {}
        self.total = Tally()

    def add(self, record: TraceRecord, labels: Labels) -> None:
        """Add one finished trace."""
        for subject in subjects(record, self._unit):
            all_labels = {**subject.labels, **labels} if subject.labels else labels
            self._add(subject, tuple(value(record, all_labels) for value in self._values))

    def _add(self, subject: Subject, key: tuple[str, ...]) -> None:
        if key not in self._tallies and len(self._tallies) >= MAX_ROWS:
            key = (OTHERS,) * len(key)
        self._tallies.setdefault(key, Tally()).add(subject)
        if self._by:
            self.total.add(subject)
        else:
            self.total = self._tallies[key]

    def rows(self) -> list[Row]:
        """All tallies as rows, in the order of ``Report.rows``."""
        found = ((dict(zip(self._by, key, strict=True)), tally) for key, tally in sorted(self._tallies.items()))
        rows = [tally.row(key, self._unit) for key, tally in found]
        if "hour" in self._by:
            return sorted(rows, key=lambda row: row.key["hour"])
        return sorted(rows, key=lambda row: -row.traces)


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
    tallies = Tallies(wanted.by, wanted.unit)
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
        total=tallies.total.row({}, wanted.unit),
        slowest=slowest.lines(url_of),
        errors=errors.lines(url_of),
        charts=charts.charts(query.since_ms, query.until_ms),
    )
