"""Recording rules."""

from collections.abc import Callable, Iterator
from itertools import chain

from prometheus.promql import (
    ABANDONED,
    BEYOND_BUCKETS,
    BUCKETS,
    BURNS,
    COST,
    DURATION,
    ENVIRONMENT,
    IN_PROGRESS,
    KINDS,
    OBJECTIVE,
    SHARD,
    STALE,
    SUMMED,
    TEAM,
    TOKENS,
    TOKENS_PER_TRACE,
    TRACES,
    TRACES_WITH_TOKENS,
    TRACES_WITHOUT_TOKENS,
    VERSION,
    Level,
    allowed,
    burned,
    divided,
    increase,
    indented,
    only_one,
)
from prometheus.rule import File, Group, Record, commented

HEAD = """Recorded series for dashboards and alerts. Names are level:metric:operations; every level also keeps
`job`. An application is an experiment; objectives and alerts are at the level experiment_environment.

If two exporters count the same traces (a high-availability pair), the higher rate counts, never the sum. This is
why expressions have `max without (instance, pod)`. Two MLflow servers therefore need two jobs. Shards, which each count
some of the applications, are added up.

A ratio is the ratio of two sums, never a mean of ratios. Without traces there is no ratio."""

COUNTED = (TRACES, *(kind.metric for kind in KINDS))
QUANTILES = {VERSION: ("0.95",), **dict.fromkeys(SUMMED, ("0.5", "0.95", "0.99"))}
"""The quantiles at each level. Versions are compared by one only."""


_INFO = "mlflow_objective_info"
_TEAM_LABELS = OBJECTIVE.with_label("team").with_label("shard")
_SHARD_LABELS = OBJECTIVE.with_label("shard")

KNOWN = (
    OBJECTIVE.increase(TRACES, "3d"),
    OBJECTIVE.series(IN_PROGRESS, "min1h"),
    OBJECTIVE.increase(ABANDONED, "1d"),
)
"""Series that exist for every application with an alert. No alert looks back further than three days."""


def _team() -> Record:
    """One team for each application, in order of preference."""
    known = "(\n{}\n)".format(indented("\nor ".join(KNOWN)))
    candidates = (
        f'{TEAM}{{team!=""}} and {_TEAM_LABELS.on} {_INFO}',
        f'group by ({_TEAM_LABELS.by}) ({_INFO}{{team!=""}})',
        f"group by ({_SHARD_LABELS.by}) ({_INFO})",
        f"{TEAM} and {SHARD.on} {STALE}",
        f"{TEAM} and {OBJECTIVE.on} {known}",
        f"group by ({OBJECTIVE.by}) {known}",
    )
    preferred = f"\nor {OBJECTIVE.on}\n".join(candidates)
    return Record(
        record=TEAM,
        expr=only_one(OBJECTIVE, f"(\n{indented(preferred)}\n)"),
        comment="""The team of each application, and its shard if the exporters have that label: always exactly one
series for each application, because alerts are joined with it.
If a pair of exporters disagrees about the team, the recorded one stays until neither of them names it. It also stays
for three days after an application has vanished. An exporter that does not expose mlflow_objective_info yet has
applications without a team.""",
    )


def _objectives() -> Iterator[Record]:
    limits = (
        ("mlflow_objective_error_ratio", "", "mlflow_objective_error_ratio"),
        ("mlflow_objective_slow_ratio", "1 - ", "mlflow_objective_latency_ratio"),
        ("mlflow_objective_latency_seconds", "", "mlflow_objective_latency_seconds"),
        ("mlflow_objective_first_chunk_seconds", "", "mlflow_objective_first_chunk_seconds"),
        ("mlflow_objective_cost_usd_per_day", "", "mlflow_objective_cost_usd_per_day"),
        ("mlflow_objective_min_traces", "", "mlflow_objective_min_traces"),
    )
    for recorded, before, metric in limits:
        yield Record(record=OBJECTIVE.series(recorded, "max"), expr=_limit(metric, "min" if before else "max", before))


