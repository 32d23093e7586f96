"""Recording rules about the inside of traces: calls of models, and tools and other spans."""

from collections.abc import Iterator

from prometheus.promql import (
    APPLICATION_MODEL,
    CALL_DURATION,
    CALL_ERRORS,
    CALLS,
    FIRST_CHUNK,
    JOB,
    MODEL,
    OBJECTIVE,
    PROVIDER,
    SPAN,
    SPAN_DURATION,
    SPAN_ERRORS,
    SPANS,
    STREAMED_CALLS,
    Level,
    divided,
    increase,
    indented,
    of_others,
)
from prometheus.rule import Group, Record, commented

HEAD = """Recorded series and alerts about the inside of traces: calls of models, tools and other spans. The exporter
has these metrics only if its configuration says `spans: {enabled: true}`. Without them, these rules record nothing.

A model belongs to a provider. Series of the levels provider and provider_model are sums over all applications."""

FAILED = '{status="error"}'
SHORT = "10m"
"""The window in which calls have failed."""

WINDOW = "30m"
"""The window of durations, and of spans that have failed."""

MEAN_OF = 10
"""The smallest number of calls of other providers with which a provider is compared."""

ERROR_RATIO = f"ratio_increase{SHORT}"
P95 = f"quantile_increase{WINDOW}"
ERRORS_OF_WEEK = f"{CALL_ERRORS}_of_week"
ERRORS_OF_OTHERS = f"{CALL_ERRORS}_of_others"
UNUSUAL_ERRORS = f"{CALL_ERRORS}_unusual"
DURATION_OF_WEEK = f"{CALL_DURATION}_of_week"
CALLS_OF_WEEK = f"{CALLS}_of_week"
SPAN_ERRORS_OF_DAY = f"{SPAN_ERRORS}_of_day"
SLOWDOWN = "mlflow_llm_call_slowdown"
SLOWDOWN_OF_OTHERS = f"{SLOWDOWN}_of_others"

BUCKETS = f"{CALL_DURATION}_bucket"

_COUNTED = ((CALLS, f"{CALL_DURATION}_count"), (CALL_ERRORS, f"{CALL_DURATION}_count{FAILED}"))
_SPANS = ((SPANS, f"{SPAN_DURATION}_count"), (SPAN_ERRORS, f"{SPAN_DURATION}_count{FAILED}"))


def _calls() -> Iterator[Record]:
    for metric, counter in _COUNTED:
        below = APPLICATION_MODEL
        yield Record(record=below.increase(metric, SHORT), expr=below.sum(increase(counter, SHORT)))
        for level in (MODEL, PROVIDER):
            yield Record(record=level.increase(metric, SHORT), expr=level.sum(below.increase(metric, SHORT)))
            below = level
    for level in (APPLICATION_MODEL, MODEL, PROVIDER):
        yield Record(
            record=level.series(CALL_ERRORS, ERROR_RATIO),
            expr=divided(level.increase(CALL_ERRORS, SHORT), level.increase(CALLS, SHORT)),
        )


def _of_other_providers() -> Iterator[Record]:
    calls, errors = (PROVIDER.increase(metric, SHORT) for metric in (CALLS, CALL_ERRORS))
    unusual = PROVIDER.increase(UNUSUAL_ERRORS, SHORT)
    usual = f"{PROVIDER.series(ERRORS_OF_WEEK, ERROR_RATIO)} * {calls}"
    yield Record(
        comment="""Failed calls beyond the share that was usual in the week before.""",
        record=unusual,
        expr=f"clamp_min({errors} - {usual}, 0)\nor {errors}",
    )
    yield Record(
        comment="""The share of such calls of all other providers, if they have some calls. If it is high as well, the
cause is hardly one provider.""",
        record=PROVIDER.series(ERRORS_OF_OTHERS, ERROR_RATIO),
        expr=f"""\
(
{indented(of_others(unusual, JOB))}
)
/ (
{indented(of_others(calls, JOB))}
  >= {MEAN_OF}
)""",
    )


def _p95(level: Level, histogram: str, matchers: str = "") -> str:
    buckets = level.with_label("le").sum(increase(f"{histogram}_bucket{matchers}", WINDOW))
    return f"histogram_quantile(0.95, {buckets}) >= 0"


def _quantile(level: Level, metric: str, expr: str) -> Record:
    return Record(record=level.series(metric, P95), expr=expr, labels={"quantile": "0.95"})


def _durations() -> Iterator[Record]:
    level = MODEL.with_label("le")
    buckets = level.increase(BUCKETS, WINDOW)
    yield Record(
        comment="""Calls that succeeded, because a failed call can be very short or very long.""",
        record=buckets,
        expr=level.sum(increase(f'{BUCKETS}{{status="ok"}}', WINDOW)),
    )
    yield _quantile(MODEL, CALL_DURATION, f"histogram_quantile(0.95, {buckets}) >= 0")
    yield _quantile(MODEL, FIRST_CHUNK, _p95(MODEL, FIRST_CHUNK))


