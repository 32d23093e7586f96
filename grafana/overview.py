"""Overview: which applications need attention?"""

from grafana import queries as q
from grafana.panels import (
    BLUE,
    OF_APPLICATION,
    OF_ROW,
    OF_SERIES,
    ORANGE,
    RED,
    SKY,
    TEAM,
    Board,
    Column,
    Query,
    distribution,
    line,
    over_time,
    rows,
    traces_url,
    view,
)

UID = "mlflow-overview"

_BY_NAME = f"{q.APPLICATION}, version, trace_name"
_NAME = "{{experiment}} {{environment}}"
_QUANTILES = {"p50": (0.5, SKY), "p95": (0.95, BLUE), "p99": (0.99, RED)}


def _traces(window: str = q.SHOWN) -> str:
    return q.increase("mlflow_traces_total", window=window)


def _errors(window: str = q.SHOWN) -> str:
    return q.increase("mlflow_trace_errors_total", window=window)


def _slow(window: str = q.SHOWN) -> str:
    return q.increase("mlflow_trace_slow_total", window=window)


def _error_budget(window: str = q.SHOWN, at: str = "") -> str:
    allowed, least = q.objective("error_ratio", at), q.objective("min_traces", at)
    return q.burned(_errors(window), _traces(window), f"({allowed} > 0)", least)


def _slow_budget(window: str = q.SHOWN, at: str = "") -> str:
    allowed, least = f"(1 - {q.objective('latency_ratio', at)} > 0)", q.objective("min_traces", at)
    return q.burned(_slow(window), _traces(window), allowed, least)


def _worst(used: str) -> str:
    """The rank of an application by a budget. Those without an objective come last."""
    return f"{used} or 0 * {_traces(q.WHOLE)}"


_COST_PER_DAY = f"{q.added(q.COST, 'increase')} * 86400 / $__range_s"
_COST_VS_OBJECTIVE = q.ratio(_COST_PER_DAY, q.objective("cost_usd_per_day"))
_WORST = (
    f"max by ({q.APPLICATION}) ("
    f'label_replace({_error_budget()}, "of", "errors", "", "")'
    f' or label_replace({_slow_budget()}, "of", "latency", "", "")'
    f' or label_replace({_COST_VS_OBJECTIVE}, "of", "cost", "", "")'
    ")"
)
_IN_PROGRESS, _IN_PROGRESS_AT_END = (
    f"sum by ({q.APPLICATION}) (max without (instance, pod) (mlflow_traces_in_progress{{{q.PLACE}}}{at}))"
    for at in ("", q.END)
)
_BUDGET = (0.75, 1)

APPLICATIONS = rows(
    "Applications",
    "Each application (MLflow experiment) and environment over the time range of the dashboard, the worst first. Burned"
    " is the number of failed, or slow, traces divided by the number that the objective allows; above 100 % the"
    " objective is missed. As in alerts, an application with fewer traces than its min_traces is judged as if the"
    " missing ones were good. Worst is the highest of the budgets and the cost, all relative to their objectives.",
    ("experiment", "environment"),
    Column("Worst", _WORST, "percentunit", _BUDGET),
    Column("Error budget burned", _error_budget(), "percentunit", _BUDGET),
    Column("Slow budget burned", _slow_budget(), "percentunit", _BUDGET),
    Column("Cost vs objective", _COST_VS_OBJECTIVE, "percentunit", _BUDGET),
    Column(
        "Failed",
        q.ratio(_errors(), _traces()),
        "percentunit",
        link=("Failed traces", traces_url("error", **OF_APPLICATION)),
    ),
    Column(
        "Slow",
        f"{q.ratio(_slow(), _traces())} and {q.objective('latency_ratio')}",
        "percentunit",
        link=("Slow traces", traces_url("slow", **OF_APPLICATION)),
    ),
    Column("p95", q.quantile(0.95, window=q.SHOWN), "s"),
    Column("Traces/s", f"{_traces()} / $__range_s", link=("Its traces", traces_url(**OF_APPLICATION))),
    Column(
        "Cost/h",
        f"{q.added(q.COST, 'increase')} / $__range_s * 3600",
        "currencyUSD",
        link=view("mlflow-models", "Its models and tools"),
    ),
    link=view(UID),
    first="Worst",
    text=TEAM,
)

