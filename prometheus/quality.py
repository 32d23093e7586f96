"""Alerts on assessments: bad ratings, versions that are rated worse, and scorers that fail or stop."""

from collections.abc import Iterator, Mapping

from prometheus import assessments, templates
from prometheus.assessments import BAD, FAILED, FAILED_RATIO, GIVEN, LONG, OF_DAY, RATINGS, SHORT, bad_ratio
from prometheus.promql import (
    ASSESSMENT,
    ASSESSMENT_VERSION,
    BURNS,
    MIN_TRACES,
    OBJECTIVE,
    PAGES,
    SCORER,
    TRACES,
    VERSION,
    WARNINGS,
    Burn,
    Level,
    of_its_shard,
    or_frozen,
    with_team,
)
from prometheus.rule import Alert, File, Group, Record, Severity, commented
from prometheus.templates import BURN_WINDOW, PERCENT, WEEK_S, WHOLE, asked, each, label, own, since, value, worst

WORSE, POINTS = 1.5, 0.1
"""A version is rated worse if its share of bad ratings exceeds that of the others by this factor or so many points,
whichever is less. A factor alone is impossible to exceed if most ratings are bad."""

HIGH, LEAST = 0.2, 5
"""The share of failed runs from which on a scorer fails, and their smallest number."""

REGULAR = 20
"""The smallest number of assessments in six hours of a scorer that can stop."""

_NAME = label("assessment")
_IN = f"In {label('environment')} of {label('experiment')},"
_BURNING = ASSESSMENT.series(BAD, "burning")


def _latest(burn: Burn) -> Record:
    itself = ASSESSMENT.series(BAD, f"latest{burn.short}")
    return Record(
        record=itself,
        expr=f"""\
({bad_ratio(burn.short)} or {itself})
and {ASSESSMENT.on} {ASSESSMENT.increase(RATINGS, burn.long)} > 0""",
    )


def _too_many(burn: Burn) -> str:
    limit = f'{assessments.BURN}{{burn_rate="{burn.rate}"}}'
    return f"""\
{bad_ratio(burn.long)} > {ASSESSMENT.on} {limit}
and {ASSESSMENT.on}
{ASSESSMENT.increase(BAD, burn.long)} > {ASSESSMENT.on}
  clamp_min({limit} * {OBJECTIVE.on} group_left () {MIN_TRACES}, 2) + 0.5
unless {ASSESSMENT.on}
{ASSESSMENT.series(BAD, f"latest{burn.short}")} <= {ASSESSMENT.on} {limit}"""


def _burning() -> Iterator[Record]:
    for burn in BURNS:
        yield Record(
            record=_BURNING,
            expr=or_frozen(_too_many(burn), f'{_BURNING}{{burn_rate="{burn.rate}"}}', ASSESSMENT),
            labels={"burn_rate": burn.rate, "long_window": burn.long, "short_window": burn.short},
        )


def _says(
    alert: str, summary: str, description: str, dashboard: str, traces: Level, *filters: str
) -> Mapping[str, str]:
    return {
        "summary": summary,
        "description": description,
        "runbook_url": templates.runbook(alert),
        "dashboard_url": dashboard,
        "traces_url": templates.traces(traces, *filters),
    }


def _values() -> str:
    """The most frequent values of the last day, if they are words."""
    increase = f"max without (instance, pod) (increase({own('mlflow_trace_assessments_total', ASSESSMENT)}[{OF_DAY}]))"
    return each(
        f"sort_desc(topk(3, sum by (value) ({increase}) > 0))",
        ASSESSMENT,
        f"{{{{ $each.Labels.value }}}} ({{{{ $each.Value | {WHOLE} }}}} times)",
        before=". The most frequent values in the last day:",
    )


def _budget_burn() -> Iterator[Alert]:
    levels: tuple[tuple[tuple[Burn, ...], Severity, str], ...] = (
        (PAGES, "critical", "5m"),
        (WARNINGS, "warning", "30m"),
    )
    allowed = asked(own(assessments.ALLOWED, ASSESSMENT), ASSESSMENT, PERCENT)
    description = f"""\
{_IN} {value(PERCENT)} of the {_NAME} assessments that arrived in the last {label("long_window")} were bad;
the objective allows {allowed}.
The 30-day quality budget is burning at more than {label("burn_rate")} times the sustainable rate.
Worst in the last day:{worst(assessments.BAD_OF_VERSION, ASSESSMENT, PERCENT)}{_values()}."""
    for burns, severity, keep in levels:
        yield Alert(
            alert="MlflowQualityBudgetBurn",
            expr=with_team(f'{_BURNING}{{burn_rate=~"{"|".join(burn.rate for burn in burns)}"}}'),
            keep=keep,
            severity=severity,
            objective="quality",
            traces=True,
            annotations=_says(
                "MlflowQualityBudgetBurn",
                "Assessments are bad so often that the quality budget will not last.",
                description,
                templates.dashboard("mlflow-quality", ASSESSMENT),
                ASSESSMENT,
                "rating=bad",
                since(BURN_WINDOW, WEEK_S),
            ),
        )


