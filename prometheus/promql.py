"""Levels, windows and expressions that several rules share. Pure text.

A level is the set of labels that recorded series of a kind have; it is said here, once, and everything else asks it.
"""

from dataclasses import dataclass
from datetime import timedelta

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

STALE = 'ALERTS{alertname="MlflowTracesStale"}'


@dataclass(frozen=True, slots=True)
class Level:
    """The labels of recorded series, beside `job`."""

    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first part of the name of a recorded series."""
        return "_".join(self.labels)

    @property
    def by(self) -> str:
        """All labels, for `by (...)` and `on (...)`."""
        return ", ".join(("job", *self.labels))

    @property
    def on(self) -> str:
        """Matches two series of this level."""
        return f"on ({self.by})"

    def with_label(self, label: str) -> "Level":
        """The level with one label more."""
        return Level((*self.labels, label))

    def sum(self, expr: str) -> str:
        """The sum of an expression at this level."""
        return f"sum by ({self.by}) ({expr})"

    def series(self, metric: str, operation: str) -> str:
        """The name of a recorded series."""
        return f"{self.name}:{metric}:{operation}"

    def ratio(self, kind: "Kind", window: str) -> str:
        """The share of traces of this kind in a window."""
        return self.series(kind.metric, f"ratio_increase{window}")

    def increase(self, metric: str, window: str) -> str:
        """How many there were in a window."""
        return self.series(metric, f"increase{window}")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of traces of which an objective allows a certain share."""

    objective: str
    metric: str
    allowed: str
    status: str
    """The filter of the exporter's page of traces."""


@dataclass(frozen=True, slots=True)
class Burn:
    """A burn rate, and the windows over which it is measured."""

    rate: str
    long: str
    short: str


ENVIRONMENT = Level(("environment",))
APPLICATION = Level(("experiment", "environment"))
VERSION = Level(("experiment", "environment", "version"))
OBJECTIVE = ENVIRONMENT
"""What objectives are set for, and alerts on them are about."""

TRACES = "mlflow_traces"
COST = "mlflow_trace_cost_usd"
TOKENS = "mlflow_tokens"
TOKENS_PER_TRACE = "mlflow_tokens_per_trace"
TRACES_WITH_TOKENS = "mlflow_traces_with_tokens"
TRACES_WITHOUT_TOKENS = "mlflow_traces_without_tokens"
DURATION = "mlflow_trace_duration_seconds"
BUCKETS = f"{DURATION}_bucket"
BEYOND_BUCKETS = f"{DURATION}_beyond_buckets"
IN_PROGRESS = "mlflow_traces_in_progress"
ABANDONED = "mlflow_traces_abandoned"

ERRORS = Kind("errors", "mlflow_trace_errors", "mlflow_objective_error_ratio", "error")
SLOW = Kind("latency", "mlflow_trace_slow", "mlflow_objective_slow_ratio", "slow")
KINDS = (ERRORS, SLOW)

BURNS = (Burn("14.4", "1h", "5m"), Burn("6", "6h", "30m"), Burn("3", "1d", "2h"), Burn("1", "3d", "6h"))
PAGES, WARNINGS = BURNS[:2], BURNS[2:]

LATENCY_LIMIT = OBJECTIVE.series("mlflow_objective_latency_seconds", "max")
COST_LIMIT = OBJECTIVE.series("mlflow_objective_cost_usd_per_day", "max")
MIN_TRACES = OBJECTIVE.series("mlflow_objective_min_traces", "max")


def allowed(kind: Kind) -> str:
    """The share of traces of this kind that the objective allows."""
    return OBJECTIVE.series(kind.allowed, "max")


def burning_from(kind: Kind, burn: Burn) -> str:
    """The share above which the budget burns at this rate."""
    return f'{OBJECTIVE.series(kind.allowed, "burn")}{{burn_rate="{burn.rate}"}}'


def seconds(window: str) -> int:
    """How long a window is: ``30m`` is 1800."""
    return int(timedelta(**{UNITS[window[-1]]: int(window[:-1])}).total_seconds())


def increase(counter: str, window: str) -> str:
    """The increase of each series; of two exporters that count the same traces, the higher one."""
    return f"max without (instance, pod) (increase({counter}[{window}]))"


def divided(part: str, whole: str) -> str:
    """A ratio, and nothing where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def too_many(kind: Kind, limit: str, *windows: str) -> str:
    """More traces of this kind than a share in each of these windows, and enough of them in the first one."""
    above = (f"{OBJECTIVE.ratio(kind, window)} > {OBJECTIVE.on} {limit}" for window in windows)
    enough = (
        f"{OBJECTIVE.increase(kind.metric, windows[0])} > {OBJECTIVE.on}\n"
        f"  clamp_min({limit} * {OBJECTIVE.on} {MIN_TRACES}, 2) + 0.5"
    )
    return f"\nand {OBJECTIVE.on}\n".join((*above, enough))


def or_frozen(expr: str, itself: str) -> str:
    """True also while there are no fresh numbers, if it was true before."""
    return f"{expr}\nor {OBJECTIVE.on}\n{itself} and on (job) {STALE}"


def of_others(series: str, whole: Level = APPLICATION) -> str:
    """What all versions of an application have but this one."""
    return f"{whole.sum(series)}\n- {whole.on} group_right ()\n{series}"


def indented(expr: str) -> str:
    """An expression two columns further right."""
    return "\n".join(f"  {line}" for line in expr.splitlines())
