"""The commands: flags, help texts, and how a mistake of the user's is told."""

import importlib.util
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Literal

import click

from mlflow_trace_exporter import __version__, home, logs
from mlflow_trace_exporter.bundled import dashboards as packaged_dashboards
from mlflow_trace_exporter.bundled import rules as packaged_rules
from mlflow_trace_exporter.commands import flags, output, reports
from mlflow_trace_exporter.commands import probe as probing
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.settings import config, web_config
from mlflow_trace_exporter.shown import shown_lines

log = logging.getLogger(__name__)

STOPPED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, as shells give it; 1 would be an answer of `health`."""


class _Commands(click.Group):
    """Commands that answer what the user must mend with one message and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, PollError) as error:
            raise _Mend(str(error)) from None
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(STOPPED)


class _Mend(click.ClickException):
    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"mlflow-trace-exporter: {shown_lines(self.format_message())}", file=file, err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlflow-trace-exporter")
def cli() -> None:
    """Prometheus metrics for LLM applications, from the traces that MLflow stores.

    MLflow's own environment variables say where it is and who asks: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.

    \b
    Try it:        mlflow-trace-exporter demo
    Is it right?   mlflow-trace-exporter doctor --config.file=exporter.yml
    Run it:        mlflow-trace-exporter serve --config.file=exporter.yml
    Be told:       mlflow-trace-exporter rules > mlflow-rules.yml
    Look back:     mlflow-trace-exporter report --since 7d --by version
    The past, too: mlflow-trace-exporter backfill --since 30d --output history.om
    """


