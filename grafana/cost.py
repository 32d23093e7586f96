"""Tokens and cost: what does it cost, and who spends it?"""

from grafana import queries as q
from grafana.panels import (
    BLUE,
    OF_ROW,
    ORANGE,
    PURPLE,
    SKY,
    Board,
    Column,
    Query,
    line,
    number,
    over_time,
    rows,
    traces_url,
    view,
)

_VERSION = f"{q.APPLICATION}, version"
_BY_NAME = f"{_VERSION}, trace_name"
_NAME = "{{experiment}} {{environment}}"
_NUMBERS = 4
"""How many applications a panel of numbers shows."""
_INPUT, _OUTPUT = q.TOKENS
_READ, _CREATED = "mlflow_trace_cache_read_input_tokens_total", "mlflow_trace_cache_creation_input_tokens_total"

# Most MLflow integrations include cached tokens in the input. Some do not (mlflow.claude_code), and a series does not
# say which. Each series is therefore judged on its own. If its cached tokens fit into its input, they are treated as
# part of it, which is right for the first kind. If not, both are added, which is right for the second kind. A tenth
# more still fits, because rates are extrapolated. The result is wrong for a series of the second kind with few cached
# tokens: its share is too high. It never exceeds 100 %, because tokens read from the cache are always part of the sum.
_IN, _READ_NOW, _CREATED_NOW = (q.by_series("rate", each) for each in (_INPUT, _READ, _CREATED))
_CACHED = f"({_READ_NOW} + {_CREATED_NOW})"
_FITS = f"{_CACHED} <= 1.1 * {_IN}"
_UNCACHED = f"sum by (job) (clamp_min({_IN} - {_CACHED}, 0) and {_FITS} or {_IN})"
_ALL_INPUT = f"sum by ({q.APPLICATION}) ({_IN} >= {_CACHED} or {_FITS} or {_IN} + {_CACHED})"

_HOURLY = f"experiment_environment:mlflow_trace_cost_usd:increase1h{{{q.RECORDED}}}"
_REST_OF_MONTH_H = "(scalar(days_in_month()) * 24 - $__range_s / 3600)"
_MONTH = "now/M"


def _this_month(by: str = "environment") -> str:
    return f"sum by ({by}) (sum_over_time({_HOURLY}{q.SHOWN})) / 60"


def _forecast(by: str = "environment") -> str:
    return f"{_this_month(by)} + {_REST_OF_MONTH_H} * sum by ({by}) (avg_over_time({_HOURLY}[7d]))"


def _cost_of_a_day(by: str = q.APPLICATION) -> str:
    rank = q.added(q.COST, "increase", by, window=q.WHOLE)
    return q.highest(f"86400 * {q.added(q.COST, 'rate', by)}", rank, by)


def _share_without(field: str) -> str:
    metric, selector = "mlflow_traces_missing_total", f'{q.TRACES}, field="{field}"'
    share = q.ratio(q.rate(metric, selector=selector), q.rate("mlflow_traces_total"))
    return q.highest(share, q.increase(metric, selector=selector, window=q.WHOLE))


COST_VS_DAILY_OBJECTIVE = number(
    "24 h cost vs daily objective",
    "The cost of the last 24 hours divided by the daily objective: the four applications and environments with the"
    " highest. Above 100 % the objective is missed. Without an objective there is no data. Needs the recording rules.",
    "percentunit",
    Query(
        f"topk({_NUMBERS},"
        f" max by ({q.APPLICATION}) (experiment_environment:mlflow_trace_cost_usd:increase1d{{{q.RECORDED}}})"
        f" / ({q.objective('cost_usd_per_day')} > 0))",
        _NAME,
    ),
    (0.75, 1),
)

MONTH_TO_DATE = number(
    "Month to date",
    "Cost of all selected applications since the start of the month, in the time zone of this dashboard. Needs the"
    " recording rules.",
    "currencyUSD",
    Query(_this_month(), "{{environment}}"),
    time_from=_MONTH,
)

MONTHLY_FORECAST = number(
    "Monthly forecast",
    "The cost of this month if its remaining days cost as much as the last seven. Needs the recording rules.",
    "currencyUSD",
    Query(_forecast(), "{{environment}}"),
    time_from=_MONTH,
)

