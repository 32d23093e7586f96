"""Alerts on providers and models, on tools, and on the time to the first chunk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus import calls, templates
from prometheus.calls import ERROR_RATIO, SHORT, WINDOW
from prometheus.promql import (
    APPLICATION_MODEL,
    CALL_DURATION,
    CALL_ERRORS,
    CALLS,
    ERRORS,
    FIRST_CHUNK,
    FIRST_CHUNK_LIMIT,
    MIN_TRACES,
    MODEL,
    OBJECTIVE,
    PROVIDER,
    SPAN,
    SPAN_ERRORS,
    SPANS,
    STREAMED_CALLS,
    Level,
    allowed,
    twice,
    with_team,
)
from prometheus.rule import Alert, File, Group, Record, Severity
from prometheus.templates import DURATION, MILLI, PERCENT, WHOLE, asked, each, label, own, since, value

HIGH = 0.1
"""The share of failed calls from which on a model can be failing."""

LEAST = 10
"""The smallest number of failed calls of a failing model."""

JUDGED = 5
"""The smallest number of calls for which an application counts as one in which a model works."""

HIGH_OF_SPANS, LEAST_OF_SPANS = 0.2, 5
"""The same for a tool: the share of its failed spans, and their smallest number."""

SLOWER, SLOWER_THAN_OTHERS = 2, 1.5
"""By which factors a slow model exceeds its usual p95, and the slowdown of other providers."""

_OF_APPLICATION = APPLICATION_MODEL.series(CALL_ERRORS, ERROR_RATIO)
_SLOWDOWN = MODEL.series(calls.SLOWDOWN, f"ratio_increase{WINDOW}")
_SLOW = MODEL.series(calls.SLOWDOWN, "slow")
_P95 = MODEL.series(CALL_DURATION, calls.P95)
_OF_PROVIDER = f"on ({PROVIDER.by})"


def _failing_at(level: Level) -> str:
    return level.series(CALL_ERRORS, "failing")


def _failing(level: Level) -> Record:
    ratio, others = level.series(CALL_ERRORS, ERROR_RATIO), PROVIDER.series(calls.ERRORS_OF_OTHERS, ERROR_RATIO)
    many = "" if level == PROVIDER else " group_left ()"
    works = f"{_OF_APPLICATION} <= {HIGH} and {APPLICATION_MODEL.increase(CALLS, SHORT)} >= {JUDGED}"
    return Record(
        record=_failing_at(level),
        expr=f"""\
{ratio} > {HIGH}
and {level.increase(CALL_ERRORS, SHORT)} >= {LEAST}
unless {ratio} <= {twice(level.series(calls.ERRORS_OF_WEEK, ERROR_RATIO))}
unless {ratio} <= {_OF_PROVIDER}{many} {twice(others)}
unless {level.on}
count by ({level.by}) ({works})
>= count by ({level.by}) ({_OF_APPLICATION} > {HIGH})""",
    )


def _slow() -> Record:
    others = PROVIDER.series(calls.SLOWDOWN_OF_OTHERS, f"ratio_increase{WINDOW}")
    return Record(
        comment="""A model is slow if its p95 is twice the usual one, and the models of other providers have not become
as slow.""",
        record=_SLOW,
        expr=f"""\
{_SLOWDOWN} > {SLOWER}
unless {_SLOWDOWN} <= {_OF_PROVIDER} group_left () {SLOWER_THAN_OTHERS} * {others}""",
    )


def _models(series: str, condition: str) -> str:
    """A condition on the number of models of a provider that have this series."""
    return f"{_OF_PROVIDER} count by ({PROVIDER.by}) ({series}) {condition}"


def _says(alert: str, level: Level, summary: str, description: str, *filters: str) -> Mapping[str, str]:
    on_dashboard = Level(tuple(name for name in level.labels if name in APPLICATION_MODEL.labels))
    return {
        "summary": summary,
        "description": description,
        "runbook_url": templates.runbook(alert),
        "dashboard_url": templates.dashboard("mlflow-models", on_dashboard),
        "traces_url": templates.traces(level, *filters),
    }


def _errors(level: Level) -> str:
    """The most frequent types of errors."""
    increase = f"max without (instance, pod) (increase({own('mlflow_llm_call_errors_total', level)}[{SHORT}]))"
    query = f"sort_desc(topk(3, sum by (error_type) ({increase}) > 0))"
    return each(query, level, f"{{{{ $each.Labels.error_type }}}} ({{{{ $each.Value | {WHOLE} }}}} times)")


def _applications(level: Level) -> str:
    """The applications with the most failed calls."""
    query = f"sort_desc(topk(3, {own(APPLICATION_MODEL.increase(CALL_ERRORS, SHORT), level)} > 0))"
    text = (
        "{{ $each.Labels.experiment }} in {{ $each.Labels.environment }},"
        f" {{{{ $each.Value | {WHOLE} }}}} calls of {{{{ $each.Labels.model }}}}"
    )
    return each(query, level, text)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What alerts are about: a model, or a provider of which several models are affected."""

    level: Level
    name: str
    alert: str
    it: str


