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
)

_BY_NAME = "environment, version, trace_name"
_INPUT, _OUTPUT = q.TOKENS
_READ, _CREATED = "mlflow_trace_cache_read_input_tokens_total", "mlflow_trace_cache_creation_input_tokens_total"

# Most of MLflow's integrations count cached tokens in the input as well, some do not (mlflow.claude_code), and a series
# does not say which. So each series is looked at alone. If its cached tokens fit into its input they are taken to be in
# it, which is right for the former; if not, both are added, which is right for the latter. A tenth more still fits,
# because rates are extrapolated. What is wrong is a series of the latter kind with few cached tokens: its share is too
# high. It is never above 100 %, because what is read from the cache is always part of the whole.
_IN, _READ_NOW, _CREATED_NOW = (q.by_series("rate", each) for each in (_INPUT, _READ, _CREATED))
_CACHED = f"({_READ_NOW} + {_CREATED_NOW})"
_FITS = f"{_CACHED} <= 1.1 * {_IN}"
_UNCACHED = f"sum by (job) (clamp_min({_IN} - {_CACHED}, 0) and {_FITS} or {_IN})"
_ALL_INPUT = f"sum by (environment) ({_IN} >= {_CACHED} or {_FITS} or {_IN} + {_CACHED})"

_HOURLY = f"environment:mlflow_trace_cost_usd:increase1h{{{q.RECORDED}}}"
_THIS_MONTH = f"sum by (environment) (sum_over_time({_HOURLY}[{q.SHOWN}])) / 60"
_REST_OF_MONTH_H = "(scalar(days_in_month()) * 24 - $__range_s / 3600)"
_FORECAST = f"{_THIS_MONTH} + {_REST_OF_MONTH_H} * sum by (environment) (avg_over_time({_HOURLY}[7d]))"
_MONTH = "now/M"


def _cost_of_a_day(by: str = "environment") -> str:
    return f"86400 * {q.added(q.COST, 'rate', by)}"


COST_OF_THE_LAST_24_HOURS_OF_OBJECTIVE = number(
    "Cost of the last 24 hours, of objective",
    "What the last 24 hours cost over what the objective allows a day; above 100 % it is missed. No"
    " objective: no data. Needs the recording rules.",
    "percentunit",
    Query(
        f"max by (environment) (environment:mlflow_trace_cost_usd:increase1d{{{q.RECORDED}}})"
        f" / ({q.objective('cost_usd_per_day')} > 0)",
        "{{environment}}",
    ),
    (0.75, 1),
)

MONTH_TO_DATE = number(
    "Month to date",
    "Cost since the month began, in the time zone of this dashboard. Needs the recording rules.",
    "currencyUSD",
    Query(_THIS_MONTH, "{{environment}}"),
    time_from=_MONTH,
)

MONTH_FORECAST = number(
    "Month, forecast",
    "What this month will cost if its other days are like the last seven. Needs the recording rules.",
    "currencyUSD",
    Query(_FORECAST, "{{environment}}"),
    time_from=_MONTH,
)

MONTH_OF_OBJECTIVE = number(
    "Month, of objective",
    "The forecast over the objective of a day times the days of this month; above 100 % it will be"
    " missed. No objective: no data. Needs the recording rules.",
    "percentunit",
    Query(
        f"({_FORECAST}) / (scalar(days_in_month()) * {q.objective('cost_usd_per_day')} > 0)",
        "{{environment}}",
    ),
    (0.75, 1),
    time_from=_MONTH,
)

COST_A_DAY = over_time(
    "Cost a day",
    "The cost of a day at the pace of the moment, by environment, and the objective: dashed.",
    "currencyUSD",
    Query(_cost_of_a_day(), "{{environment}}"),
    Query(q.objective("cost_usd_per_day"), "{{environment}} objective", dashed=True),
)

COST_A_DAY_BY_VERSION = over_time(
    "Cost a day, by version",
    "The cost of a day at the pace of the moment, by version. Which one spends it?",
    "currencyUSD",
    Query(_cost_of_a_day("environment, version"), "{{environment}} {{version}}"),
    stacked=True,
)

TOKENS = over_time(
    "Tokens",
    "Tokens per second: input that was not cached, that was read from the provider's cache, and that was written to it,"
    " and output.",
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
    "The share of all input that was read from the provider's cache. Higher is cheaper; a fall mostly means that the"
    " beginning of a prompt has changed. Most of MLflow's integrations count cached tokens as input tokens; for a trace"
    " name with more cached tokens than input tokens (mlflow.claude_code) all input is both together.",
    "percentunit",
    Query(q.ratio(q.rate(_READ), _ALL_INPUT), "{{environment}}"),
)

WITHOUT_USAGE_OR_COST = over_time(
    "Without usage or cost",
    "Which share of the traces does not say how many tokens it used, or has no cost: by so much the"
    " numbers here are too low.",
    "percentunit",
    Query(
        q.ratio(
            q.rate("mlflow_traces_missing_total", selector=f'{q.TRACES}, field="token_usage"'),
            q.rate("mlflow_traces_total"),
        ),
        "{{environment}} usage",
    ),
    Query(
        q.ratio(
            q.rate("mlflow_traces_missing_total", selector=f'{q.TRACES}, field="cost"'),
            q.rate("mlflow_traces_total"),
        ),
        "{{environment}} cost",
    ),
)

WHO_SPENDS_IT = rows(
    "Who spends it",
    "Each version and trace name over the time that is shown. Most of MLflow's integrations count tokens from the cache"
    " as input tokens as well, but mlflow.claude_code does not.",
    ("environment", "version", "trace_name"),
    Column("Cost", q.added(q.COST, "increase", _BY_NAME), "currencyUSD"),
    Column(
        "Cost a trace",
        q.ratio(q.added(q.COST, "increase", _BY_NAME), q.increase("mlflow_traces_total", _BY_NAME)),
        "currencyUSD",
    ),
    Column("Input tokens", q.increase(_INPUT, _BY_NAME)),
    Column("From cache", q.increase(_READ, _BY_NAME)),
    Column("Output tokens", q.increase(_OUTPUT, _BY_NAME)),
    Column("Traces", q.increase("mlflow_traces_total", _BY_NAME)),
    link=(
        "Their traces",
        traces_url(**OF_ROW),
    ),
)

BOARD = Board(
    uid="mlflow-cost",
    title="MLflow traces: tokens and cost",
    description="What it costs, by environment, version and trace name, against the objective.",
    by=("experiment", "environment", "version", "trace_name"),
    panels=(
        line(6, COST_OF_THE_LAST_24_HOURS_OF_OBJECTIVE, MONTH_TO_DATE, MONTH_FORECAST, MONTH_OF_OBJECTIVE),
        line(9, COST_A_DAY, COST_A_DAY_BY_VERSION),
        line(9, TOKENS, CACHE_HIT_SHARE, WITHOUT_USAGE_OR_COST, widths=(12, 6, 6)),
        line(10, WHO_SPENDS_IT),
    ),
    shown="now-24h",
)
