"""For notebooks, Airflow and the command line: the same reports and checks, by function.

``from exporter import make_report, check_health``. Where MLflow is and who asks is said by MLflow's own environment
variables, or by a configuration file of the exporter.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from exporter import config as configuration
from exporter import parts, report
from exporter.config import Config
from exporter.errors import UserError
from exporter.health import Health, health
from exporter.labels import UNKNOWN, clean
from exporter.moments import Moment, asked_ms
from exporter.objectives import WILDCARDS, Objective
from exporter.query import Library, Progress, Query, no_progress
from exporter.report import DEFAULT_BY, Report, Wanted
from exporter.trace import State

STATES = {"ok": State.OK, "error": State.ERROR}
P95 = 0.95

Settings = Config | Path | str | None
"""A configuration, the path of its file, or None for all defaults."""


def make_report(  # noqa: PLR0913 - each is a question of its own
    *,
    since: Moment = "24h",
    until: Moment = "now",
    by: str | Sequence[str] = DEFAULT_BY,
    environment: str | None = None,
    version: str | None = None,
    status: Literal["ok", "error"] | None = None,
    min_duration_s: float | None = None,
    user: str | None = None,
    filter_string: str | None = None,
    slowest: int = 0,
    errors: int = 0,
    config: Settings = None,
    progress: Progress = no_progress,
) -> Report:
    """Latency, errors, tokens and cost of the finished traces that started in [since, until).

    ``by``: any of experiment, environment, version, trace_name, the labels that the configuration adds, user, session
    and hour. ``status`` is ok or error; ``filter_string`` is a search filter of MLflow's. ``slowest`` and ``errors``
    are how many traces to list. Raises UserError for a mistake in any of these, PollError where MLflow cannot be read.
    """
    settings = _settings(config)
    by = (by,) if isinstance(by, str) else by
    if slowest < 0 or errors < 0:
        raise UserError("slowest, errors: how many traces to list, so 0 or more")
    if status not in (None, *STATES):
        raise UserError(f"status: {status!r} is neither {' nor '.join(STATES)}")
    query = replace(
        Query(*times(since, until)),
        labels=_said(environment=environment, version=version),
        state=STATES[status] if status else None,
        min_duration_ms=None if min_duration_s is None else round(min_duration_s * 1000),
        user=None if user is None else _label("user", user),
        filter_string=filter_string,
    )
    with _library(settings) as library:
        known = report.dimensions(library.rules.names)
        if unknown := [name for name in by if name not in known]:
            raise UserError(f"by: {unknown[0]!r} is none of {', '.join(known)}")
        wanted = Wanted(tuple(dict.fromkeys(by)), slowest, errors)
        pages = parts.mlflow_pages(settings)
        return report.report(
            library,
            query,
            wanted,
            lambda record: pages.trace(record.experiment_id, record.trace_id),
            progress,
        )


def check_health(
    *,
    lookback: Moment = "30m",
    environments: str | Sequence[str] = (),
    error_rate: float | None = None,
    p95_s: float | None = None,
    min_traces: int | None = None,
    config: Settings = None,
    progress: Progress = no_progress,
) -> Health:
    """Whether the finished traces that started in the last ``lookback`` are good enough.

    Measured against ``error_rate`` (a ratio) and ``p95_s`` (seconds) or, without both, against the objectives of the
    configuration. ``environments``: which to look at, or all that the objectives name. ``min_traces``: fewer say
    nothing; the objective's, or 20. Raises UserError for a mistake in any of these, and where there is nothing to
    measure by; PollError where MLflow cannot be read.
    """
    settings = _settings(config)
    environments = (environments,) if isinstance(environments, str) else environments
    environments = [_label("environment", each) for each in environments]
    try:
        error_rate = None if error_rate is None else configuration.parse_ratio(error_rate)
    except ValueError as error:
        raise UserError(f"error_rate: {error}") from None
    if p95_s is not None and p95_s <= 0:
        raise UserError(f"p95_s: {p95_s} is not a number of seconds above 0")
    if min_traces is not None and min_traces < 1:
        raise UserError("min_traces: must be at least 1")
    chosen = _objectives(settings, environments, error_rate, p95_s, min_traces)
    query = Query(*times(lookback, "now"))
    with _library(settings) as library:
        return health(library, query, chosen, progress)


def _objectives(
    settings: Config,
    environments: Sequence[str],
    error_rate: float | None,
    p95_s: float | None,
    min_traces: int | None,
) -> Mapping[str, Objective]:
    """By environment what to measure by."""
    all_of_them = parts.objectives_of(settings)
    named = [each.environment for each in all_of_them.all if not WILDCARDS & set(each.environment)]
    chosen = {}
    for environment in dict.fromkeys(environments or named):
        objective = all_of_them.of(environment)
        if error_rate is not None or p95_s is not None:
            least = (objective or Objective(environment)).min_traces
            latency_ratio = P95 if p95_s is not None else None
            objective = Objective(environment, error_rate, p95_s, latency_ratio, min_traces=least)
        if objective is None:
            raise UserError(
                f"environment {environment!r} has no objective in the configuration: say what it may be at most, by an"
                " error rate or a p95"
            )
        chosen[environment] = replace(objective, min_traces=objective.min_traces if min_traces is None else min_traces)
    if not chosen:
        raise UserError("no environment to look at: the objectives name none but by globs, so name one")
    return chosen


def _settings(config: Settings) -> Config:
    return config if isinstance(config, Config) else configuration.load(Path(config) if config is not None else None)


def times(since: Moment, until: Moment) -> tuple[int, int]:
    """Both in Unix ms. Raises UserError where one cannot be read, or since is not before until."""
    now_ms = parts.now_ms()
    since_ms, until_ms = asked_ms("since", since, now_ms), asked_ms("until", until, now_ms)
    if since_ms >= until_ms:
        raise UserError(f"since: {since} is not before {until}")
    return since_ms, until_ms


def _said(**labels: str | None) -> dict[str, str]:
    return {name: _label(name, value) for name, value in labels.items() if value is not None}


def _label(name: str, value: str) -> str:
    """The label value that somebody asks for. Raises UserError for a blank one, such as that of a variable which is not
    set: it would be taken for `unknown`."""
    if not value.strip():
        raise UserError(f"{name}: it is empty; traces that have none are those of {UNKNOWN!r}")
    return clean(value)


@contextmanager
def _library(settings: Config) -> Iterator[Library]:
    """The traces; afterwards the environment variables of MLflow's client are again as whoever calls has set them."""
    before = dict(os.environ)
    try:
        library = parts.open_library(settings)
        library.source.require_experiments()
        yield library
    finally:
        for name in [name for name in os.environ if name.startswith("MLFLOW_HTTP_REQUEST_")]:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if name.startswith("MLFLOW_HTTP_REQUEST_")})
