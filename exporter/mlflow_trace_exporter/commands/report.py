"""The command `report`: its flags and help text, and where its output goes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import click

from mlflow_trace_exporter import logs
from mlflow_trace_exporter.commands import flags
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.settings import config


@click.command(short_help="Report latency, errors, tokens and cost of traces.")
@flags.config_file
@click.option(
    "--since",
    default="24h",
    show_default=True,
    metavar="TIME",
    help="Earliest start time: an age such as 7d, or a date.",
)
@click.option("--until", default="now", show_default=True, metavar="TIME", help="Latest start time (exclusive).")
@click.option(
    "--by",
    multiple=True,
    metavar="NAME",
    help="Group by: experiment, environment, version, trace_name, a label of labels.extra, user, session or hour (UTC)."
    " By provider, model or error_type: calls of models. By span_type or span_name: other spans."
    " By assessment or source: what people, judges and checks say."
    " Can be repeated, or a comma-separated list.  [default: environment,version]",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    help="Show only the N rows with the most traces.  [default: 50 in tables without hour; else all]",
)
@click.option("--environment", metavar="NAME", help="Only traces of this environment.")
@click.option("--version", metavar="NAME", help="Only traces of this version.")
@click.option("--status", type=click.Choice(["ok", "error"]), help="Only traces with this result.")
@click.option(
    "--min-duration",
    metavar="DURATION",
    callback=flags.duration,
    help="Only traces that took at least this long, such as 2s.",
)
@click.option("--user", metavar="NAME", help="Only traces of this user.")
@click.option(
    "--filter",
    "filter_string",
    metavar="FILTER",
    help="Only traces that match an MLflow search filter, such as \"tag.team = 'support'\".",
)
@click.option(
    "--slowest",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="List the N slowest traces, with links.  [default: 10 in html; else 0]",
)
@click.option(
    "--errors",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="List the N latest failed traces, with links.  [default: 10 in html; else 0]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "markdown", "html"]),
    default="table",
    show_default=True,
    help="html: a page with charts, which needs no network.",
)
@click.option(
    "--output",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write, instead of standard output.",
)
def report(
    config_file: Path | None,
    by: tuple[str, ...],
    top: int | None,
    min_duration: timedelta | None,
    form: str,
    file: Path | None,
    **asked: Any,
) -> None:
    """Report latency, errors, tokens, cost and assessments of the traces in MLflow.

    Reads the finished traces that started in a time range, and aggregates them. It does not need a running `serve`, and
    does not affect one. Quantiles are exact for up to 100,000 traces per row. Beyond that, they are estimates within
    1%, and marked as such.

    \b
    Examples:
      mlflow-trace-exporter report --since 7d
      mlflow-trace-exporter report --by user --top 10 --environment production
      mlflow-trace-exporter report --by model,version
      mlflow-trace-exporter report --by assessment,source --environment production
      mlflow-trace-exporter report --by hour --format csv > hours.csv
      mlflow-trace-exporter report --since 1h --status error --errors 20
      mlflow-trace-exporter report --since 7d --format html --output week.html

    \b
    Exit codes:
      0  success
      2  invalid flag or configuration, MLflow cannot be read, or the file cannot be written
    """
    if form == "csv" and (asked["slowest"] or asked["errors"]):
        raise UserError("--format csv: contains only rows; --slowest and --errors need table, markdown, json or html")
    if form == "html" and file is None and sys.stdout.isatty():
        raise UserError("--format html: is for a browser; name a file with --output")
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports import api, plots, report_format
        from mlflow_trace_exporter.reports.report import DEFAULT_BY

    logs.setup("error", "logfmt")
    settings = config.load(config_file)
    if form == "html":
        plots.require()
    listed = 10 if form == "html" else 0
    asked |= {name: listed for name in ("slowest", "errors") if asked[name] is None}
    with _written(file) as write, flags.of_arguments():
        with flags.progress(*api.times(asked["since"], asked["until"])) as progress:
            found = api.make_report(
                by=by or DEFAULT_BY,
                min_duration_s=flags.seconds(min_duration),
                config=settings,
                progress=progress,
                **asked,
            )
        if not found.total.traces:
            api.require_labels(settings, environment=asked["environment"], version=asked["version"])
        most = top or (50 if form in ("table", "html") and "hour" not in found.by else None)
        if form == "html":
            write(found.as_html(most))
        else:
            is_for_terminal = form == "table" and file is None and sys.stdout.isatty()
            width = get_terminal_size().columns if is_for_terminal else report_format.WIDE
            write(report_format.text(found, form, most, width))


@contextmanager
def _written(path: Path | None) -> Iterator[Callable[[str], Any]]:
    """A function that writes to the file at the path, or to standard output if there is none."""
    from mlflow_trace_exporter.reports import written_file

    if path is None:
        yield partial(click.echo, nl=False)
    else:
        with written_file.at(path) as file:
            yield file.write
