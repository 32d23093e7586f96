"""Recording rules about assessments: ratings against objectives, and what scorers give."""

from collections.abc import Callable, Iterator
from itertools import chain

from prometheus.promql import (
    ASSESSMENT,
    ASSESSMENT_VERSION,
    BURNS,
    SCORER,
    Level,
    Shares,
    burned,
    divided,
    increase,
    of_others,
    ratio_of_others,
)
from prometheus.rule import Group, Record, commented

HEAD = """Recorded series and alerts about assessments: what people, judges and checks say about traces. Without
assessments, these rules record nothing. Those about ratings need a quality objective in the exporter's configuration.

An assessment is counted when it comes, which can be days after its trace. All windows are of that time. Assessments are
fewer than traces and come in batches, so the rules are evaluated less often than those about traces."""

RATINGS = "mlflow_trace_assessment_ratings"
BAD = "mlflow_trace_assessment_bad_ratings"
GIVEN = "mlflow_trace_assessments"
FAILED = "mlflow_trace_assessment_errors"
SCORES = "mlflow_trace_assessment_score"

OF_DAY = "1d"
"""The window in which versions are compared."""

SHORT, LONG = "1h", "6h"
"""The window in which scorers have failed, and the one in which they have given nothing."""

_OBJECTIVE = "mlflow_objective_bad_assessment_ratio"
ALLOWED = ASSESSMENT.series(_OBJECTIVE, "max")
"""The share of ratings that may be bad."""

BURN = ASSESSMENT.series(_OBJECTIVE, "burn")
FAILED_RATIO = SCORER.series(FAILED, f"ratio_increase{SHORT}")

BAD_OF_VERSION = ASSESSMENT_VERSION.series(BAD, f"ratio_increase{OF_DAY}")
BAD_OF_OTHERS = ASSESSMENT_VERSION.series(f"{BAD}_of_others", f"ratio_increase{OF_DAY}")
RATINGS_OF_VERSION = ASSESSMENT_VERSION.increase(RATINGS, OF_DAY)
RATINGS_OF_OTHERS = ASSESSMENT_VERSION.increase(f"{RATINGS}_of_others", OF_DAY)
Z = ASSESSMENT_VERSION.series(BAD, f"z_increase{OF_DAY}")

_COUNTED = ((RATINGS, f"{RATINGS}_total"), (BAD, f'{RATINGS}_total{{rating="bad"}}'))


def bad_ratio(window: str) -> str:
    """The share of bad ratings in a window."""
    return ASSESSMENT.series(BAD, f"ratio_increase{window}")


def _objective() -> Iterator[Record]:
    yield Record(
        record=ALLOWED,
        expr=f"round(1000000 * (1 - min by ({ASSESSMENT.by}) (mlflow_objective_assessment_ratio))) / 1000000",
        comment="""The share of ratings that may be bad. It is rounded because 1 - 0.9 is less than 0.1. In
VictoriaMetrics, round() with a second argument can be less than that, too.""",
    )
    for burn in BURNS:
        yield Record(record=BURN, expr=burned(burn, ALLOWED), labels={"burn_rate": burn.rate})


def _counted(level: Level, window: str) -> Iterator[Record]:
    for metric, counter in _COUNTED:
        yield Record(record=level.increase(metric, window), expr=level.sum(increase(counter, window)))


def _ratio(level: Level, window: str) -> Record:
    return Record(
        record=level.series(BAD, f"ratio_increase{window}"),
        expr=divided(level.increase(BAD, window), level.increase(RATINGS, window)),
    )


def _ratings(window: str) -> Iterator[Record]:
    yield from _counted(ASSESSMENT, window)
    yield _ratio(ASSESSMENT, window)


def _by_version() -> Iterator[Record]:
    yield from _counted(ASSESSMENT_VERSION, OF_DAY)
    for metric, _ in _COUNTED:
        expr = ASSESSMENT.sum(ASSESSMENT_VERSION.increase(metric, OF_DAY))
        yield Record(record=ASSESSMENT.increase(metric, OF_DAY), expr=expr)
    for level in (ASSESSMENT_VERSION, ASSESSMENT):
        yield _ratio(level, OF_DAY)


def _compared() -> Iterator[Record]:
    bad = ASSESSMENT_VERSION.increase(BAD, OF_DAY)
    yield Record(
        comment="""A version compared with all other versions of its experiment in the same environment, over a day,
because ratings are few and come late.""",
        record=RATINGS_OF_OTHERS,
        expr=of_others(RATINGS_OF_VERSION, ASSESSMENT),
    )
    yield Record(record=BAD_OF_OTHERS, expr=ratio_of_others(bad, RATINGS_OF_OTHERS, ASSESSMENT))
    yield Record(
        comment="""The z of a two-proportion test, as for failed traces.""",
        record=Z,
        expr=Shares(
            BAD_OF_VERSION, BAD_OF_OTHERS, bad_ratio(OF_DAY), RATINGS_OF_VERSION, RATINGS_OF_OTHERS, ASSESSMENT
        ).z(),
    )


def _given(window: str) -> Iterator[Record]:
    failed = SCORER.increase(FAILED, window)
    yield Record(record=failed, expr=SCORER.sum(increase(f"{FAILED}_total", window)))
    words, scores = (SCORER.sum(increase(counter, window)) for counter in (f"{GIVEN}_total", f"{SCORES}_count"))
    yield Record(
        record=SCORER.increase(GIVEN, window),
        expr=f"{failed}\n+ ({words} or 0 * {failed})\n+ ({scores} or 0 * {failed})",
    )


def _scorers() -> Iterator[Record]:
    yield from chain.from_iterable(map(_given, (SHORT, LONG)))
    failed, given = (SCORER.increase(metric, SHORT) for metric in (FAILED, GIVEN))
    yield Record(record=FAILED_RATIO, expr=divided(failed, given))


def _of_windows(rules: Callable[[str], Iterator[Record]], *windows: str) -> Iterator[Record]:
    return chain.from_iterable(map(rules, windows))


GROUPS = (
    Group(
        "mlflow-quality",
        (
            *_objective(),
            *commented(
                """Ratings, and those that are bad, by application and name of the assessment.""",
                _of_windows(_ratings, "5m", "30m", "1h"),
            ),
        ),
        interval="1m",
    ),
    Group(
        "mlflow-quality-hours",
        (
            *_of_windows(_ratings, "2h", "6h"),
            *commented(
                """What each scorer has given: words, scores and errors. A scorer has a series of errors even if it
has never failed.""",
                _scorers(),
            ),
        ),
        interval="2m",
    ),
    Group(
        "mlflow-quality-days",
        (
            *commented("""The same ratings by version, and summed.""", _by_version()),
            *_ratings("3d"),
            *_compared(),
        ),
        interval="4m",
        comment="""Prometheus looks back five minutes for a sample, so the interval must not be longer.""",
    ),
)
