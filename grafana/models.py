"""Models and tools: which model costs so much, which provider is slow, and which tool fails?"""

from grafana import queries as q
from grafana.panels import (
    BLUE,
    GREY,
    OF_APPLICATION,
    OF_SERIES,
    ORANGE,
    PURPLE,
    Board,
    Column,
    Query,
    line,
    over_time,
    rows,
    traces_url,
    view,
)

UID = "mlflow-models"

_MODEL = "provider, model"
_TOOL = f"{q.APPLICATION}, span_type, span_name"
_NAME = "{{provider}} {{model}}"
_TOOL_NAME = "{{experiment}} {{environment}} {{span_name}}"

_CALLS, _CALL_TIME = (f"mlflow_llm_call_duration_seconds_{each}" for each in ("count", "sum"))
_SPANS, _SPAN_TIME = (f"mlflow_span_duration_seconds_{each}" for each in ("count", "sum"))
_FIRST_CHUNK = "mlflow_llm_time_to_first_chunk_seconds"
_COST = ("mlflow_llm_input_cost_usd_total", "mlflow_llm_output_cost_usd_total")
_TOKENS = ("mlflow_llm_input_tokens_total", "mlflow_llm_output_tokens_total")

_FAILED_CALLS = f'{q.MODEL}, status="error"'
_SUCCESSFUL_CALLS = f'{q.MODEL}, status="ok"'
_TOOLS = f'{q.PLACE}, span_type!~"AGENT|CHAIN|WORKFLOW|TASK"'
_FAILED_TOOLS = f'{_TOOLS}, status="error"'
_TEN = "To stay readable, the graph shows at most ten"


def _added(metrics: tuple[str, str], function: str, window: str = q.SHOWN) -> str:
    return q.added(metrics, function, _MODEL, q.MODEL, window)


def _calls(window: str = q.SHOWN) -> str:
    return q.increase(_CALLS, _MODEL, q.MODEL, window)


def _failed(window: str = q.SHOWN) -> str:
    return q.increase(_CALLS, _MODEL, _FAILED_CALLS, window)


def _p95(window: str = q.NOW) -> str:
    return q.quantile(0.95, _MODEL, _SUCCESSFUL_CALLS, window, "mlflow_llm_call_duration_seconds")


def _first_chunk(window: str = q.NOW) -> str:
    return q.quantile(0.95, _MODEL, q.MODEL, window, _FIRST_CHUNK)


def _tool_p95(window: str = q.NOW) -> str:
    return q.quantile(0.95, _TOOL, _TOOLS, window, "mlflow_span_duration_seconds")


def _highest(expr: str, rank: str, by: str = _MODEL) -> str:
    return q.highest(expr, rank, by)


MODELS = rows(
    "Models",
    "Each provider and model over the time range of the dashboard, the most expensive first. p95 is that of successful"
    " calls. First chunk is the p95 of the time to the first chunk of streamed calls. Models without a price that"
    " MLflow knows cost nothing. Needs spans.enabled in the exporter's configuration.",
    ("provider", "model"),
    Column("Cost", _added(_COST, "increase"), "currencyUSD"),
    Column("Cost per 1,000 calls", f"1000 * {q.ratio(_added(_COST, 'increase'), _calls())}", "currencyUSD"),
    Column("Calls", _calls()),
    Column("Failed", q.ratio(_failed(), _calls()), "percentunit"),
    Column("p95", _p95(q.SHOWN), "s"),
    Column("First chunk", _first_chunk(q.SHOWN), "s"),
    Column("Input tokens", q.increase(_TOKENS[0], _MODEL, q.MODEL)),
    Column("Output tokens", q.increase(_TOKENS[1], _MODEL, q.MODEL)),
    first="Cost",
)

COST_PER_DAY = over_time(
    "Cost per day",
    f"The daily cost at the current pace, by provider and model. {_TEN} models: the most expensive.",
    "currencyUSD",
    Query(_highest(f"86400 * {_added(_COST, 'rate')}", _added(_COST, "increase", q.WHOLE)), _NAME),
    stacked=True,
)

TOKENS = over_time(
    "Tokens",
    f"Input and output tokens per second, by provider and model. {_TEN} models: those with the most tokens.",
    "suffix: /s",
    Query(_highest(_added(_TOKENS, "rate"), _added(_TOKENS, "increase", q.WHOLE)), _NAME),
    stacked=True,
)

COST_PER_1000_CALLS = over_time(
    "Cost per 1,000 calls",
    "The mean cost of 1,000 calls. It rises with longer prompts and answers, and falls with the share that is read"
    f" from the provider's cache. {_TEN} models: the most expensive per call.",
    "currencyUSD",
    Query(
        _highest(
            f"1000 * {q.ratio(_added(_COST, 'rate'), q.rate(_CALLS, _MODEL, q.MODEL))}",
            q.ratio(_added(_COST, "increase", q.WHOLE), _calls(q.WHOLE)),
        ),
        _NAME,
    ),
)

FAILED_CALLS = over_time(
    "Failed calls",
    f"The share of calls that failed, by provider and model. {_TEN} models: those with the most failed calls.",
    "percentunit",
    Query(
        _highest(
            q.ratio(q.rate(_CALLS, _MODEL, _FAILED_CALLS), q.rate(_CALLS, _MODEL, q.MODEL)),
            _failed(q.WHOLE),
        ),
        _NAME,
    ),
)

