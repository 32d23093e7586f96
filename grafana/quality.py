"""Quality: what do people, judges and checks say about the traces?"""

from grafana import queries as q
from grafana.panels import (
    OF_ASSESSMENT,
    OF_SERIES,
    Board,
    Column,
    Query,
    distribution,
    line,
    over_time,
    rows,
    traces_url,
)

UID = "mlflow-quality"

_RATINGS = "mlflow_trace_assessment_ratings_total"
_WORDS = "mlflow_trace_assessments_total"
_SCORES, _SCORE_SUM, _SCORE_BUCKETS = (f"mlflow_trace_assessment_score_{each}" for each in ("count", "sum", "bucket"))
_ERRORS = "mlflow_trace_assessment_errors_total"
_COST = "mlflow_trace_assessment_cost_usd_total"
_ASSESSED = "mlflow_traces_assessed_total"

_BY = f"{q.APPLICATION}, assessment"
_BY_VERSION = f"{_BY}, version"
_BY_VALUE = f"{_BY}, value"
_NAME = "{{experiment}} {{environment}} {{assessment}}"
_GOOD = f'{q.ASSESSMENT}, rating="good"'
_BAD = f'{q.ASSESSMENT}, rating="bad"'
_OBJECTIVE = f'{q.PLACE}, assessment=~"$assessment"'
_TEN = "To stay readable, the graph shows at most ten"
_LATE = "An assessment is counted when it comes, which can be days after its trace."
_OF_TRACES = {**OF_SERIES, "assessment": "${__field.labels.assessment:percentencode}"}
_THEIR_TRACES = ("Traces with this assessment", traces_url(**_OF_TRACES))


def _increase(metric: str, by: str = _BY, selector: str = q.ASSESSMENT, window: str = q.SHOWN) -> str:
    return q.increase(metric, by, selector, window)


def _rate(metric: str, by: str = _BY, selector: str = q.ASSESSMENT) -> str:
    return q.rate(metric, by, selector)


def _of_application(part: str, whole: str) -> str:
    """A ratio of an assessment to its application."""
    return f"{part} / on ({q.APPLICATION}) group_left () ({whole} > 0)"


_ALLOWED = f"(1 - max by ({_BY}) (mlflow_objective_assessment_ratio{{{_OBJECTIVE}}}))"

ASSESSMENTS = rows(
    "Assessments",
    "Each assessment of each application over the time range of the dashboard, the worst first. Bad vs allowed is the"
    " share of bad ones divided by what the objective allows: above 100 % the objective is missed. Good and bad need a"
    f" quality objective. {_LATE}",
    ("experiment", "environment", "assessment"),
    Column(
        "Bad vs allowed",
        f"{q.ratio(_increase(_RATINGS, selector=_BAD), _increase(_RATINGS))} / ({_ALLOWED} > 0)",
        "percentunit",
        (0.75, 1),
    ),
    Column("Good", q.ratio(_increase(_RATINGS, selector=_GOOD), _increase(_RATINGS)), "percentunit"),
    Column("Objective", f"max by ({_BY}) (mlflow_objective_assessment_ratio{{{_OBJECTIVE}}})", "percentunit"),
    Column("Mean score", q.ratio(_increase(_SCORE_SUM), _increase(_SCORES))),
    Column(
        "Traces",
        _increase(_ASSESSED),
        link=("Traces with this assessment", traces_url(**OF_ASSESSMENT)),
    ),
    Column(
        "Coverage",
        _of_application(_increase(_ASSESSED), q.increase("mlflow_traces_total", q.APPLICATION, q.VERSION)),
        "percentunit",
    ),
    Column("Errors", _increase(_ERRORS)),
    Column("Cost", _increase(_COST), "currencyUSD"),
    first="Bad vs allowed",
)

GOOD_BY_VERSION = over_time(
    "Good by version",
    "The share of ratings that are good, by application, environment, assessment and version. The dashed line is the"
    " objective of an assessment in an environment, if its applications have the same. Without an objective there is"
    f" no data. {_TEN} of these: those with the most bad ratings. {_LATE}",
    "percentunit",
    Query(
        q.highest(
            q.ratio(_rate(_RATINGS, _BY_VERSION, _GOOD), _rate(_RATINGS, _BY_VERSION)),
            _increase(_RATINGS, _BY_VERSION, _BAD, q.WHOLE),
            _BY_VERSION,
        ),
        f"{_NAME} {{{{version}}}}",
    ),
    Query(
        q.shared_objective("assessment_ratio", _OBJECTIVE, "environment, assessment"),
        "{{environment}} {{assessment}} objective",
        dashed=True,
    ),
    link=_THEIR_TRACES,
)

