"""The commands that write the files for other programs: rules for Prometheus, dashboards for Grafana."""

from pathlib import Path

import click

from mlflow_trace_exporter.bundled import dashboards as packaged_dashboards
from mlflow_trace_exporter.bundled import rules as packaged_rules
from mlflow_trace_exporter.commands import flags
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.settings import config
from mlflow_trace_exporter.settings.values import parse_web_url

_EXPORTER_URL = click.option(
    "--exporter-url",
    default=packaged_rules.EXPORTER_URL,
    show_default=True,
    metavar="URL",
    callback=flags.read_by(parse_web_url),
    help="URL at which people reach the exporter. Links lead to its trace pages and its runbook.",
)


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["prometheus", "operator"]),
    default="prometheus",
    show_default=True,
    help="prometheus: a file for rule_files. operator: a PrometheusRule object for the Prometheus Operator.",
)
@_EXPORTER_URL
@click.option(
    "--grafana-url",
    default=packaged_rules.GRAFANA_URL,
    show_default=True,
    metavar="URL",
    callback=flags.read_by(parse_web_url),
    help="URL at which people reach Grafana. Alerts link to its dashboards.",
)
@click.option(
    "--label",
    "labels",
    metavar="NAME=VALUE",
    multiple=True,
    callback=flags.read_by(packaged_rules.labels_of),
    help="Label of the object, such as release=kube-prometheus-stack. Needs --format=operator. Can be repeated.",
)
def rules(form: str, exporter_url: str, grafana_url: str, labels: dict[str, str]) -> None:
    """Print recording and alerting rules for Prometheus.

    The rules use the objectives that the exporter exposes as metrics. To change a threshold, change the exporter's
    configuration; the rules need no editing.

    \b
    Examples:
      mlflow-trace-exporter rules > /etc/prometheus/rules/mlflow.yml
      mlflow-trace-exporter rules --format=operator --label=release=kube-prometheus-stack | kubectl apply -f -

    \b
    Exit codes:
      0  success
      2  invalid flag
    """
    links = packaged_rules.Links(exporter_url, grafana_url)
    if form == "operator":
        click.echo(packaged_rules.for_operator(links, labels), nl=False)
        return
    if labels:
        raise UserError("--label: needs --format=operator")
    click.echo(packaged_rules.for_prometheus(links), nl=False)


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Directory to write the dashboards to. It is created if necessary.",
)
@_EXPORTER_URL
@flags.config_file
def dashboards(output: Path, exporter_url: str, config_file: Path | None) -> None:
    """Write the Grafana dashboards to a directory.

    Import them in Grafana, or provision them from the directory. They need a Prometheus data source that scrapes the
    exporter. The dashboards of objectives and cost also need the recording rules (mlflow-trace-exporter rules). With
    --config.file, the dashboards have a variable for each label of labels.extra.

    \b
    Example:
      mlflow-trace-exporter dashboards --output /var/lib/grafana/dashboards

    \b
    Exit codes:
      0  success
      2  invalid flag or configuration, or the directory cannot be written
    """
    extra = list(config.load(config_file).labels.extra)
    for file in packaged_dashboards.write(output, packaged_rules.Links(exporter_url), extra):
        click.echo(file)