@cli.command(short_help="Poll MLflow and serve metrics until stopped.")
@flags.config_file
@click.option("--config.check", "only_check", is_flag=True, help="Do what `check` does, and leave.")
@click.option(
    "--web.listen-address",
    "listen_address",
    default="127.0.0.1:10500",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to serve metrics; :10500 and [::]:10500 are every address of this machine, IPv4 and IPv6.",
)
@click.option(
    "--web.telemetry-path",
    "telemetry_path",
    default="/metrics",
    show_default=True,
    metavar="PATH",
    help="Under which path.",
)
@click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    help="TLS and basic authentication, in the format of the Prometheus exporter toolkit.",
)
@click.option("--log.level", "log_level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
@click.option("--log.format", "log_format", type=click.Choice(logs.FORMATS), default="logfmt", show_default=True)
def serve(
    config_file: Path | None,
    only_check: bool,
    listen_address: str,
    telemetry_path: str,
    web_config_file: Path | None,
    log_level: str,
    log_format: Literal["logfmt", "json"],
) -> None:
    """Poll MLflow and serve what it says as metrics, until told to stop.

    Ctrl-C or SIGTERM stops it; SIGHUP, or POST /-/reload, has it read the configuration file again. Started again with
    the same ledger it goes on where it was, and every counter keeps its value. While MLflow is away it keeps trying,
    and says mlflow_up 0.
    """
    logs.setup("error" if only_check else log_level, log_format)
    with logs.all_of_stderr(), _end_is_logged(log_format):
        settings = config.load(config_file)
        if not re.fullmatch(r"(/[\w.~-]+)+", telemetry_path, re.ASCII) or _is_taken(telemetry_path):
            raise UserError(
                f"--web.telemetry-path: {telemetry_path!r} is no path for metrics; write one such as /metrics"
            )
        if only_check:
            if web_config_file:
                web_config.load(web_config_file)
            _check(settings)
            _check_address(listen_address)
            return
        with flags.mlflow_loaded():
            from mlflow_trace_exporter.commands import serve

        code = serve.run(config_file, settings, serve.Web(listen_address, telemetry_path, web_config_file))
        sys.stderr.flush()
        logging.shutdown()
        os._exit(code)  # threads that still wait for MLflow hold nothing; Python would wait for them


@contextmanager
def _end_is_logged(log_format: str) -> Iterator[None]:
    """Log why a block ended where people would be told in their own words: all of the log is JSON if it is to be."""
    try:
        yield
    except (UserError, PollError) as error:
        if log_format != "json":
            raise
        log.error(str(error))
        sys.exit(_Mend.exit_code)
    except KeyboardInterrupt:
        if log_format != "json":
            raise
        log.info("stopped")
        sys.exit(STOPPED)
    except output.OutputError:  # what it cannot say there is said by its exit code
        raise
    except Exception:
        log.exception("unexpected error; the process ends")
        sys.exit(1)


@cli.command(short_help="Check the configuration, and say what `serve` would read.")
@flags.config_file
def check(config_file: Path | None) -> None:
    """Check the configuration, ask MLflow, and say what `serve` would read.

    Exit code 0 where `serve` would work, 2 where something has to be mended first.
    """
    logs.setup("error", "logfmt")
    _check(config.load(config_file))


def _is_taken(path: str) -> bool:
    """Whether there is something else than metrics."""
    return path in ("/traces", "/runbook") or path.startswith(("/-/", "/trace/"))


_EXPORTER_URL = click.option(
    "--exporter-url",
    default=packaged_rules.EXPORTER_URL,
    show_default=True,
    metavar="URL",
    callback=flags.read_by(config.parse_web_url),
    help="Where people reach the exporter: links lead to its pages of traces and to its runbook.",
)


@cli.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["prometheus", "operator"]),
    default="prometheus",
    show_default=True,
    help="A file for rule_files, or a PrometheusRule object for the Prometheus Operator.",
)
@_EXPORTER_URL
@click.option(
    "--grafana-url",
    default=packaged_rules.GRAFANA_URL,
    show_default=True,
    metavar="URL",
    callback=flags.read_by(config.parse_web_url),
    help="Where people reach Grafana: alerts link to its dashboards.",
)
@click.option(
    "--label",
    "labels",
    metavar="NAME=VALUE",
    multiple=True,
    callback=flags.read_by(packaged_rules.labels_of),
    help="With --format=operator: a label of the object, such as release=kube-prometheus-stack. Can be repeated.",
)
def rules(form: str, exporter_url: str, grafana_url: str, labels: dict[str, str]) -> None:
    """Print recording rules and alerts for Prometheus.

    They read the objectives that the exporter publishes, so nothing in them has to be edited: thresholds are changed in
    the exporter's configuration.

    \b
    mlflow-trace-exporter rules > /etc/prometheus/rules/mlflow.yml
    mlflow-trace-exporter rules --format=operator --label=release=kube-prometheus-stack | kubectl apply -f -
    """
    links = packaged_rules.Links(exporter_url, grafana_url)
    if form == "operator":
        click.echo(packaged_rules.for_operator(links, labels), nl=False)
        return
    if labels:
        raise UserError("--label: goes with --format=operator")
    click.echo(packaged_rules.for_prometheus(links), nl=False)


@cli.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Where to write them; the folder is made if it is not there.",
)
@_EXPORTER_URL
@flags.config_file
def dashboards(output: Path, exporter_url: str, config_file: Path | None) -> None:
    """Write the dashboards for Grafana.

    They show what a Prometheus has of the exporter; those of objectives and cost also need the recording rules
    (mlflow-trace-exporter rules). Import them in Grafana, or provision them from the folder. With the exporter's
    configuration file they have a variable for each label of labels.extra.

    \b
    mlflow-trace-exporter dashboards --output /var/lib/grafana/dashboards
    """
    extra = [name for name, _ in config.load(config_file).labels.extra]
    for file in packaged_dashboards.write(output, packaged_rules.Links(exporter_url), extra):
        click.echo(file)


