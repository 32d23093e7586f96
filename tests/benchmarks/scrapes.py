"""How long scrapes take while polling goes on, beside prometheus_client rendering the same samples for each scrape.

    make bench

Every second a poll counts 200 new traces. The client asks as Prometheus does: OpenMetrics, gzipped, over one
connection. Both servers run in processes of their own, one after the other.
"""

import http.client
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.registry import Collector

from mlflow_trace_exporter.demo.processes import free_port
from mlflow_trace_exporter.metrics.exposition import Exposition, trace_metrics
from mlflow_trace_exporter.metrics.status import Snapshot
from mlflow_trace_exporter.settings.web_config import WebConfigFile
from mlflow_trace_exporter.web import server
from mlflow_trace_exporter.web.routes import Site, application
from tests.support.builders import FAMILIES, record
from tests.support.real import eventually
from tests.support.rig import DAY_MS, Rig
from tests.support.simulated import SimulatedMlflow

SIZES = (1_000, 10_000, 100_000)
SCRAPES = 200
PAUSE_S = 0.05
SERIES = sum(family.series_per_group for family in FAMILIES if len(family.labels) > 2)
NEW_TRACES = 200
LEVELS = (0.5, 0.9, 0.99, 1.0)


class Traffic:
    """A poller on a simulated MLflow whose traces have as many label sets as it takes."""

    def __init__(self, samples: int, directory: Path) -> None:
        self.label_sets = max(1, samples // SERIES)
        self._numbers = itertools.count()
        self._mlflow = SimulatedMlflow()
        self.rig = Rig(self._mlflow, directory / "ledger.db")
        self._add(self.label_sets)
        self.rig.settle()

    def poll(self) -> None:
        """Count some new traces."""
        self._add(NEW_TRACES)
        self.rig.tick()

    def _add(self, count: int) -> None:
        for number in itertools.islice(self._numbers, count):
            at = number % self.label_sets
            tags = {"environment": "production", "app_version": f"1.{at % 50}"}
            start_ms = self._mlflow.clock_ms - DAY_MS // 24
            trace = record(trace_id=f"tr-{number}", start_ms=start_ms, name=f"name {at // 50}", tags=tags)
            self._mlflow.add(trace, 0)


def serve_ours(samples: int, port: int, directory: Path) -> None:
    """Our server, polling all the time."""
    server.answer_promptly()
    traffic = Traffic(samples, directory)
    exposition = Exposition()
    exposition.publish(traffic.rig.published[-1])
    site = Site(exposition, "/metrics", "", lambda: "", lambda _: None, lambda _: b"", lambda: None)
    web = server.web_server(application(site), WebConfigFile(None).settings)
    thread = threading.Thread(target=web.run, kwargs={"sockets": [server.listen(f"127.0.0.1:{port}")]}, daemon=True)
    thread.start()
    while True:
        began = time.monotonic()
        traffic.poll()
        exposition.publish(traffic.rig.published[-1])
        del traffic.rig.published[:-1]
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))


class Plain(Collector):
    """The same samples as prometheus_client would have them."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def collect(self) -> Iterable[Metric]:
        """The samples over traces."""
        return trace_metrics(FAMILIES, self.snapshot.totals) if self.snapshot else ()


def serve_plain(samples: int, port: int, directory: Path) -> None:
    """prometheus_client's own server, rendering at each scrape, polling all the time."""
    traffic = Traffic(samples, directory)
    registry, collector = CollectorRegistry(), Plain()
    collector.snapshot = traffic.rig.published[-1]
    registry.register(collector)
    start_http_server(port, addr="127.0.0.1", registry=registry)
    while True:
        began = time.monotonic()
        traffic.poll()
        collector.snapshot = traffic.rig.published[-1]
        del traffic.rig.published[:-1]
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))


def measure(port: int, scrapes: int) -> tuple[list[float], int]:
    """How long each scrape took (seconds), and how many bytes the last one was."""
    took, size = [], 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    for _ in range(scrapes):
        began = time.perf_counter()
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        size = len(answer.read())
        took.append(time.perf_counter() - began)
        assert answer.status == 200
        time.sleep(PAUSE_S)
    return sorted(took), size


def main() -> None:
    """Measure both, for all sizes."""
    say(f"{'samples':>9}  {'server':<18}", *(f"{f'p{level * 100:g}':>10}" for level in LEVELS), f"{'bytes':>10}")
    for samples, kind in itertools.product(SIZES, ("ours", "prometheus_client")):
        port = free_port()
        with tempfile.TemporaryDirectory() as directory:
            command = [sys.executable, "-m", "tests.benchmarks.scrapes", kind, str(samples), str(port), directory]
            process = subprocess.Popen(command)
            try:
                eventually(partial(answers, port), "it serves", 120)
                measure(port, 3)
                took, size = measure(port, SCRAPES if kind == "ours" or samples < 50_000 else SCRAPES // 10)
            finally:
                process.kill()
                process.wait()
        at = [took[min(len(took) - 1, int(level * len(took)))] for level in LEVELS]
        say(f"{samples:>9,}  {kind:<18}", *(f"{seconds * 1000:>7.1f} ms" for seconds in at), f"{size:>10,}")


def say(*columns: str) -> None:
    """A line of the table, at once."""
    sys.stdout.write("".join(columns) + "\n")
    sys.stdout.flush()


def answers(port: int) -> bool:
    """Whether a server is there."""
    try:
        measure(port, 1)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        kind, samples, port, directory = sys.argv[1:]
        serve = {"ours": serve_ours, "prometheus_client": serve_plain}[kind]
        serve(int(samples), int(port), Path(directory))
