"""Alerts on objectives: errors, latency and cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus import templates
from prometheus.promql import (
    BUCKETS,
    BURNS,
    COST,
    COST_LIMIT,
    ERRORS,
    KINDS,
    LATENCY_LIMIT,
    MIN_TRACES,
    OBJECTIVE,
    PAGES,
    SLOW,
    TRACES,
    VERSION,
    WARNINGS,
    Burn,
    Kind,
    allowed,
    burning_from,
    increase,
    indented,
    or_frozen,
    too_many,
    with_team,
)
from prometheus.rule import Alert, Group, Record, Severity, commented
from prometheus.templates import BURN_WINDOW, CENTS, PERCENT, WHOLE, asked, label, own, value, worst

HEAD = """Alerts on traces. Thresholds come from the objectives in the exporter's configuration. The numbers in
this file are statistical and do not depend on your application.

Labels: `severity` is critical (look now), warning (look today) or info. `experiment` and `environment` name the
application, and `team` is the one that its objective names. `data: traces` marks alerts that need fresh data;
MlflowTracesStale inhibits them. `objective` groups alerts about the same objective.

Links lead to the exporter at http://127.0.0.1:10500 and to Grafana at http://127.0.0.1:3000. Set other addresses
with --exporter-url and --grafana-url of `mlflow-trace-exporter rules`. `search_traces` is a filter for
mlflow.search_traces; it assumes the default `labels.environment` and `labels.version`."""

IN = f"In {label('environment')} of {label('experiment')},"
SLOWER = f"trace.execution_time_ms > {asked(f'1000 * {own(LATENCY_LIMIT, OBJECTIVE)}', OBJECTIVE, WHOLE)}"
CONDITIONS = {ERRORS: "trace.status = 'ERROR'", SLOW: SLOWER}


def _burning(kind: Kind) -> Iterator[Record]:
    itself = OBJECTIVE.series(kind.metric, "burning")
    for burn in BURNS:
        expr = too_many(kind, burning_from(kind, burn), burn.long, burn.short)
        yield Record(
            record=itself,
            expr=or_frozen(expr, f'{itself}{{burn_rate="{burn.rate}"}}'),
            labels={"burn_rate": burn.rate, "long_window": burn.long, "short_window": burn.short},
        )


@dataclass(frozen=True, slots=True)
class _Budget:
    """The texts of the alerts on one budget."""

    alert: str
    summary: str
    bad: str
    budget: str


BUDGETS = {
    ERRORS: _Budget(
        "MlflowErrorBudgetBurn", "Traces fail so often that the error budget will not last.", "failed", "error"
    ),
    SLOW: _Budget(
        "MlflowLatencyBudgetBurn",
        "Traces are slow so often that the latency budget will not last.",
        "were slower than the latency objective",
        "latency",
    ),
}


def _budget_burn(kind: Kind) -> Iterator[Alert]:
    text = BUDGETS[kind]
    burning = OBJECTIVE.series(kind.metric, "burning")
    description = f"""\
{IN} {value(PERCENT)} of the traces of the last {label("long_window")} {text.bad};
the objective allows {_allowed(kind)}.
The 30-day {text.budget} budget is burning at more than {label("burn_rate")} times the sustainable rate.
Worst in the last hour:{worst(VERSION.ratio(kind, "1h"), OBJECTIVE, PERCENT)}."""
    levels: tuple[tuple[Sequence[Burn], Severity, str], ...] = ((PAGES, "critical", "5m"), (WARNINGS, "warning", "30m"))
    for burns, severity, keep in levels:
        yield Alert(
            alert=text.alert,
            expr=with_team(f'{burning}{{burn_rate=~"{"|".join(burn.rate for burn in burns)}"}}'),
            keep=keep,
            severity=severity,
            objective=kind.objective,
            traces=True,
            annotations=_says(text.alert, kind, text.summary, description, BURN_WINDOW, "mlflow-objectives"),
        )


def _says(alert: str, kind: Kind, summary: str, description: str, window: str, uid: str) -> Mapping[str, str]:
    return {
        "summary": summary,
        "description": description,
        "runbook_url": templates.runbook(alert),
        "dashboard_url": templates.dashboard(uid, OBJECTIVE),
        "traces_url": templates.traces(OBJECTIVE, f"status={kind.status}", templates.since(window)),
        "search_traces": templates.search(CONDITIONS[kind], OBJECTIVE, window),
    }


def _allowed(kind: Kind) -> str:
    return asked(own(allowed(kind), OBJECTIVE), OBJECTIVE, PERCENT)


def _of_versions(kind: Kind, window: str) -> str:
    return worst(VERSION.ratio(kind, window), OBJECTIVE, PERCENT)


def _high(kind: Kind, alert: str, summary: str, description: str, comment: str) -> Alert:
    return Alert(
        comment=comment,
        alert=alert,
        expr=with_team(too_many(kind, allowed(kind), "30m")),
        hold="5m",
        keep="5m",
        severity="warning",
        objective=kind.objective,
        traces=True,
        annotations=_says(alert, kind, summary, description, "30m", "mlflow-overview"),
    )


ERROR_RATIO_HIGH = _high(
    ERRORS,
    "MlflowErrorRatioHigh",
    "More traces fail than the objective allows.",
    f"""\
{IN} {value(PERCENT)} of the traces of the last half hour failed;
the objective allows {_allowed(ERRORS)}. Worst:{_of_versions(ERRORS, "30m")}.""",
    """The thresholds of MLflow's cookbook, taken from the objective: by default a p95 above 5 s, or more than 5 %
