"""What spans cost: catching up with them and without, compared with a bare loop that reads them and drops them.

The bare loop asks MLflow for the spans of 100 traces at a time, over one connection, after it has read the pages of
traces. Traces have 5 or 50 spans of 4 kB each. In each, every other span is a call of a model.
"""

import time
from collections.abc import Iterator

import requests

from tests.benchmarks.catch_up import Caught, caught_up
from tests.benchmarks.figures import Figure, Setting, median, ratio_at_least, say
from tests.benchmarks.store import Store, month, server

ROUNDS = 3
SPAN_BYTES = 4_000
TRACES = {5: 4_000, 50: 400}
"""How many traces there are, by the number of their spans."""
AT_ONCE = 100


def figures(setting: Setting) -> Iterator[Figure]:
    """Catch up with traces that have few spans, and many."""
    with server(setting.folder("server")) as store:
        for number, traces in TRACES.items():
            yield from _with_spans(setting, store, number, traces)


def _with_spans(setting: Setting, store: Store, number: int, traces: int) -> Iterator[Figure]:
    name = f"{number} spans"
    experiment_id = store.experiment(name)
    ids = store.insert(experiment_id, month(traces))
    store.add_spans(experiment_id, number, SPAN_BYTES)
    bare: list[tuple[float, int]] = []
    without: list[Caught] = []
    ours: list[Caught] = []
    for at in range(ROUNDS):
        bare.append(bare_loop(store.uri, ids))
        without.append(caught_up(store, name, traces, setting.folder(f"{number}-without-{at}")))
        folder = setting.folder(f"{number}-with-{at}")
        ours.append(caught_up(store, name, traces, folder, traces * (number // 2)))
    yield Figure(f"{name}: bytes of a trace", bare[0][1] / traces, "bytes")
    yield Figure(f"{name}: bare loop", traces / median([took_s for took_s, _ in bare]), "traces/s")
    yield Figure(f"{name}: catch-up without spans", traces / median([each.took_s for each in without]), "traces/s")
    yield Figure(
        f"{name}: catch-up",
        traces / median([each.took_s for each in ours]),
        "traces/s",
        median([bare_s / each.took_s for (bare_s, _), each in zip(bare, ours, strict=True)]),
        "the bare loop",
        ratio_at_least(0.8),
    )
    cpu, mlflow_cpu = median([each.cpu_s for each in ours]), median([each.mlflow_cpu_s for each in ours])
    yield Figure(f"{name}: CPU of the exporter per trace", cpu / traces * 1e6, "us", cpu / mlflow_cpu, "CPU of MLflow")
    yield Figure(f"{name}: peak memory without spans", max(each.peak_mb for each in without), "MB")
    yield Figure(f"{name}: peak memory", max(each.peak_mb for each in ours), "MB")


def bare_loop(uri: str, ids: list[str]) -> tuple[float, int]:
    """How many seconds it takes to read the spans of these traces, and how many bytes they are."""
    size, began = 0, time.perf_counter()
    with requests.Session() as session:
        session.trust_env = False
        for at in range(0, len(ids), AT_ONCE):
            some = {"trace_ids": ids[at : at + AT_ONCE]}
            answer = session.get(f"{uri}/api/3.0/mlflow/traces/batchGet", params=some)
            assert answer.status_code == 200, answer.text
            size += len(answer.content)
    took_s = time.perf_counter() - began
    say(f"spans: {len(ids):,} traces, {size / 1e6:,.1f} MB in {took_s:.1f} s by the bare loop")
    return took_s, size