TRACES = over_time(
    "Traces",
    "Finished traces per second. Traffic usually follows the time of day. To stay readable, the graph shows at most"
    " ten applications and environments: those with the most traces.",
    "suffix: /s",
    Query(q.highest(q.rate("mlflow_traces_total"), _traces(q.WHOLE)), _NAME),
    link=("Traces of this application", traces_url(**OF_SERIES)),
)

FAILED_TRACES = over_time(
    "Failed traces",
    "The share of traces that failed. To stay readable, the graph shows at most ten applications and environments:"
    " those that burned the most of their error budget. The dashed line is the objective of an environment, if its"
    " applications have the same.",
    "percentunit",
    Query(
        q.highest(
            q.ratio(q.rate("mlflow_trace_errors_total"), q.rate("mlflow_traces_total")),
            _worst(_error_budget(q.WHOLE, q.END)),
        ),
        _NAME,
    ),
    Query(q.shared_objective("error_ratio"), "{{environment}} objective", dashed=True),
    link=("Failed traces of this application", traces_url("error", **OF_SERIES)),
)

P95_LATENCY = over_time(
    "p95 latency",
    "95 % of the traces took at most this long, estimated from histogram buckets. To stay readable, the graph shows at"
    " most ten applications and environments: those that burned the most of their slow budget. The dashed line is the"
    " latency objective of an environment, if its applications have the same.",
    "s",
    Query(q.highest(q.quantile(0.95), _worst(_slow_budget(q.WHOLE, q.END))), _NAME, exemplars=True),
    Query(q.shared_objective("latency_seconds"), "{{environment}} objective", dashed=True),
    link=("Slow traces of this application", traces_url("slow", **OF_SERIES)),
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
    Query(q.increase("mlflow_trace_duration_seconds_bucket", "le", window=q.NOW), "{{le}}", exemplars=True),
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
    "Cost per hour, at the prices that MLflow knows. Traces without a price cost nothing. To stay readable, the graph"
    " shows at most ten applications and environments: the most expensive.",
    "currencyUSD",
    Query(q.highest(f"3600 * {q.added(q.COST, 'rate')}", q.added(q.COST, "increase", window=q.WHOLE)), _NAME),
)

IN_PROGRESS = over_time(
    "In progress",
    "Traces that have started and not ended. Some are normal; a number that only grows is not. To stay readable, the"
    " graph shows at most ten applications and environments: those with the most at the end.",
    "short",
    Query(q.highest(_IN_PROGRESS, _IN_PROGRESS_AT_END), _NAME),
    link=("Traces in progress", traces_url("in_progress", **OF_SERIES)),
)

VERSIONS_AND_TRACE_NAMES = rows(
    "Versions and trace names",
    "Each version and trace name over the time range of the dashboard.",
    ("experiment", "environment", "version", "trace_name"),
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
    link=("Traces of this row", traces_url(**OF_ROW)),
    first="Traces",
)


def _active(what: str, window: str) -> str:
    return f'max by ({q.APPLICATION}) (mlflow_active_{what}{{{q.PLACE}, window="{window}"}})'


ACTIVE = rows(
    "Active users and sessions",
    "How many distinct users and sessions each application had at the end of the time range, in the last day (in whole"
    " hours) and in the last 30 days. The standard error is 1.5 %. The numbers of applications cannot be added: a user"
    " of two counts in both. Needs active_users.enabled in the exporter's configuration.",
    ("experiment", "environment"),
    Column("Users, 1d", _active("users", "1d")),
    Column("Users, 30d", _active("users", "30d")),
    Column("Sessions, 1d", _active("sessions", "1d")),
    Column("Sessions, 30d", _active("sessions", "30d")),
    link=view(UID),
    first="Users, 1d",
)

BOARD = Board(
    uid=UID,
    title="MLflow traces: overview",
    description="Which applications need attention? Traffic, errors, latency, tokens and cost, compared with the"
    " objectives.",
    by=("environment", "version", "trace_name"),
    panels=(
        line(8, APPLICATIONS),
        line(8, TRACES, FAILED_TRACES, P95_LATENCY),
        line(9, LATENCY, LATENCY_DISTRIBUTION),
        line(8, TOKENS, COST, IN_PROGRESS),
        line(10, VERSIONS_AND_TRACE_NAMES),
        line(8, ACTIVE),
    ),
)
