"""How many new traces per second one exporter sustains at an interval of 15 s.

Traces are put into the database of a real MLflow server with one worker when they end. The database is in WAL mode, so
that the driver does not block MLflow. A rate is sustained if the exporter, once the overlap of its polls is full,
completes five polls in a row within the interval, is not behind, and has counted all traces that ended more than a
minute ago. The exporter, MLflow and the driver share the CPUs of one machine.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.benchmarks.delays import OVERLAP_S, marked
from tests.benchmarks.figures import Figure, Setting, at_least, say
from tests.benchmarks.store import Driver, Store, driving, server
from tests.benchmarks.watch import Watch, watching
from tests.support.real import Exporter

INTERVAL_S = 15.0
HIGH, HIGHER = 1_500, 2_000
LOWER = (800, 400, 200, 100)
POLLS = 5
WARM_S = OVERLAP_S + 2 * INTERVAL_S
"""How long it takes until the overlap is full."""
SLACK_S = 60.0
"""Traces that ended within this time need not be counted yet."""


@dataclass(frozen=True)
class Outcome:
    """Whether a rate was sustained, and how long the longest of the decisive polls took."""

    sustained: bool
    longest_s: float


def figures(setting: Setting) -> Iterator[Figure]:
    """Try the goal rate. If it is sustained, try a higher one, otherwise lower ones."""
    with server(setting.folder("mlflow")) as store:
        found = {HIGH: outcome(store, setting, HIGH)}
        if found[HIGH].sustained:
            found[HIGHER] = outcome(store, setting, HIGHER)
        for rate in () if found[HIGH].sustained else LOWER:
            found[rate] = outcome(store, setting, rate)
            if found[rate].sustained:
                break
    for rate, each in sorted(found.items()):
        yield Figure(f"longest poll at {rate:,} new traces/s", each.longest_s, "s")
    best = max((rate for rate, each in found.items() if each.sustained), default=0)
    yield Figure("sustained at 15 s", best, "traces/s", goal=at_least(HIGH))


def outcome(store: Store, setting: Setting, rate: int) -> Outcome:
    """Try one rate."""
    name, dice = f"rate {rate}", random.Random(rate)
    driver = Driver(store, store.experiment(name), rate, lambda end_ms: marked(dice, end_ms))
    config = {
        "mlflow": {"tracking_uri": store.uri, "experiments": [name]},
        "poll": {"interval": f"{INTERVAL_S:.0f}s", "start": "1m"},
    }
    store.write_ahead()
    exporter = Exporter(setting.folder(name), config)
    with driving([driver], 600), exporter.running(), watching(exporter) as (watch,):
        found = judged(watch, driver)
        assert driver.lag_s < INTERVAL_S / 2, f"the driver was {driver.lag_s:.1f} s late: it does not drive this rate"
    say(f"sustained: {rate:,} traces/s: {found}, the driver was at most {driver.lag_s:.1f} s late")
    return found


def judged(watch: Watch, driver: Driver) -> Outcome:
    """Wait until the overlap is full and for the decisive polls, and decide."""
    time.sleep(WARM_S)
    full_s = time.time()
    until_s = full_s + 3 * POLLS * INTERVAL_S
    while len(watch.poll_durations_s(after_s=full_s)) < POLLS and time.time() < until_s:
        time.sleep(0.2)
    decisive = watch.poll_durations_s(after_s=full_s)[:POLLS]
    longest_s = max(decisive, default=until_s - full_s)
    is_fast = len(decisive) == POLLS and longest_s < INTERVAL_S
    return Outcome(is_fast and is_up_to_date(watch, driver), longest_s)


def is_up_to_date(watch: Watch, driver: Driver) -> bool:
    """Whether all traces are counted that ended more than SLACK_S ago, and the exporter reports no backlog."""
    seen = watch.last
    ended = sum(end_s < seen.at_s - SLACK_S for end_s in driver.ends_s)
    return seen.of_exporter("catching_up") == 0 and seen.total >= ended
