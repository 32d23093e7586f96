"""Several shards, which each count some of the applications, and replicas of a shard, of which one is the leader."""

from collections.abc import Iterator, Mapping

from prometheus.promtool.case import Case, CaseFile, Fired, Sample, Series, Target, ask, fires, one, sample

ONE = Target()
SHARDED = "mlflow-trace-exporter-shards"
FIRST, THIRD = (Target(SHARDED, f"exporter-{number}:10500", {"shard": number}) for number in ("1", "3"))
SECOND_A, SECOND_B = (
    Target(SHARDED, f"exporter-2{replica}:10500", {"shard": "2", "pod": f"2{replica}"}) for replica in ("a", "b")
)
SECOND = Target(SHARDED, "leader", {"shard": "2"})
"""The leader, if the scrape configuration gives its counters the same labels whichever replica it is."""

SAMPLES = 240
FAIL_OVER = 120


def _named(series: str) -> str:
    """The series, with their names as a label, because an operator between two series drops the names."""
    return f'label_replace({series}, "name", "$1", "__name__", "(.+)")'


def _recorded(job: str) -> str:
    return _named(f'{{__name__=~".+:.+", job="{job}"}}')


def _alerts(job: str) -> str:
    return f'ALERTS{{data="traces", job="{job}"}}'


_ALONE, _TOGETHER = _recorded(ONE.job), _recorded(SHARDED)
DIFFERENT = f"abs({_ALONE} - ignoring (job, shard) {_TOGETHER}) > 1e-9"
ONLY_ONE_HAS = " or ".join(
    f"count by (name) ({a} unless ignoring (job, shard) {b})" for a, b in ((_ALONE, _TOGETHER), (_TOGETHER, _ALONE))
)
DIFFERENT_ALERTS = " or ".join(
    f"{_alerts(a)} unless ignoring (job, shard) {_alerts(b)}" for a, b in ((ONE.job, SHARDED), (SHARDED, ONE.job))
)

TRACES_1H = "environment:mlflow_traces:increase1h"
_FIRING = f'alertstate="firing", job="{SHARDED}"'
PAGES = f'group by (alertname, experiment, shard) (ALERTS{{{_FIRING}, severity="critical"}})'
MOST_FAIL = f'group by (experiment, shard, team) (ALERTS{{{_FIRING}, alertname="MlflowMostTracesFail"}})'
STALE = f'group by (shard) (ALERTS{{{_FIRING}, alertname="MlflowTracesStale"}})'
OWN = 'group by (alertname, shard) (ALERTS{alertstate="firing", data=""})'
OF_AN_OUTAGE = ("MlflowTracesStale", "MlflowUnreachable", "MlflowTraceExporterNoProgress")

_LEADERS = {"mlflow_up": 1, "poll_interval": 15, "catching_up": 0}
"""Metrics that a replica has only while it is the leader."""


def _times(rate: float, gap: bool) -> str:
    """A counter, with or without the minutes in which there is no leader."""
    whole = f"0+{rate}x{SAMPLES}"
    after = FAIL_OVER + 2
    return f"0+{rate}x{FAIL_OVER - 1} _x2 {rate * after}+{rate}x{SAMPLES - after}" if gap else whole


def _counted(target: Target, experiment: str, traces: int, failed: int = 0, *, gap: bool = False) -> Iterator[Series]:
    """An application with two versions: its traces in a minute, those that fail, and all that is in them."""

    def times(rate: float) -> str:
        return _times(rate, gap)

    objective = {"error_ratio": 0.05, "latency_seconds": 5, "latency_ratio": 0.95, "cost_usd_per_day": 10}
    yield from target.objective("production", SAMPLES, experiment, f"team-{experiment}", **objective, min_traces=20)
    yield from target.application("production", experiment, in_progress=f"{traces}x{SAMPLES}", abandoned=times(0.1))
    for version, share in (("1.4.0", 3), ("1.5.0", 1)):
        number = share * traces
        yield from target.version(
            "production",
            version,
            experiment,
            trace_name="answer",
            traces=times(number),
            errors=times(failed),
            slow=times(share),
            input_cost=times(0.25 * number),
            output_cost=times(0.5 * number),
            missing={"token_usage": times(share)},
            tokens={"input": times(300 * number), "output": times(100 * number)},
            traces_with_tokens={"input": times(number), "output": times(number)},
            buckets={"1.0": times(number - share), "5.0": times(number), "+Inf": times(number)},
        )
        yield from target.assessed(
            "correctness",
            experiment,
            version,
            ratings={"good": times(number), "bad": times(share)},
        )
        yield from target.assessed("correctness", experiment, version, "LLM_JUDGE", assessment_errors=times(share))
    yield from target.model(
        "gpt-4o",
        experiment=experiment,
        calls={"ok": times(10 * traces), "error": times(failed)},
        call_buckets={"1.0": times(9 * traces), "+Inf": times(10 * traces)},
        call_errors={"timeout": times(failed)},
        first_chunk_buckets={"1.0": times(5 * traces), "+Inf": times(5 * traces)},
        streamed_calls=times(5 * traces),
    )
    yield from target.model("opus", "anthropic", experiment, calls={"ok": times(traces), "error": times(0)})
    yield from target.span("search", experiment=experiment, spans={"ok": times(traces), "error": times(failed)})


