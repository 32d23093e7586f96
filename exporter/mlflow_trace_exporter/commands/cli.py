"""The commands: their flags and help texts, and how user errors are reported."""

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
from mlflow_trace_exporter.commands import files, flags, output, reports
from mlflow_trace_exporter.commands import probe as probing
from mlflow_trace_exporter.commands.ledgers import ledger
from mlflow_trace_exporter.commands.report import report
from mlflow_trace_exporter.domain.shards import Shard
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.settings import config, web_config
from mlflow_trace_exporter.shown import shown_lines

log = logging.getLogger(__name__)

STOPPED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, as shells give it; 1 would be an answer of `health`."""


class _Commands(click.Group):
    """A group of commands that reports user errors with one message and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, PollError) as error:
            raise _ErrorMessage(str(error)) from None
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(STOPPED)


class _ErrorMessage(click.ClickException):
    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"mlflow-trace-exporter: {shown_lines(self.format_message())}", file=file, err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlflow-trace-exporter")
def cli() -> None:
    """Prometheus metrics for LLM applications, from the traces stored in MLflow.

    MLflow's own environment variables set the server (MLFLOW_TRACKING_URI) and the credentials:
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.

    \b
    Try it:           mlflow-trace-exporter demo
    Check the setup:  mlflow-trace-exporter doctor --config.file=exporter.yml
    Run it:           mlflow-trace-exporter serve --config.file=exporter.yml
    Get alerts:       mlflow-trace-exporter rules > mlflow-rules.yml
    Report:           mlflow-trace-exporter report --since 7d --by version
    Import history:   mlflow-trace-exporter backfill --since 30d --output history.om

    \b
    Exit codes of all commands (probe, health and serve have more):
      0    success
      2    invalid flag, configuration or input, or MLflow is unavailable
      130  interrupted with Ctrl-C (serve and demo: 0)
    """


@cli.command(short_help="Poll MLflow and serve metrics until stopped.")
@flags.config_file
@flags.shard
@click.option(
    "--config.check", "only_check", is_flag=True, help="Do what `check` does, also check the other flags, and exit."
)
@click.option(
    "--web.listen-address",
    "listen_address",
    default="127.0.0.1:10500",
    show_default=True,
    metavar="HOST:PORT",
    help="Address to serve metrics on. :10500 and [::]:10500 listen on all addresses, IPv4 and IPv6.",
)
@click.option(
    "--web.telemetry-path",
    "telemetry_path",
    default="/metrics",
    show_default=True,
    metavar="PATH",
    help="Path of the metrics.",
)
@click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    help="File with TLS and basic authentication settings, in the format of the Prometheus exporter toolkit.",
)
@click.option("--log.level", "log_level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
@click.option("--log.format", "log_format", type=click.Choice(logs.FORMATS), default="logfmt", show_default=True)
def serve(  # noqa: PLR0913, PLR0917 - as many as it has flags
    config_file: Path | None,
    shard: Shard,
    only_check: bool,
    listen_address: str,
    telemetry_path: str,
    web_config_file: Path | None,
    log_level: str,
    log_format: Literal["logfmt", "json"],
) -> None:
    """Poll MLflow and serve metrics until stopped.

    Ctrl-C or SIGTERM stops the exporter. SIGHUP or POST /-/reload reloads the configuration file. After a restart with
    the same ledger, the exporter continues where it stopped, and all counters keep their values. While MLflow is
    unavailable, the exporter keeps retrying and exposes mlflow_up 0.

    \b
    Example:
      mlflow-trace-exporter serve --config.file=exporter.yml --web.listen-address=:10500

    \b
    Exit codes:
      0  stopped by Ctrl-C or SIGTERM
      1  unexpected error; the log has details
      2  invalid flag or configuration, or the address or the ledger is unavailable
    """
    logs.setup("error" if only_check else log_level, log_format)
    with logs.all_of_stderr(), _end_is_logged(log_format):
        settings = config.load(config_file)
        if not re.fullmatch(r"(/[\w.~-]+)+", telemetry_path, re.ASCII) or _is_taken(telemetry_path):
            raise UserError(
                f"--web.telemetry-path: {telemetry_path!r} cannot be the path of the metrics; use one such as /metrics"
            )
        if only_check:
            if web_config_file:
                web_config.load(web_config_file)
            _check(settings, shard)
            _check_address(listen_address)
            return
        with flags.mlflow_loaded():
            from mlflow_trace_exporter.commands import serve

        web = serve.Web(listen_address, telemetry_path, web_config_file)
        code = serve.run(config_file, settings, web, shard)
        sys.stderr.flush()
        logging.shutdown()
        os._exit(code)  # Python would wait for threads that still wait for MLflow; they hold nothing


@contextmanager
def _end_is_logged(log_format: str) -> Iterator[None]:
    """Log the error that ends a block. With JSON logs, user errors are logged as well, so that all output is JSON."""
    try:
        yield
    except (UserError, PollError) as error:
        if log_format != "json":
            raise
        log.error(str(error))
        sys.exit(_ErrorMessage.exit_code)
    except KeyboardInterrupt:
        if log_format != "json":
            raise
        log.info("stopped")
        sys.exit(STOPPED)
    except output.OutputError:  # reported by the exit code
        raise
    except Exception:
        log.exception("unexpected error; exiting")
        sys.exit(1)


@cli.command(short_help="Check the configuration, and show what `serve` would read.")
@flags.config_file
@flags.shard
def check(config_file: Path | None, shard: Shard) -> None:
    """Check the configuration and the connection to MLflow, and show what `serve` would read. Changes nothing.

    \b
    Example:
      mlflow-trace-exporter check --config.file=exporter.yml

    \b
    Exit codes:
      0  `serve` would work
      2  something must be fixed first
    """
    logs.setup("error", "logfmt")
    _check(config.load(config_file), shard)


def _is_taken(path: str) -> bool:
    """Whether another endpoint uses the path."""
    return path in ("/traces", "/runbook") or path.startswith(("/-/", "/trace/"))


@cli.command(short_help="Check whether a running exporter works.")
@click.argument("url", metavar="[URL]", default=":10500")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificate to trust: the exporter's own, or that of its CA.  [default: the CAs of this machine]",
)
@click.option("--insecure", is_flag=True, help="Accept any certificate. Safe for an exporter on this machine.")
@click.option(
    "--cert-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Client certificate, if the exporter requires one.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Key of the client certificate.  [default: --cert-file]",
)
def probe(url: str, **tls: Any) -> None:
    """Check whether a running exporter works. For health checks in containers without curl.

    URL can also be HOST:PORT or :PORT. The default is http://127.0.0.1:10500/-/healthy. /-/ready succeeds once the
    first poll has ended. Neither endpoint needs a password. Proxy settings are ignored.

    \b
    Examples:
      mlflow-trace-exporter probe
      mlflow-trace-exporter probe --ca-file ca.pem https://exporter.example.com:10500/-/ready
      mlflow-trace-exporter probe --insecure https://127.0.0.1:10500

    \b
    Exit codes:
      0  the exporter works
      1  it does not, or cannot be reached
      2  invalid flag or URL
    """
    try:
        target = probing.Target.parse(url)
    except ValueError as error:
        raise UserError(str(error)) from None
    given = [f"--{name.replace('_', '-')}" for name, value in tls.items() if value]
    if given and target.scheme != "https":
        raise UserError(f"{given[0]}: needs https; write {replace(target, scheme='https').url}")
    if tls["insecure"] and tls["ca_file"]:
        raise UserError("--insecure, --ca-file: use one of them, not both")
    if tls["key_file"] and not tls["cert_file"]:
        raise UserError("--key-file: needs --cert-file")
    try:
        answer = probing.ask(target, probing.Tls(**tls))
    except probing.ProbeError as error:
        click.echo(f"{target.url}: {error}", err=True)
        sys.exit(1)
    with suppress(output.OutputError):  # the exit code is the answer
        click.echo(answer, nl=False)


