"""Versions: is the new one worse?"""

from grafana import queries as q
from grafana.panels import (
    BLUE,
    ORANGE,
    AnyPanel,
    Board,
    Column,
    Query,
    by_bucket,
    line,
    over_time,
    rows,
    traces_url,
    version,
)

_NAMES = ("candidate", "baseline")
_COLORS = {"candidate": ORANGE, "baseline": BLUE}


def _of(name: str) -> str:
    return f'{q.ONE_PLACE}, version="${name}", trace_name=~"$trace_name"'


_EITHER = "version=~`${candidate:regex}|${baseline:regex}`"  # raw, because a version may contain a + or a parenthesis
_BOTH = f'{q.ONE_PLACE}, {_EITHER}, trace_name=~"$trace_name"'


def _per_trace(metrics: tuple[str, str], name: str) -> str:
    return q.ratio(q.added(metrics, "rate", "version", _of(name)), q.rate("mlflow_traces_total", "version", _of(name)))


def _tokens(name: str) -> str:
    selector = _of(name)
    whole = q.rate("mlflow_tokens_per_trace_count", "version", f'{selector}, kind="input"')
    return q.ratio(q.rate("mlflow_tokens_per_trace_sum", "version", selector), whole)


def _share_of_bucket(name: str) -> str:
    counts = q.increase("mlflow_trace_duration_seconds_bucket", "le", _of(name))
    total = q.increase("mlflow_trace_duration_seconds_count", "", _of(name))
    return f"sort({counts} / on () group_left () ({total} > 0))"  # cumulative, so the bounds are in order, too


def _lines(title: str, description: str, unit: str, queries: dict[str, str]) -> AnyPanel:
    asked = [Query(expr, name) for name, expr in queries.items()]
    return over_time(title, description, unit, *asked, colors=_COLORS)


SUMMARY = rows(
    "Side by side",
    "Both versions over the time range of the dashboard. With a few dozen traces a share or a p95 is mostly chance.",
    ("version",),
    Column("Traces", q.increase("mlflow_traces_total", "version", _BOTH)),
    Column(
        "Failed",
        q.ratio(
            q.increase("mlflow_trace_errors_total", "version", _BOTH),
            q.increase("mlflow_traces_total", "version", _BOTH),
        ),
        "percentunit",
    ),
    Column("p50", q.quantile(0.5, "version", _BOTH, q.SHOWN), "s"),
    Column("p95", q.quantile(0.95, "version", _BOTH, q.SHOWN), "s"),
    Column(
        "Tokens per trace",
        q.ratio(
            q.increase("mlflow_tokens_per_trace_sum", "version", _BOTH),
            q.increase("mlflow_tokens_per_trace_count", "version", f'{_BOTH}, kind="input"'),
        ),
    ),
    Column(
        "Cost per trace",
        q.ratio(q.added(q.COST, "increase", "version", _BOTH), q.increase("mlflow_traces_total", "version", _BOTH)),
        "currencyUSD",
    ),
    Column(
        "First seen",
        f"1000 * min by (version) (mlflow_trace_version_first_seen_timestamp_seconds{{{q.ONE_PLACE}, {_EITHER}}})",
        "dateTimeAsIso",
    ),
    link=(
        "Traces of this version",
        traces_url(experiment="${experiment:percentencode}", version="${__data.fields.version:percentencode}"),
    ),
)

TRACES = _lines(
    "Traces",
    "Finished traces per second. Shows the progress of a roll-out.",
    "suffix: /s",
    {name: q.rate("mlflow_traces_total", "version", _of(name)) for name in _NAMES},
)

FAILED_TRACES = _lines(
    "Failed traces",
    "The share of traces that failed.",
    "percentunit",
    {
        name: q.ratio(
            q.rate("mlflow_trace_errors_total", "version", _of(name)),
            q.rate("mlflow_traces_total", "version", _of(name)),
        )
        for name in _NAMES
    },
)

P95_LATENCY = _lines(
    "p95 latency",
    "95 % of the traces took at most this long.",
    "s",
    {name: q.quantile(0.95, "version", _of(name)) for name in _NAMES},
)

LATENCY_DISTRIBUTION = by_bucket(
    "Latency distribution",
    "The share of traces of each version that took at most as long as each bound, over the time range of the dashboard."
    " The version with the longer bars is faster.",
    *(Query(_share_of_bucket(name), f"{name} ≤ {{{{le}}}} s") for name in _NAMES),
    colors=[_COLORS[name] for name in _NAMES],
)

TOKENS_PER_TRACE = _lines(
    "Tokens per trace",
    "Mean input and output tokens per trace, over traces with token usage.",
    "short",
    {name: _tokens(name) for name in _NAMES},
)

COST_PER_TRACE = _lines(
    "Cost per trace",
    "Mean cost per trace, at the prices that MLflow knows.",
    "currencyUSD",
    {name: _per_trace(q.COST, name) for name in _NAMES},
)


def _of_assessment(title: str, description: str, unit: str, part: str, whole: str, rating: str = "") -> AnyPanel:
    """A ratio of assessments, which have no trace_name, for both versions."""
    queries = []
    for name in _NAMES:
        selector = f'{q.ONE_PLACE}, version="${name}"'
        both = (q.rate(part, "assessment", f"{selector}{rating}"), q.rate(whole, "assessment", selector))
        queries.append(Query(q.ratio(*both), f"{name} {{{{assessment}}}}", color=_COLORS[name]))
    return over_time(title, description, unit, *queries)


GOOD_ASSESSMENTS = _of_assessment(
    "Good assessments",
    "The share of assessments that are good, where there is a quality objective. An assessment is counted when it"
    " comes, and belongs to the version of its trace.",
    "percentunit",
    "mlflow_trace_assessment_ratings_total",
    "mlflow_trace_assessment_ratings_total",
    ', rating="good"',
)

MEAN_SCORE = _of_assessment(
    "Mean score",
    "The mean of the assessments that are numbers. Compare each with that of the same name.",
    "short",
    "mlflow_trace_assessment_score_sum",
    "mlflow_trace_assessment_score_count",
)

BOARD = Board(
    uid="mlflow-versions",
    title="MLflow traces: versions",
    description="Two versions of an application side by side: is the candidate worse than the baseline?",
    by=("environment", "trace_name"),
    one_application=True,
    more_variables=(
        version("candidate", "The version to judge. By default the newest one."),
        version(
            "baseline", "The version to compare it with. By default the newest of the others.", 'version!="$candidate"'
        ),
    ),
    panels=(
        line(6, SUMMARY),
        line(9, TRACES, FAILED_TRACES, P95_LATENCY),
        line(12, LATENCY_DISTRIBUTION, TOKENS_PER_TRACE, COST_PER_TRACE),
        line(9, GOOD_ASSESSMENTS, MEAN_SCORE),
    ),
)
