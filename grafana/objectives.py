"""Objectives: how much of the error budget is left, and how fast does it burn?"""

from grafana import queries as q
from grafana.panels import OF_SERIES, Board, Column, Query, line, over_time, rows, traces_url

_DAYS = "30d"
_WINDOWS = ("1h", "6h", "1d", "3d")
_BURN_RATES = (1.0, 3.0, 6.0, 14.4)


def _recorded(metric: str) -> str:
    return f"environment:{metric}{{{q.RECORDED}}}"


def _allowed(metric: str) -> str:
    return f"max by (environment) (environment:mlflow_objective_{metric}_ratio:max{{{q.RECORDED}}})"


def _ratio_of_days(metric: str) -> str:
    """Every trace is in as many samples of an hour's increase as any other: so the ratio of the sums is the ratio."""
    part, whole = (
        f"sum by (environment) (sum_over_time(environment:{name}:increase1h{{{q.RECORDED}}}[{_DAYS}]))"
        for name in (metric, "mlflow_traces")
    )
    return q.ratio(part, whole)


def _used(metric: str, allowed: str) -> str:
    return q.ratio(_ratio_of_days(metric), _allowed(allowed))


def _burn(metric: str, allowed: str, window: str) -> str:
    ratio = f"max by (environment) (environment:{metric}:ratio_increase{window}{{{q.RECORDED}}})"
    return q.ratio(ratio, _allowed(allowed))


def _burning(metric: str, allowed: str) -> list[Query]:
    return [Query(_burn(metric, allowed, window), f"{{{{environment}}}} {window}") for window in _WINDOWS]


BUDGETS = rows(
    "Error budgets of 30 days",
    "An objective of 5 % is a budget: of 1,000 traces 50 may fail. Used: which share of the budget of the last 30"
    " days is gone; above 100 % the objective is missed. Needs the recording rules (mlflow-trace-exporter rules).",
    ("environment",),
    Column("May fail", _allowed("error"), "percentunit"),
    Column("Failed", _ratio_of_days("mlflow_trace_errors"), "percentunit"),
    Column("Used for failures", _used("mlflow_trace_errors", "error"), "percentunit", (0.75, 1)),
    Column("Latency objective", q.objective("latency_seconds"), "s"),
    Column("May be slower", _allowed("slow"), "percentunit"),
    Column("Slower", _ratio_of_days("mlflow_trace_slow"), "percentunit"),
    Column("Used for slowness", _used("mlflow_trace_slow", "slow"), "percentunit", (0.75, 1)),
    Column("Cost a day may be", q.objective("cost_usd_per_day"), "currencyUSD"),
    Column("Last 24 hours", f"max by (environment) ({_recorded('mlflow_trace_cost_usd:increase1d')})", "currencyUSD"),
    link=("Its failed traces", traces_url("error", environment="${__data.fields.environment:percentencode}")),
)

_HOW_FAST = (
    "How many times faster than allowed the budget burns, over four windows: at 1 it lasts for 30 days. Dashed are"
    " the rates at which alerts fire: 14.4 over an hour and 6 over six hours page, 3 over a day and 1 over three"
    " days warn."
)

BURN_RATE_OF_FAILURES = over_time(
    "Burn rate of failures",
    _HOW_FAST,
    "suffix: x",
    *_burning("mlflow_trace_errors", "error"),
    lines_at=_BURN_RATES,
    link=("Failed traces of this environment", traces_url("error", **OF_SERIES)),
)

BURN_RATE_OF_SLOWNESS = over_time(
    "Burn rate of slowness",
    _HOW_FAST,
    "suffix: x",
    *_burning("mlflow_trace_slow", "slow"),
    lines_at=_BURN_RATES,
    link=("Slow traces of this environment", traces_url("slow", **OF_SERIES)),
)

FAILED = over_time(
    "Failed",
    "Failed traces a minute, by environment and version.",
    "suffix: /min",
    Query(
        f"60 * {q.rate('mlflow_trace_errors_total', 'environment, version')}",
        "{{environment}} {{version}}",
    ),
    stacked=True,
    link=("Failed traces of this environment", traces_url("error", **OF_SERIES)),
)

SLOW = over_time(
    "Slow",
    "Traces a minute that were slower than the objective, by environment and version. An environment"
    " without a latency objective has none.",
    "suffix: /min",
    Query(
        f"60 * {q.rate('mlflow_trace_slow_total', 'environment, version')}",
        "{{environment}} {{version}}",
    ),
    stacked=True,
    link=("Slow traces of this environment", traces_url("slow", **OF_SERIES)),
)

FIRING_ALERTS = rows(
    "Firing alerts",
    "Alerts of this project that fire now. None is normal: no data. MlflowTracesStale tells nobody: it"
    " keeps alerts back while nothing fresh is known.",
    ("alertname", "severity", "environment", "version"),
    Column(
        "Alerts",
        "count by (alertname, severity, environment, version)"
        ' (ALERTS{alertstate="firing", alertname=~"Mlflow.+", job=~"$job|", environment=~"$environment|"})',
    ),
)

BOARD = Board(
    uid="mlflow-objectives",
    title="MLflow traces: objectives",
    description="How much of each error budget is left, how fast it burns, and which alerts fire.",
    by=("experiment", "environment", "version", "trace_name"),
    panels=(
        line(7, BUDGETS),
        line(9, BURN_RATE_OF_FAILURES, BURN_RATE_OF_SLOWNESS),
        line(8, FAILED, SLOW, FIRING_ALERTS),
    ),
    shown="now-24h",
)