A_PROVIDER = _Subject(PROVIDER, "provider", "MlflowProvider", f"provider {label('provider')}")
A_MODEL = _Subject(MODEL, "model", "MlflowModel", f"model {label('model')} of provider {label('provider')}")


def _fails(subject: _Subject) -> Iterator[Alert]:
    """Two alerts: critical if an application with an objective is affected, otherwise a warning."""
    level, alert = subject.level, f"{subject.alert}Fails"
    of_models = _failing_at(MODEL)
    if level == MODEL:
        expr = f"{of_models}\nand {_models(of_models, '== 1')}"
    else:
        expr = f"""\
{PROVIDER.series(CALL_ERRORS, ERROR_RATIO)}
and {_OF_PROVIDER} (
  {_failing_at(PROVIDER)}
  or {_models(of_models, "> 1")}
)
unless {_models(of_models, "== 1")}"""
    affected = f"""\
{level.on} (
  {_OF_APPLICATION} > {HIGH}
  and {OBJECTIVE.on} {allowed(ERRORS)}
)"""
    usual, others = (
        asked(own(each_level.series(metric, ERROR_RATIO), each_level), each_level, PERCENT, text)
        for each_level, metric, text in (
            (level, calls.ERRORS_OF_WEEK, " (in the week before: {})"),
            (PROVIDER, calls.ERRORS_OF_OTHERS, "; for other providers, {} more of the calls failed than usual"),
        )
    )
    description = f"""\
{value(PERCENT)} of the
{asked(own(level.increase(CALLS, SHORT), level), level, WHOLE)}
calls of {subject.it} in the last ten minutes failed{usual}{others}.
Errors:{_errors(level)}.
Applications:{_applications(level)}."""
    found: tuple[tuple[str, Severity], ...] = (("and", "critical"), ("unless", "warning"))
    for operator, severity in found:
        yield Alert(
            alert=alert,
            expr=f"{expr}\n{operator} {affected}",
            hold="5m",
            keep="5m",
            severity=severity,
            traces=True,
            annotations=_says(
                alert, level, f"Calls of a {subject.name} fail.", description, "status=error", since(SHORT)
            ),
        )


def _is_slow(subject: _Subject) -> Alert:
    level, alert = subject.level, f"{subject.alert}Slow"
    if level == MODEL:
        expr = f"{_SLOW}\nand {_models(_SLOW, '== 1')}"
    else:
        expr = f"max by ({PROVIDER.by}) ({_SLOW})\nand {_models(_SLOW, '> 1')}"
    p95 = each(
        f"sort_desc(topk(3, {own(_P95, level)} and {MODEL.on} {_SLOW}))",
        level,
        f"{{{{ $each.Labels.model }}}}, {{{{ $each.Value | {DURATION} }}}}",
    )
    usual = f"min({own(MODEL.series(calls.DURATION_OF_WEEK, calls.P95), level)} and on ({MODEL.by}) {_SLOW})"
    too_long = asked(f"{SLOWER} * {usual}", level, MILLI)
    return Alert(
        alert=alert,
        expr=expr,
        hold="10m",
        keep="5m",
        severity="warning",
        traces=True,
        annotations=_says(
            alert,
            level,
            f"Calls of a {subject.name} are slower than usual.",
            f"""\
Calls of {subject.it} in the last half hour were {value('printf "%.1f"')} times as slow as in the week before.
The p95 of those that succeeded:{p95}.""",
            f"duration_above={too_long}",
            since(WINDOW),
        ),
    )


