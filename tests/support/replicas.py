"""Two exporters with one ledger in PostgreSQL, of which the leader is disturbed again and again."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

from mlflow_trace_exporter.demo.processes import fetch
from mlflow_trace_exporter.ledger.leadership import LEASE_S
from mlflow_trace_exporter.ledger.place import Database
from tests.support.crashes import Crashes
from tests.support.real import Exporter, Mlflow, eventually, samples

DISTURBANCES = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
MOST_PAUSE_S = 20.0
"""Longer than PostgreSQL waits for a silent leader."""


class Replicas(Crashes):
    """Disturbs the exporter that leads, and scrapes as one does who follows readiness. ``took_s``: how long nobody was
    ready, for each disturbance. ``two_ready``: how often both were."""

    def __init__(self, mlflow: Mlflow, database: Database, directory: Path, seed: int) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(mlflow, directory, seed, ledger={"url": database.url, "name": database.name})
        self._exporters = [self._exporter, self._another(directory)]
        self.took_s: dict[signal.Signals, list[float]] = {each: [] for each in DISTURBANCES}
        self.two_ready = 0

    def _another(self, directory: Path) -> Exporter:
        (directory / "second").mkdir()
        return Exporter(directory / "second", self._config, "--log.level=warn")

    def disturb(self, times: int) -> None:
        """Kill, stop and pause the leader at random, under traffic; then let them finish."""
        with ExitStack() as running, self._traffic(), self._scraping():
            for each in self._exporters:
                running.enter_context(each.running())
            for number in range(times):
                leader = eventually(self._leader, "one is ready")
                Event().wait(self._dice.uniform(0, 4))
                how = DISTURBANCES[number % len(DISTURBANCES)]
                self._disturb(leader, how)
                if how is not signal.SIGSTOP:
                    running.enter_context(leader.running())
                self.kills += 1
        with self._exporters[0].running(), self._exporters[1].running():
            self._count_all()

    def _disturb(self, leader: Exporter, how: signal.Signals) -> None:
        began_s = time.monotonic()
        process = leader.process
        process.send_signal(how)
        until_s = began_s + self._dice.uniform(0, MOST_PAUSE_S)
        other = next(each for each in self._exporters if each is not leader)
        while how is not signal.SIGSTOP or time.monotonic() < until_s:
            if fetch(f"{other.url}/-/ready") is not None:
                self.took_s[how].append(time.monotonic() - began_s)
                break
            Event().wait(0.05)
        if how is signal.SIGSTOP:
            Event().wait(max(0, until_s - time.monotonic()))
            process.send_signal(signal.SIGCONT)

    def _leader(self) -> Exporter | None:
        return next((each for each in self._exporters if fetch(f"{each.url}/-/ready") is not None), None)

    @contextmanager
    def _scraping(self) -> Iterator[None]:
        over = Event()

        def scrape() -> None:
            while not over.wait(0.1):
                self._scrape()

        scraper = Thread(target=scrape)
        scraper.start()
        try:
            yield
        finally:
            over.set()
            scraper.join()

    def _scrape(self) -> None:
        began_s = time.monotonic()
        ready = [each for each in self._exporters if fetch(f"{each.url}/-/ready") is not None]
        leading = 0
        for each in ready:
            found = samples(fetch(f"{each.url}/metrics") or "")
            if found.get("mlflow_trace_exporter_leader") == 1:
                leading += 1
                self._see(found)
        at_once = time.monotonic() - began_s < LEASE_S / 2  # not before and after this machine stood still
        self.two_ready += leading > 1 and at_once