P95_OF_CALLS = over_time(
    "p95 of calls",
    "95 % of the successful calls took at most this long, estimated from histogram buckets. A point is an exemplar and"
    f" links to a trace. {_TEN} models: the slowest.",
    "s",
    Query(_highest(_p95(), _p95(q.WHOLE)), _NAME, exemplars=True),
)

FIRST_CHUNK = over_time(
    "Time to first chunk",
    "95 % of the streamed calls had their first chunk after at most this time. The dashed line is the objective of an"
    f" environment, if its applications have the same. {_TEN} models: the slowest.",
    "s",
    Query(_highest(_first_chunk(), _first_chunk(q.WHOLE)), _NAME),
    Query(q.shared_objective("first_chunk_seconds"), "{{environment}} objective", dashed=True),
)

_TRACES, _TRACE_TIME = (q.rate(f"mlflow_trace_duration_seconds_{each}", "job", q.PLACE) for each in ("count", "sum"))
_OF_MODELS = q.rate(_CALL_TIME, "job", q.PLACE)
_OF_TOOLS, _OF_RETRIEVERS = (
    q.rate(_SPAN_TIME, "job", f'{q.PLACE}, span_type="{each}"') for each in ("TOOL", "RETRIEVER")
)


def _of_trace(time: str) -> str:
    return q.ratio(time, _TRACES)


_REST = "clamp_min({} - {} - {} - {}, 0)".format(
    _TRACE_TIME, *(f"({each} or 0 * {_TRACE_TIME})" for each in (_OF_MODELS, _OF_TOOLS, _OF_RETRIEVERS))
)

WHERE_TIME_GOES = over_time(
    "Where a trace's time goes",
    "The mean time per trace in calls of models, in tools, in retrievers, and in the rest of the application. Calls"
    " that run at the same time, or inside a tool, overlap: then the sum is above the duration of a trace, and the rest"
    " is too short.",
    "s",
    Query(_of_trace(_OF_MODELS), "models"),
    Query(_of_trace(_OF_TOOLS), "tools"),
    Query(_of_trace(_OF_RETRIEVERS), "retrievers"),
    Query(_of_trace(_REST), "rest"),
    colors={"models": BLUE, "tools": ORANGE, "retrievers": PURPLE, "rest": GREY},
    stacked=True,
)

FAILED_TOOLS = over_time(
    "Failures of tools",
    "Failed spans per minute, by application, environment and name of the tool or retriever. Agents and chains are left"
    f" out, because they fail when something in them fails. {_TEN} of these: those with the most failures.",
    "suffix: /min",
    Query(
        _highest(
            f"60 * {q.rate(_SPANS, _TOOL, _FAILED_TOOLS)}", q.increase(_SPANS, _TOOL, _FAILED_TOOLS, q.WHOLE), _TOOL
        ),
        _TOOL_NAME,
    ),
    stacked=True,
    link=("Traces of this application", traces_url(**OF_SERIES)),
)

P95_OF_TOOLS = over_time(
    "p95 of tools",
    "95 % of the spans of a tool or retriever took at most this long, estimated from histogram buckets. A point is an"
    f" exemplar and links to a trace. {_TEN} of these: the slowest.",
    "s",
    Query(_highest(_tool_p95(), _tool_p95(q.WHOLE), _TOOL), _TOOL_NAME, exemplars=True),
    link=("Traces of this application", traces_url(**OF_SERIES)),
)

TOOLS = rows(
    "Tools and other spans",
    "Each type and name of span that is not a call of a model, over the time range of the dashboard, those that failed"
    " most often first. Time is that of all its spans together. spans.types in the exporter's configuration selects the"
    " types.",
    ("experiment", "environment", "span_type", "span_name"),
    Column(
        "Failures",
        q.increase(_SPANS, _TOOL, f'{q.PLACE}, status="error"'),
        link=("Traces of this application", traces_url(**OF_APPLICATION)),
    ),
    Column(
        "Failed",
        q.ratio(
            q.increase(_SPANS, _TOOL, f'{q.PLACE}, status="error"'),
            q.increase(_SPANS, _TOOL, q.PLACE),
        ),
        "percentunit",
    ),
    Column("Spans", q.increase(_SPANS, _TOOL, q.PLACE)),
    Column("p95", q.quantile(0.95, _TOOL, q.PLACE, q.SHOWN, "mlflow_span_duration_seconds"), "s"),
    Column("Time", q.increase(_SPAN_TIME, _TOOL, q.PLACE), "s"),
    link=view(UID),
    first="Failures",
)

BOARD = Board(
    uid=UID,
    title="MLflow traces: models and tools",
    description="Which model costs so much, which provider is slow, and which tool fails? Needs spans.enabled in the"
    " exporter's configuration.",
    by=("environment", "provider", "model"),
    panels=(
        line(7, MODELS),
        line(8, COST_PER_DAY, TOKENS, COST_PER_1000_CALLS),
        line(8, FAILED_CALLS, P95_OF_CALLS, FIRST_CHUNK),
        line(8, WHERE_TIME_GOES, FAILED_TOOLS, P95_OF_TOOLS),
        line(9, TOOLS),
    ),
)
