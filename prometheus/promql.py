"""Levels, windows and expressions that several rules share. Pure text.

A level is the set of labels of a recorded series. Levels, burn rates and their windows are defined only here.
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
        """Vector matching for two series of this level."""
        return f"on ({self.by})"

    def with_label(self, label: str) -> "Level":
        """The level with an additional label."""
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
        """The recorded increase in a window."""
        return self.series(metric, f"increase{window}")


@dataclass(frozen=True, slots=True)
class Kind:
    """Traces of which an objective allows only a certain share."""

    objective: str
    metric: str
    allowed: str
    status: str
    """The value of `status` on the exporter's page of traces."""


@dataclass(frozen=True, slots=True)
class Burn:
    """A burn rate, and the windows over which it is measured."""

    rate: str
    long: str
    short: str


ENVIRONMENT = Level(("environment",))
APPLICATION = Level(("experiment", "environment"))
VERSION = Level(("experiment", "environment", "version"))
OBJECTIVE = APPLICATION
"""The level of objectives, and of alerts on traces. An application is an MLflow experiment."""

JOB = Level(())
SHARD = Level(("shard",))
"""The level of exporters. With several shards, the scrape configuration sets the label. All series of an application
are on one shard at a time. Replicas of a shard differ in `instance` and `pod`."""

PROVIDER = Level(("provider",))
MODEL = Level(("provider", "model"))
APPLICATION_MODEL = Level(("experiment", "environment", "provider", "model"))
SPAN = Level(("experiment", "environment", "span_type", "span_name"))
ASSESSMENT = Level(("experiment", "environment", "assessment"))
ASSESSMENT_VERSION = Level(("experiment", "environment", "version", "assessment"))
SCORER = Level(("experiment", "environment", "assessment", "source"))

SUMMED = (APPLICATION, ENVIRONMENT)
"""The levels above versions, each the sum of the one before it."""

TRACES = "mlflow_traces"
COST = "mlflow_trace_cost_usd"
TOKENS = "mlflow_tokens"
TOKENS_PER_TRACE = "mlflow_tokens_per_trace"
TRACES_WITH_TOKENS = "mlflow_traces_with_tokens"
TRACES_WITHOUT_TOKENS = "mlflow_traces_without_tokens"
DURATION = "mlflow_trace_duration_seconds"
BUCKETS = f"{DURATION}_bucket"
BEYOND_BUCKETS = f"{DURATION}_beyond_buckets"
CALLS = "mlflow_llm_calls"
CALL_ERRORS = "mlflow_llm_call_errors"
CALL_DURATION = "mlflow_llm_call_duration_seconds"
FIRST_CHUNK = "mlflow_llm_time_to_first_chunk_seconds"
STREAMED_CALLS = "mlflow_llm_streamed_calls"
SPANS = "mlflow_spans"
SPAN_ERRORS = "mlflow_span_errors"
SPAN_DURATION = "mlflow_span_duration_seconds"
IN_PROGRESS = "mlflow_traces_in_progress"
ABANDONED = "mlflow_traces_abandoned"

ERRORS = Kind("errors", "mlflow_trace_errors", "mlflow_objective_error_ratio", "error")
SLOW = Kind("latency", "mlflow_trace_slow", "mlflow_objective_slow_ratio", "slow")
KINDS = (ERRORS, SLOW)

BURNS = (Burn("14.4", "1h", "5m"), Burn("6", "6h", "30m"), Burn("3", "1d", "2h"), Burn("1", "3d", "6h"))
PAGES, WARNINGS = BURNS[:2], BURNS[2:]

LATENCY_LIMIT = OBJECTIVE.series("mlflow_objective_latency_seconds", "max")
FIRST_CHUNK_LIMIT = OBJECTIVE.series("mlflow_objective_first_chunk_seconds", "max")
COST_LIMIT = OBJECTIVE.series("mlflow_objective_cost_usd_per_day", "max")
MIN_TRACES = OBJECTIVE.series("mlflow_objective_min_traces", "max")
TEAM = OBJECTIVE.series("mlflow_objective_info", "max")
"""Always 1. The label `team` is the team of the application, and is missing if it has none. The label `shard` is the
shard that counts it, and is missing if there is only one exporter."""


