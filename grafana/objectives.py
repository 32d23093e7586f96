"""Objectives: how much of the error budget is left, and how fast does it burn?"""

from grafana import queries as q
from grafana.panels import (
    OF_APPLICATION,
    OF_SERIES,
    TEAM,
    AnyPanel,
    Board,
    Column,
    Link,
    Query,
    line,
    over_time,
    rows,
    traces_url,
    view,
)

UID = "mlflow-objectives"

_DAYS = "30d:1m"
"""The window of budgets, and its step: a sample a minute, because Prometheus loads at most 50 million for a query."""
_WINDOWS = ("1h", "6h", "1d", "3d")
_BURN_RATES = (1.0, 3.0, 6.0, 14.4)
_LINES = 5
"""How many applications a graph of burn rates draws, each with four windows."""

_VERSION = f"{q.APPLICATION}, version"
_BUDGET = (0.75, 1)


def _recorded(metric: str, at: str = "") -> str:
    return f"max by ({q.APPLICATION}) (experiment_environment:{metric}{{{q.RECORDED}}}{at})"


def _allowed(metric: str, at: str = "") -> str:
    return _recorded(f"mlflow_objective_{metric}_ratio:max", at)


def _ratio_of_days(metric: str) -> str:
    """Every trace is in equally many samples of an hourly increase, so the ratio of the sums is the true ratio."""
    part, whole = (
        f"sum by ({q.APPLICATION}) (sum_over_time(experiment_environment:{name}:increase1h{{{q.RECORDED}}}[{_DAYS}]))"
        for name in (metric, "mlflow_traces")
    )
    return q.ratio(part, whole)


def _used(metric: str, allowed: str) -> str:
    return q.ratio(_ratio_of_days(metric), _allowed(allowed))


def _burn(metric: str, allowed: str, window: str) -> str:
    bad, traces = (_recorded(f"{each}:increase{window}", q.END) for each in (metric, "mlflow_traces"))
    least = _recorded("mlflow_objective_min_traces:max", q.END)
    rank = q.burned(bad, traces, f"({_allowed(allowed, q.END)} > 0)", least)
    rate = q.ratio(_recorded(f"{metric}:ratio_increase{window}"), _allowed(allowed))
    return q.highest(rate, rank, most=_LINES)


def _burn_rate(title: str, metric: str, allowed: str, link: Link) -> AnyPanel:
    queries = [
        Query(_burn(metric, allowed, window), f"{{{{experiment}}}} {{{{environment}}}} {window}") for window in _WINDOWS
    ]
    return over_time(title, _HOW_FAST, "suffix: x", *queries, lines_at=_BURN_RATES, link=link)


def _per_minute(metric: str) -> Query:
    rate, rank = q.rate(metric, _VERSION), q.increase(metric, _VERSION, window=q.WHOLE)
    name = "{{experiment}} {{environment}} {{version}}"
    return Query(q.highest(f"60 * {rate}", rank, _VERSION), name)


BUDGETS = rows(
    "30-day error budgets",
    "An objective of 5 % is a budget: of 1,000 traces 50 may fail. Budget used is the share of the budget that is gone"
    " in the last 30 days; above 100 % the objective is missed. The application and environment that has used the most"
    " comes first. Needs the recording rules (mlflow-trace-exporter rules).",
    ("experiment", "environment"),
    Column("Allowed to fail", _allowed("error"), "percentunit"),
    Column(
        "Failed",
        _ratio_of_days("mlflow_trace_errors"),
        "percentunit",
        link=("Failed traces", traces_url("error", **OF_APPLICATION)),
    ),
    Column("Error budget used", _used("mlflow_trace_errors", "error"), "percentunit", _BUDGET),
    Column("Latency objective", q.objective("latency_seconds"), "s"),
    Column("Allowed to be slow", _allowed("slow"), "percentunit"),
    Column(
        "Slow",
        _ratio_of_days("mlflow_trace_slow"),
        "percentunit",
        link=("Slow traces", traces_url("slow", **OF_APPLICATION)),
    ),
    Column("Latency budget used", _used("mlflow_trace_slow", "slow"), "percentunit", _BUDGET),
    Column("Daily cost objective", q.objective("cost_usd_per_day"), "currencyUSD"),
    Column("24 h cost", _recorded("mlflow_trace_cost_usd:increase1d"), "currencyUSD"),
    link=view(UID),
    first="Error budget used",
    text=TEAM,
)

_HOW_FAST = (
    "How many times faster than sustainable the budget burns, over four windows. At 1 it lasts for 30 days. Dashed"
    " lines are the rates at which alerts fire: 14.4 over an hour and 6 over six hours page; 3 over a day and 1 over"
    " three days warn. To stay readable, the graph shows at most five applications and environments: those that burn"
    " the fastest at the end, for each window."
)

ERROR_BURN_RATE = _burn_rate(
    "Error budget burn rate",
    "mlflow_trace_errors",
    "error",
    ("Failed traces of this application", traces_url("error", **OF_SERIES)),
)

LATENCY_BURN_RATE = _burn_rate(
    "Latency budget burn rate",
    "mlflow_trace_slow",
    "slow",
    ("Slow traces of this application", traces_url("slow", **OF_SERIES)),
)

FAILED_TRACES = over_time(
    "Failed traces",
    "Failed traces per minute, by application, environment and version. To stay readable, the graph shows at most ten"
    " of these: those with the most.",
    "suffix: /min",
    _per_minute("mlflow_trace_errors_total"),
    stacked=True,
    link=("Failed traces of this application", traces_url("error", **OF_SERIES)),
)

SLOW_TRACES = over_time(
    "Slow traces",
    "Traces per minute that were slower than the objective, by application, environment and version. Without a latency"
    " objective there are none. To stay readable, the graph shows at most ten of these: those with the most.",
    "suffix: /min",
    _per_minute("mlflow_trace_slow_total"),
    stacked=True,
    link=("Slow traces of this application", traces_url("slow", **OF_SERIES)),
)

_ALERT = ("alertname", "severity", "team", "experiment", "environment", "version")

FIRING_ALERTS = rows(
    "Firing alerts",
    "Alerts of this project that are firing now. No data is normal. MlflowTracesStale notifies nobody: it only inhibits"
    " trace alerts while there is no fresh data.",
    _ALERT,
    Column(
        "Alerts",
        f"count by ({', '.join(_ALERT)})"
        ' (ALERTS{alertstate="firing", alertname=~"Mlflow.+", job=~"$job|", team=~"$team|", experiment=~"$experiment|",'
        ' environment=~"$environment|"})',
    ),
)

BOARD = Board(
    uid=UID,
    title="MLflow traces: objectives",
    description="How much of each error budget is left, how fast it burns, and which alerts fire.",
    by=("environment", "version", "trace_name"),
    panels=(
        line(7, BUDGETS),
        line(9, ERROR_BURN_RATE, LATENCY_BURN_RATE),
        line(8, FAILED_TRACES, SLOW_TRACES, FIRING_ALERTS, widths=(7, 7, 10)),
    ),
    shown="now-24h",
)
