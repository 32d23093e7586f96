"""The size of a ledger, and the time of a commit, with a million ids.

Pages of 500 traces, with ids like MLflow's, tokens and cost, are counted into a ledger in the folder for temporary
files. That folder has to be on a disk; TMPDIR can name another one.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow_trace_exporter.counting.tally import Tally
from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.opening import connect, open_ledger
from tests.benchmarks.figures import Figure, Setting, at_most, median, quantile, say
from tests.support.builders import METER, record
from tests.support.rig import DAY_MS, HOUR_MS
from tests.support.simulated import EPOCH_MS

IDS = 1_000_000
PAGE = 500
AT = (200_000, IDS)
COMMITS = 100
"""How many commits are evaluated, up to each of these sizes."""


class TimedLedger(Ledger):
    """A ledger that records how long each commit takes, in seconds."""

    def __init__(self, path: Path) -> None:
        self.took_s: list[float] = []
        super().__init__(connect(path))

    def commit(self, *arguments: Any, **named: Any) -> None:
        began_s = time.perf_counter()
        super().commit(*arguments, **named)
        self.took_s.append(time.perf_counter() - began_s)


def figures(setting: Setting) -> Iterator[Figure]:
    """Count a million traces."""
    path = setting.directory / "ledger.db"
    assert filesystem(path) != "tmpfs", f"{setting.directory} is in memory; set TMPDIR to a folder on a disk"
    dice = random.Random(4)
    open_ledger(path).close()
    empty = size(path)
    ledger = TimedLedger(path)
    tally = Tally(ledger, METER, 0)
    for first in range(0, IDS, PAGE):
        tally.store([trace(dice, number) for number in range(first, first + PAGE)], tally.horizon)
        counted = first + PAGE
        if counted in AT:
            say(f"ledger: {counted:,} ids")
            last = ledger.took_s[-COMMITS:]
            goal = at_most(10) if counted == IDS else None
            yield Figure(f"commit of 500 at {counted:,} ids, median", median(last) * 1000, "ms", goal=goal)
            yield Figure(f"commit of 500 at {counted:,} ids, p99", quantile(last, 0.99) * 1000, "ms")
    assert sum(ledger.counts(Window(0, EPOCH_MS + DAY_MS), DAY_MS).values()) == IDS, "all ids are known"
    ledger.close()
    yield Figure("bytes per id", (size(path) - empty) / IDS, "bytes", goal=at_most(90))


def trace(dice: random.Random, number: int) -> TraceRecord:
    """A trace that is counted at once. A million of them start within one day."""
    tokens, start_ms = dice.randrange(2_000), EPOCH_MS + number * 86
    return record(
        trace_id=f"tr-{dice.getrandbits(128):032x}",
        state=State.ERROR if dice.random() < 0.05 else State.OK,
        start_ms=start_ms,
        seen_ms=start_ms + HOUR_MS,
        duration_ms=dice.randrange(10_000),
        name=dice.choice(["support", "billing"]),
        usage=TokenUsage(input=tokens, output=dice.randrange(500)),
        cost=Cost(input_usd=tokens * 2.5e-6, output_usd=tokens * 1e-6),
        tags={"environment": dice.choice(["production", "staging"]), "app_version": "1.4.0"},
    )


def size(path: Path) -> int:
    """The size of a closed ledger in bytes."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def filesystem(path: Path) -> str:
    """The type of the file system that a file is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    found = [(len(point), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(found)[1]
