"""Draws the charts of a report with matplotlib. Only ``plots`` imports this module, because matplotlib is optional."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from mlflow_trace_exporter.reports.charts import Bin, Charts, Consumption, Grouping
from mlflow_trace_exporter.reports.palette import Paint
from mlflow_trace_exporter.reports.plots import TIP
from mlflow_trace_exporter.reports.timeline import Slice
from mlflow_trace_exporter.reports.words import seconds_text, step_text
from mlflow_trace_exporter.templating import usd_text

WIDTH_IN = 9.6
LABEL_LENGTH = 28

_NO_XML = re.compile("[\ufffe\uffff]")
"""Characters that a label can have and XML cannot, see https://www.w3.org/TR/xml/#charsets."""


def figures(charts: Charts, paint: Paint) -> Iterator[tuple[str, Figure]]:
    """Draw all charts that have numbers. The style of the user's own figures has no effect on them."""
    with mpl.rc_context():
        style.use("default")
        mpl.rcParams.update(_style(paint))
        if charts.over_time:
            yield "traces", _traces(charts.over_time, charts.step, paint)
        if charts.latency:
            yield "latency", _latency(charts.latency, paint)
            yield "quantiles", _quantiles(charts.over_time, charts.step, paint)
        for grouping in charts.groupings:
            if has_amounts(grouping):
                yield grouping.name, _consumption(grouping, paint)


def has_amounts(grouping: Grouping) -> bool:
    """Whether there are tokens or a cost to draw."""
    return any(row.input_tokens or row.output_tokens or row.cost_usd for row in grouping.rows)


def _style(paint: Paint) -> Any:
    soft, line = paint("soft"), paint("line")
    return {
        "text.parse_math": False,  # a dollar sign is one
        "font.size": 8.5,
        "figure.facecolor": paint("paper"),
        "axes.facecolor": "none",
        "axes.edgecolor": line,
        "axes.labelcolor": soft,
        "axes.titlecolor": soft,
        "axes.titlesize": 8.5,
        "axes.titlelocation": "left",
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "grid.color": line,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.labelcolor": paint("ink"),
        "text.color": paint("ink"),
        "xtick.color": line,
        "xtick.labelcolor": soft,
        "ytick.color": line,
        "ytick.labelcolor": soft,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "patch.linewidth": 0.4,
        "lines.linewidth": 1.4,
    }


def _figure(height_in: float) -> Figure:
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def _tip(part: Patch, text: str) -> None:
    part.set_gid(TIP + text)


def _legend(axes: Axes, entries: int) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=entries, borderaxespad=0.2, handlelength=1.2)


def _time_axis(axes: Axes, slices: Sequence[Slice], step: timedelta) -> None:
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    axes.set_xlim(_day(slices[0].start), _day(slices[-1].start + step))
    axes.set_xlabel("time (UTC)")


def _day(time: datetime) -> float:
    return float(date2num(time))