def _first_chunk() -> Iterator[Record]:
    yield _quantile(OBJECTIVE, FIRST_CHUNK, _p95(OBJECTIVE, FIRST_CHUNK))
    expr = OBJECTIVE.sum(increase(f"{FIRST_CHUNK}_count", WINDOW))
    yield Record(record=OBJECTIVE.increase(STREAMED_CALLS, WINDOW), expr=expr)


def _slowdown() -> Iterator[Record]:
    itself, p95 = MODEL.series(SLOWDOWN, f"ratio_increase{WINDOW}"), MODEL.series(CALL_DURATION, P95)
    yield Record(
        comment="""The p95 of each model divided by its usual p95, if there are enough calls for a p95.""",
        record=itself,
        expr=f"""\
sum by ({MODEL.by}) ({p95} / ({MODEL.series(DURATION_OF_WEEK, P95)} > 0))
and {MODEL.on}
{MODEL.with_label("le").increase(BUCKETS, WINDOW)}{{le="+Inf"}} >= 100""",
    )
    both = (
        f"({function} by ({JOB.by}) ({itself})\n"
        f"  - {JOB.on} group_right () {function} by ({PROVIDER.by}) ({itself}){more})"
        for function, more in (("sum", ""), ("count", " > 0"))
    )
    yield Record(
        comment="""The mean of the models of all other providers.""",
        record=PROVIDER.series(SLOWDOWN_OF_OTHERS, f"ratio_increase{WINDOW}"),
        expr="\n/ ".join(both),
    )


def _spans() -> Iterator[Record]:
    for metric, counter in _SPANS:
        yield Record(record=SPAN.increase(metric, WINDOW), expr=SPAN.sum(increase(counter, WINDOW)))
    yield Record(
        record=SPAN.series(SPAN_ERRORS, f"ratio_increase{WINDOW}"),
        expr=divided(SPAN.increase(SPAN_ERRORS, WINDOW), SPAN.increase(SPANS, WINDOW)),
    )


def _before(series: str, window: str) -> str:
    """A window of a series that ended an hour ago."""
    return f"{series}[{window}] offset 1h"


def _ratio_before(level: Level, errors: str, all_of_them: str, each: str, window: str) -> str:
    sums = (f"sum_over_time({_before(level.increase(metric, each), window)})" for metric in (errors, all_of_them))
    return divided(*sums)


def _usual() -> Iterator[Record]:
    for level in (MODEL, PROVIDER):
        yield Record(
            record=level.series(ERRORS_OF_WEEK, ERROR_RATIO),
            expr=_ratio_before(level, CALL_ERRORS, CALLS, SHORT, "1w"),
        )
    yield Record(
        comment="""The median of the p95, which a bad day does not change.""",
        record=MODEL.series(DURATION_OF_WEEK, P95),
        expr=f"quantile_over_time(0.5, {_before(MODEL.series(CALL_DURATION, P95), '1w')})",
        labels={"quantile": "0.95"},
    )
    yield Record(
        record=APPLICATION_MODEL.increase(CALLS_OF_WEEK, SHORT),
        expr=f"max_over_time({_before(APPLICATION_MODEL.increase(CALLS, SHORT), '1w')})",
    )
    yield Record(
        record=SPAN.series(SPAN_ERRORS_OF_DAY, f"ratio_increase{WINDOW}"),
        expr=_ratio_before(SPAN, SPAN_ERRORS, SPANS, WINDOW, "1d"),
    )


GROUPS = (
    Group(
        "mlflow-llm-calls-usual",
        (
            *commented(
                """What was usual in the week before, or on the day before. An hour is left out, so that a failure is
not part of what it is compared with. A call is in equally many samples of an increase, so the ratio of their sums is
the true ratio.""",
                _usual(),
            ),
        ),
        interval="4m",
        comment="""Prometheus looks back five minutes for a sample, so the interval must not be longer.""",
    ),
    Group(
        "mlflow-llm-calls",
        (
            *commented("""Calls of models, and those that failed.""", _calls()),
            *_of_other_providers(),
        ),
        interval="1m",
    ),
    Group(
        "mlflow-llm-call-durations",
        (
            *_durations(),
            *commented("""Streamed calls by application, for the objective of each.""", _first_chunk()),
            *_slowdown(),
        ),
        interval="1m",
    ),
    Group(
        "mlflow-spans",
        (*commented("""Tools, retrievers and other spans that are not calls of models.""", _spans()),),
        interval="1m",
    ),
)