@cli.command(short_help="Ask a running exporter whether it works.")
@click.argument("url", metavar="[URL]", default=":10500")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificate to trust: the exporter's own, or its authority's.  [default: those of this machine]",
)
@click.option("--insecure", is_flag=True, help="Take any certificate, as is all right for an exporter on this machine.")
@click.option(
    "--cert-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificate to show to an exporter that wants one of its clients.",
)
@click.option("--key-file", type=click.Path(path_type=Path), metavar="FILE", help="Its key, where that file lacks it.")
def probe(url: str, **tls: Any) -> None:
    """Ask a running exporter whether it works: exit code 0 if it does, 1 if not.

    URL can be HOST:PORT or :PORT, and is http://127.0.0.1:10500/-/healthy by default; /-/ready is ready from the end of
    the first poll on. Neither needs a password. No proxy is used. For health checks in containers, which have no curl.

    \b
    mlflow-trace-exporter probe
    mlflow-trace-exporter probe --ca-file ca.pem https://exporter.example.com:10500/-/ready
    mlflow-trace-exporter probe --insecure https://127.0.0.1:10500
    """
    try:
        target = probing.Target.parse(url)
    except ValueError as error:
        raise UserError(str(error)) from None
    given = [f"--{name.replace('_', '-')}" for name, value in tls.items() if value]
    if given and target.scheme != "https":
        raise UserError(f"{given[0]}: goes with https; write {replace(target, scheme='https').url}")
    if tls["insecure"] and tls["ca_file"]:
        raise UserError("--insecure, --ca-file: give one of them, not both")
    if tls["key_file"] and not tls["cert_file"]:
        raise UserError("--key-file: goes with --cert-file")
    try:
        answer = probing.ask(target, probing.Tls(**tls))
    except probing.ProbeError as error:
        click.echo(f"{target.url}: {error}", err=True)
        sys.exit(1)
    with suppress(output.OutputError):  # the exit code is the answer
        click.echo(answer, nl=False)


@cli.command(short_help="Run a small LLM application here, and watch its metrics.")
@click.option(
    "--duration",
    metavar="DURATION",
    callback=flags.duration,
    help="How long, such as 90s or 10m.  [default: until Ctrl-C]",
)
@click.option("--rate", type=click.FloatRange(0.1, 50), default=3.0, show_default=True, help="Questions a second.")
@click.option(
    "--scenario",
    type=click.Choice(["steady", "incident"]),
    default="steady",
    show_default=True,
    help="incident: after a minute a new version is rolled out that is slow and fails often; four minutes later it is"
    " rolled back.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=".demo",
    show_default=True,
    help="Where MLflow and the exporter keep their data, and the logs are.",
)
@click.option("--exporter-port", type=click.IntRange(1, 65535), default=10500, show_default=True)
@click.option("--mlflow-port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--prometheus-port", type=click.IntRange(1, 65535), default=9090, show_default=True)
@click.option("--alertmanager-port", type=click.IntRange(1, 65535), default=9093, show_default=True)
def demo(duration: timedelta | None, rate: float, scenario: str, data_dir: Path, **ports: int) -> None:
    """Run a small LLM application on this machine, and watch its metrics.

    Starts an MLflow server, a chatbot with users, a stand-in for its LLM, and the exporter; the table that it shows is
    taken from /metrics. Needs the extra packages of mlflow-trace-exporter[demo]. If prometheus and alertmanager are on
    PATH, they are started too, with the rules that `rules` prints and windows of a thirtieth, and what they send is
    shown.
    """
    absent = [name for name in ("openai", "flask") if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError("the demo needs more packages: in a clone, `make demo` or pip install '.[demo]'")
    from mlflow_trace_exporter.demo import command  # needs those packages

    command.run(command.Options(duration, rate, scenario == "incident", data_dir, **ports))


def _check(settings: config.Config) -> None:
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports.check import check as run_check
    run_check(settings, flags.tell)


def _check_address(address: str) -> None:
    from mlflow_trace_exporter.web import server

    try:
        server.listen(address).close()
    except server.AddressInUseError:
        flags.tell(f"address      {address} (in use: by a running exporter, or by what has to be stopped first)")


for command in (reports.report, reports.health, reports.doctor, reports.backfill):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("HOME", home.directory())  # also for the processes of the demo
    output.use()
    cli(prog_name="mlflow-trace-exporter")