_COUNTS = (assessments.RATINGS_OF_VERSION, assessments.RATINGS_OF_OTHERS)
_LIMIT = f"""\
(
  {WORSE} * {assessments.BAD_OF_OTHERS} < {assessments.BAD_OF_OTHERS} + {POINTS}
  or {assessments.BAD_OF_OTHERS} + {POINTS}
)"""

RATED_WORSE = Alert(
    comment=f"""A share of bad ratings that exceeds that of the others by the factor {WORSE} or by ten points, whichever
is less, is worth a look. Chance, small numbers and versions without recent traces are excluded as for failed
traces.""",
    alert="MlflowVersionRatedWorse",
    expr=with_team(f"""\
{assessments.BAD_OF_VERSION}{{version!~"unknown|other"}}
> {_LIMIT}
and {assessments.Z} > 3
and {ASSESSMENT_VERSION.increase(BAD, OF_DAY)} >= {LEAST}
and {VERSION.on} {VERSION.increase(TRACES, "5m")} > 0
{chr(10).join(f"and {count} >= 30" for count in _COUNTS)}"""),
    hold="5m",
    keep="5m",
    severity="warning",
    traces=True,
    annotations=_says(
        "MlflowVersionRatedWorse",
        "A version is rated worse than the others of its application.",
        f"""\
Version {label("version")} of {label("experiment")} in {label("environment")}: {value(PERCENT)} of the
{asked(own(assessments.RATINGS_OF_VERSION, ASSESSMENT_VERSION), ASSESSMENT_VERSION, WHOLE)}
{_NAME} assessments that arrived in the last day were bad, compared with
{asked(own(assessments.BAD_OF_OTHERS, ASSESSMENT_VERSION), ASSESSMENT_VERSION, PERCENT)}
for the other versions.""",
        templates.dashboard("mlflow-versions", OBJECTIVE, candidate="version"),
        ASSESSMENT_VERSION,
        "rating=bad",
        since(OF_DAY, WEEK_S),
    ),
)

SCORER_FAILS = Alert(
    comment="""It keeps firing for an hour, so that a scorer that runs every hour does not resolve it in between.""",
    alert="MlflowScorerFails",
    expr=with_team(f"""\
{FAILED_RATIO} > {HIGH}
and {SCORER.increase(FAILED, SHORT)} >= {LEAST}"""),
    hold="5m",
    keep="1h",
    severity="warning",
    traces=True,
    annotations=_says(
        "MlflowScorerFails",
        "A scorer fails.",
        f"""\
{_IN} {value(PERCENT)} of the
{asked(own(SCORER.increase(GIVEN, SHORT), SCORER), SCORER, WHOLE)}
{_NAME} assessments by {label("source")} that arrived in the last hour are errors of the scorer. They are neither good
nor bad.""",
        templates.dashboard("mlflow-quality", ASSESSMENT),
        SCORER,
        since(SHORT, WEEK_S),
    ),
)

_GIVEN = SCORER.increase(GIVEN, LONG)
_TRACES = OBJECTIVE.increase(TRACES, LONG)

STOPPED = Alert(
    comment="""The reference is a day ago and, if Prometheus has data that old, a week ago, as for MlflowNoTraces. A
job that runs once a day can be an hour late. traces_url lists the latest traces with such an assessment.""",
    alert="MlflowAssessmentsStopped",
    expr=with_team(f"""\
(
  {_GIVEN} offset 1d >= {REGULAR}
  unless {SCORER.on} {_GIVEN} offset 1w < {REGULAR}
)
unless {SCORER.on} {_GIVEN} > 0
and {OBJECTIVE.on} {_TRACES} > 0
and {OBJECTIVE.on} {_TRACES} >= 0.5 * ({_TRACES} offset 1d)
and {of_its_shard("mlflow_up")}"""),
    hold="1h",
    severity="warning",
    traces=True,
    annotations=_says(
        "MlflowAssessmentsStopped",
        "Assessments have stopped, although traces still arrive.",
        f"""\
{label("experiment")} had no {_NAME} assessments by {label("source")} in {label("environment")} in the last six hours;
a day ago it had {value(WHOLE)} in six hours. In the last six hours it had
{asked(own(_TRACES, OBJECTIVE), OBJECTIVE, WHOLE)} traces.""",
        templates.dashboard("mlflow-quality", ASSESSMENT),
        SCORER,
        since("1w"),
    ),
)

FILE = File(
    "mlflow-quality.yml",
    assessments.HEAD,
    (
        *assessments.GROUPS,
        Group(
            "mlflow-quality-alerts",
            (
                *commented(
                    """The share of bad ratings in the latest short window that had any, as long as the long window
has some. Ratings come in batches, and without new ones nothing says that the cause is gone.""",
                    map(_latest, BURNS),
                ),
                *commented(
                    """Burn rates over a long and a short window, as for failed traces. If a window has fewer ratings
than mlflow_objective_min_traces, the missing ones count as good, and an alert needs at least three bad ones.""",
                    _burning(),
                ),
                *_budget_burn(),
                RATED_WORSE,
                SCORER_FAILS,
                STOPPED,
            ),
            interval="1m",
        ),
    ),
)
