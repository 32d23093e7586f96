"""An exporter that is killed again and again while traces come in, and what may not come of it."""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_trace_exporter.demo.processes import fetch
from mlflow_trace_exporter.domain.triage import FILL_MS
from mlflow_trace_exporter.tracking.client import PAGE_SIZE
from tests.support.otlp import MISTRAL, otlp_span, send
from tests.support.real import Exporter, Mlflow, Samples, Trace, eventually, now_ms, samples

KEPT = re.compile(r"mlflow_(?!trace_exporter_poll).*(_total|_bucket|_count|_sum)({|$)")
"""Samples that may never decrease: all counters and histograms but those that restart with each process."""


TRACES_PER_KILL = 10
SESSIONS = 5


class Crashes:
    """Kills an exporter that reads ``mlflow``; ``decreased`` and ``kills`` say what was seen."""

    def __init__(self, mlflow: Mlflow, directory: Path, seed: int, experiments: int = 1, **more: Any) -> None:
        """``experiments``: how many the traces are of. ``more``: further sections of its configuration."""
        self._mlflow = mlflow
        self._experiments = [mlflow.experiment() for _ in range(experiments)]
        self._experiment_of: dict[str, str] = {}
        self._dice = random.Random(seed)
        config = {
            "mlflow": {"tracking_uri": mlflow.uri, "experiments": self._experiments},
            "poll": {"interval": "1s", "start": "1h"},
            "series": {"zero_hold": "1s"},
            "spans": {"enabled": True},
            "active_users": {"enabled": True},
        }
        self._config = {**config, **more}
        self._exporter = Exporter(directory, self._config, "--log.level=warn")
        self._seen: dict[str, Samples] = {}
        """The last samples of each exporter, by its address."""
        self.kills = 0
        self.logged = 0
        self.stood_still = False
        """Whether a trace was there without its call for so long that an exporter may count it like that."""
        self.decreased: list[str] = []

    def run(self, kills: int) -> None:
        """Kill it so often, each time at another moment, and until there are enough traces; then let it finish."""
        with self._traffic():
            while self.kills < kills or self.logged < TRACES_PER_KILL * kills:
                with self._exporter.running():
                    for _ in range(self._dice.randrange(1, 4)):
                        self._scrape()
                        Event().wait(self._dice.uniform(0, 0.7))
                    self._exporter.process.kill()
                    self._exporter.process.wait()
                    self.kills += 1
        with self._exporter.running():
            self._count_all()

    def _count_all(self) -> None:
        there = self.truth()
        eventually(lambda: self._has_counted(there), "everything is counted")

    def are_all_counted(self) -> bool:
        """Fail the test if anything was lost or counted twice, or has decreased; False if it has to be tried again."""
        assert self.decreased == []
        if self.stood_still:
            assert self.counted()["traces"] == self.truth()["traces"]
            return False
        assert self.counted() == {**self.truth(), **dict.fromkeys(("late", "changed", "differing"), 0)}
        return True

    def counted(self) -> Counter[str]:
        """What the last scrape says, by state and in tokens."""
        return Counter(
            traces=self._sum("mlflow_traces_total"),
            errors=self._sum("mlflow_trace_errors_total"),
            durations=self._sum("mlflow_trace_duration_seconds_count"),
            tokens=self._sum("mlflow_trace_input_tokens_total"),
            calls=self._sum("mlflow_llm_call_duration_seconds_count"),
            call_tokens=self._sum("mlflow_llm_input_tokens_total"),
            assessments=self._sum("mlflow_trace_assessments_total"),
            sessions=self._sum("mlflow_active_sessions"),
            differing=self._sum("mlflow_trace_exporter_differing_traces_total", '{amount="tokens"}'),
            late=self._sum("mlflow_trace_exporter_late_traces_total"),
            changed=self._sum("mlflow_trace_exporter_changed_after_count_total"),
        )

    def truth(self) -> Counter[str]:
        """What MLflow says when it is asked afterwards, by a client of its own."""
        found: Counter[str] = Counter()
        for experiment in self._experiments:
            found += self._truth_of(experiment)
        return found

    def _truth_of(self, experiment: str) -> Counter[str]:
        client, token = MlflowClient(self._mlflow.uri), None
        found: Counter[str] = Counter()
        sessions: set[tuple[str, str]] = set()
        while True:
            page = client.search_traces(
                locations=[self._mlflow.experiment_id(experiment)],
                max_results=PAGE_SIZE,
                include_spans=False,
                page_token=token,
            )
            for trace in page:
                error = trace.info.state.value == "ERROR"
                usage = json.loads(trace.info.trace_metadata["mlflow.trace.tokenUsage"])
                tokens = usage["input_tokens"]
                found.update(traces=1, errors=int(error), durations=1, tokens=tokens, calls=1, call_tokens=tokens)
                found.update(assessments=len(trace.info.assessments))
                sessions.add((trace.info.tags["environment"], trace.info.trace_metadata["mlflow.trace.session"]))
            token = page.token
            if not token:
                return found + Counter(sessions=2 * len(sessions))  # in two windows

    def _has_counted(self, there: Counter[str]) -> bool:
        self._scrape()
        pending, counted = self._sum("mlflow_trace_exporter_pending_traces"), self.counted()
        return pending == 0 and all(counted[each] >= there[each] for each in ("traces", "assessments"))

    def _scrape(self) -> None:
        self._scrape_one(self._exporter)

    def _scrape_one(self, exporter: Exporter) -> None:
        found = samples(fetch(f"{exporter.url}/metrics") or "")
        if found:  # otherwise it was killed while it answered
            self._see(found, exporter.url)

    def _see(self, found: Samples, target: str = "") -> None:
        """Compare samples with the last ones that Prometheus would take for the same series."""
        kept = {name: value for name, value in self._seen.get(target, {}).items() if KEPT.match(name)}
        self.decreased += [name for name, value in kept.items() if found.get(name, -1) < value]
        self._seen[target] = found

    def _sum(self, name: str, labels: str = "") -> int:
        samples = [sample for each in self._seen.values() for sample in each.items()]
        return int(sum(value for sample, value in samples if sample.partition("{")[0] == name and labels in sample))

    def _log(self, traces: Sequence[Trace]) -> list[str]:
        experiment = random.choice(self._experiments)  # by any dice: the sums do not depend on it
        began_s = time.monotonic()
        ids = self._mlflow.log(experiment, *traces)
        self._experiment_of.update(dict.fromkeys(ids, experiment))
        for trace_id, trace in zip(ids, traces, strict=True):
            self._send_call(trace_id, trace)
        self.stood_still |= time.monotonic() - began_s > FILL_MS / 2_000
        self.logged += len(ids)
        return ids

    def _send_call(self, trace_id: str, trace: Trace) -> None:
        """Send the only span of a trace, which is a call with its tokens."""
        usage = json.loads(trace.metadata["mlflow.trace.tokenUsage"])
        tokens = {f"gen_ai.usage.{name}": usage[name] for name in ("input_tokens", "output_tokens")}
        call = otlp_span(
            (int(trace_id.removeprefix("tr-"), 16), 1, None),
            *("chat", trace.start_ms, trace.duration_ms or 0, trace.state == "ERROR"),
            attributes={**MISTRAL, **tokens},
        )
        send(self._mlflow.uri, self._mlflow.experiment_id(self._experiment_of[trace_id]), call)

    @contextmanager
    def _traffic(self) -> Iterator[None]:
        """Traces that end, with tokens, of some environments, some of them seen in progress first. Some are assessed,
        when they are new or later."""
        over = Event()

        def send() -> None:
            dice = random.Random(0)
            ids: list[str] = []
            while not over.wait(0.1):
                ids += self._log([_trace(dice) for _ in range(dice.randrange(1, 10))])
                self._mlflow.assess(dice.choice(ids), "correctness", dice.choice(["yes", "no"]))
                running = _trace(dice, "IN_PROGRESS")
                experiment = dice.choice(self._experiments)
                (trace_id,) = self._mlflow.log(experiment, running)
                self._experiment_of[trace_id] = experiment
                over.wait(0.2)
                self._send_call(trace_id, replace(running, duration_ms=200))
                self._mlflow.end(trace_id, duration_ms=200)

        sender = Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join()


