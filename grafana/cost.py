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
    Query(q.objective("cost_usd_per_day"), "{{environment}} objective"),
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
    "Tokens a second: input that was not in the provider's cache, that was read from it, and that was"
    " written to it, and output.",
    "suffix: /s",
    Query(
        f"clamp_min({q.rate(_INPUT, 'job')} - {q.rate(_READ, 'job')} - {q.rate(_CREATED, 'job')}, 0)",
        "input",
    ),
    Query(q.rate(_READ, "job"), "input from cache"),
    Query(q.rate(_CREATED, "job"), "input to cache"),
    Query(q.rate(_OUTPUT, "job"), "output"),
    colors={"input": BLUE, "input from cache": SKY, "input to cache": PURPLE, "output": ORANGE},
    stacked=True,
)

CACHE_HIT_SHARE = over_time(
    "Cache hit share",
    "Which share of the input tokens was read from the provider's cache. Higher is cheaper; a fall"
    " mostly means that the beginning of a prompt has changed.",
    "percentunit",
    Query(q.ratio(q.rate(_READ), q.rate(_INPUT)), "{{environment}}"),
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
    "Each version and trace name over the time that is shown.",
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