def _limit(metric: str, function: str, before: str) -> str:
    """An objective of each application. One without `experiment` is that of an older exporter."""
    older = f'{function} by ({ENVIRONMENT.by}) ({metric}{{experiment=""}})'
    return (
        f"{before}(\n"
        f'  {function} by ({OBJECTIVE.by}) ({metric}{{experiment!=""}})\n'
        f"  or {function} by ({OBJECTIVE.by}) ({TEAM} * {ENVIRONMENT.on} group_left () {older})\n"
        ")"
    )


def _burns() -> Iterator[Record]:
    for kind in KINDS:
        most = allowed(kind)
        for burn in BURNS:
            yield Record(
                record=OBJECTIVE.series(kind.allowed, "burn"),
                expr=burned(burn, most),
                labels={"burn_rate": burn.rate},
            )


def _sums(metric: str, window: str, below: Level, *above: Level) -> Iterator[Record]:
    """The increase at each level, as the sum of the level below it."""
    for level in above:
        yield Record(record=level.increase(metric, window), expr=level.sum(below.increase(metric, window)))
        below = level


def _by_version(window: str) -> Iterator[Record]:
    """Traces, errors and slow traces, by version and summed."""
    for metric in COUNTED:
        yield Record(record=VERSION.increase(metric, window), expr=VERSION.sum(increase(f"{metric}_total", window)))
        yield from _sums(metric, window, VERSION, *SUMMED)
    for kind in KINDS:
        for level in (VERSION, *SUMMED):
            yield _ratio(level, kind.metric, window)


def _by_application(window: str) -> Iterator[Record]:
    """The same at the level of objectives only, because only burn rates need these windows."""
    for metric in COUNTED:
        expr = OBJECTIVE.sum(increase(f"{metric}_total", window))
        yield Record(record=OBJECTIVE.increase(metric, window), expr=expr)
    for kind in KINDS:
        yield _ratio(OBJECTIVE, kind.metric, window)


def _ratio(level: Level, metric: str, window: str) -> Record:
    return Record(
        record=level.series(metric, f"ratio_increase{window}"),
        expr=divided(level.increase(metric, window), level.increase(TRACES, window)),
    )


def _durations(window: str) -> Iterator[Record]:
    buckets = VERSION.with_label("le")
    yield Record(record=buckets.increase(BUCKETS, window), expr=buckets.sum(increase(BUCKETS, window)))
    yield from _sums(BUCKETS, window, buckets, *(level.with_label("le") for level in SUMMED))
    for level, quantiles in QUANTILES.items():
        for quantile in quantiles:
            yield Record(
                record=level.series(DURATION, f"quantile_increase{window}"),
                expr=f"histogram_quantile({quantile}, {level.with_label('le').increase(BUCKETS, window)}) >= 0",
                labels={"quantile": quantile},
            )


def _tokens(window: str) -> Iterator[Record]:
    tokens, traces = VERSION.increase(TOKENS, window), VERSION.increase(TRACES_WITH_TOKENS, window)
    yield Record(record=tokens, expr=VERSION.sum(increase(f"{TOKENS_PER_TRACE}_sum", window)))
    yield Record(record=traces, expr=VERSION.sum(increase(f'{TOKENS_PER_TRACE}_count{{kind="input"}}', window)))
    mean = f"mean_increase{window}"
    yield Record(record=VERSION.series(TOKENS_PER_TRACE, mean), expr=divided(tokens, traces))
    for level in SUMMED:
        yield Record(
            record=level.series(TOKENS_PER_TRACE, mean),
            expr=f"{level.sum(tokens)}\n/ ({level.sum(traces)} > 0)",
        )


def _cost(window: str, *levels: Level) -> Iterator[Record]:
    both = (increase(f"mlflow_trace_{direction}_cost_usd_total", window) for direction in ("input", "output"))
    joined = indented("\n+ ".join(both))
    yield Record(record=levels[0].increase(COST, window), expr=f"sum by ({levels[0].by}) (\n{joined}\n)")
    yield from _sums(COST, window, *levels)


def _cost_per_trace(window: str) -> Iterator[Record]:
    for level in SUMMED:
        expr = divided(level.increase(COST, window), level.increase(TRACES, window))
        yield Record(record=level.series(COST, f"per_trace_increase{window}"), expr=expr)


