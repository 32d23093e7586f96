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
    "Each environment over the time range of the dashboard. The vs objective columns divide the share of failed, or"
    " slow, traces by the share that the objective allows. Below 1 is good; from 1 on the objective is missed."
    " Without an objective or without traces there is no data.",
    ("environment",),
    Column("Traces", _TRACES),
    Column("Failed", q.ratio(_ERRORS, _TRACES), "percentunit"),
    Column(
        "Failed vs objective",
        q.ratio(q.ratio(_ERRORS, _TRACES), q.objective("error_ratio")),
        "suffix: x",
        (0.75, 1),
    ),
    Column("Slow vs objective", q.ratio(q.ratio(_SLOW, _TRACES), _SLOW_OBJECTIVE), "suffix: x", (0.75, 1)),
    Column("p50", q.quantile(0.5, window=q.SHOWN), "s"),
    Column("p95", q.quantile(0.95, window=q.SHOWN), "s"),
    Column("p99", q.quantile(0.99, window=q.SHOWN), "s"),
    Column("Latency objective", q.objective("latency_seconds"), "s"),
    Column("Tokens/s", f"{q.added(q.TOKENS, 'increase')} / $__range_s", "short"),
    Column("Cost/h", f"{q.added(q.COST, 'increase')} / $__range_s * 3600", "currencyUSD"),
    Column("In progress", _IN_PROGRESS),
    link=("Traces of this environment", traces_url(environment="${__data.fields.environment:percentencode}")),
)

TRACES = over_time(
    "Traces",
    "Finished traces per second, by environment. Traffic usually follows the time of day.",
    "suffix: /s",
    Query(q.rate("mlflow_traces_total"), "{{environment}}"),
    link=("Traces of this environment", traces_url(**OF_SERIES)),
)

FAILED_TRACES = over_time(
    "Failed traces",
    "The share of traces that failed. The dashed line is the objective of the environment.",
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
    "95 % of the traces took at most this long. The dashed line is the latency objective. The p95 is estimated from"
    " histogram buckets.",
    "s",
    Query(q.quantile(0.95), "{{environment}}", exemplars=True),
    Query(q.objective("latency_seconds"), "{{environment}} objective", dashed=True),
    link=("Slow traces of this environment", traces_url("slow", **OF_SERIES)),
)

LATENCY = over_time(
    "Latency",
    "Quantiles of the duration of all selected traces. A point is an exemplar and links to a trace.",
    "s",
    *(Query(q.quantile(share, by=""), name, exemplars=name == "p99") for name, (share, _) in _QUANTILES.items()),
    colors={name: color for name, (_, color) in _QUANTILES.items()},
)

LATENCY_DISTRIBUTION = distribution(
    "Latency distribution",
    "The number of traces by duration; darker means more. A point is an exemplar and links to a trace.",
    q.increase("mlflow_trace_duration_seconds_bucket", "le", window=q.NOW),
)

TOKENS = over_time(
    "Tokens",
    "Input and output tokens per second, of traces with token usage. Most MLflow integrations include cached tokens in"
    " the input; mlflow.claude_code does not.",
    "suffix: /s",
    Query(q.rate(q.TOKENS[0], by="job"), "input"),
    Query(q.rate(q.TOKENS[1], by="job"), "output"),
    colors={"input": BLUE, "output": ORANGE},
    stacked=True,
)

COST = over_time(
    "Cost",
    "Cost per hour by environment, at the prices that MLflow knows. Traces without a price cost nothing.",
    "currencyUSD",
    Query(f"3600 * {q.added(q.COST, 'rate')}", "{{environment}}"),
)

IN_PROGRESS = over_time(
    "In progress",
    "Traces that have started and not ended. Some are normal; a number that only grows is not.",
    "short",
    Query(_IN_PROGRESS, "{{environment}}"),
    link=("Traces in progress", traces_url("in_progress", **OF_SERIES)),
)

VERSIONS_AND_TRACE_NAMES = rows(
    "Versions and trace names",
    "Each version and trace name over the time range of the dashboard.",
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
        "Traces of this row",
        traces_url(**OF_ROW),
    ),
)

BOARD = Board(
    uid="mlflow-overview",
    title="MLflow traces: overview",
    description="Is each environment healthy? Traffic, errors, latency, tokens and cost, compared with the objectives.",
    by=("experiment", "environment", "version", "trace_name"),
    panels=(
        line(7, ENVIRONMENTS),
        line(8, TRACES, FAILED_TRACES, P95_LATENCY),
        line(9, LATENCY, LATENCY_DISTRIBUTION),
        line(8, TOKENS, COST, IN_PROGRESS),
        line(10, VERSIONS_AND_TRACE_NAMES),
    ),
)