@cli.command(short_help="Run sample LLM applications, and watch their metrics.")
@click.option(
    "--duration",
    metavar="DURATION",
    callback=flags.duration,
    help="How long to run, such as 90s or 10m.  [default: until Ctrl-C]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 50),
    default=3.0,
    show_default=True,
    help="Questions per second to the chatbot; the search gets half as many.",
)
@click.option(
    "--scenario",
    type=click.Choice(["steady", "incident"]),
    default="steady",
    show_default=True,
    help="incident: after a minute, a new version of the chatbot is rolled out, whose provider is slow and refuses most"
    " requests. Four minutes later it is rolled back.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=".demo",
    show_default=True,
    help="Directory for the data of MLflow and the exporter, and for logs.",
)
@click.option("--exporter-port", type=click.IntRange(1, 65535), default=10500, show_default=True)
@click.option("--mlflow-port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--prometheus-port", type=click.IntRange(1, 65535), default=9090, show_default=True)
@click.option("--alertmanager-port", type=click.IntRange(1, 65535), default=9093, show_default=True)
def demo(duration: timedelta | None, rate: float, scenario: str, data_dir: Path, **ports: int) -> None:
    """Run sample LLM applications on this machine, and watch their metrics.

    Starts an MLflow server, a chatbot and a search with simulated users, a mock of their LLMs, and the exporter. Shows
    live tables of the values in /metrics. Needs the extra packages of mlflow-trace-exporter[demo]. If prometheus and
    alertmanager are on PATH, the demo also starts them, with the rules of `rules` (all windows divided by 30), and
    shows the notifications.

    \b
    Examples:
      mlflow-trace-exporter demo
      mlflow-trace-exporter demo --scenario=incident --duration=10m

    \b
    Exit codes:
      0  success, also after Ctrl-C
      2  invalid flag, or a process could not be started or failed
    """
    absent = [name for name in ("openai", "flask") if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError("the demo needs more packages: in a clone, `make demo` or pip install '.[demo]'")
    from mlflow_trace_exporter.demo import command, options  # need those packages

    command.run(options.Options(duration, rate, scenario == "incident", data_dir, **ports))


def _check(settings: config.Config, shard: Shard) -> None:
    with flags.mlflow_loaded():
        from mlflow_trace_exporter.reports.check import check as run_check
    run_check(settings, flags.tell, shard)


def _check_address(address: str) -> None:
    from mlflow_trace_exporter.web import server

    try:
        server.listen(address).close()
    except server.AddressInUseError:
        flags.tell(f"address      {address} (in use, by a running exporter or by a program that must be stopped first)")


for command in (report, reports.health, reports.doctor, reports.backfill, files.rules, files.dashboards, ledger):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("HOME", home.directory())  # also for the processes of the demo
    output.use()
    cli(prog_name="mlflow-trace-exporter")
