"""How often a running exporter reads a trace, and how long after its end /metrics shows the trace.

Traces are put into the database of a real MLflow server when they end. Four exporters poll the server at the same time,
each for its own experiment, under little load:

    at 15 s       every 15 s, traces with MLflow's mark
    at 1 s        every second, likewise
    otlp          every 15 s, traces without the mark
    label sets    every 15 s, each trace has a new environment, and the hold at 0 is the default

They reach MLflow through proxies that count how many responses contain each trace. Only the reads during this run are
counted. The passes that close and retire start times, hours later, add two more.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler

from tests.benchmarks.figures import Figure, Goal, Setting, at_most, median, quantile, say
from tests.benchmarks.store import Driver, driving, realistic, server
from tests.benchmarks.watch import Seen, Watch, watching
from tests.support.proxy import Proxy, proxy
from tests.support.real import Exporter, Trace, eventually

COHORT_S = 45.0
"""Reads are counted for the traces that end in the first so many seconds: three intervals."""
OVERLAP_S = 120.0
RUN_S = COHORT_S + OVERLAP_S + 40.0
"""Long enough that the overlap no longer includes the cohort, so that all its reads have happened."""


@dataclass(frozen=True)
class Case:
    """An exporter and its traffic. ``rate``: traces per second. ``make`` makes a trace from its end (Unix ms).
    ``held``: whether new label sets are held at 0 first, as they are by default."""

    name: str
    interval: str
    rate: float
    make: Callable[[int], Trace]
    held: bool = False


class Reads:
    """Counts the responses of MLflow that contain a trace, by its id."""

    def __init__(self, mlflow: Proxy) -> None:
        self.of: Counter[str] = Counter()
        mlflow.misbehave = self._count

    def _count(self, request: BaseHTTPRequestHandler, answer: bytes) -> bool:
        if request.path.endswith("/traces/search"):
            self.of.update(trace["trace_id"] for trace in json.loads(answer).get("traces", ()))
        return False


@dataclass(frozen=True)
class Run:
    """The result of a case. ``began_s``: when its first trace ended (Unix seconds)."""

    case: Case
    driver: Driver
    reads: Reads
    watch: Watch
    began_s: float

    def is_over(self) -> bool:
        """Whether all traces are counted."""
        return self.watch.last.total >= len(self.driver.ends_s)

    def delays_s(self) -> list[float]:
        """How long after its end each trace was shown."""
        return self.watch.delays_s(self.driver.ends_s)

    def reads_each(self) -> float:
        """How often a trace of the cohort was read."""
        cohort = self.driver.ids[: round(COHORT_S * self.case.rate)]
        assert all(self.reads.of[trace_id] for trace_id in cohort), "each trace was read"
        return sum(self.reads.of[trace_id] for trace_id in cohort) / len(cohort)


def figures(setting: Setting) -> Iterator[Figure]:
    """Run all cases at the same time, then return their figures."""
    dice = random.Random(2)
    cases = (
        Case("at 15 s", "15s", 20, lambda end_ms: marked(dice, end_ms)),
        Case("at 1 s", "1s", 5, lambda end_ms: marked(dice, end_ms)),
        Case("otlp", "15s", 2, lambda end_ms: replace(marked(dice, end_ms), finalized=False)),
        Case("label sets", "15s", 0.5, with_new_labels, held=True),
    )
    at_15, at_1, otlp, labels = finished(setting, cases)
    yield Figure("reads of a new trace at 15 s", at_15.reads_each(), "reads", goal=at_most(2.5))
    yield Figure("reads of a new trace at 1 s", at_1.reads_each(), "reads", goal=at_most(3))
    yield Figure("reads of a new OTLP trace at 15 s", otlp.reads_each(), "reads")
    yield from quantiles("end to /metrics at 15 s", at_15.delays_s(), at_most(17), at_most(27))
    yield from quantiles("end to /metrics at 1 s", at_1.delays_s())
    yield from quantiles("end to /metrics, OTLP", otlp.delays_s(), p99=at_most(40))
    yield from quantiles("end to /metrics, new label set", firsts(labels), at_most(45))
    for run in (at_15, at_1):
        after = run.case.name
        yield Figure(f"mean visibility_delay_seconds {after}", mean_visibility_delay_s(run.watch.last), "s")
        durations = run.watch.poll_durations_s(after_s=run.began_s + OVERLAP_S)
        yield Figure(f"poll {after}, median", median(durations), "s")


def finished(setting: Setting, cases: Sequence[Case]) -> list[Run]:
    """Run cases at the same time until all their traces are counted."""
    with ExitStack() as stack:
        store = stack.enter_context(server(setting.folder("mlflow")))
        proxies = [stack.enter_context(proxy(store.uri)) for _ in cases]
        exporters = [exporter(setting, case, through.url) for case, through in zip(cases, proxies, strict=True)]
        drivers = [Driver(store, store.experiment(case.name), case.rate, case.make) for case in cases]
        reads = [Reads(through) for through in proxies]
        for each in exporters:
            stack.enter_context(each.running())
        watches = stack.enter_context(watching(*exporters))
        eventually(lambda: all(watch.last.of_exporter("polls_total") > 0 for watch in watches), "a poll each")
        began_s = time.time()
        say(f"delays: traces end for {RUN_S:.0f} s")
        with driving(drivers, RUN_S):
            time.sleep(RUN_S)
        runs = [Run(*parts, began_s) for parts in zip(cases, drivers, reads, watches, strict=True)]
        eventually(lambda: all(run.is_over() for run in runs), "all traces are counted", 300)
    for run in runs:
        number = len(run.driver.ends_s)
        assert run.watch.last.total == number == len(set(run.driver.ids)), "each trace is counted once"
        say(f"delays: {run.case.name}: {number} traces, the driver was at most {run.driver.lag_s:.2f} s late")
    return runs


def exporter(setting: Setting, case: Case, uri: str) -> Exporter:
    """The exporter of a case."""
    poll = {"interval": case.interval, "start": "10m"}  # the first traces start before the exporter
    config = {"mlflow": {"tracking_uri": uri, "experiments": [case.name]}, "poll": poll}
    return Exporter(setting.folder(case.name), {**config, **({"series": {}} if case.held else {})})


def marked(dice: random.Random, end_ms: int) -> Trace:
    duration_ms = dice.randrange(100, 2_000)
    return realistic(dice, end_ms - duration_ms, duration_ms)


def with_new_labels(end_ms: int) -> Trace:
    return Trace(end_ms - 500, 500, tags={"environment": environment(end_ms), "app_version": "1"})


def environment(end_ms: float) -> str:
    """The environment of the only trace that ended then."""
    return f"e{int(end_ms)}"


def mean_visibility_delay_s(seen: Seen) -> float:
    """The mean delay that the exporter itself reports."""
    name = "mlflow_trace_visibility_delay_seconds"
    assert seen.value(f"{name}_count") == seen.total, "each trace has a delay"
    return seen.value(f"{name}_sum") / seen.total


def firsts(run: Run) -> list[float]:
    """How long after its end the only trace of each environment was shown."""
    delays = []
    for end_s in run.driver.ends_s:
        first = next(seen for seen in run.watch.seen if seen.counted.get(environment(end_s * 1000)))
        delays.append(first.at_s - end_s)
    return delays


def quantiles(
    name: str, delays_s: Sequence[float], p50: Goal | None = None, p99: Goal | None = None
) -> Iterator[Figure]:
    """The p50 and the p99 of delays."""
    yield Figure(f"{name}, p50", quantile(delays_s, 0.5), "s", goal=p50)
    yield Figure(f"{name}, p99", quantile(delays_s, 0.99), "s", goal=p99)