def _trace(dice: random.Random, state: str | None = None) -> Trace:
    usage = {"input_tokens": dice.randrange(1, 1_000), "output_tokens": 1}
    cost = {"input_cost": 0.25, "output_cost": 0.5}
    return Trace(
        start_ms=now_ms() - dice.randrange(2_000),
        duration_ms=None if state else dice.randrange(2_000),
        state=state or dice.choice(["OK", "OK", "OK", "ERROR"]),
        tags={"environment": dice.choice(["production", "staging"]), "app_version": dice.choice("123")},
        metadata={
            "mlflow.trace.tokenUsage": json.dumps(usage),
            "mlflow.trace.cost": json.dumps(cost),
            "mlflow.trace.session": f"session {dice.randrange(SESSIONS)}",
        },
    )


def require_that_kills_change_nothing(mlflow: Mlflow, directory: Path, kills: int = 6) -> None:
    """Kill an exporter under traffic: nothing is lost, counted twice, or falls, whatever MLflow keeps its traces in."""

    def attempt(folder: Path) -> Crashes:
        crashes = Crashes(mlflow, folder, seed=1)
        crashes.run(kills)
        assert crashes.counted()["traces"] >= TRACES_PER_KILL * kills
        return crashes

    require_all_counted(attempt, directory)


def require_all_counted(attempt: Callable[[Path], Crashes], directory: Path) -> None:
    """Fail the test unless all is counted, once, in an attempt during which the machine did not stand still."""
    for number in range(5):
        folder = directory / f"{number}"
        folder.mkdir()
        if attempt(folder).are_all_counted():
            return
    pytest.fail("the machine stands still in each of five attempts")