FORECAST_VS_OBJECTIVE = number(
    "Monthly forecast vs objective",
    "The forecast divided by the daily objective times the days of this month: the four applications and environments"
    " with the highest. Above 100 % the objective will be missed. Without an objective there is no data. Needs the"
    " recording rules.",
    "percentunit",
    Query(
        f"topk({_NUMBERS}, ({_forecast(q.APPLICATION)})"
        f" / (scalar(days_in_month()) * {q.objective('cost_usd_per_day')} > 0))",
        _NAME,
    ),
    (0.75, 1),
    time_from=_MONTH,
)

COST_PER_DAY = over_time(
    "Cost per day",
    "The daily cost at the current pace. To stay readable, the graph shows at most ten applications and environments:"
    " the most expensive. The dashed line is the objective of an environment, if its applications have the same.",
    "currencyUSD",
    Query(_cost_of_a_day(), _NAME),
    Query(q.shared_objective("cost_usd_per_day"), "{{environment}} objective", dashed=True),
)

COST_PER_DAY_BY_VERSION = over_time(
    "Cost per day by version",
    "The daily cost at the current pace, by application, environment and version. To stay readable, the graph shows at"
    " most ten of these: the most expensive.",
    "currencyUSD",
    Query(_cost_of_a_day(_VERSION), f"{_NAME} {{{{version}}}}"),
    stacked=True,
)

TOKENS = over_time(
    "Tokens",
    "Tokens per second: output, and input that was not cached, was read from the provider's cache, or was written to"
    " it.",
    "suffix: /s",
    Query(_UNCACHED, "input"),
    Query(q.rate(_READ, "job"), "input from cache"),
    Query(q.rate(_CREATED, "job"), "input to cache"),
    Query(q.rate(_OUTPUT, "job"), "output"),
    colors={"input": BLUE, "input from cache": SKY, "input to cache": PURPLE, "output": ORANGE},
    stacked=True,
)

CACHE_HIT_SHARE = over_time(
    "Cache hit share",
    "The share of all input that was read from the provider's cache. Higher is cheaper. A drop usually means that the"
    " beginning of a prompt has changed. Most MLflow integrations count cached tokens as input tokens. For a trace"
    " name with more cached tokens than input tokens (mlflow.claude_code), the input is the sum of both. To stay"
    " readable, the graph shows at most ten applications and environments: those with the most input.",
    "percentunit",
    Query(q.highest(q.ratio(q.rate(_READ), _ALL_INPUT), q.increase(_INPUT, window=q.WHOLE)), _NAME),
)

WITHOUT_USAGE_OR_COST = over_time(
    "Without usage or cost",
    "The share of traces without token usage, or without cost. The numbers on this dashboard are too low by that much."
    " To stay readable, the graph shows at most ten applications and environments: those with the most such traces.",
    "percentunit",
    Query(_share_without("token_usage"), f"{_NAME} usage"),
    Query(_share_without("cost"), f"{_NAME} cost"),
)

TOP_SPENDERS = rows(
    "Top spenders",
    "Each version and trace name over the time range of the dashboard. Most MLflow integrations include cached tokens"
    " in the input tokens; mlflow.claude_code does not.",
    ("experiment", "environment", "version", "trace_name"),
    Column(
        "Cost",
        q.added(q.COST, "increase", _BY_NAME),
        "currencyUSD",
        link=view("mlflow-models", "Its models and tools"),
    ),
    Column(
        "Cost per trace",
        q.ratio(q.added(q.COST, "increase", _BY_NAME), q.increase("mlflow_traces_total", _BY_NAME)),
        "currencyUSD",
    ),
    Column("Input tokens", q.increase(_INPUT, _BY_NAME)),
    Column("From cache", q.increase(_READ, _BY_NAME)),
    Column("Output tokens", q.increase(_OUTPUT, _BY_NAME)),
    Column("Traces", q.increase("mlflow_traces_total", _BY_NAME)),
    link=("Traces of this row", traces_url(**OF_ROW)),
    first="Cost",
)

BOARD = Board(
    uid="mlflow-cost",
    title="MLflow traces: tokens and cost",
    description="Tokens and cost by application, environment, version and trace name, compared with the objectives.",
    by=("environment", "version", "trace_name"),
    panels=(
        line(6, COST_VS_DAILY_OBJECTIVE, MONTH_TO_DATE, MONTHLY_FORECAST, FORECAST_VS_OBJECTIVE),
        line(9, COST_PER_DAY, COST_PER_DAY_BY_VERSION),
        line(9, TOKENS, CACHE_HIT_SHARE, WITHOUT_USAGE_OR_COST, widths=(12, 6, 6)),
        line(10, TOP_SPENDERS),
    ),
    shown="now-24h",
)
