"""Overview: is each environment healthy?"""

from grafana import queries as q
from grafana.panels import (
    BLUE,
    OF_ROW,
    OF_SERIES,
    ORANGE,
    RED,
    SKY,
    Board,
    Column,
    Query,
    distribution,
    line,
    over_time,
    rows,
    traces_url,
)

_TRACES = q.increase("mlflow_traces_total")
_ERRORS = q.increase("mlflow_trace_errors_total")
_SLOW = q.increase("mlflow_trace_slow_total")
_SLOW_OBJECTIVE = f"(1 - {q.objective('latency_ratio')})"
_BY_NAME = "environment, version, trace_name"
_QUANTILES = {"p50": (0.5, SKY), "p95": (0.95, BLUE), "p99": (0.99, RED)}


_IN_PROGRESS = f"sum by (environment) (max without (instance, pod) (mlflow_traces_in_progress{{{q.PLACE}}}))"

ENVIRONMENTS = rows(
    "Environments",
    "Each environment over the time that is shown. Of objective: the share of failed, or slow, traces over the share"
    " that the objective allows; below 1 is good, from 1 on the objective is missed. No objective, or no traces: no"
    " data.",
    ("environment",),
    Column("Traces", _TRACES),
    Column("Failed", q.ratio(_ERRORS, _TRACES), "percentunit"),
    Column(
        "Failed, of objective",
        q.ratio(q.ratio(_ERRORS, _TRACES), q.objective("error_ratio")),
        "suffix: x",
        (0.75, 1),
    ),
    Column("Slow, of objective", q.ratio(q.ratio(_SLOW, _TRACES), _SLOW_OBJECTIVE), "suffix: x", (0.75, 1)),
    Column("p50", q.quantile(0.5, window=q.SHOWN), "s"),
    Column("p95", q.quantile(0.95, window=q.SHOWN), "s"),
    Column("p99", q.quantile(0.99, window=q.SHOWN), "s"),
    Column("Latency objective", q.objective("latency_seconds"), "s"),
    Column("Tokens/s", f"{q.added(q.TOKENS, 'increase')} / $__range_s", "short"),
    Column("Cost/h", f"{q.added(q.COST, 'increase')} / $__range_s * 3600", "currencyUSD"),
    Column("In progress", _IN_PROGRESS),
    link=("Its traces", traces_url(environment="${__data.fields.environment:percentencode}")),
)

TRACES = over_time(
    "Traces",
    "Finished traces a second, by environment. It is normal that this follows the hours of the day.",
    "suffix: /s",
    Query(q.rate("mlflow_traces_total"), "{{environment}}"),
    link=("Traces of this environment", traces_url(**OF_SERIES)),
)

FAILED_TRACES = over_time(
    "Failed traces",
    "The share of traces that failed, and the objective: dashed, of the same name.",
    "percentunit",
    Query(
        q.ratio(q.rate("mlflow_trace_errors_total"), q.rate("mlflow_traces_total")),
        "{{environment}}",
    ),
    Query(q.objective("error_ratio"), "{{environment}} objective", dashed=True),
    link=("Failed traces of this environment", traces_url("error", **OF_SERIES)),
)

P95_LATENCY = over_time(
    "p95 latency",
    "95 % of the traces took no longer, and the latency that the objective names: dashed. Read off"
    " histogram buckets, so about right.",
    "s",
    Query(q.quantile(0.95), "{{environment}}", exemplars=True),
    Query(q.objective("latency_seconds"), "{{environment}} objective", dashed=True),
    link=("Slow traces of this environment", traces_url("slow", **OF_SERIES)),
)

LATENCY = over_time(
    "Latency",
    "Quantiles of the duration of all traces that are selected. A point is an exemplar: it leads to a trace.",
    "s",
    *(Query(q.quantile(share, by=""), name, exemplars=name == "p99") for name, (share, _) in _QUANTILES.items()),
    colors={name: color for name, (_, color) in _QUANTILES.items()},
)

LATENCY_DISTRIBUTION = distribution(
    "Latency distribution",
    "How many traces took how long; dark is many. A point is an exemplar: it leads to a trace.",
    q.increase("mlflow_trace_duration_seconds_bucket", "le", window=q.NOW),
)

TOKENS = over_time(
    "Tokens",
    "Input and output tokens per second, of traces that say how many they used. Cached tokens are part of the input"
    " with most of MLflow's integrations, but not with mlflow.claude_code.",
    "suffix: /s",
    Query(q.rate(q.TOKENS[0], by="job"), "input"),
    Query(q.rate(q.TOKENS[1], by="job"), "output"),
    colors={"input": BLUE, "output": ORANGE},
    stacked=True,
)

COST = over_time(
    "Cost",
    "Cost an hour by environment, at the prices that MLflow knows; traces without one cost nothing.",
    "currencyUSD",
    Query(f"3600 * {q.added(q.COST, 'rate')}", "{{environment}}"),
)

IN_PROGRESS = over_time(
    "In progress",
    "Traces that have begun and not ended. Some are normal; a number that only grows is not.",
    "short",
    Query(_IN_PROGRESS, "{{environment}}"),
    link=("Traces in progress", traces_url("in_progress", **OF_SERIES)),
)

VERSIONS_AND_TRACE_NAMES = rows(
    "Versions and trace names",
    "Each version and trace name over the time that is shown.",
    ("environment", "version", "trace_name"),
    Column("Traces", q.increase("mlflow_traces_total", _BY_NAME)),
    Column(
        "Failed",
        q.ratio(
            q.increase("mlflow_trace_errors_total", _BY_NAME),
            q.increase("mlflow_traces_total", _BY_NAME),
        ),
        "percentunit",
    ),
    Column("p50", q.quantile(0.5, _BY_NAME, window=q.SHOWN), "s"),
    Column("p95", q.quantile(0.95, _BY_NAME, window=q.SHOWN), "s"),
    Column("Tokens", q.added(q.TOKENS, "increase", _BY_NAME)),
    Column("Cost", q.added(q.COST, "increase", _BY_NAME), "currencyUSD"),
    link=(
        "Their traces",
        traces_url(**OF_ROW),
    ),
)

BOARD = Board(
    uid="mlflow-overview",
    title="MLflow traces: overview",
    description="Is each environment healthy: traffic, errors, latency, tokens and cost, against the objectives.",
    by=("experiment", "environment", "version", "trace_name"),
    panels=(
        line(7, ENVIRONMENTS),
        line(8, TRACES, FAILED_TRACES, P95_LATENCY),
        line(9, LATENCY, LATENCY_DISTRIBUTION),
        line(8, TOKENS, COST, IN_PROGRESS),
        line(10, VERSIONS_AND_TRACE_NAMES),
    ),
)