errors, over 30 minutes.""",
)

_BUCKETS = OBJECTIVE.with_label("le").sum(increase(own(BUCKETS, OBJECTIVE), "30m"))
P95 = asked(f"histogram_quantile(0.95, {_BUCKETS})", OBJECTIVE, templates.DURATION)

LATENCY_HIGH = _high(
    SLOW,
    "MlflowLatencyHigh",
    "More traces are slow than the objective allows.",
    f"""\
{IN} {value(PERCENT)} of the traces of the last half hour took longer than
{asked(own(LATENCY_LIMIT, OBJECTIVE), OBJECTIVE, templates.DURATION)};
the objective allows {_allowed(SLOW)}. The p95 is {P95}.
Worst:{_of_versions(SLOW, "30m")}.""",
    """If more than 5 % take longer than 5 s, the p95 is above 5 s. This needs no interpolation within a bucket.""",
)

_BURNING_5M = OBJECTIVE.series(ERRORS.metric, "burning5m")

MOST_TRACES_FAIL = (
    Record(
        comment="""With an objective of 5 %, all traces can fail for 43 minutes before the first burn rate pages.
That is too long.""",
        record=_BURNING_5M,
        expr=or_frozen(too_many(ERRORS, burning_from(ERRORS, BURNS[0]), "5m"), _BURNING_5M),
    ),
    Alert(
        alert="MlflowMostTracesFail",
        expr=with_team(_BURNING_5M),
        hold="5m",
        keep="5m",
        severity="critical",
        objective=ERRORS.objective,
        traces=True,
        annotations=_says(
            "MlflowMostTracesFail",
            ERRORS,
            "Most traces fail.",
            f"""\
{IN} {value(PERCENT)} of the traces of the last five minutes failed, and this has lasted for at least five minutes.
Worst:{_of_versions(ERRORS, "5m")}.""",
            "10m",
            "mlflow-overview",
        ),
    ),
)


def _above_cost(window: str, factor: int = 1) -> str:
    times = f" * {factor}" if factor > 1 else ""
    return f"{OBJECTIVE.increase(COST, window)}{times} > {OBJECTIVE.on} {COST_LIMIT}"


def _usd(query: str) -> str:
    return asked(query, OBJECTIVE, CENTS)


def _cost(alert: str, summary: str, expr: str, hold: str, window: str, comment: str = "") -> Alert:
    description = f"""\
{IN} the last 24 hours cost
{_usd(own(OBJECTIVE.increase(COST, "1d"), OBJECTIVE))} USD,
and the pace of the last hour is {_usd(f"24 * {own(OBJECTIVE.increase(COST, '1h'), OBJECTIVE)}")} USD per day.
The objective is {_usd(own(COST_LIMIT, OBJECTIVE))} USD per day.
Highest cost in the last hour:{worst(VERSION.increase(COST, "1h"), OBJECTIVE, CENTS, " USD")}."""
    return Alert(
        comment=comment,
        alert=alert,
        expr=with_team(expr),
        hold=hold,
        severity="warning",
        objective="cost",
        traces=True,
        annotations={
            "summary": summary,
            "description": description,
            "runbook_url": templates.runbook(alert),
            "dashboard_url": templates.dashboard("mlflow-cost", OBJECTIVE),
            "traces_url": templates.traces(OBJECTIVE, "cost_above=0", templates.since(window)),
        },
    )


COST_ABOVE = _cost(
    "MlflowCostAboveObjective",
    "The cost of the last 24 hours is above the daily objective.",
    _above_cost("1d"),
    "5m",
    "1d",
    """A day is the last 24 hours, because Prometheus has no time zones.""",
)

_SOON = f"""\
{_above_cost("6h", 4)}
and {OBJECTIVE.on}
{_above_cost("1h", 24)}
and {OBJECTIVE.on}
{OBJECTIVE.increase(TRACES, "6h")} >= {OBJECTIVE.on} {MIN_TRACES}"""

COST_ABOVE_SOON = _cost(
    "MlflowCostAboveObjectiveSoon",
    "At the current pace, the daily cost will exceed the objective.",
    f"(\n{indented(_SOON)}\n)\nunless {OBJECTIVE.on}\n{_above_cost('1d')}",
    "15m",
    "6h",
)

GROUP = Group(
    "mlflow-objective-alerts",
    (
        *commented(
            """Burn rates over a long and a short window (Site Reliability Workbook, chapter 5). If a window has
fewer traces than mlflow_objective_min_traces, the missing ones count as good. With 20 traces and 5 %, an alert
needs at least 15, 7, 4 or 3 bad traces; it never needs fewer than 3, however strict the objective is. (The 0.5 is
there because increase() extrapolates: one trace may look like slightly more than 1.)

While there is no fresh data, a burning budget stays burning. MlflowTracesStale inhibits the notification that the
alert is resolved, because it may not be.""",
            (record for kind in KINDS for record in _burning(kind)),
        ),
        *(alert for kind in KINDS for alert in _budget_burn(kind)),
        ERROR_RATIO_HIGH,
        *MOST_TRACES_FAIL,
        LATENCY_HIGH,
        COST_ABOVE,
        COST_ABOVE_SOON,
    ),
)
