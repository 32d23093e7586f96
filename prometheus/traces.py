"""Alerts on traces that have no objective: missing usage, no traces, traces that do not end."""

from collections.abc import Mapping

from prometheus import templates
from prometheus.promql import (
    ABANDONED,
    BEYOND_BUCKETS,
    BUCKETS,
    IN_PROGRESS,
    OBJECTIVE,
    TRACES,
    TRACES_WITHOUT_TOKENS,
    of_its_shard,
    with_team,
)
from prometheus.rule import Alert, Group
from prometheus.templates import MILLI, PERCENT, WHOLE, asked, before, label, own, since, value

IT = f"{label('environment')} of {label('experiment')}"

_WITHOUT = {window: OBJECTIVE.increase(TRACES_WITHOUT_TOKENS, window) for window in ("30m", "1d")}
_ALL = {window: OBJECTIVE.increase(TRACES, window) for window in ("5m", "30m", "1h", "1d")}
_STUCK = OBJECTIVE.series(IN_PROGRESS, "min1h")
_BEYOND = OBJECTIVE.series(BEYOND_BUCKETS, "ratio_increase1h")
_LAST_EDGE = f"histogram_quantile(1, {own(OBJECTIVE.with_label('le').increase(BUCKETS, '1h'), OBJECTIVE)})"


def _asked(query: str, how: str) -> str:
    return asked(query, OBJECTIVE, how)


def _says(alert: str, summary: str, description: str, *filters: str, uid: str = "mlflow-overview") -> Mapping[str, str]:
    return {
        "summary": summary,
        "description": description,
        "runbook_url": templates.runbook(alert),
        "dashboard_url": templates.dashboard(uid, OBJECTIVE),
        "traces_url": templates.traces(OBJECTIVE, *filters),
    }


TOKEN_USAGE_MISSING = Alert(
    alert="MlflowTokenUsageMissing",
    expr=with_team(f"""\
{_WITHOUT["30m"]} / {_ALL["30m"]} > 0.9
and {_WITHOUT["1d"]} / {_ALL["1d"]} < 0.5
and {_ALL["30m"]} >= 20"""),
    hold="5m",
    keep="5m",
    severity="warning",
    traces=True,
    annotations=_says(
        "MlflowTokenUsageMissing",
        "Token usage has stopped arriving.",
        f"""\
In {IT}, {value(PERCENT)} of the
{_asked(own(_ALL["30m"], OBJECTIVE), WHOLE)}
traces of the last half hour have no token usage, compared with
{_asked(f"{own(_WITHOUT['1d'], OBJECTIVE)} / {_ALL['1d']}", PERCENT)} over the last day.
Token and cost counters have been too low since then.""",
        "missing=token_usage",
        since("30m"),
        uid="mlflow-cost",
    ),
)

NO_TRACES = Alert(
    comment="""The reference is the traffic of a day ago and, if Prometheus has data that old, of a week ago.
Neither a Saturday nor a Monday then raises an alarm. traces_url lists the latest traces, up to 25 hours old.""",
    alert="MlflowNoTraces",
    expr=with_team(f"""\
(
  {_ALL["30m"]} offset 1d >= 20
  unless {OBJECTIVE.on} {_ALL["30m"]} offset 1w < 20
)
unless {OBJECTIVE.on} {_ALL["30m"]} > 0
and {of_its_shard("mlflow_up")}"""),
    hold="10m",
    severity="warning",
    traces=True,
    annotations=_says(
        "MlflowNoTraces",
        "An application has no traces, although it usually has some at this time of day.",
        f"""\
{label("experiment")} had no traces in {label("environment")} in the last half hour; a day ago it had
{value(WHOLE)} in half an hour.
Either there are no requests, or the application has stopped, or it no longer sends its traces.""",
        since("25h"),
    ),
)

STUCK_IN_PROGRESS = Alert(
    comment="""By Little's law, traces take more than an hour on average if more of them were in progress
throughout the last hour than ended in it. traces_url lists all that started at least an hour ago.""",
    alert="MlflowTracesStuckInProgress",
    expr=with_team(f"""\
{_STUCK} >= 5
and {_STUCK} offset 55m
unless {OBJECTIVE.on} {_ALL["1h"]} >= {_STUCK}"""),
    hold="5m",
    severity="warning",
    traces=True,
    annotations={
        **_says(
            "MlflowTracesStuckInProgress",
            "Traces are stuck in progress.",
            f"""\
In {IT}, at least {value()} traces were in progress throughout the last hour, and fewer ended in that time.
No other metric counts them until they end. After a week the exporter gives up on them.""",
            "status=in_progress",
            before("1h"),
        ),
        "search_traces": templates.search_before("trace.status != 'OK' AND trace.status != 'ERROR'", OBJECTIVE, "1h"),
    },
)

TRACES_ABANDONED = Alert(
    comment="""traces_url lists those that still exist and have not ended since.""",
    alert="MlflowTracesAbandoned",
    expr=with_team(f"{OBJECTIVE.increase(ABANDONED, '1d')} > 0"),
    severity="info",
    traces=True,
    annotations=_says(
        "MlflowTracesAbandoned",
        "Traces were abandoned because they did not end within a week.",
        f"""\
In {IT}, about {value(WHOLE)} traces were abandoned in the last day. They are not counted, even if
they end now.""",
        "status=in_progress",
        before("1w"),
    ),
)

DURATION_BEYOND_BUCKETS = Alert(
    comment="""In traces_url, the quantile of 1 is the highest bound, because there are traces beyond it.""",
    alert="MlflowDurationBeyondBuckets",
    expr=with_team(f"""\
{_BEYOND} > 0.01
and {_ALL["1h"]} >= 100"""),
    hold="15m",
    severity="info",
    traces=True,
    annotations=_says(
        "MlflowDurationBeyondBuckets",
        "Many traces exceed the last histogram bucket.",
        f"""\
In {IT}, {value(PERCENT)} of the traces of the last hour took longer than the highest bound in
buckets.duration_seconds. Higher quantiles show that bound, not the true value.""",
        f"duration_above={_asked(_LAST_EDGE, MILLI)}",
        since("1h"),
    ),
)

GROUP = Group(
    "mlflow-trace-alerts",
    (TOKEN_USAGE_MISSING, NO_TRACES, STUCK_IN_PROGRESS, TRACES_ABANDONED, DURATION_BEYOND_BUCKETS),
)
