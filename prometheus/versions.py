"""Alerts on a version that is worse than the others of its application."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus import templates
from prometheus.promql import (
    APPLICATION,
    BUCKETS,
    DURATION,
    ERRORS,
    TOKENS,
    TOKENS_PER_TRACE,
    TRACES,
    TRACES_WITH_TOKENS,
    VERSION,
    Shares,
    indented,
    of_others,
    ratio_of_others,
    with_team,
)
from prometheus.rule import Alert, Group, Record, Rule
from prometheus.templates import MILLI, PERCENT, WHOLE, asked, label, own, value

WORSE = 1.5
"""A version is worse if it exceeds the others by this factor."""

WINDOW = "1h"

_FAILED = VERSION.ratio(ERRORS, WINDOW)
_FAILED_OF_OTHERS = VERSION.series(f"{ERRORS.metric}_of_others", f"ratio_increase{WINDOW}")
_FAILED_OF_ALL = APPLICATION.ratio(ERRORS, WINDOW)
_Z = VERSION.series(ERRORS.metric, f"z_increase{WINDOW}")
_P95 = VERSION.series(DURATION, f"quantile_increase{WINDOW}")
_P95_OF_OTHERS = VERSION.series(f"{DURATION}_of_others", f"quantile_increase{WINDOW}")
_TOKENS = VERSION.series(TOKENS_PER_TRACE, f"mean_increase{WINDOW}")
_TOKENS_OF_OTHERS = VERSION.series(f"{TOKENS_PER_TRACE}_of_others", f"mean_increase{WINDOW}")
_TRACES = VERSION.increase(TRACES, WINDOW)
_TRACES_OF_OTHERS = VERSION.increase(f"{TRACES}_of_others", WINDOW)
_WITH_TOKENS = VERSION.increase(TRACES_WITH_TOKENS, WINDOW)
_WITH_TOKENS_OF_OTHERS = VERSION.increase(f"{TRACES_WITH_TOKENS}_of_others", WINDOW)
_STILL_USED = f"{VERSION.increase(TRACES, '5m')} > 0"


def _records() -> Iterator[Record]:
    errors = VERSION.increase(ERRORS.metric, WINDOW)
    yield Record(
        comment="""A version compared with all other versions of its experiment in the same environment, over an
hour. A factor of 1.5 is worth a look. The minimum number of traces on each side follows from how much a share, a
p95 or a mean varies by chance. A version without recent traces is ignored because it is already out of the way.""",
        record=_TRACES_OF_OTHERS,
        expr=of_others(_TRACES),
    )
    yield Record(record=_FAILED_OF_OTHERS, expr=ratio_of_others(errors, _TRACES_OF_OTHERS))
    yield Record(
        comment="""The difference of the two ratios in standard errors: the z of a two-proportion test, with the
error of the pooled ratio.""",
        record=_Z,
        expr=Shares(_FAILED, _FAILED_OF_OTHERS, _FAILED_OF_ALL, _TRACES, _TRACES_OF_OTHERS).z(),
    )
    buckets = VERSION.with_label("le").increase(BUCKETS, WINDOW)
    per_bucket = APPLICATION.with_label("le")
    yield Record(
        record=_P95_OF_OTHERS,
        expr=f"""\
