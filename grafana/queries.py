"""Building blocks of the queries of panels. Pure text.

Dashboards need recording rules only for windows of days. If two exporters count the same traces (a pair), the higher
rate counts, never the sum; hence `max without (instance, pod)`. Without traces there is no ratio and no quantile, so
that missing data is never mistaken for healthy.

An application is an MLflow experiment. Objectives are by application and environment. A graph over time draws only the
``highest`` of many applications.
"""

APPLICATION = "experiment, environment"
"""The labels of an application in an environment, and of its objectives."""

OWN = 'job=~"$job", instance=~"$instance"'
"""Selects metrics of the exporter itself."""

EXPERIMENT = 'experiment=~"$experiment"'
ONE_EXPERIMENT = 'experiment="$experiment"'
"""The same on a dashboard of exactly one application. Grafana then writes the name as it is, not as a pattern."""

_ENVIRONMENT = 'environment=~"$environment"'

PLACE = f"{OWN}, {EXPERIMENT}, {_ENVIRONMENT}"
"""Selects metrics by experiment and environment."""

ONE_PLACE = f"{OWN}, {ONE_EXPERIMENT}, {_ENVIRONMENT}"
"""The same on a dashboard of exactly one application."""

VERSION = f'{PLACE}, version=~"$version"'
"""Selects metrics by version."""

TRACES = f'{VERSION}, trace_name=~"$trace_name"'
"""Selects metrics of traces."""

MODEL = f'{PLACE}, provider=~"$provider", model=~"$model"'
"""Selects metrics of calls of models."""

ASSESSMENT = f'{VERSION}, assessment=~"$assessment"'
"""Selects metrics of assessments."""

RECORDED = f'job=~"$job", {EXPERIMENT}, {_ENVIRONMENT}'
"""Selects recorded series by experiment and environment."""

END = " @ end()"
"""Makes a selector refer to the end of the time range at all of its points."""

NOW = "[$__rate_interval]"
"""The window of graphs over time."""

SHOWN = "[$__range]"
"""The window of tables and single values: the time range of the dashboard."""

WHOLE = f"{SHOWN}{END}"
"""The same window at all points of a graph."""

LINES = 10
"""How many applications a graph over time draws."""

COST = ("mlflow_trace_input_cost_usd_total", "mlflow_trace_output_cost_usd_total")
TOKENS = ("mlflow_trace_input_tokens_total", "mlflow_trace_output_tokens_total")


def _sum(function: str, metric: str, window: str, by: str, selector: str) -> str:
    return f"sum by ({by}) ({by_series(function, metric, window, selector)})"


def rate(metric: str, by: str = APPLICATION, selector: str = TRACES) -> str:
    """The rate per second, over time."""
    return _sum("rate", metric, NOW, by, selector)


def increase(metric: str, by: str = APPLICATION, selector: str = TRACES, window: str = SHOWN) -> str:
    """The increase over the time range of the dashboard."""
    return _sum("increase", metric, window, by, selector)


def by_series(function: str, metric: str, window: str = NOW, selector: str = TRACES) -> str:
    """``rate`` or ``increase`` of each series. Two exporters that count the same traces count once."""
    return f"max without (instance, pod) ({function}({metric}{{{selector}}}{window}))"


def ratio(part: str, whole: str) -> str:
    """A ratio; no result where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def quantile(
    q: float,
    by: str = APPLICATION,
    selector: str = TRACES,
    window: str = NOW,
    histogram: str = "mlflow_trace_duration_seconds",
) -> str:
    """A quantile of durations, by default those of traces, in seconds; no result without any, where it would be NaN."""
    labels = f"le, {by}" if by else "le"
    function = "rate" if window == NOW else "increase"
    buckets = _sum(function, f"{histogram}_bucket", window, labels, selector)
    return f"histogram_quantile({q}, {buckets}) >= 0"


def objective(name: str, at: str = "") -> str:
    """An objective of each application. ``at``: "" or END."""
    return f"max by ({APPLICATION}) (mlflow_objective_{name}{{{PLACE}}}{at})"


def shared_objective(name: str, selector: str = PLACE, by: str = "environment") -> str:
    """An objective by environment, where all applications have the same."""
    each = f"(mlflow_objective_{name}{{{selector}}})"
    return f"max by ({by}) {each} == min by ({by}) {each}"


def burned(part: str, whole: str, allowed: str, least: str) -> str:
    """The share of its budget that each application has used: ``part`` divided by what is ``allowed`` of the ``whole``,
    which is at least ``least``. The missing traces count as good, as in alerts. No result where the whole is 0."""
    return f"{part} / ({allowed} * ({whole} >= {least} or {least} and {whole} > 0))"


def highest(expr: str, rank: str, by: str = APPLICATION, most: int = LINES) -> str:
    """The series of ``expr`` whose ``rank`` is among the highest. A rank should be of the END, because lines would
    come and go if it changed over time."""
    return f"{expr} and on ({by}) topk({most}, {rank})"


def own(metric: str) -> str:
    """A metric of each exporter."""
    return f"{metric}{{{OWN}}}"


def own_rate(metric: str, by: str = "instance") -> str:
    """The rate per second, by exporter."""
    return f"sum by ({by}) (rate({metric}{{{OWN}}}{NOW}))"


def of_exporters(expr: str) -> str:
    """Keep only exporters in a metric that every process has, because `All` jobs include others."""
    return f"{expr} and on (instance) {own('mlflow_up')}"


def age(metric: str) -> str:
    """The seconds since a timestamp."""
    return f"time() - {own(metric)}"


def added(
    metrics: tuple[str, str], function: str, by: str = APPLICATION, selector: str = TRACES, window: str = SHOWN
) -> str:
    """The sum of two counters, as ``rate``, or as ``increase`` over the ``window``."""
    window = NOW if function == "rate" else window
    one, other = (_sum(function, each, window, by, selector) for each in metrics)
    return f"({one} + {other})"
