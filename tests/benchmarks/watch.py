"""Records what a running `serve` exposes over time."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Event, Thread

from tests.support.real import Exporter

EVERY_S = 0.25
_COUNTED = re.compile(r'^mlflow_traces_total\{.*environment="([^"]*)".*\} (\S+)$', re.MULTILINE)
_STATUS = "mlflow_trace_exporter_"


@dataclass(frozen=True)
class Seen:
    """One scrape: when it ended (Unix seconds), the counted traces by environment, and all other text."""

    at_s: float
    counted: dict[str, float]
    text: str = field(repr=False)

    @property
    def total(self) -> float:
        """The counted traces of all environments."""
        return sum(self.counted.values())

    def value(self, name: str) -> float:
        """The sum of the samples of a metric."""
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.text, re.MULTILINE)
        return sum(map(float, found))

    def of_exporter(self, name: str) -> float:
        """The sum of the samples of a metric about the exporter itself."""
        return self.value(_STATUS + name)


def look(exporter: Exporter) -> Seen:
    """Scrape once."""
    text = exporter.text()
    counted: dict[str, float] = {}
    for environment, value in _COUNTED.findall(text):
        counted[environment] = counted.get(environment, 0.0) + float(value)
    return Seen(time.time(), counted, text)


class Watch:
    """All scrapes of an exporter so far, without those that showed nothing new."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self.seen: list[Seen] = [look(exporter)]

    def run(self, stop: Event) -> None:
        """Scrape until ``stop`` is set."""
        while not stop.wait(EVERY_S):
            now = look(self._exporter)
            before = self.seen[-1]
            if now.text and (now.counted != before.counted or _polls(now) != _polls(before)):
                self.seen.append(now)

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def poll_durations_s(self, after_s: float = 0.0) -> list[float]:
        """How long each poll took that ended after ``after_s`` (Unix seconds)."""
        return [
            now.of_exporter("poll_duration_seconds")
            for before, now in pairwise(self.seen)
            if now.at_s > after_s and _polls(now) > _polls(before)
        ]

    def delays_s(self, ends_s: Sequence[float]) -> list[float]:
        """How long after its end each trace was shown. The first end is paired with the first count, and so on. Exactly
        these traces must be counted by now."""
        delays, counted = [], iter(self.seen)
        now = next(counted)
        for number, end_s in enumerate(ends_s, start=1):
            while now.total < number:
                now = next(counted)
            delays.append(now.at_s - end_s)
        return delays


def _polls(seen: Seen) -> float:
    return seen.of_exporter("polls_total")


@contextmanager
def watching(*exporters: Exporter) -> Iterator[tuple[Watch, ...]]:
    """Watch exporters for the duration of a block."""
    stop, watches = Event(), tuple(map(Watch, exporters))
    threads = [Thread(target=watch.run, args=(stop,)) for watch in watches]
    for thread in threads:
        thread.start()
    try:
        yield watches
    finally:
        stop.set()
        for thread in threads:
            thread.join()
