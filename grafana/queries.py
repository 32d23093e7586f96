"""What panels ask Prometheus, in pieces. Pure text.

A dashboard needs no recording rules, but for windows of days. Of two exporters that count the same traces (a pair) the
higher rate counts, never the sum: hence `max without (instance, pod)`. Where there were no traces there is no ratio and
no quantile, so that no data is never taken for healthy.
"""

OWN = 'job=~"$job", instance=~"$instance"'
"""Selects what the exporter says of itself."""

PLACE = f'{OWN}, experiment=~"$experiment", environment=~"$environment"'
"""Selects what is known by experiment and environment."""

VERSION = f'{PLACE}, version=~"$version"'
"""Selects what is known by version."""

TRACES = f'{VERSION}, trace_name=~"$trace_name"'
"""Selects what is counted over traces."""

OBJECTIVE = f'{OWN}, environment=~"$environment"'
"""Selects objectives."""

RECORDED = 'job=~"$job", environment=~"$environment"'
"""Selects what rules record by environment."""

NOW = "$__rate_interval"
"""The window of what is drawn over time."""

SHOWN = "$__range"
"""The window of what is shown once: all of the time that is shown."""

COST = ("mlflow_trace_input_cost_usd_total", "mlflow_trace_output_cost_usd_total")
TOKENS = ("mlflow_trace_input_tokens_total", "mlflow_trace_output_tokens_total")


def _sum(function: str, metric: str, window: str, by: str, selector: str) -> str:
    return f"sum by ({by}) ({by_series(function, metric, window, selector)})"


def rate(metric: str, by: str = "environment", selector: str = TRACES) -> str:
    """A second, over time."""
    return _sum("rate", metric, NOW, by, selector)


def increase(metric: str, by: str = "environment", selector: str = TRACES, window: str = SHOWN) -> str:
    """In all of the time that is shown."""
    return _sum("increase", metric, window, by, selector)


def by_series(function: str, metric: str, window: str = NOW, selector: str = TRACES) -> str:
    """``rate`` or ``increase`` of each series, of two exporters that count the same traces once."""
    return f"max without (instance, pod) ({function}({metric}{{{selector}}}[{window}]))"


def ratio(part: str, whole: str) -> str:
    """A ratio of two sums, or of a ratio and what is allowed, and nothing where the latter is nothing."""
    return f"{part} / ({whole} > 0)"


def quantile(q: float, by: str = "environment", selector: str = TRACES, window: str = NOW) -> str:
    """A quantile of the durations, in seconds; of no traces it would be NaN, which is no data here."""
    labels = f"le, {by}" if by else "le"
    function = "rate" if window == NOW else "increase"
    buckets = _sum(function, "mlflow_trace_duration_seconds_bucket", window, labels, selector)
    return f"histogram_quantile({q}, {buckets}) >= 0"


def objective(name: str) -> str:
    """What is allowed, by environment."""
    return f"max by (environment) (mlflow_objective_{name}{{{OBJECTIVE}}})"


def own(metric: str) -> str:
    """What each exporter says of itself."""
    return f"{metric}{{{OWN}}}"


def own_rate(metric: str, by: str = "instance") -> str:
    """A second, by exporter."""
    return f"sum by ({by}) (rate({metric}{{{OWN}}}[{NOW}]))"


def of_exporters(expr: str) -> str:
    """Of what every process says of itself, what exporters say: `All` jobs are others, too."""
    return f"{expr} and on (instance) {own('mlflow_up')}"


def age(metric: str) -> str:
    """How long ago a time is, in seconds."""
    return f"time() - {own(metric)}"


def added(metrics: tuple[str, str], function: str, by: str = "environment", selector: str = TRACES) -> str:
    """Two counters together: ``rate`` or ``increase``."""
    one, other = ((rate if function == "rate" else increase)(each, by, selector) for each in metrics)
    return f"({one} + {other})"
