"""The Python API: reports and health checks as functions, for notebooks, Airflow and the command line.

``from mlflow_trace_exporter import make_report, check_health``. The server is set by ``mlflow.tracking_uri`` of the
configuration or by MLFLOW_TRACKING_URI. Credentials come from MLflow's own environment variables.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from mlflow_trace_exporter import wiring
from mlflow_trace_exporter.domain.globs import ANY
from mlflow_trace_exporter.domain.moments import Moment, asked_ms
from mlflow_trace_exporter.domain.objectives import Objective, Objectives
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.errors import ArgumentError, UserError
from mlflow_trace_exporter.reports import arguments, presence, report, subjects, tallies
from mlflow_trace_exporter.reports.health import Health, Names, health
from mlflow_trace_exporter.reports.ratings import quality_for
from mlflow_trace_exporter.reports.report import DEFAULT_BY, Report, Wanted
from mlflow_trace_exporter.settings import config as configuration
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.settings.values import parse_ratio
from mlflow_trace_exporter.tracking.query import Library, Progress, Query, no_progress

STATES = {"ok": State.OK, "error": State.ERROR}
P95 = 0.95

Settings = Config | Path | str | None
"""A configuration, the path of a configuration file, or None for all defaults."""


def make_report(  # noqa: PLR0913 - each argument is independent
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
    """Report latency, errors, tokens and cost of the finished traces that started in [since, until).

    ``by``: any of experiment, environment, version, trace_name, the labels that the configuration adds, user, session
    and hour, as a list or as one comma-separated string. With provider, model or error_type, the report is on calls of
    models; with span_type or span_name, on other spans; with assessment or source, on assessments, see
    ``Row.opinions``. ``status``: ok or error. ``filter_string``: an MLflow search filter. ``slowest`` and ``errors``:
    how many traces to list.

    Raises UserError for an invalid argument, and PollError if MLflow cannot be read.
    """
    settings = _settings(config)
    known = tallies.dimensions(wiring.label_rules(settings).all_names)
    names = [name.strip() for each in arguments.texts("by", by) for name in each.split(",")]
    chosen = tuple(dict.fromkeys(arguments.choice("by", name, known) for name in names))
    unit = subjects.unit_of([name for name in chosen if name not in wiring.label_rules(settings).all_names])
    wanted = Wanted(
        chosen,
        arguments.count("slowest", slowest, 0),
        arguments.count("errors", errors, 0),
        unit,
        inside=unit in ("calls", "spans") or settings.spans.enabled,
    )
    query = replace(
        Query(*times(since, until)),
        labels=_given(environment=environment, version=version),
        state=None if status is None else STATES[arguments.choice("status", status, tuple(STATES))],
        min_duration_ms=None
        if min_duration_s is None
        else round(arguments.seconds("min_duration_s", min_duration_s, 0) * 1000),
        user=None if user is None else arguments.label("user", user),
        filter_string=None if filter_string is None else arguments.text("filter_string", filter_string),
    )
    _require_callable(progress)
    with _library(settings, wanted.inside) as library:
        pages = wiring.mlflow_pages(settings)
        found = report.report(library, query, wanted, pages.trace, progress)
    return replace(found, server=pages.home, selection=_selection(settings, query))


def _selection(settings: Config, query: Query) -> dict[str, str]:
    """The conditions of a report besides its times, by name, as its page shows them."""
    asked = {
        "experiments": ", ".join(settings.mlflow.experiments),
        **query.labels,
        "status": None if query.state is None else query.state.value.lower(),
        "duration at least": None if query.min_duration_ms is None else f"{query.min_duration_ms / 1000:,g} s",
        "user": query.user,
        "filter": " AND ".join(filter(None, (settings.mlflow.filter, query.filter_string))),
    }
    return {name: value for name, value in asked.items() if value}


def check_health(  # noqa: PLR0913 - each argument is independent
    *,
    lookback: Moment = "30m",
    experiments: str | Sequence[str] = (),
    environments: str | Sequence[str] = (),
    error_rate: float | None = None,
    p95_s: float | None = None,
    good: Mapping[str, float] = MappingProxyType({}),
    min_traces: int | None = None,
    config: Settings = None,
    progress: Progress = no_progress,
) -> Health:
    """Check the finished traces that started in the last ``lookback`` against thresholds, by application (MLflow
    experiment) and environment.

    The thresholds are ``error_rate`` (a ratio), ``p95_s`` (seconds) and ``good``: by name of an assessment, the lowest
    share of good ones, as in ``{"correctness": 0.9}``. Which words and scores are good is set by the quality objective
    of the application in the configuration; without one, the words yes, true, good and correct are. Without any
    threshold, the objectives of the configuration apply. ``experiments`` and ``environments``: which to check; by
    default those that the objectives name. ``min_traces``: a result from fewer traces is not significant; the default
    is that of the objective, or 20.

    Raises UserError for an invalid argument, for an application or environment without thresholds, and if it is not
    known which scores are good; PollError if MLflow cannot be read.
    """
    settings = _settings(config)
    asked = _asked(
        settings,
        [arguments.label("experiments", each) for each in arguments.texts("experiments", experiments)],
        [arguments.label("environments", each) for each in arguments.texts("environments", environments)],
        Thresholds(
            None if error_rate is None else _ratio("error_rate", error_rate),
            None if p95_s is None else arguments.seconds("p95_s", p95_s, 0.001),
            None if min_traces is None else arguments.count("min_traces", min_traces, 1),
            _shares("good", good),
        ),
    )
    query = Query(*times(lookback, "now", "lookback"))
    _require_callable(progress)
    with _library(settings) as library:
        return health(library, query, asked, progress)


def require_labels(config: Config, **labels: str | None) -> None:
    """Raise ArgumentError for an environment or version that no trace has, and PollError if MLflow cannot be read.

    Used after an empty result, where the user may have mistyped the name.
    """
    with _library(config) as library:
        presence.require(library, _given(**labels), wiring.now_ms())


def values(config: Config, label: str) -> tuple[str, ...]:
    """The values of a label in the latest traces. Raises PollError if MLflow cannot be read."""
    with _library(config) as library:
        return presence.values(library, label, wiring.now_ms(), {})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a check uses in place of objectives. None: what the objective says."""

    error_rate: float | None
    p95_s: float | None
    min_traces: int | None
    good: Mapping[str, float]

    @property
    def are_set(self) -> bool:
        """Whether there is a threshold."""
        return self.error_rate is not None or self.p95_s is not None or bool(self.good)

    def put_into(self, objective: Objective) -> Objective:
        """The objective with these thresholds."""
        if self.are_set:
            latency_ratio = None if self.p95_s is None else P95
            objective = Objective(
                experiment=objective.experiment,
                environment=objective.environment,
                error_ratio=self.error_rate,
                latency_s=self.p95_s,
                latency_ratio=latency_ratio,
                min_traces=objective.min_traces,
                quality=tuple(quality_for(*each, objective.quality) for each in self.good.items()),
            )
        return objective if self.min_traces is None else replace(objective, min_traces=self.min_traces)