def _traces(slices: Sequence[Slice], step: timedelta, paint: Paint) -> Figure:
    figure = _figure(3.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    days, width = [_day(each.start) for each in slices], step / timedelta(days=1)
    look: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": paint("paper")}
    errors = [each.errors for each in slices]
    failed = above.bar(days, errors, color=paint("bad"), label="failed", **look)
    good = [each.traces - each.errors for each in slices]
    ok = above.bar(days, good, bottom=errors, color=paint("ok"), label="ok", **look)
    shares = [each.errors / each.traces if each.traces else 0.0 for each in slices]
    share = below.bar(days, shares, color=paint("bad"), **look)
    for each, bars in zip(slices, zip(failed, ok, share, strict=True), strict=True):
        for bar in bars:
            _tip(bar, f"{each.start:%Y-%m-%d %H:%M}: {each.traces:,} traces, {each.errors:,} failed")
    above.set_title(f"traces per {step_text(step)}")
    above.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _legend(above, 2)
    below.set_title("share of failed traces")
    below.set_ylim(0, max(*shares, 0.01) * 1.1)
    below.yaxis.set_major_locator(MaxNLocator(2))
    below.yaxis.set_major_formatter(PercentFormatter(1))
    _time_axis(below, slices, step)
    return figure


def _latency(bins: Sequence[Bin], paint: Paint) -> Figure:
    figure = _figure(2.7)
    axes = figure.subplots()
    lows, widths = [each.low_s for each in bins], [each.high_s - each.low_s for each in bins]
    look: dict[str, Any] = {"width": widths, "align": "edge", "edgecolor": paint("paper")}
    errors = [each.errors for each in bins]
    failed = axes.bar(lows, errors, color=paint("bad"), label="failed", **look)
    good = [each.traces - each.errors for each in bins]
    ok = axes.bar(lows, good, bottom=errors, color=paint("ok"), label="ok", **look)
    for each, bars in zip(bins, zip(failed, ok, strict=True), strict=True):
        for bar in bars:
            times = f"{seconds_text(each.low_s)} to {seconds_text(each.high_s)}"
            _tip(bar, f"{times}: {each.traces:,} traces, {each.errors:,} failed")
    axes.set_title("traces")
    axes.set_xlim(bins[0].low_s / 1.1, bins[-1].high_s * 1.1)
    axes.set_xscale("log")
    _seconds_axis(axes, "x", bins[-1].high_s / bins[0].low_s)
    axes.set_xlabel("duration (logarithmic)")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _legend(axes, 2)
    return figure


def _quantiles(slices: Sequence[Slice], step: timedelta, paint: Paint) -> Figure:
    figure = _figure(2.7)
    axes = figure.subplots()
    middles = [_day(each.start + step / 2) for each in slices]
    for name in ("p99", "p95", "p50"):
        values = [getattr(each, f"{name}_s") for each in slices]
        shown = [float("nan") if value is None else max(value, 0.001) for value in values]
        axes.plot(middles, shown, color=paint(name), label=name, marker="o", markersize=2.5)
    axes.set_title("duration (logarithmic)")
    axes.set_yscale("log")
    _seconds_axis(axes, "y", axes.get_ylim()[1] / axes.get_ylim()[0])
    _legend(axes, 3)
    _time_axis(axes, slices, step)
    return figure


def _seconds_axis(axes: Axes, name: str, ratio: float) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, or at more or fewer of them, depending on the ratio of the ends."""
    subs = (1, 1.5, 2, 3, 4, 5, 7) if ratio < 6 else (1, 2, 5) if ratio < 2_000 else (1,)
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: seconds_text(value)))


def _consumption(grouping: Grouping, paint: Paint) -> Figure:
    rows = grouping.rows
    with_tokens = any(row.input_tokens or row.output_tokens for row in rows)
    with_cost = any(row.cost_usd for row in rows)
    figure = _figure(0.75 + 0.27 * len(rows))
    all_axes = figure.subplots(1, with_tokens + with_cost, sharey=True, squeeze=False)[0]
    if with_tokens:
        _tokens(all_axes[0], rows, paint)
    if with_cost:
        _costs(all_axes[-1], rows, paint)
    for axes in all_axes:
        axes.grid(False)
        axes.xaxis.set_major_locator(NullLocator())
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.2)
        axes.set_xlim(left=0)
    first = all_axes[0]
    first.set_ylim(len(rows) - 0.5, -0.5)
    first.set_yticks(range(len(rows)), [_label(row) for row in rows], parse_math=False, color=paint("ink"))
    return figure


def _label(row: Consumption) -> str:
    text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", row.label)
    return text if len(text) <= LABEL_LENGTH else f"{text[: LABEL_LENGTH - 1]}…"


def _tokens(axes: Axes, rows: Sequence[Consumption], paint: Paint) -> None:
    inputs, outputs = [row.input_tokens or 0 for row in rows], [row.output_tokens or 0 for row in rows]
    look: dict[str, Any] = {"height": 0.68, "edgecolor": paint("paper")}
    read = axes.barh(range(len(rows)), inputs, color=paint("input"), label="input", **look)
    written = axes.barh(range(len(rows)), outputs, left=inputs, color=paint("output"), label="output", **look)
    for row, bars in zip(rows, zip(read, written, strict=True), strict=True):
        for bar in bars:
            _tip(bar, f"{_label(row)}: {row.input_tokens or 0:,} tokens in, {row.output_tokens or 0:,} out")
    compact = EngFormatter(places=1, sep="")
    totals = map(sum, zip(inputs, outputs, strict=True))
    _values(axes, [(total, compact(total) if total else "-") for total in totals])
    axes.set_title("tokens")
    _legend(axes, 2)


def _costs(axes: Axes, rows: Sequence[Consumption], paint: Paint) -> None:
    costs = [row.cost_usd or 0.0 for row in rows]
    bars = axes.barh(range(len(rows)), costs, height=0.68, color=paint("cost"), edgecolor=paint("paper"))
    for row, bar in zip(rows, bars, strict=True):
        _tip(bar, f"{_label(row)}: {usd_text(row.cost_usd)}")
    _values(axes, [(row.cost_usd or 0.0, usd_text(row.cost_usd)) for row in rows])
    axes.set_title("cost (USD)")


def _values(axes: Axes, ends: Iterable[tuple[float, str]]) -> None:
    """Write a text at the end of each bar."""
    for at, (end, text) in enumerate(ends):
        axes.annotate(text, (end, at), xytext=(4, 0), textcoords="offset points", va="center")
