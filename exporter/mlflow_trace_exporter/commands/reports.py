"""The commands that read traces from MLflow and print a result: their flags and help texts."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_trace_exporter import logs
from mlflow_trace_exporter.commands import flags, output
from mlflow_trace_exporter.domain.globs import ANY
from mlflow_trace_exporter.domain.labels import PLACE_LABELS
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.settings import config
from mlflow_trace_exporter.settings.values import parse_ratio

if TYPE_CHECKING:  # it imports mlflow, which --help should not wait for
    from mlflow_trace_exporter.reports.health import EnvironmentHealth, Health


@click.command(short_help="Check recent traces against thresholds.")
@flags.config_file
@click.option(
    "--lookback",
    default="30m",
    show_default=True,
    metavar="DURATION",
    callback=flags.duration,
    help="How far back to read.",
)
@click.option(
    "--experiment",
    "experiments",
    multiple=True,
    metavar="NAME",
    help="Experiment to check. Can be repeated.  [default: those with an objective]",
)
@click.option(
    "--environment",
    "environments",
    multiple=True,
    metavar="NAME",
    help="Environment to check. Can be repeated.  [default: those with an objective]",
)
@click.option(
    "--error-rate",
    metavar="SHARE",
    callback=flags.read_by(parse_ratio),
    help="Highest acceptable share of failed traces, such as 5%.",
)
@click.option(
    "--p95", metavar="DURATION", callback=flags.duration, help="Highest acceptable 95th percentile latency, such as 5s."
)
@click.option(
    "--good",
    multiple=True,
    metavar="NAME=RATIO",
    callback=flags.read_by(flags.shares),
    help="Lowest acceptable share of good assessments of this name, such as correctness=90%. The quality"
    " objective of the application in the configuration says which values are good; without one, the words yes, true,"
    " good and correct are. Scores need an objective with at_least. Can be repeated.",
)
@click.option(
    "--min-traces",
    type=click.IntRange(1),
    help="Fewer traces are not significant (exit code 3).  [default: that of the objective, or 20]",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def health(
    config_file: Path | None,
    lookback: timedelta,
    error_rate: float | None,
    p95: timedelta | None,
    good: dict[str, float],
    min_traces: int | None,
    form: str,
    **names: tuple[str, ...],
) -> None:
    """Check recent traces against thresholds. For cron, Airflow and deployment gates.

    Each experiment is checked by itself, in each environment. Without --error-rate, --p95 and --good, the objectives of
    the configuration apply. Without a configuration file, these are 5% errors and 95% of traces within 5 s, in
    production.

    \b
    Examples:
      mlflow-trace-exporter health --experiment chatbot --environment production --error-rate 5% --p95 5s
      mlflow-trace-exporter health --environment production --good correctness=90% --lookback 6h
      mlflow-trace-exporter health --config.file=exporter.yml --format json

    \b
    Exit codes:
      0  healthy
      1  breached: a value is worse than its threshold
      2  could not be checked: invalid flag or configuration, or MLflow cannot be read
      3  too few traces for a significant result
    """
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports import api
        from mlflow_trace_exporter.reports import health as checks
    logs.setup("error", "logfmt")
    settings = config.load(config_file)
    with _no_answer_is_exit_code_2(), flags.of_arguments():
        with flags.progress(*api.times(lookback, "now", "lookback")) as progress:
            found = api.check_health(
                lookback=lookback,
                error_rate=error_rate,
                p95_s=flags.seconds(p95),
                good=good,
                min_traces=min_traces,
                config=settings,
                progress=progress,
                **names,
            )
        if form == "json":
            shown = json.dumps(checks.as_object(found), indent=2)
        else:
            shown = "\n".join([*_absent(found, settings), *checks.lines(found, _least(settings, min_traces))])
    with suppress(output.OutputError):  # the exit code is the answer, even if nobody reads the output
        click.echo(shown)
    sys.exit(found.verdict.value)


@click.command(short_help="Examine the traces in MLflow, and suggest what to change.")
@flags.config_file
@click.option(
    "--sample",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many of the latest traces to read.",
)
def doctor(config_file: Path | None, sample: int) -> None:
    """Examine the latest traces in MLflow, and suggest what to change in the application or the configuration.

    Runs `check`, then a dry run over the latest traces. Prints the advice, then the facts behind it: the tags and
    metadata; the share of traces with token usage, cost, environment, version, user, session and duration; their spans
    and assessments; and the number of series. Changes nothing.

    \b
    Example:
      mlflow-trace-exporter doctor --config.file=exporter.yml --sample 5000

    \b
    Exit codes:
      0  `serve` would work; there may be advice
      2  something must be fixed first
    """
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports.doctor import doctor as examine
    logs.setup("error", "logfmt")
    examine(config.load(config_file), sample, flags.tell)


@click.command(short_help="Write the history in MLflow to a file for Prometheus.")
@flags.config_file
@click.option(
    "--since",
    default="30d",
    show_default=True,
    metavar="TIME",
    help="Earliest start time: an age such as 7d, or a date.",
)
@click.option(
    "--until",
    metavar="TIME",
    help="Latest start time (exclusive).  [default: when serve started to count, according to its ledger; without a"
    " ledger, 3h]",
)
@click.option(
    "--step",
    default="1m",
    show_default=True,
    metavar="DURATION",
    callback=flags.duration,
    help="Interval between samples.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="File to write (OpenMetrics).",
)
@click.option(
    "--job",
    default="mlflow-trace-exporter",
    show_default=True,
    help="Value of the job label of the exporter in Prometheus.",
)
@click.option(
    "--instance",
    default="127.0.0.1:10500",
    show_default=True,
    help="Value of the instance label of the exporter in Prometheus.",
)
def backfill(
    config_file: Path | None, since: str, until: str | None, step: timedelta, output: Path, job: str, instance: str
) -> None:
    """Write the history in MLflow to a file for Prometheus, so that dashboards show the past from the first day.

    Start `serve` with poll.start: now. Three hours later, run these commands with the same configuration file:

    \b
      mlflow-trace-exporter backfill --config.file=exporter.yml --since 30d --output history.om
      promtool tsdb create-blocks-from openmetrics --max-block-duration=162h history.om /var/lib/prometheus

    The ledger records when `serve` started to count, so that each trace is either in the history or counted by `serve`.
    The counters of `serve` start at 0. Prometheus treats this as a counter reset, so rates are correct across the
    boundary. The last three hours cannot be written, because Prometheus still has them in memory.

    \b
    Exit codes:
      0  success
      2  invalid flag or configuration, no traces, or MLflow cannot be read; no file is written
    """
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.commands import progress
        from mlflow_trace_exporter.reports import backfill as filling
    logs.setup("error", "logfmt")
    settings, target = config.load(config_file), {"job": job, "instance": instance}
    span = filling.plan(settings, since, until, step, target)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leaves no partial file
    with progress.shown(span.since_ms, span.until_ms) as tell:
        said = filling.run(settings, span, output, target, tell)
    click.echo(said)
    if missing := filling.gap(settings, span):
        click.echo(missing)


@contextmanager
def _no_answer_is_exit_code_2() -> Iterator[None]:
    """Turn unexpected errors into UserError: Python would exit with 1, which means that a threshold is breached."""
    try:
        yield
    except (UserError, PollError):
        raise
    except Exception as error:
        raise UserError(f"could not be checked: unexpected {type(error).__name__}: {error}") from error


def _least(settings: config.Config, min_traces: int | None) -> Callable[["EnvironmentHealth"], str]:
    """A function that names the setting that min_traces of a result is from."""

    def named(of: "EnvironmentHealth") -> str:
        names = (None if name == ANY else name for name in (of.experiment, of.environment))
        with_one = any(each.has_threshold for each in settings.all_objectives.narrowed(*names).all)
        return "min_traces of its objective" if with_one else "the default of --min-traces"

    return named if min_traces is None else lambda _: "--min-traces"


def _absent(found: "Health", settings: config.Config) -> Iterator[str]:
    """A line for each requested experiment or environment that no recent trace has, with the existing ones."""
    from mlflow_trace_exporter.reports import api

    without = [each for each in found.environments if not each.traces]
    with suppress(PollError):  # this is only a hint
        for label in PLACE_LABELS:
            names = dict.fromkeys(getattr(each, label) for each in without) if without else ()
            there = api.values(settings, label) if without else ()
            for absent in names if there else ():
                if absent not in (ANY, *there):
                    yield f"no recent trace has {label} {absent!r}{did_you_mean(absent, there)}; existing: {few(there)}"
