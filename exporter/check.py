"""`check`: would `serve` work, and what would it read?"""

from collections.abc import Callable

from exporter.config import Config
from exporter.errors import PollError, UserError
from exporter.horizon import AHEAD_MS, Window
from exporter.labels import LabelRules
from exporter.ledger import examine
from exporter.service import now_ms, open_source
from exporter.source import CLIENT_VERSION, MlflowSource

SAMPLE_MS = 3_600_000
"""How far back the sample of traces reaches that is read to see whether reading works."""


def check(settings: Config, say: Callable[[str], None]) -> None:
    """Ask MLflow what ``serve`` would ask, and say line by line what comes back.

    Raises UserError where ``serve`` would have nothing to read: MLflow cannot be reached or refuses us, no experiment
    is selected, or the filter is wrong.
    """
    source = open_source(settings)
    try:
        _say_server(source, say)
        _say_experiments(source, settings.mlflow.experiments, say)
        _say_sample(source, LabelRules(settings.labels.environment, settings.labels.version), say)
    except PollError as error:
        raise UserError(str(error)) from None
    say(f"ledger       {settings.ledger.path} ({'found' if examine(settings.ledger.path) else 'to be made'})")


def _say_server(source: MlflowSource, say: Callable[[str], None]) -> None:
    try:
        version = f"version {source.server_version()}"
    except PollError as error:
        version = f"version could not be read ({error.reason.value})"
    say(f"MLflow       {source.tracking_uri}, {version}, read with client {CLIENT_VERSION}")


def _say_experiments(source: MlflowSource, selectors: tuple[str, ...], say: Callable[[str], None]) -> None:
    selected, active = source.experiments()
    if not selected:
        raise UserError(
            f"mlflow.experiments: {', '.join(selectors) or 'everything'} selects none of the {len(active)} active"
            f" experiments at {source.tracking_uri}: {', '.join(active)}"
        )
    say(f"experiments  {len(selected)} of {len(active)} selected: {', '.join(sorted(selected.values()))}")


def _say_sample(source: MlflowSource, rules: LabelRules, say: Callable[[str], None]) -> None:
    until_ms = now_ms()
    page = next(source.scan(Window(until_ms - SAMPLE_MS, until_ms + AHEAD_MS, until_ms - SAMPLE_MS)), None)
    records = page.records if page else ()
    say(f"traces       {len(records)}{' or more' if len(records) >= 500 else ''} in the last hour")
    for name in ("environment", "version"):
        values = sorted({rules.values(record)[name] for record in records})
        if values:
            say(f"{name:<12} {', '.join(values)}")
