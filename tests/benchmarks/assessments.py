"""How long after it is given an assessment is in /metrics, how often its trace is read, and its size in a ledger.

Feedback is given at a steady rate on traces of the last two hours, and on those of the last days, on a real MLflow
server. Each has a value of its own, so that it can be found again in /metrics.
"""

import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Event, Thread

from mlflow_trace_exporter.counting.tally import Tally
from mlflow_trace_exporter.domain.assessments import HUMAN, Assessment
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.metrics.assessments import ASSESSMENTS
from mlflow_trace_exporter.metrics.families import DUPLICATES
from tests.benchmarks import ledger
from tests.benchmarks.figures import Figure, Setting, median, quantile
from tests.benchmarks.store import DAY_MS, HOUR_MS, Store, realistic, server
from tests.support.builders import METER_WITH_ALL
from tests.support.real import Exporter, eventually, now_ms

IDS = 100_000
RECENT, OLDER = 2_000, 4_000
"""How many traces there are of the last two hours, and of the five days before."""
RATE = 0.5
"""How many assessments are given per second, on either."""
RUN_S = 240.0
LONGEST_S = 1_200.0
"""Earlier start times are compared every ten minutes."""


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure the size first, then the delays."""
    yield Figure("bytes per assessment in the ledger", bytes_per_assessment(setting), "bytes")
    with server(setting.folder("mlflow")) as store:
        yield from delays(setting, store)


def bytes_per_assessment(setting: Setting) -> float:
    """The growth of a ledger by assessments of traces that it has already, one each."""
    path = setting.directory / "ledger.db"
    dice = random.Random(4)
    opened = open_ledger(path)
    opened.totals.adopt(METER_WITH_ALL.families)
    tally = Tally(opened, METER_WITH_ALL, 0)
    traces = [ledger.trace(dice, number) for number in range(IDS)]
    for first in range(0, IDS, ledger.PAGE):
        tally.store(traces[first : first + ledger.PAGE], tally.horizon)
    opened.close()
    before = ledger.size(path)
    opened = open_ledger(path)
    tally = Tally(opened, METER_WITH_ALL, 0)
    for first in range(0, IDS, ledger.PAGE):
        page = traces[first : first + ledger.PAGE]
        opinions = [Assessment(f"a-{dice.getrandbits(128):032x}", "correctness", HUMAN, "yes", 1) for _ in page]
        assessed = [replace(each, assessments=(one,)) for each, one in zip(page, opinions, strict=True)]
        tally.store(assessed, tally.horizon)
    opened.close()
    return (ledger.size(path) - before) / IDS


def delays(setting: Setting, store: Store) -> Iterator[Figure]:
    """Give feedback for some minutes, and see when it is counted."""
    dice = random.Random(5)
    experiment = store.experiment("assessed")
    now = now_ms()
    recent = store.insert(
        experiment, (realistic(dice, now - at * 2 * HOUR_MS // RECENT, 500) for at in range(1, RECENT))
    )
    older = store.insert(
        experiment, (realistic(dice, now - 3 * HOUR_MS - at * 5 * DAY_MS // OLDER, 500) for at in range(OLDER))
    )
    config = {
        "mlflow": {"tracking_uri": store.uri},
        "poll": {"interval": "15s", "start": "6d"},
        "labels": {"max_values": 10_000},
    }
    with Exporter(setting.folder("exporter"), config, "--log.level=warn").running() as exporter:
        there = len(recent) + len(older)
        eventually(lambda: _sum(exporter, "mlflow_traces_total") == there, "all traces are counted", 300)
        time.sleep(60)  # each kind of audit has begun
        reads = _sum(exporter, DUPLICATES)
        seen_s: dict[str, float] = {}
        stop = Event()
        watcher = Thread(target=_watch, args=(exporter, seen_s, stop))
        watcher.start()
        try:
            given_s = _give(store, recent, older, dice)
            eventually(lambda: given_s.keys() <= seen_s.keys(), "all assessments are counted", LONGEST_S)
        finally:
            stop.set()
            watcher.join()
        again = (_sum(exporter, DUPLICATES) - reads) / there
    for kind in ("recent", "older"):
        found = [seen_s[value] - at_s for value, at_s in given_s.items() if value.startswith(kind)]
        yield Figure(f"{kind} trace: assessment to /metrics at 15 s, p50", median(found), "s")
        yield Figure(f"{kind} trace: assessment to /metrics at 15 s, p99", quantile(found, 0.99), "s")
    yield Figure("reads of each trace because of that", again, "reads")


def _give(store: Store, recent: Sequence[str], older: Sequence[str], dice: random.Random) -> dict[str, float]:
    """Give feedback at a steady rate. Returns when each was given (Unix seconds), by its value."""
    given_s: dict[str, float] = {}
    began_s = time.time()
    for number in range(int(RUN_S * RATE)):
        Event().wait(max(0.0, began_s + number / RATE - time.time()))
        for kind, ids in (("recent", recent), ("older", older)):
            store.mlflow.assess(dice.choice(ids), "said", f"{kind} {number}")
            given_s[f"{kind} {number}"] = time.time()
    return given_s


def _watch(exporter: Exporter, seen_s: dict[str, float], stop: Event) -> None:
    """Note when each value is above 0 for the first time (Unix seconds)."""
    while not stop.wait(0.5):
        for value in _COUNTED.findall(exporter.text()):
            seen_s.setdefault(value, time.time())


_COUNTED = re.compile(rf'^{ASSESSMENTS}{{.*value="([^"]*)".*}} [1-9]', re.MULTILINE)


def _sum(exporter: Exporter, name: str) -> float:
    return sum(value for sample, value in exporter.samples().items() if sample.partition("{")[0] == name)