histogram_quantile(
  0.95,
{indented(of_others(buckets, per_bucket))}
) >= 0""",
        labels={"quantile": "0.95"},
    )
    yield Record(record=_WITH_TOKENS_OF_OTHERS, expr=of_others(_WITH_TOKENS))
    yield Record(
        record=_TOKENS_OF_OTHERS, expr=ratio_of_others(VERSION.increase(TOKENS, WINDOW), _WITH_TOKENS_OF_OTHERS)
    )


@dataclass(frozen=True, slots=True)
class _Worse:
    """An alert on a version for which a series is higher than for the other versions."""

    alert: str
    summary: str
    description: str
    series: str
    others: str
    matchers: str
    conditions: tuple[str, ...]
    hold: str
    filter: str
    search: str = ""

    def rule(self) -> Alert:
        """The alert."""
        expr = f"{self.series}{{{self.matchers}}}\n> {WORSE} * {self.others}"
        annotations = {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": templates.runbook(self.alert),
            "dashboard_url": templates.dashboard("mlflow-versions", APPLICATION, candidate="version"),
            "traces_url": templates.traces(VERSION, self.filter, templates.since(WINDOW)),
        }
        if self.search:
            annotations["search_traces"] = templates.search(self.search, VERSION, WINDOW)
        return Alert(
            alert=self.alert,
            expr=with_team("\nand ".join((expr, *self.conditions))),
            hold=self.hold,
            keep="5m",
            severity="warning",
            traces=True,
            annotations=annotations,
        )


def _enough(traces: int, *series: str) -> Iterator[str]:
    """At least so many traces on both sides."""
    return (f"{each} >= {traces}" for each in series)


def _asked(series: str, how: str) -> str:
    return asked(own(series, VERSION), VERSION, how)


IT = f"Version {label('version')} of {label('experiment')} in {label('environment')}"
A_VERSION = 'version!~"unknown|other"'
P95_OF_OTHERS_MS = asked(f"1000 * {own(_P95_OF_OTHERS, VERSION)}", VERSION, WHOLE)

FAILS_MORE = _Worse(
    "MlflowVersionFailsMore",
    "A version fails more often than the others of its application.",
    f"""\
{IT}: {value(PERCENT)} of its
{_asked(_TRACES, WHOLE)}
traces of the last hour failed, compared with
{_asked(_FAILED_OF_OTHERS, PERCENT)}
for the other versions.""",
    _FAILED,
    _FAILED_OF_OTHERS,
    A_VERSION,
    (
        f"{_Z} > 3",
        f"{VERSION.increase(ERRORS.metric, WINDOW)} >= 5",
        _STILL_USED,
        *_enough(30, _TRACES, _TRACES_OF_OTHERS),
    ),
    "5m",
    "status=error",
    "trace.status = 'ERROR'",
)

SLOWER = _Worse(
    "MlflowVersionSlower",
    "A version is slower than the others of its application.",
    f"""\
{IT}: the p95 of its
{_asked(_TRACES, WHOLE)}
traces of the last hour is {value(templates.DURATION)}, compared with
{_asked(_P95_OF_OTHERS, templates.DURATION)}
for the other versions.""",
    _P95,
    _P95_OF_OTHERS,
    f'quantile="0.95",{A_VERSION}',
    (
        *(f"ignoring (quantile) {each}" for each in _enough(250, _TRACES, _TRACES_OF_OTHERS)),
        f"ignoring (quantile) {_STILL_USED}",
    ),
    "10m",
    f"duration_above={_asked(_P95_OF_OTHERS, MILLI)}",
    f"trace.execution_time_ms > {P95_OF_OTHERS_MS}",
)

USES_MORE_TOKENS = _Worse(
    "MlflowVersionUsesMoreTokens",
    "A version uses more tokens per trace than the others of its application.",
    f"""\
{IT} used {value(WHOLE)} tokens per trace
in the last hour, compared with {_asked(_TOKENS_OF_OTHERS, WHOLE)} for the other versions.""",
    _TOKENS,
    _TOKENS_OF_OTHERS,
    A_VERSION,
    (*_enough(100, _WITH_TOKENS, _WITH_TOKENS_OF_OTHERS), _STILL_USED),
    "10m",
    f"tokens_above={_asked(_TOKENS_OF_OTHERS, WHOLE)}",
)

RULES: tuple[Rule, ...] = (*_records(), *(each.rule() for each in (FAILS_MORE, SLOWER, USES_MORE_TOKENS)))

GROUP = Group("mlflow-version-alerts", RULES)