def allowed(kind: Kind) -> str:
    """The share of traces of this kind that the objective allows."""
    return OBJECTIVE.series(kind.allowed, "max")


def burning_from(kind: Kind, burn: Burn) -> str:
    """The share above which the budget burns at this rate."""
    return f'{OBJECTIVE.series(kind.allowed, "burn")}{{burn_rate="{burn.rate}"}}'


def burned(burn: Burn, allowed: str) -> str:
    """The share at which a budget burns at this rate: at most three quarters of the way from what is allowed to
    100 %."""
    cap = f"(3 + {allowed}) / 4"
    return allowed if burn.rate == "1" else f"{burn.rate} * {allowed} < {cap}\nor {cap}"


def seconds(window: str) -> int:
    """The length of a window in seconds: 1800 for ``30m``."""
    return int(timedelta(**{UNITS[window[-1]]: int(window[:-1])}).total_seconds())


def increase(counter: str, window: str) -> str:
    """The increase of each series. If two exporters count the same traces, the higher one counts."""
    return f"max without (instance, pod) (increase({counter}[{window}]))"


def divided(part: str, whole: str) -> str:
    """A ratio; no result where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def twice(ratio: str) -> str:
    """Twice a ratio, but never more than three quarters of the way from the ratio to 100 %."""
    cap = f"(3 + {ratio}) / 4"
    return f"(2 * {ratio} < {cap} or {cap})"


def too_many(kind: Kind, limit: str, *windows: str) -> str:
    """In each window the share of such traces is above the limit, and in the first window there are enough of them."""
    above = (f"{OBJECTIVE.ratio(kind, window)} > {OBJECTIVE.on} {limit}" for window in windows)
    enough = (
        f"{OBJECTIVE.increase(kind.metric, windows[0])} > {OBJECTIVE.on}\n"
        f"  clamp_min({limit} * {OBJECTIVE.on} {MIN_TRACES}, 2) + 0.5"
    )
    return f"\nand {OBJECTIVE.on}\n".join((*above, enough))


def or_frozen(expr: str, itself: str, level: Level = OBJECTIVE) -> str:
    """The expression, which stays true while there is no fresh data."""
    return f"{expr}\nor {level.on}\n{itself} and {of_its_shard(STALE)}"


def of_its_shard(series: str) -> str:
    """For `and` after an expression about applications: the shard that counts the application has this series."""
    return f"{OBJECTIVE.on} ({TEAM} and {SHARD.on} {series})"


def only_one(level: Level, expr: str) -> str:
    """One series for each label set of this level, even if there are several."""
    return f"topk by ({level.by}) (1, {expr})"


def with_team(expr: str) -> str:
    """The expression, with the team of its application and the shard that counts it. A second team must not make the
    expression fail: it is there for some minutes after a restart of Prometheus during which the team has changed."""
    alone = f"(\n{indented(expr)}\n)" if "\n" in expr else f"({expr})"
    return f"{alone}\n* {OBJECTIVE.on} group_left (team, shard)\n{only_one(OBJECTIVE, TEAM)}"


def of_others(series: str, whole: Level = APPLICATION) -> str:
    """The sum over all other versions of the application, for each version."""
    return f"{whole.sum(series)}\n- {whole.on} group_right ()\n{series}"


def ratio_of_others(part: str, whole_of_others: str, level: Level = APPLICATION) -> str:
    """A ratio over all other versions."""
    return f"(\n{indented(of_others(part, level))}\n)\n/ ({whole_of_others} > 0)"


@dataclass(frozen=True, slots=True)
class Shares:
    """The recorded shares of a version, of the other versions, and of all of them (the ``whole``); and what each of the
    first two is a share of."""

    own: str
    of_others: str
    of_all: str
    count: str
    count_of_others: str
    whole: Level = APPLICATION

    def z(self) -> str:
        """The difference of the two shares in standard errors: the z of a two-proportion test, with the error of the
        pooled share."""
        return f"""\
(
  {self.own}
  - {self.of_others}
)
/ (
  sqrt(
    (1 / {self.count} + 1 / {self.count_of_others})
    * {self.whole.on} group_left () (
      {self.of_all}
      * (1 - {self.of_all})
    )
  ) > 0
)"""


def indented(expr: str) -> str:
    """The expression, indented by two spaces."""
    return "\n".join(f"  {line}" for line in expr.splitlines())
