"""`health`: checks recent traces against thresholds. For cron, Airflow and deployment gates."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import Enum
from itertools import product

from mlflow_trace_exporter.domain.globs import ANY, is_name
from mlflow_trace_exporter.domain.labels import PLACE_LABELS, Labels, LabelValues
from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.objectives import Objective, Objectives
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.reports.ratings import Ratings
from mlflow_trace_exporter.reports.rows import Tally
from mlflow_trace_exporter.reports.subjects import of_trace
from mlflow_trace_exporter.tracking.query import Library, Progress, Query, no_progress

DAY_S = 86_400


class Verdict(Enum):
    """The result for one application and environment, or for all. The value is the exit code; 2 is for checks that
    failed."""

    HEALTHY = 0
    BREACHED = 1
    TOO_FEW_TRACES = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One ``measured`` value with its ``threshold``. ``traces``: how many it was measured on. ``measured`` is None if
    there are none. ``unit``: ratio, s or USD. ``at_least``: the threshold is the lowest good value, not the highest;
    then ``what`` is the name of assessments, and the value is the share of good ones."""

    what: str
    unit: str
    traces: int
    measured: float | None
    threshold: float
    at_least: bool = False

    @property
    def breached(self) -> bool:
        """Whether the value is on the wrong side of the threshold."""
        if self.measured is None:
            return False
        return self.measured < self.threshold if self.at_least else self.measured > self.threshold


@dataclass(frozen=True, slots=True)
class EnvironmentHealth:
    """The checks of an application (an MLflow experiment) in an environment. A check on fewer than ``min_traces``
    traces is not significant. ``experiment`` is ANY if no application has traces in the environment, ``environment`` if
    the application has none in any. ``assessments``: the names of those that the traces have."""

    experiment: str
    environment: str
    traces: int
    min_traces: int
    checks: tuple[Check, ...]
    assessments: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The result for this application and environment."""
        if any(check.breached for check in self.checks if not self.is_too_few(check)):
            return Verdict.BREACHED
        return Verdict.TOO_FEW_TRACES if any(map(self.is_too_few, self.checks)) else Verdict.HEALTHY

    def is_too_few(self, check: Check) -> bool:
        """Whether a check is not significant."""
        return check.traces < self.min_traces


@dataclass(frozen=True, slots=True)
class Health:
    """The result for the finished traces that started from ``since`` to ``until``, by application and environment."""

    since: datetime
    until: datetime
    environments: tuple[EnvironmentHealth, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict: breached, then too few traces, then healthy."""
        verdicts = {each.verdict for each in self.environments}
        ranked = (Verdict.BREACHED, Verdict.TOO_FEW_TRACES)
        return next((each for each in ranked if each in verdicts), Verdict.HEALTHY)


@dataclass(slots=True)
class Measured:
    """Running totals of the traces of an application in an environment."""

    tally: Tally = field(default_factory=Tally)
    ratings: Ratings = field(default_factory=Ratings)

    def add(self, record: TraceRecord, objective: Objective) -> None:
        """Add a finished trace."""
        self.tally.add(of_trace(record))
        self.ratings.add(record, objective.quality)


Names = tuple[str | None, str | None]
"""An application and an environment that are asked for; None: any."""


def health(
    library: Library, query: Query, asked: Mapping[Names, Objectives], progress: Progress = no_progress
) -> Health:
    """Measure the traces of a query against the objectives, each application and environment by itself.

    ``asked``: the objectives that can be used for these names. The names, and those in the objectives, are expected to
    have traces: if no application in an environment has, or no environment of an application, the result says so.
    Raises PollError, and ArgumentError if it is not known which scores are good.
    """
    found: dict[LabelValues, Measured] = {}
    checked: dict[LabelValues, Objective] = {}
    for names, objectives in asked.items():
        for labels in _to_read(names, objectives):
            of_it = replace(query, labels={**query.labels, **labels})
            for record, values in library.read(of_it, progress):
                place = tuple(values[name] for name in PLACE_LABELS)
                objective = objectives.of(*place)
                if objective.has_threshold:
                    found.setdefault(place, Measured()).add(record, objective)
                    checked[place] = objective
    expected = [item for each in asked.items() for item in _expected(*each)]
    missing = {place: each for place, each in reversed(expected) if not _is_among(place, found)}
    days = (query.until_ms - query.since_ms) / 1000 / DAY_S
    places = sorted({*checked, *missing})
    results = [judge(each, (checked | missing)[each], found.get(each, Measured()), days) for each in places]
    return Health(utc(query.since_ms), utc(query.until_ms), tuple(results))


def _to_read(names: Names, objectives: Objectives) -> Iterator[Labels]:
    """The labels of the traces to read, so that the traces of others are not: where any name is asked for, the names in
    the objectives, if none is a glob."""
    with_one = [(each.experiment, each.environment) for each in objectives.all if each.has_threshold]
    choices = [
        [name] if name is not None else [*dict.fromkeys(patterns)] if all(map(is_name, patterns)) else [None]
        for name, patterns in zip(names, zip(*with_one, strict=True), strict=True)
    ]
    for place in product(*choices):
        yield {label: name for label, name in zip(PLACE_LABELS, place, strict=True) if name is not None}