VALUES = over_time(
    "Values",
    f"The share of each value among the assessments that are words or truth values. {_TEN} of these: the most"
    " frequent.",
    "percentunit",
    Query(
        q.highest(
            f"{_rate(_WORDS, _BY_VALUE)} / on ({_BY}) group_left () ({_rate(_WORDS)} > 0)",
            _increase(_WORDS, _BY_VALUE, window=q.WHOLE),
            _BY_VALUE,
        ),
        f"{_NAME}: {{{{value}}}}",
    ),
    link=(
        "Traces with this value",
        traces_url(**_OF_TRACES, value="${__field.labels.value:percentencode}"),
    ),
)

SCORES = distribution(
    "Scores",
    "How the scores are distributed. Choose one assessment, because others can have another scale.",
    Query(_increase(_SCORE_BUCKETS, "le", window=q.NOW), "{{le}}"),
    "short",
)

MEAN_SCORE_BY_VERSION = over_time(
    "Mean score by version",
    f"The mean score, by application, environment, assessment and version. {_TEN} of these: those with the most"
    " scores.",
    "short",
    Query(
        q.highest(
            q.ratio(_rate(_SCORE_SUM, _BY_VERSION), _rate(_SCORES, _BY_VERSION)),
            _increase(_SCORES, _BY_VERSION, window=q.WHOLE),
            _BY_VERSION,
        ),
        f"{_NAME} {{{{version}}}}",
    ),
    link=_THEIR_TRACES,
)


def _share_of_source(source: str) -> str:
    selector = f'{q.ASSESSMENT}, source="{source}"'
    each, all_of_them = _increase(_WORDS, _BY_VALUE, selector), _increase(_WORDS, selector=selector)
    return f"{each} / on ({_BY}) group_left () ({all_of_them} > 0)"


def _mean_of_source(source: str) -> str:
    selector = f'{q.ASSESSMENT}, source="{source}"'
    return q.ratio(_increase(_SCORE_SUM, selector=selector), _increase(_SCORES, selector=selector))


_SOURCES = (("People", "human"), ("Judges", "llm_judge"), ("Code", "code"))

PEOPLE_AND_JUDGES = rows(
    "People and judges: values",
    "The share of each value among the assessments by people, by judges and by code, over the time range of the"
    " dashboard. If a judge agrees with people, the shares are similar, provided that both see the same kind of"
    " traces.",
    ("experiment", "environment", "assessment", "value"),
    *(Column(title, _share_of_source(source), "percentunit") for title, source in _SOURCES),
    link=(
        "Traces with this value",
        traces_url(**OF_ASSESSMENT, value="${__data.fields.value:percentencode}"),
    ),
)

SCORES_OF_SOURCES = rows(
    "People and judges: mean scores",
    "The mean score by people, by judges and by code, over the time range of the dashboard.",
    ("experiment", "environment", "assessment"),
    *(Column(title, _mean_of_source(source)) for title, source in _SOURCES),
    link=("Traces with this assessment", traces_url(**OF_ASSESSMENT)),
)

COVERAGE = over_time(
    "Coverage",
    "Traces that got an assessment of this name, divided by the traces that ended at the same time. It can exceed 100 %"
    f" while assessments of earlier traces come. {_TEN} of these: those with the most assessed traces.",
    "percentunit",
    Query(
        q.highest(
            _of_application(_rate(_ASSESSED), q.rate("mlflow_traces_total", q.APPLICATION, q.VERSION)),
            _increase(_ASSESSED, window=q.WHOLE),
            _BY,
        ),
        _NAME,
    ),
    link=_THEIR_TRACES,
)

COST_OF_JUDGES = over_time(
    "Cost of judges per day",
    "The daily cost of judges at the current pace, where MLflow knows it. It is not part of the cost of traces."
    f" {_TEN} of these: the most expensive.",
    "currencyUSD",
    Query(q.highest(f"86400 * {_rate(_COST)}", _increase(_COST, window=q.WHOLE), _BY), _NAME),
    stacked=True,
)

FAILED_SCORERS = over_time(
    "Errors of scorers",
    "Assessments per minute whose scorer failed, by who should have given them. They are neither good nor bad."
    f" {_TEN} of these: those with the most errors.",
    "suffix: /min",
    Query(
        q.highest(
            f"60 * {_rate(_ERRORS, f'{_BY}, source')}",
            _increase(_ERRORS, f"{_BY}, source", window=q.WHOLE),
            f"{_BY}, source",
        ),
        f"{_NAME} {{{{source}}}}",
    ),
    stacked=True,
    link=_THEIR_TRACES,
)

BOARD = Board(
    uid=UID,
    title="MLflow traces: quality",
    description="What do people, judges and checks say about the traces, is one version rated worse, and what do the"
    " judges cost?",
    by=("environment", "version", "assessment"),
    panels=(
        line(7, ASSESSMENTS),
        line(8, GOOD_BY_VERSION, VALUES),
        line(8, MEAN_SCORE_BY_VERSION, SCORES),
        line(8, PEOPLE_AND_JUDGES, SCORES_OF_SOURCES),
        line(8, COVERAGE, COST_OF_JUDGES, FAILED_SCORERS),
    ),
    shown="now-24h",
)