def _from_fail_over() -> Mapping[str, str]:
    """The metrics of a replica that has waited until the fail-over, and then is the leader."""
    first = FAIL_OVER + 2
    left = SAMPLES - first
    last_poll = f"_x{first} {60 * first}+60x{left}"
    never_before = {name: f"_x{first} {value}x{left}" for name, value in _LEADERS.items()}
    return {"last_poll": last_poll, "leader": f"0x{first - 1} 1x{left}", **never_before}


def _traces(number: int) -> Sample:
    """So many traces of production in an hour."""
    return sample(number, job=SHARDED, environment="production")


def _standby(target: Target, samples: str) -> Iterator[Series]:
    """A replica that waits has no other metrics than those of itself."""
    return target.series(up=samples, leader=samples.replace("1x", "0x"))


FILE = CaseFile(
    "shards.yml",
    "Several shards, which each count some of the applications, and replicas of a shard, of which one is the leader.",
    "2m",
    (
        Case(
            "three shards and one exporter count the same, also while a replica takes over",
            "1m",
            [
                ONE.exporter(SAMPLES),
                _counted(ONE, "chatbot", 10),
                _counted(ONE, "search", 20, 18, gap=True),
                _counted(ONE, "batch", 30, 1),
                FIRST.exporter(SAMPLES),
                _counted(FIRST, "chatbot", 10),
                SECOND.exporter(SAMPLES),
                _standby(SECOND_B, f"1x{FAIL_OVER}"),
                _counted(SECOND, "search", 20, 18, gap=True),
                THIRD.exporter(SAMPLES),
                _counted(THIRD, "batch", 30, 1),
            ],
            (
                *(
                    ask(expr, at)
                    for at in ("60m", "124m", "130m", "240m")
                    for expr in (DIFFERENT, ONLY_ONE_HAS, DIFFERENT_ALERTS)
                ),
                ask(f"count(count by (name) ({_TOGETHER})) > bool 150", "240m", one()),
                ask(
                    f'{TRACES_1H}{{job="{SHARDED}"}}',
                    "240m",
                    sample(60 * 4 * 60, __name__=TRACES_1H, job=SHARDED, environment="production"),
                ),
                ask(PAGES, "118m", one(alertname="MlflowErrorBudgetBurn", experiment="search", shard="2")),
                ask(PAGES, "124m", one(alertname="MlflowErrorBudgetBurn", experiment="search", shard="2")),
            ),
        ),
        Case(
            "the series of the new leader have labels of their own - for the length of a window, counts are too low",
            "1m",
            [
                SECOND_A.exporter(FAIL_OVER - 1, leader=f"1x{FAIL_OVER - 1}"),
                SECOND_A.version("production", "1", "search", traces=f"0+10x{FAIL_OVER - 1}"),
                SECOND_B.exporter(SAMPLES, up=f"1x{SAMPLES}", **_from_fail_over()),
                SECOND_B.version(
                    "production",
                    "1",
                    "search",
                    traces=f"_x{FAIL_OVER + 2} {10 * (FAIL_OVER + 2)}+10x{SAMPLES - FAIL_OVER - 2}",
                ),
            ],
            (
                ask(f"round({TRACES_1H}, 10)", "118m", _traces(600)),
                ask(f"round({TRACES_1H}, 10)", "152m", _traces(310)),
                ask(f"round({TRACES_1H}, 10)", "190m", _traces(600)),
                ask('count_over_time(ALERTS{alertstate="firing",severity!="none"}[4h])', "240m"),
            ),
        ),
        Case(
            "MLflow does not answer one shard - alerts of its applications freeze, and those of the others do not",
            "1m",
            [
                FIRST.exporter(SAMPLES),
                FIRST.objective("production", SAMPLES, "chatbot", "support", error_ratio=0.05, min_traces=20),
                FIRST.version("production", "1", "chatbot", traces="0+100x240", errors="0x60 0+100x80 8000x100"),
                SECOND.exporter(SAMPLES, mlflow_up="1x120 0x120", last_poll="0+60x120 7200x120"),
                SECOND.objective("production", SAMPLES, "search", "discovery", error_ratio=0.05, min_traces=20),
                SECOND.version(
                    "production", "1", "search", traces="0+100x122 12200x118", errors="0x60 0+100x61 6100x117"
                ),
            ],
            (
                ask(STALE, "118m"),
                ask(
                    MOST_FAIL,
                    "118m",
                    one(experiment="chatbot", shard="1", team="support"),
                    one(experiment="search", shard="2", team="discovery"),
                ),
                ask(STALE, "180m", one(shard="2")),
                ask(MOST_FAIL, "180m", one(experiment="search", shard="2", team="discovery")),
                ask(OWN, "180m", *(one(alertname=name, shard="2") for name in OF_AN_OUTAGE)),
                fires(
                    "MlflowUnreachable",
                    "180m",
                    Fired(
                        {"job": SHARDED, "instance": "leader", "shard": "2", "severity": "warning"},
                        summary="The exporter cannot read MLflow.",
                        description=(
                            "leader (shard 2) has had no valid response from MLflow for five minutes. Reasons in the "
                            "last 15 minutes:. No traces are lost as long as MLflow keeps them: they are counted when "
                            "it responds again."
                        ),
                        dashboard=f"mlflow-exporter?var-job={SHARDED}",
                    ),
                ),
            ),
        ),
        Case(
            "no shard has fresh data - what is about several applications is inhibited, too",
            "1m",
            [target.exporter(60, last_poll="0+60x20 1200x40") for target in (FIRST, SECOND, THIRD)],
            (
                ask(STALE, "18m"),
                ask(STALE, "30m", one(shard="1"), one(shard="2"), one(shard="3"), one()),
            ),
        ),
        Case(
            "one shard no longer has a target",
            "1m",
            [FIRST.exporter(60), SECOND.exporter(20), THIRD.exporter(60)],
            (
                ask(
                    OWN,
                    "40m",
                    one(alertname="MlflowTraceExporterDown", shard="2"),
                    one(alertname="MlflowTracesStale", shard="2"),
                ),
                fires(
                    "MlflowTraceExporterDown",
                    "40m",
                    Fired(
                        {"job": SHARDED, "shard": "2", "severity": "warning"},
                        summary="The exporter cannot be scraped.",
                        description=(
                            f"Prometheus no longer has a target of job {SHARDED} (shard 2). No traces are lost: they "
                            "are counted when the exporter runs again."
                        ),
                        dashboard=f"mlflow-exporter?var-job={SHARDED}",
                    ),
                ),
            ),
        ),
        Case(
            "a shard has no leader for a minute, another for longer, and exporters with a file have none",
            "1m",
            [
                ONE.exporter(60),
                FIRST.exporter(60, leader="1x20 0x1 1x39"),
                SECOND_A.exporter(60, leader="1x30 0x30"),
                _standby(SECOND_B, "1x60"),
                THIRD.exporter(60, leader="1x60"),
            ],
            (
                ask(OWN, "32m"),
                ask(OWN, "50m", one(alertname="MlflowTraceExporterNoLeader", shard="2")),
                fires("MlflowTraceExporterNoLeader", "31m"),
                fires(
                    "MlflowTraceExporterNoLeader",
                    "50m",
                    Fired(
                        {"job": SHARDED, "shard": "2", "severity": "warning"},
                        summary="No exporter is the leader, so no traces are counted.",
                        description=(
                            f"All exporters of job {SHARDED} (shard 2) that Prometheus can scrape have been waiting to "
                            "become the leader for two minutes. No traces are lost: they are counted when one of them "
                            "is the leader."
                        ),
                        dashboard=f"mlflow-exporter?var-job={SHARDED}",
                    ),
                ),
            ),
        ),
    ),
    rules="mlflow-*.yml",
)
