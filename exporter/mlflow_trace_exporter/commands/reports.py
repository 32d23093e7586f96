"""The commands that read what MLflow has and print it: their flags and help texts."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_trace_exporter import logs
from mlflow_trace_exporter.commands import flags, output
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.settings import config

if TYPE_CHECKING:  # with it comes mlflow, which --help need not wait for
    from mlflow_trace_exporter.reports.health import Health


@click.command(short_help="Latency, errors, tokens and cost of the traces in MLflow.")
@flags.config_file
@click.option(
    "--since", default="24h", show_default=True, metavar="TIME", help="From which start on: how long ago, or a date."
)
@click.option("--until", default="now", show_default=True, metavar="TIME", help="Up to which start.")
@click.option(
    "--by",
    multiple=True,
    metavar="NAME",
    help="One row for each value of: experiment, environment, version, trace_name, a label that the configuration adds,"
    " user, session or hour (UTC). Can be repeated, or several with commas.  [default: environment,version]",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    help="Only so many rows, those with the most traces.  [default: 50 in a table, but for hours]",
)
@click.option("--environment", metavar="NAME", help="Only traces of this environment.")
@click.option("--version", metavar="NAME", help="Only traces of this version.")
@click.option("--status", type=click.Choice(["ok", "error"]), help="Only traces that ended so.")
@click.option(
    "--min-duration",
    metavar="DURATION",
    callback=flags.duration,
    help="Only traces that took as long, such as 2s, or longer.",
)
@click.option("--user", metavar="NAME", help="Only traces of this user.")
@click.option(
    "--filter",
    "filter_string",
    metavar="FILTER",
    help="Only traces that match an MLflow search filter, such as \"tag.team = 'support'\".",
)
@click.option(
    "--slowest", type=click.IntRange(0, 1000), default=0, metavar="N", help="List the N slowest traces, with links."
)
@click.option(
    "--errors",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="List the N latest failed traces, with links.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv", "markdown"]), default="table", show_default=True
)
def report(
    config_file: Path | None,
    by: tuple[str, ...],
    top: int | None,
    min_duration: timedelta | None,
    form: str,
    **asked: Any,
) -> None:
    """Latency, errors, tokens and cost of the traces that MLflow has.

    Reads the finished traces that started in a time, page by page, and adds them up; nothing of `serve` is needed or
    touched. Quantiles are exact up to 100,000 traces a row, and past that within 1 %, which is then said.

    \b
    mlflow-trace-exporter report --since 7d
    mlflow-trace-exporter report --by user --top 10 --environment production
    mlflow-trace-exporter report --by hour --format csv > hours.csv
    mlflow-trace-exporter report --since 1h --status error --errors 20
    """
    if form == "csv" and (asked["slowest"] or asked["errors"]):
        raise UserError("--format csv: holds the rows only; --slowest and --errors go with table, markdown and json")
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports import api, report_format
        from mlflow_trace_exporter.reports.report import DEFAULT_BY

    logs.setup("error", "logfmt")
    settings = config.load(config_file)
    with flags.of_arguments():
        with _progress(*api.times(asked["since"], asked["until"])) as progress:
            found = api.make_report(
                by=by or DEFAULT_BY,
                min_duration_s=flags.seconds(min_duration),
                config=settings,
                progress=progress,
                **asked,
            )
        if not found.total.traces:
            api.require_labels(settings, environment=asked["environment"], version=asked["version"])
    most = 50 if form == "table" and "hour" not in found.by else None
    found, left_out = report_format.top(found, top or most)
    report_format.write(found, form, left_out)


@click.command(short_help="Are the traces of the last minutes good enough?")
@flags.config_file
@click.option(
    "--lookback",
    default="30m",
    show_default=True,
    metavar="DURATION",
    callback=flags.duration,
    help="How far back to look.",
)
@click.option(
    "--environment",
    "environments",
    multiple=True,
    metavar="NAME",
    help="Which to look at. Can be repeated.  [default: those that have an objective]",
)
@click.option(
    "--error-rate",
    metavar="SHARE",
    callback=flags.read_by(config.parse_ratio),
    help="Which share may fail at most, such as 5%.",
)
@click.option(
    "--p95", metavar="DURATION", callback=flags.duration, help="Within how long 95 of 100 traces must end, such as 5s."
)
@click.option(
    "--min-traces", type=click.IntRange(1), help="Fewer traces say nothing.  [default: the objective's, or 20]"
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def health(
    config_file: Path | None,
    lookback: timedelta,
    environments: tuple[str, ...],
    error_rate: float | None,
    p95: timedelta | None,
    min_traces: int | None,
    form: str,
) -> None:
    """Are the traces of the last minutes good enough? For cron, Airflow and deployment gates.

    Without --error-rate and --p95 the objectives of the configuration say what is good enough; without a configuration
    file that is, in production, 5 % errors and 95 % of traces within 5 s.

    \b
    Exit code  0  healthy
               1  breached: each breach is a line
               2  could not be checked: MLflow cannot be read, or a mistake in a flag or the configuration
               3  too few traces to say

    \b
    mlflow-trace-exporter health --environment production --error-rate 5% --p95 5s --min-traces 50
    mlflow-trace-exporter health --config.file=exporter.yml --format json
    """
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports import api
        from mlflow_trace_exporter.reports import health as checks
    logs.setup("error", "logfmt")
    settings = config.load(config_file)
    with _no_answer_is_exit_code_2(), flags.of_arguments():
        with _progress(*api.times(lookback, "now", "lookback")) as progress:
            found = api.check_health(
                lookback=lookback,
                environments=environments,
                error_rate=error_rate,
                p95_s=flags.seconds(p95),
                min_traces=min_traces,
                config=settings,
                progress=progress,
            )
        if form == "json":
            told = json.dumps(checks.as_object(found), indent=2)
        else:
            told = "\n".join([*_environments(found, settings), *checks.lines(found, _least(settings, min_traces))])
    with suppress(output.OutputError):  # nobody reads it; the exit code is the answer all the same
        click.echo(told)
    sys.exit(found.verdict.value)


@click.command(short_help="Look at the traces in MLflow, and say what to change.")
@flags.config_file
@click.option(
    "--sample",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="At how many of the latest traces to look.",
)
def doctor(config_file: Path | None, sample: int) -> None:
    """What would `serve` make of the traces that are there, and what should be changed?

    Does what `check` does, then a dry run over the latest traces: what to change, in sentences, and what that rests on:
    which tags and metadata there are, how many have token usage, cost, environment, version, user, session and a
    duration, and how many series they would make. Nothing is stored. Exit code 0, or 2 where `serve` would not work.
    """
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports.doctor import doctor as examine
    logs.setup("error", "logfmt")
    examine(config.load(config_file), sample, flags.tell)


@click.command(short_help="Write the history that MLflow has, for Prometheus.")
@flags.config_file
@click.option(
    "--since", default="30d", show_default=True, metavar="TIME", help="From which start on: how long ago, or a date."
)
@click.option(
    "--until", metavar="TIME", help="Up to which start.  [default: where the ledger says that serve began, or 3h]"
)
@click.option(
    "--step",
    default="1m",
    show_default=True,
    metavar="DURATION",
    callback=flags.duration,
    help="The time between two samples.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Where to write the samples.",
)
@click.option(
    "--job",
    default="mlflow-trace-exporter",
    show_default=True,
    help="The label job that Prometheus gives to the exporter.",
)
@click.option("--instance", default="127.0.0.1:10500", show_default=True, help="Likewise the label instance.")
def backfill(
    config_file: Path | None, since: str, until: str | None, step: timedelta, output: Path, job: str, instance: str
) -> None:
    """Write the history that MLflow has for Prometheus, so that dashboards show the past from the first day on.

    Begin with `serve` and poll.start: now. Three hours later, with the same configuration file:

    \b
    mlflow-trace-exporter backfill --config.file=exporter.yml --since 30d --output history.om
    promtool tsdb create-blocks-from openmetrics --max-block-duration=162h history.om /var/lib/prometheus

    The ledger says where `serve` began to count, so that each trace is either in the history or in what `serve` shows.
    The counters of `serve` begin at 0, which Prometheus takes for a restart: nothing seems to happen at the seam. The
    last three hours cannot be filled in, for Prometheus still has them in memory.
    """
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.commands import progress
        from mlflow_trace_exporter.reports import backfill as filling
    logs.setup("error", "logfmt")
    settings, target = config.load(config_file), {"job": job, "instance": instance}
    span = filling.plan(settings, since, until, step, target)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # no half of a file is left
    with progress.shown(span.since_ms, span.until_ms) as tell:
        said = filling.run(settings, span, output, target, tell)
    click.echo(said)
    if missing := filling.gap(settings, span):
        click.echo(missing)


@contextmanager
def _no_answer_is_exit_code_2() -> Iterator[None]:
    """Python ends with 1 after a mistake of ours, which would be an answer."""
    try:
        yield
    except (UserError, PollError):
        raise
    except Exception as error:
        raise UserError(f"could not be checked: unexpected {type(error).__name__}: {error}") from error


def _least(settings: config.Config, min_traces: int | None) -> Callable[[str], str]:
    """What says, by environment, how many traces there must be at least."""
    from mlflow_trace_exporter import wiring

    if min_traces is not None:
        return lambda _: "--min-traces"
    objectives = wiring.objectives_of(settings)
    return lambda environment: (
        "min_traces of its objective" if objectives.of(environment) else "the default of --min-traces"
    )


def _environments(found: "Health", settings: config.Config) -> Iterator[str]:
    """Which environments there are, for each that was asked for and no recent trace has."""
    from mlflow_trace_exporter.reports import api

    without = [each.environment for each in found.environments if not each.traces]
    with suppress(PollError):  # what was asked is answered without it
        there = api.environments(settings) if without else ()
        for absent in without if there else ():
            if absent not in there:
                yield f"no recent trace has environment {absent!r}{did_you_mean(absent, there)}; they have {few(there)}"


@contextmanager
def _progress(since_ms: int, until_ms: int) -> Iterator[Any]:
    from mlflow_trace_exporter.commands import progress  # with it comes rich, which --help need not wait for

    with progress.shown(since_ms, until_ms) as tell:
        yield tell
