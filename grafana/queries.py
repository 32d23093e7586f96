"""Building blocks of the queries of panels. Pure text.

Dashboards need recording rules only for windows of days. If two exporters count the same traces (a pair), the higher
rate counts, never the sum; hence `max without (instance, pod)`. Without traces there is no ratio and no quantile, so
that missing data is never mistaken for healthy.
"""

OWN = 'job=~"$job", instance=~"$instance"'
"""Selects metrics of the exporter itself."""

PLACE = f'{OWN}, experiment=~"$experiment", environment=~"$environment"'
"""Selects metrics by experiment and environment."""

VERSION = f'{PLACE}, version=~"$version"'
"""Selects metrics by version."""

TRACES = f'{VERSION}, trace_name=~"$trace_name"'
"""Selects metrics of traces."""

OBJECTIVE = f'{OWN}, environment=~"$environment"'
"""Selects objectives."""

RECORDED = 'job=~"$job", environment=~"$environment"'
"""Selects recorded series by environment."""

NOW = "$__rate_interval"
"""The window of graphs over time."""

SHOWN = "$__range"
"""The window of tables and single values: the time range of the dashboard."""

COST = ("mlflow_trace_input_cost_usd_total", "mlflow_trace_output_cost_usd_total")
TOKENS = ("mlflow_trace_input_tokens_total", "mlflow_trace_output_tokens_total")


def _sum(function: str, metric: str, window: str, by: str, selector: str) -> str:
    return f"sum by ({by}) ({by_series(function, metric, window, selector)})"


def rate(metric: str, by: str = "environment", selector: str = TRACES) -> str:
    """The rate per second, over time."""
    return _sum("rate", metric, NOW, by, selector)


def increase(metric: str, by: str = "environment", selector: str = TRACES, window: str = SHOWN) -> str:
    """The increase over the time range of the dashboard."""
    return _sum("increase", metric, window, by, selector)


def by_series(function: str, metric: str, window: str = NOW, selector: str = TRACES) -> str:
    """``rate`` or ``increase`` of each series. Two exporters that count the same traces count once."""
    return f"max without (instance, pod) ({function}({metric}{{{selector}}}[{window}]))"


def ratio(part: str, whole: str) -> str:
    """A ratio; no result where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def quantile(q: float, by: str = "environment", selector: str = TRACES, window: str = NOW) -> str:
    """A quantile of the durations, in seconds; no result without traces, where it would be NaN."""
    labels = f"le, {by}" if by else "le"
    function = "rate" if window == NOW else "increase"
    buckets = _sum(function, "mlflow_trace_duration_seconds_bucket", window, labels, selector)
    return f"histogram_quantile({q}, {buckets}) >= 0"


def objective(name: str) -> str:
    """An objective, by environment."""
    return f"max by (environment) (mlflow_objective_{name}{{{OBJECTIVE}}})"


def own(metric: str) -> str:
    """A metric of each exporter."""
    return f"{metric}{{{OWN}}}"


def own_rate(metric: str, by: str = "instance") -> str:
    """The rate per second, by exporter."""
    return f"sum by ({by}) (rate({metric}{{{OWN}}}[{NOW}]))"


def of_exporters(expr: str) -> str:
    """Keep only exporters in a metric that every process has, because `All` jobs include others."""
    return f"{expr} and on (instance) {own('mlflow_up')}"


def age(metric: str) -> str:
    """The seconds since a timestamp."""
    return f"time() - {own(metric)}"


def added(metrics: tuple[str, str], function: str, by: str = "environment", selector: str = TRACES) -> str:
    """The sum of two counters, as ``rate`` or ``increase``."""
    one, other = ((rate if function == "rate" else increase)(each, by, selector) for each in metrics)
    return f"({one} + {other})"
