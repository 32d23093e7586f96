"""`check`: tells whether `serve` would work, and what it would read."""

from collections import Counter
from collections.abc import Callable

from mlflow_trace_exporter.domain.horizon import AHEAD_MS, Window
from mlflow_trace_exporter.domain.labels import LabelRules
from mlflow_trace_exporter.domain.shards import THE_WHOLE, Shard
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.ledger.look import outlook
from mlflow_trace_exporter.ledger.outlook import Outlook
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.tracking.client import CLIENT_VERSION, PAGE_SIZE
from mlflow_trace_exporter.tracking.experiments import Selection
from mlflow_trace_exporter.tracking.features import shortcomings
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.wiring import ledger_place, now_ms, open_meter, open_source, poll_settings, warnings_about

SAMPLE_MS = 3_600_000
"""How far back the sample of traces goes, which is read to see whether reading works."""


MAX_WARNINGS = 3
"""How many selectors without a match are named, because finding a similar name takes time."""


def check(settings: Config, say: Callable[[str], None], shard: Shard = THE_WHOLE) -> None:
    """Send MLflow the same requests as ``serve`` would, and pass each line of the result to ``say``.

    Raises UserError if ``serve`` would exit (for example because it cannot open a ledger) or would have nothing to
    read: MLflow is unreachable or refuses access, no experiment is selected, or the filter is wrong.
    """
    look(open_source(settings, shard=shard), settings, say, shard)


def look(source: MlflowSource, settings: Config, say: Callable[[str], None], shard: Shard = THE_WHOLE) -> None:
    """Do what ``check`` does, with an open source."""
    for warning in warnings_about(settings):
        say(f"config       warning: {warning}")
    try:
        version = _say_server(source, say)
        _say_experiments(source, say)
        _say_features(source, version, say)
        _say_sample(source, open_meter(settings).rules, say)
    except PollError as error:
        raise UserError(str(error)) from None
    _say_ledger(settings, say, shard)


def _say_server(source: MlflowSource, say: Callable[[str], None]) -> str:
    version = ""
    try:
        version = source.client.server_version()
        said = f"version {version}"
    except PollError as error:
        said = f"unknown version ({error.reason.value})"
    say(f"MLflow       {source.client.tracking_uri}, {said}, read with client {CLIENT_VERSION}")
    return version


def _say_experiments(source: MlflowSource, say: Callable[[str], None]) -> None:
    selection = source.selection()
    if not selection.chosen and selection.in_others:  # `serve` waits for experiments
        say(f"experiments  {selection.complaint(source.client.tracking_uri)}")
        return
    if not selection.chosen:
        raise UserError(selection.complaint(source.client.tracking_uri))
    _say_workspaces(selection, say)
    names = few(sorted(selection.names.values()))
    say(f"experiments  {len(selection.chosen):,} of {len(selection.active):,} selected: {names}")
    for selector in selection.unmatched[:MAX_WARNINGS]:
        meant = did_you_mean(selector, selection.active)
        say(f"             warning: {selector} selects none of the active experiments{meant}")
    if more := len(selection.unmatched[MAX_WARNINGS:]):
        say(f"             warning: neither do {more:,} more entries of mlflow.experiments")


def _say_workspaces(selection: Selection, say: Callable[[str], None]) -> None:
    workspaces = selection.workspaces
    numbers = Counter(each.workspace for each in selection.chosen.values())
    readable = [
        f"{name} ({numbers[name]:,} experiment{'' if numbers[name] == 1 else 's'})"
        for name, can in sorted(workspaces.readable.items())
        if can
    ]
    if readable:
        say(f"workspaces   {len(readable):,} read: {few(readable)}")
    for name, can in sorted(workspaces.readable.items()):
        if not can:
            say(f"             warning: MLflow denies access to workspace {name}; its traces are not counted")
    for selector in workspaces.unmatched[:MAX_WARNINGS]:
        meant = did_you_mean(selector, workspaces.shown)
        say(f"             warning: {selector} selects none of the workspaces {few(workspaces.shown)}{meant}")


def _say_features(source: MlflowSource, version: str, say: Callable[[str], None]) -> None:
    lacking = [feature.without for feature, has in source.features().items() if not has]
    for without in [*lacking, *shortcomings(version)]:
        say(f"             warning: {without}")


def _say_ledger(settings: Config, say: Callable[[str], None], shard: Shard) -> None:
    poll_settings(settings)  # raises UserError if this machine's clock was never set
    place = ledger_place(settings, shard)
    found = outlook(place)
    say(f"ledger       {place} ({found.value})")
    if found is Outlook.NEW and settings.poll.start == "now":
        say("start        now: earlier traces are not counted; poll.start: 24h would include those of the last day")


def _say_sample(source: MlflowSource, rules: LabelRules, say: Callable[[str], None]) -> None:
    until_ms = now_ms()
    page = next(source.scan(Window(until_ms - SAMPLE_MS, until_ms + AHEAD_MS)), None)
    records = page.records if page else ()
    say(f"traces       {len(records)}{' or more' if len(records) == PAGE_SIZE else ''} in the last hour")
    for name in (name for name in rules.names if name not in ("experiment", "trace_name")):
        values = sorted({rules.values(record)[name] for record in records})
        if values:
            say(f"{name:<12} {few(values)}")