_SPAN_RATIO = SPAN.series(SPAN_ERRORS, f"ratio_increase{WINDOW}")
_SPAN_RATIO_OF_DAY = SPAN.series(calls.SPAN_ERRORS_OF_DAY, f"ratio_increase{WINDOW}")

TOOL_FAILS = Alert(
    comment="""Agents, chains, workflows and tasks are left out, because they fail when something in them fails.""",
    alert="MlflowToolFails",
    expr=with_team(f"""\
{_SPAN_RATIO}{{span_type!~"AGENT|CHAIN|WORKFLOW|TASK"}} > {HIGH_OF_SPANS}
and {SPAN.increase(SPAN_ERRORS, WINDOW)} >= {LEAST_OF_SPANS}
unless {_SPAN_RATIO} <= {twice(_SPAN_RATIO_OF_DAY)}"""),
    hold="5m",
    keep="5m",
    severity="warning",
    traces=True,
    annotations={
        **_says(
            "MlflowToolFails",
            SPAN,
            "A tool fails.",
            f"""\
In {label("environment")} of {label("experiment")}, {value(PERCENT)} of the
{asked(own(SPAN.increase(SPANS, WINDOW), SPAN), SPAN, WHOLE)}
{label("span_type")} spans named {label("span_name")} of the last half hour failed\
{asked(own(_SPAN_RATIO_OF_DAY, SPAN), SPAN, PERCENT, " (the day before: {})")}.""",
            since(WINDOW),
        ),
        "search_traces": templates.search_failed_span(OBJECTIVE, WINDOW),
    },
)

_FIRST_CHUNK = OBJECTIVE.series(FIRST_CHUNK, calls.P95)

FIRST_CHUNK_LATE = Alert(
    alert="MlflowFirstChunkLate",
    expr=with_team(f"""\
{_FIRST_CHUNK} > {OBJECTIVE.on} {FIRST_CHUNK_LIMIT}
and {OBJECTIVE.on}
{OBJECTIVE.increase(STREAMED_CALLS, WINDOW)} >= {OBJECTIVE.on} {MIN_TRACES}"""),
    hold="5m",
    keep="5m",
    severity="warning",
    objective="first_chunk",
    traces=True,
    annotations=_says(
        "MlflowFirstChunkLate",
        OBJECTIVE,
        "Streamed calls take longer to their first chunk than the objective allows.",
        f"""\
In {label("environment")} of {label("experiment")}, the p95 of the time to the first chunk in the last half hour was
{value(DURATION)}; the objective is
{asked(own(FIRST_CHUNK_LIMIT, OBJECTIVE), OBJECTIVE, DURATION)}.""",
        since(WINDOW),
    ),
)

_CALLS = APPLICATION_MODEL.increase(CALLS, SHORT)

NEW_MODEL = Alert(
    comment="""An application whose calls are known for less than a week has no new models.""",
    alert="MlflowNewModel",
    expr=with_team(f"""\
{_CALLS}{{model!~"unknown|other"}} > 0
unless {APPLICATION_MODEL.increase(calls.CALLS_OF_WEEK, SHORT)} > 0
and {OBJECTIVE.on} count_over_time({_CALLS}[1h] offset 1w)"""),
    keep="1h",
    severity="info",
    traces=True,
    annotations=_says(
        "MlflowNewModel",
        APPLICATION_MODEL,
        "An application uses a model that it did not use in the week before.",
        f"""\
{label("experiment")} in {label("environment")} calls model {label("model")} of provider {label("provider")}.""",
        since(SHORT),
    ),
)

COMMENT = """A model, or a provider, fails if at least a tenth of its calls fail, twice as many as in the week before
and as the unusual ones of other providers, and if it works in fewer applications than it fails in. An application
whose key has expired therefore has alerts of its own only. If several models of a provider fail, the provider has the
alert, otherwise the model."""


def _rules() -> Iterator[Record | Alert]:
    for number, level in enumerate((MODEL, PROVIDER)):
        record = _failing(level)
        yield record if number else Record(record=record.record, expr=record.expr, comment=COMMENT)
    yield _slow()
    for subject in (A_PROVIDER, A_MODEL):
        yield from _fails(subject)
        yield _is_slow(subject)
    yield from (TOOL_FAILS, FIRST_CHUNK_LATE, NEW_MODEL)


FILE = File("mlflow-models.yml", calls.HEAD, (*calls.GROUPS, Group("mlflow-model-alerts", (*_rules(),))))
