"""The simulated MLflow and the real one answer alike; what is shown on the one holds for the other."""

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Window
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.tracking import client
from mlflow_trace_exporter.tracking import source as source_module
from mlflow_trace_exporter.tracking.client import Client, FoundTraces
from mlflow_trace_exporter.tracking.pending import PendingAnswer
from mlflow_trace_exporter.tracking.scanning import Page
from mlflow_trace_exporter.tracking.source import MAX_EXCLUDED, Lookup, MlflowSource
from tests.support.builders import record
from tests.support.real import ODD_IDS, Mlflow, Trace, now_ms
from tests.support.simulated import SimulatedMlflow

PAGE_SIZE = 7
START_MS = 1_790_000_000_000 // BUCKET_MS * BUCKET_MS


class Prompt(Client):
    """A client whose searches are answered before anything else happens, like those of the simulated MLflow."""

    def begin_search(self, *question: Any) -> PendingAnswer[FoundTraces]:
        found = super().begin_search(*question).answer()
        return PendingAnswer(lambda: found, lambda: None)


class Pair:
    """The same traces in a real MLflow and in a simulated one."""

    def __init__(self, mlflow: Mlflow) -> None:
        self._mlflow = mlflow
        self._experiment = mlflow.experiment()
        self.real = MlflowSource(Prompt(mlflow.uri), now_ms, [self._experiment])
        self.simulated = SimulatedMlflow(PAGE_SIZE)
        self.simulated.selected = dict(self.real.experiments())
        self.experiment_id = mlflow.experiment_id(self._experiment)

    def insert(self, traces: Sequence[Trace]) -> list[str]:
        ids = self._mlflow.insert(self._experiment, traces)
        for trace_id, trace in zip(ids, traces, strict=True):
            self.simulated.add(
                record(
                    trace_id=trace_id,
                    experiment_id=self.experiment_id,
                    start_ms=trace.start_ms,
                    duration_ms=trace.duration_ms,
                    state=_state(trace),
                    finalized=trace.finalized,
                )
            )
        return ids

    def delete(self, trace_id: str) -> None:
        self._mlflow.client.delete_traces(self.experiment_id, trace_ids=[trace_id])
        self.simulated.delete(self.simulated.traces[trace_id])


@pytest.fixture(params=[MAX_EXCLUDED, PAGE_SIZE], ids=["by what is left out", "by page tokens"])
def pair(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Pair:
    """``param``: of how many traces in one millisecond no more are left out of a search."""
    monkeypatch.setattr(client, "PAGE_SIZE", PAGE_SIZE)
    monkeypatch.setattr(source_module, "PAGE_SIZE", PAGE_SIZE)
    monkeypatch.setattr(source_module, "MAX_EXCLUDED", request.param)
    pair = Pair(mlflow)
    pair.simulated.max_excluded = request.param
    return pair


def _state(trace: Trace) -> State:
    if trace.state == "STATE_UNSPECIFIED":
        return State.IN_PROGRESS if trace.duration_ms is None else State.OK
    return State(trace.state)


def some_traces(dice: random.Random, count: int) -> list[Trace]:
    """Traces of some minutes, many of them in the same milliseconds, some with ids that no SDK makes."""
    states = [("OK", dice.randrange(100_000)), ("ERROR", 0), ("IN_PROGRESS", None), ("OK", None)]
    states += [("STATE_UNSPECIFIED", 10), ("STATE_UNSPECIFIED", None)]
    made = []
    for _ in range(count):
        state, duration_ms = dice.choice(states)
        start_ms = START_MS + dice.choice([dice.randrange(30 * 60_000), dice.randrange(3), 600_000, 599_999])
        odd = dice.choice(ODD_IDS)
        trace_id = dice.choice([None, None, f"{odd}{time.time_ns()}{odd}"])
        made.append(Trace(start_ms, duration_ms, state, finalized=dice.random() < 0.5, trace_id=trace_id))
    return made


def a_window(dice: random.Random) -> Window:
    lo_ms = START_MS + dice.choice([-1, 0, 1, 599_999, 600_000, dice.randrange(10**6)])
    ended_after_ms = dice.choice([None, lo_ms, lo_ms + dice.randrange(200_000)])
    return Window(lo_ms, lo_ms + dice.choice([0, 1, 2, 600_000, 10**7]), ended_after_ms)


def some_known(dice: random.Random, mlflow: SimulatedMlflow) -> list[tuple[int, str]]:
    """The starts and ids of some of the traces, and of one that is not there."""
    some = dice.sample(list(mlflow.traces.values()), dice.choice([0, 0, 5, 40]))
    return sorted([*((each.start_ms, each.trace_id) for each in some), (START_MS + 7, "tr-not-there")])


def told(records: Sequence[TraceRecord]) -> list[tuple[object, ...]]:
    return [
        (each.trace_id, each.experiment_id, each.start_ms, each.duration_ms, each.state, each.finalized)
        for each in records
    ]


def shown(pages: Sequence[Page]) -> list[tuple[int, list[tuple[object, ...]]]]:
    return [(page.next_lo_ms, told(page.records)) for page in pages]


@pytest.mark.parametrize("seed", range(4))
def test_scans_counts_and_look_ups(pair: Pair, seed: int) -> None:
    dice = random.Random(seed)
    ids = pair.insert(some_traces(dice, 60))
    for _ in range(25):
        window = a_window(dice)
        known = some_known(dice, pair.simulated)
        pages = [shown(list(each.scan(window, known=known))) for each in (pair.real, pair.simulated)]
        assert pages[0] == pages[1]
        wanted = [*dice.sample(ids, dice.randrange(PAGE_SIZE)), "tr-not-there"]
        lookups = [Lookup(some, a_window(dice)) for some in (wanted, [], ids[:3])]
        found = [[sorted(told(part)) for part in each.get(lookups)] for each in (pair.real, pair.simulated)]
        assert found[0] == found[1]
        step_ms = dice.choice([60_000, 600_000])
        if window.lo_ms < window.hi_ms:
            counts = [each.counts(window, step_ms, [pair.experiment_id]) for each in (pair.real, pair.simulated)]
            assert counts[0] == counts[1]


@pytest.mark.parametrize("seed", range(4))
def test_scans_while_traces_come_and_go_between_the_pages(pair: Pair, seed: int) -> None:
    dice = random.Random(seed)
    ids = pair.insert(some_traces(dice, 60))
    pages = pair.real.scan(Window(0, 2**53)), pair.simulated.scan(Window(0, 2**53))
    read = 0
    while True:
        both = [next(each, None) for each in pages]
        assert (both[0] is None) == (both[1] is None)
        if both[0] is None or both[1] is None:
            break
        assert shown([both[0]]) == shown([both[1]])
        read += 1
        ids += pair.insert(some_traces(dice, 2))
        pair.delete(ids.pop(dice.randrange(len(ids))))
    assert read > 8