def _without_tokens(window: str) -> Iterator[Record]:
    counter = 'mlflow_traces_missing_total{field="token_usage"}'
    expr = OBJECTIVE.sum(increase(counter, window))
    yield Record(record=OBJECTIVE.increase(TRACES_WITHOUT_TOKENS, window), expr=expr)


def _oddities(level: Level) -> Iterator[Record]:
    lowest = f"max without (instance, pod) (min_over_time({IN_PROGRESS}[1h]))"
    yield Record(
        record=level.series(IN_PROGRESS, "min1h"),
        expr=level.sum(lowest),
        comment="""The number of traces that were in progress throughout an hour.""",
    )
    yield Record(record=level.increase(ABANDONED, "1d"), expr=level.sum(increase(f"{ABANDONED}_total", "1d")))
    buckets = level.with_label("le").increase(BUCKETS, "1h")
    all_of_them = f'{buckets}{{le="+Inf"}}'
    yield Record(
        record=level.series(BEYOND_BUCKETS, "ratio_increase1h"),
        expr=(f'1\n- max by ({level.by}) ({buckets}{{le!="+Inf"}})\n/ ({level.sum(all_of_them)} > 0)'),
        comment="""The share of traces beyond the highest bound. Buckets are cumulative, so the largest finite
bucket is the last one.""",
    )


def _of_windows(rules: Callable[[str], Iterator[Record]], *windows: str) -> Iterator[Record]:
    return chain.from_iterable(map(rules, windows))


FILE = File(
    "mlflow-recording.yml",
    HEAD,
    (
        Group(
            "mlflow-traces",
            (
                *commented(
                    """The number of traces, of failed traces, and of traces slower than the objective of their
application.""",
                    _of_windows(_by_version, "5m", "30m", "1h"),
                ),
            ),
        ),
        Group(
            "mlflow-traces-hours",
            (
                *commented(
                    """The same over the longer windows of the burn rates. They are evaluated less often because
they change slowly.""",
                    _of_windows(_by_application, "2h", "6h"),
                ),
            ),
            interval="1m",
        ),
        Group("mlflow-traces-days", (*_of_windows(_by_application, "1d", "3d"),), interval="2m"),
        Group(
            "mlflow-trace-duration",
            (
                *commented(
                    """Quantiles of the duration in seconds. A quantile beyond the last bucket is reported as the
highest bound. Without traces there is none: NaN, which it would be, is not stored by every long-term storage.""",
                    _durations("1h"),
                ),
            ),
        ),
        Group(
            "mlflow-trace-tokens-and-cost",
            (
                *commented(
                    """Mean input and output tokens per trace, over traces whose usage is known.""",
                    _tokens("1h"),
                ),
                *commented(
                    """Input and output cost in USD, and the mean cost per trace.""",
                    chain(
                        _cost("1h", VERSION, *SUMMED), _cost("6h", *SUMMED), _cost("1d", *SUMMED), _cost_per_trace("1h")
                    ),
                ),
                *commented("""Traces without token usage.""", _of_windows(_without_tokens, "30m", "1d")),
            ),
            interval="1m",
            comment="""The cost dashboard relies on this interval: summed over time, a series of hourly increases
is 60 times the truth.""",
        ),
        Group("mlflow-trace-oddities", (*_oddities(OBJECTIVE),)),
        Group(
            "mlflow-objectives",
            (
                _team(),
                *commented(
                    """Objectives, from the exporter's configuration. These files contain no thresholds of your
own.""",
                    _objectives(),
                ),
                *commented(
                    """The ratio at which the 30-day budget burns 14.4, 6, 3 or 1 times too fast (Site Reliability
Workbook, chapter 5). With an objective of 10 %, a burn rate of 14.4 would need 144 % errors, which is impossible.
A threshold is therefore at most three quarters of the way from the objective to 100 %. With 5 %: 72 %, 30 %, 15
%, 5 %. With 10 %: 77.5 %, 60 %, 30 %, 10 %.""",
                    _burns(),
                ),
            ),
        ),
    ),
)
