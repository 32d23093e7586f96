"""How fast a new exporter reads what MLflow has, compared with a bare loop that reads the same pages and drops them.

The bare loop is the baseline. It requests the pages one after the other over one connection, and extracts from each
body only what it needs for the next request. The baseline with two connections is two such loops, each for half of the
traces. `serve` is measured from the start of polling until /metrics shows all traces. Rounds of the loop and of `serve`
alternate, and figures are medians.

The cookbook's ``mlflow.search_traces`` reads a smaller number of traces with their spans, five of 4 kB each.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from mlflow_trace_exporter.ledger.place import Database
from tests.benchmarks.figures import Figure, Setting, median, ratio_at_least, say
from tests.benchmarks.machine import cpu_of_session_s, cpu_s, resident_mb
from tests.benchmarks.store import DAY_MS, HOUR_MS, Store, month, server
from tests.benchmarks.watch import look
from tests.support.real import Exporter, eventually, now_ms

ROUNDS = 3
WORKERS = 4  # with two, both connections would often reach the same worker
WITH_SPANS, SPANS, SPAN_BYTES = 2_000, 5, 4_000
PAGE = 500

COOKBOOK = """
import sys, time, mlflow
mlflow.set_tracking_uri(sys.argv[1])
began = time.perf_counter()
traces = mlflow.search_traces(locations=[sys.argv[2]], max_results=1_000_000, return_type="list")
assert all(len(trace.data.spans) == int(sys.argv[3]) for trace in traces)
print(len(traces), time.perf_counter() - began)
"""


@dataclass(frozen=True)
class Caught:
    """One catch-up: seconds, CPU seconds of the exporter and of MLflow, and the exporter's peak memory in MB."""

    took_s: float
    cpu_s: float
    mlflow_cpu_s: float
    peak_mb: float


def figures(setting: Setting) -> Iterator[Figure]:
    """Catch up with a server of one worker, and of several."""
    with server(setting.folder("one")) as store:
        experiment_id = store.experiment("month")
        ids = store.insert(experiment_id, month(setting.traces))
        rounds = [
            (
                bare_loops(store, experiment_id, len(ids), 1),
                caught_up(store, "month", len(ids), setting.folder(f"{at}")),
            )
            for at in range(ROUNDS)
        ]
        bare = median([bare_s for bare_s, _ in rounds])
        yield Figure("bare loop, one worker", len(ids) / bare, "traces/s")
        ours = len(ids) / median([found.took_s for _, found in rounds])
        yield Figure(
            "catch-up, one worker",
            ours,
            "traces/s",
            median([bare_s / found.took_s for bare_s, found in rounds]),
            "the bare loop",
            ratio_at_least(0.9),
        )
        yield from costs([found for _, found in rounds], len(ids))
        theirs = with_spans(store)
        yield Figure("cookbook's search_traces, with spans", theirs, "traces/s")
        yield Figure(
            "catch-up, beside the cookbook", ours, "traces/s", ours / theirs, "search_traces", ratio_at_least(20)
        )
    yield from with_more_workers(setting)


def with_more_workers(setting: Setting) -> Iterator[Figure]:
    """Catch up with a server of several workers. The baseline is one connection here, too."""
    with server(setting.folder("more"), workers=WORKERS) as store:
        experiment_id = store.experiment("month")
        number = len(store.insert(experiment_id, month(setting.traces)))
        ones, twos, ours = [], [], []
        for at in range(ROUNDS):
            ones.append(bare_loops(store, experiment_id, number, 1))
            twos.append(bare_loops(store, experiment_id, number, 2))
            ours.append(caught_up(store, "month", number, setting.folder(f"more-{at}")).took_s)
    yield Figure("bare loop, four workers", number / median(ones), "traces/s")
    ratio = median([one / two for one, two in zip(ones, twos, strict=True)])
    yield Figure("two bare loops, four workers", number / median(twos), "traces/s", ratio, "one bare loop")
    ratio = median([one / took for one, took in zip(ones, ours, strict=True)])
    yield Figure(
        "catch-up, four workers", number / median(ours), "traces/s", ratio, "one bare loop", ratio_at_least(1.5)
    )


def costs(found: list[Caught], number: int) -> Iterator[Figure]:
    """What a catch-up needs besides time: CPU and memory."""
    ours, theirs = median([each.cpu_s for each in found]), median([each.mlflow_cpu_s for each in found])
    yield Figure("catch-up, CPU of the exporter", ours, "s", ours / theirs, "CPU of MLflow")
    yield Figure("catch-up, CPU of the exporter per trace", ours / number * 1e6, "us")
    yield Figure("catch-up, CPU of MLflow per trace", theirs / number * 1e6, "us")
    yield Figure("catch-up, peak memory", max(each.peak_mb for each in found), "MB")