def _asked(
    settings: Config, experiments: Sequence[str], environments: Sequence[str], thresholds: Thresholds
) -> Mapping[Names, Objectives]:
    """What to check. Raises UserError for names without a threshold."""
    found: dict[Names, Objectives] = {}
    for names in product(experiments or (None,), environments or (None,)):
        objectives = _checked(settings.all_objectives.narrowed(*names), names, thresholds)
        if not any(each.has_threshold for each in objectives):
            raise UserError(_without_objective(*names))
        found[names] = Objectives(objectives)
    return found


def _checked(configured: Objectives, names: Names, thresholds: Thresholds) -> tuple[Objective, ...]:
    """The objectives with these thresholds. If no name is asked for, only the objectives that have one are checked. An
    environment that is asked for is checked against the thresholds even if it has no objective."""
    experiment, environment = names
    if thresholds.are_set and environment is not None:
        without = Objective(experiment=experiment or ANY, environment=environment)
        return tuple(map(thresholds.put_into, (*configured.all, without)))
    return tuple(
        thresholds.put_into(each)
        if each.has_threshold and (any(names) or each.has_name)
        else Objective(experiment=each.experiment, environment=each.environment)
        for each in configured.all
    )


def _without_objective(experiment: str | None, environment: str | None) -> str:
    if experiment is None and environment is None:
        return "nothing to check: the objectives use only globs; name an environment or an experiment"
    names = [f"{label} {name!r}" for label, name in (("experiment", experiment), ("environment", environment)) if name]
    thresholds = "an error rate, a p95 or a share of good assessments"
    remedy = f"set {thresholds} as the threshold" if environment else "name an environment, and a threshold"
    return f"{' in '.join(names)} has no objective in the configuration; {remedy}"


def _settings(config: Settings) -> Config:
    if isinstance(config, Config):
        return config
    if not isinstance(config, Path | str | None):
        raise ArgumentError("config", f"{config!r} is neither the path of a file nor a Config")
    try:
        return configuration.load(None if config is None else Path(config), "config")
    except ValueError as error:  # it contains a character that no path can have
        raise ArgumentError("config", f"cannot read {str(config)!r}: {error}") from None


def times(since: Moment, until: Moment, name: str = "since") -> tuple[int, int]:
    """Convert both to Unix ms. Raises ArgumentError if one is invalid, or if since is not before until. ``name`` is the
    argument that the user gave as since."""
    now_ms = wiring.now_ms()
    since_ms, until_ms = asked_ms(name, since, now_ms), asked_ms("until", until, now_ms)
    if since_ms >= until_ms:
        raise ArgumentError(name, f"{since} is not before {until}")
    return since_ms, until_ms


def _given(**labels: str | None) -> dict[str, str]:
    return {name: arguments.label(name, value) for name, value in labels.items() if value is not None}


def _ratio(name: str, value: Any) -> float:
    try:
        return parse_ratio(value if isinstance(value, str | float | int) else arguments.number(name, value))
    except ValueError as error:
        raise ArgumentError(name, str(error)) from None


def _shares(name: str, value: Any) -> dict[str, float]:
    """Ratios by the name of an assessment."""
    if not isinstance(value, Mapping):
        raise ArgumentError(name, f"{value!r} does not name assessments and ratios, as in {{'correctness': 0.9}}")
    found = {arguments.label(name, each): _ratio(name, ratio) for each, ratio in value.items()}
    if len(found) < len(value):
        raise ArgumentError(name, "two names are the same without surrounding spaces")
    return found


def _require_callable(progress: Any) -> None:
    if not callable(progress):
        raise ArgumentError("progress", f"{progress!r} is not a function")


@contextmanager
def _library(settings: Config, inside: bool = False) -> Iterator[Library]:
    """Open the library of traces, with what is ``inside`` them if asked for. Afterwards the environment variables of
    MLflow's client are restored."""
    before = dict(os.environ)
    try:
        library = wiring.open_library(settings, inside)
        library.source.require_experiments()
        yield library
    finally:
        for name in [name for name in os.environ if name.startswith("MLFLOW_HTTP_REQUEST_")]:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if name.startswith("MLFLOW_HTTP_REQUEST_")})