def _expected(names: Names, objectives: Objectives) -> Iterator[tuple[LabelValues, Objective]]:
    """The applications and environments that are named, with ANY in place of a glob."""
    for each in objectives.all:
        if each.has_threshold:
            patterns = zip(names, (each.experiment, each.environment), strict=True)
            yield tuple(name or (pattern if is_name(pattern) else ANY) for name, pattern in patterns), each


def _is_among(place: LabelValues, found: Iterable[LabelValues]) -> bool:
    return any(all(name in (ANY, other) for name, other in zip(place, each, strict=True)) for each in found)


def judge(place: LabelValues, objective: Objective, measured: Measured, days: float) -> EnvironmentHealth:
    """Compare the traces of an application in an environment, which span ``days``, with an objective."""
    experiment, environment = place
    checks = (*_checks(measured.tally, objective, days), *_quality_checks(measured.ratings, objective))
    names = tuple(sorted(measured.ratings.names))
    return EnvironmentHealth(experiment, environment, measured.tally.traces, objective.min_traces, checks, names)


def _checks(tally: Tally, objective: Objective, days: float) -> Iterator[Check]:
    if objective.error_ratio is not None:
        ratio = tally.errors / tally.traces if tally.traces else None
        yield Check("error rate", "ratio", tally.traces, ratio, objective.error_ratio)
    if objective.latency_s is not None and objective.latency_ratio is not None:
        measured = tally.durations.reader()(objective.latency_ratio)
        name = f"p{objective.latency_ratio * 100:g} latency"
        yield Check(name, "s", tally.traces - tally.without_duration, measured, objective.latency_s)
    if objective.cost_usd_per_day is not None:
        # less than a day is not extrapolated: an hour at noon is not typical of the day
        measured = tally.cost_usd / max(days, 1) if tally.costs else None
        yield Check("cost per day", "USD", tally.costs, measured, objective.cost_usd_per_day)


def _quality_checks(ratings: Ratings, objective: Objective) -> Iterator[Check]:
    for quality in objective.quality:
        rated = ratings.of(quality)
        yield Check(quality.assessment, "ratio", rated.traces, rated.ratio, quality.ratio, at_least=True)


def lines(found: Health, least: Callable[[EnvironmentHealth], str]) -> Iterator[str]:
    """The text output. Each breach and each check that is not significant has its own line. The other checks of an
    application in an environment share one line. A summary follows. ``least`` names the setting that min_traces is
    from."""
    for each in found.environments:
        name = f"{each.experiment} in {each.environment}"
        too_few = [check for check in each.checks if each.is_too_few(check)]
        said = [check for check in each.checks if check not in too_few]
        yield from (f"breached: {name}: {_of(check)}" for check in said if check.breached)
        for check in too_few:
            yield (
                f"too few traces: {name}: {check.what} not checked: {_traces(check, each)}, fewer than"
                f" {each.min_traces} ({least(each)}){_existing(check, each)}"
            )
        if within := ", ".join(_of(check) for check in said if not check.breached):
            yield f"within: {name}: {within}"
    words = {Verdict.HEALTHY: "healthy", Verdict.BREACHED: "BREACHED", Verdict.TOO_FEW_TRACES: "not enough traces"}
    traces = sum(each.traces for each in found.environments)
    span = f"{found.since:%Y-%m-%d %H:%M:%S} to {found.until:%Y-%m-%d %H:%M:%S} UTC"
    yield f"{words[found.verdict]}: {traces:,} finished traces from {span}"


def _traces(check: Check, of: EnvironmentHealth) -> str:
    """The number of traces that it was measured on."""
    if check.traces < of.traces:
        return f"measured on {check.traces:,} of {of.traces:,} traces"
    return f"{check.traces:,} trace{'' if check.traces == 1 else 's'}"


def _existing(check: Check, of: EnvironmentHealth) -> str:
    """The assessments that the traces have, where none has the name that is checked."""
    if not check.at_least or check.traces or not of.assessments or check.what in of.assessments:
        return ""
    return f"{did_you_mean(check.what, of.assessments)}; existing assessments: {few(of.assessments)}"


def _of(check: Check) -> str:
    measured = "unknown" if check.measured is None else _amount(check.measured, check.unit)
    if check.at_least:
        return f"{check.what} {measured} good, at least {_amount(check.threshold, check.unit)}"
    return f"{check.what} {measured}, at most {_amount(check.threshold, check.unit)}"


def _amount(value: float, unit: str) -> str:
    match unit:
        case "ratio":
            return f"{value * 100:.4g}%"
        case "s":
            return f"{value:.4g}s"
    return f"${value:,.2f}"


def as_object(found: Health) -> dict[str, object]:
    """The whole result as an object for JSON."""
    return {
        "verdict": found.verdict.name.lower(),
        "exit_code": found.verdict.value,
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "environments": [
            {
                "experiment": each.experiment,
                "environment": each.environment,
                "verdict": each.verdict.name.lower(),
                "traces": each.traces,
                "min_traces": each.min_traces,
                "checks": [{**asdict(check), "breached": check.breached} for check in each.checks],
            }
            for each in found.environments
        ],
    }