def caught_up(
    store: Store,
    experiment: str,
    number: int,
    directory: Path,
    calls: int | None = None,
    place: Database | None = None,
) -> Caught:
    """Start `serve` with an empty ledger, and wait until it shows all traces. ``calls``: how many calls of models their
    spans have; None: spans are not read. ``place``: the ledger, if it is in PostgreSQL."""
    mlflow = {"tracking_uri": store.uri, "experiments": [experiment]}
    config = {"mlflow": mlflow, "poll": {"start": "earliest"}, "spans": {"enabled": calls is not None}}
    ledger = {"ledger": {"url": place.url, "name": place.name}} if place else {}
    exporter = Exporter(directory, {**config, **ledger})
    with exporter.running():
        pid = exporter.process.pid
        before_s, mlflow_before_s = cpu_s(pid), cpu_of_session_s(store.pid)
        found = eventually(lambda: now if (now := look(exporter)).total >= number else None, "all is counted", 600)
        cpu, mlflow_cpu, peak_mb = cpu_s(pid), cpu_of_session_s(store.pid), resident_mb(pid, at_its_peak=True)
        assert found.total == number, f"{found.total} of {number} traces are counted"
        assert not calls or found.value("mlflow_llm_call_duration_seconds_count") == calls, "all spans are counted"
        assert found.of_exporter("poll_errors_total") == 0, exporter.log()
    took_s = found.at_s - started_s(exporter.log())
    say(f"catch-up: {number:,} traces in {took_s:.1f} s")
    return Caught(took_s, cpu - before_s, mlflow_cpu - mlflow_before_s, peak_mb)


def started_s(log: str) -> float:
    """When an exporter began to poll, in Unix seconds."""
    found = re.search(r"^ts=(\S+) level=info msg=started ", log, re.MULTILINE)
    assert found, log
    return datetime.fromisoformat(found[1]).timestamp()


def bare_loops(store: Store, experiment_id: str, number: int, connections: int) -> float:
    """How many seconds this many simultaneous loops need to read all traces once."""
    hi_ms = now_ms() - 4 * HOUR_MS
    lo_ms = hi_ms - 30 * DAY_MS - HOUR_MS
    edges = [lo_ms + (hi_ms - lo_ms) * at // connections for at in range(connections + 1)]
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        read = sum(pool.map(lambda lo, hi: bare_loop(store.uri, experiment_id, lo, hi), edges[:-1], edges[1:]))
    took_s = time.perf_counter() - began
    assert read == number, f"{read} of {number} traces are read"
    say(f"catch-up: {number:,} traces in {took_s:.1f} s by {connections} bare loop(s)")
    return took_s


def bare_loop(uri: str, experiment_id: str, lo_ms: int, hi_ms: int) -> int:
    """Read the pages of traces that start in [lo_ms, hi_ms), no two in the same millisecond. Returns their number."""
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
    order = ["timestamp_ms ASC", "request_id ASC"]
    question: dict[str, Any] = {"locations": [location], "max_results": PAGE, "order_by": order}
    read = 0
    with requests.Session() as session:
        session.trust_env = False
        while True:
            between = f"trace.timestamp_ms >= {lo_ms} AND trace.timestamp_ms < {hi_ms}"
            answer = session.post(f"{uri}/api/3.0/mlflow/traces/search", json={**question, "filter": between})
            assert answer.status_code == 200, answer.text
            found = answer.content.count(b'"trace_location"')
            read += found
            if found < PAGE:
                return read
            _, _, last = answer.content.rpartition(b'"request_time":"')
            lo_ms = round(datetime.fromisoformat(last[: last.index(b'"')].decode()).timestamp() * 1000) + 1


def with_spans(store: Store) -> float:
    """How many traces per second ``mlflow.search_traces`` reads, with their spans."""
    experiment_id = store.experiment("with spans")
    number = len(store.insert(experiment_id, month(WITH_SPANS)))
    store.add_spans(experiment_id, SPANS, SPAN_BYTES)
    command = [sys.executable, "-c", COOKBOOK, store.uri, experiment_id, str(SPANS)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    read, seconds = ran.stdout.split()
    assert int(read) == number, ran.stdout
    return number / float(seconds)
