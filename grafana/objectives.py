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
    """Every trace is in equally many samples of an hourly increase, so the ratio of the sums is the true ratio."""
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
    "30-day error budgets",
    "An objective of 5 % is a budget: of 1,000 traces 50 may fail. Budget used is the share of the budget that is gone"
    " in the last 30 days; above 100 % the objective is missed. Needs the recording rules (mlflow-trace-exporter"
    " rules).",
    ("environment",),
    Column("Allowed to fail", _allowed("error"), "percentunit"),
    Column("Failed", _ratio_of_days("mlflow_trace_errors"), "percentunit"),
    Column("Error budget used", _used("mlflow_trace_errors", "error"), "percentunit", (0.75, 1)),
    Column("Latency objective", q.objective("latency_seconds"), "s"),
    Column("Allowed to be slow", _allowed("slow"), "percentunit"),
    Column("Slow", _ratio_of_days("mlflow_trace_slow"), "percentunit"),
    Column("Latency budget used", _used("mlflow_trace_slow", "slow"), "percentunit", (0.75, 1)),
    Column("Daily cost objective", q.objective("cost_usd_per_day"), "currencyUSD"),
    Column("24 h cost", f"max by (environment) ({_recorded('mlflow_trace_cost_usd:increase1d')})", "currencyUSD"),
    link=(
        "Failed traces of this environment",
        traces_url("error", environment="${__data.fields.environment:percentencode}"),
    ),
)

_HOW_FAST = (
    "How many times faster than sustainable the budget burns, over four windows. At 1 it lasts for 30 days. Dashed"
    " lines are the rates at which alerts fire: 14.4 over an hour and 6 over six hours page; 3 over a day and 1 over"
    " three days warn."
)

ERROR_BURN_RATE = over_time(
    "Error budget burn rate",
    _HOW_FAST,
    "suffix: x",
    *_burning("mlflow_trace_errors", "error"),
    lines_at=_BURN_RATES,
    link=("Failed traces of this environment", traces_url("error", **OF_SERIES)),
)

LATENCY_BURN_RATE = over_time(
    "Latency budget burn rate",
    _HOW_FAST,
    "suffix: x",
    *_burning("mlflow_trace_slow", "slow"),
    lines_at=_BURN_RATES,
    link=("Slow traces of this environment", traces_url("slow", **OF_SERIES)),
)

FAILED_TRACES = over_time(
    "Failed traces",
    "Failed traces per minute, by environment and version.",
    "suffix: /min",
    Query(
        f"60 * {q.rate('mlflow_trace_errors_total', 'environment, version')}",
        "{{environment}} {{version}}",
    ),
    stacked=True,
    link=("Failed traces of this environment", traces_url("error", **OF_SERIES)),
)

SLOW_TRACES = over_time(
    "Slow traces",
    "Traces per minute that were slower than the objective, by environment and version. An environment without a"
    " latency objective has none.",
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
    "Alerts of this project that are firing now. No data is normal. MlflowTracesStale notifies nobody: it only inhibits"
    " trace alerts while there is no fresh data.",
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
        line(9, ERROR_BURN_RATE, LATENCY_BURN_RATE),
        line(8, FAILED_TRACES, SLOW_TRACES, FIRING_ALERTS),
    ),
    shown="now-24h",
)
