"""How long scrapes take during polls, compared with prometheus_client, which renders the same samples for each scrape.

Every second a poll counts 200 new traces. The client scrapes as Prometheus does: OpenMetrics, gzipped, over one
connection. The two servers run one after the other, each in its own process. When a server is told to stop, it prints
how many polls there were.
"""

import http.client
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.registry import Collector

from mlflow_trace_exporter.demo.processes import free_port
from mlflow_trace_exporter.metrics.exposition import Exposition, trace_metrics
from mlflow_trace_exporter.metrics.status import Snapshot
from mlflow_trace_exporter.settings.web_config import WebConfigFile
from mlflow_trace_exporter.web import server
from mlflow_trace_exporter.web.routes import Site, application
from tests.benchmarks.figures import Figure, Setting, quantile, say
from tests.benchmarks.traffic import Traffic
from tests.support.builders import FAMILIES
from tests.support.real import eventually

SIZES = (1_000, 10_000, 100_000)
SCRAPES = {"ours": 200, "prometheus_client": 20}
PAUSE_S = 0.05
NEW_TRACES = 200
LEVELS = (0.5, 0.9, 0.99)


def serve_ours(samples: int, port: int, directory: Path) -> None:
    """Run our server, with a poll every second."""
    server.answer_promptly()
    traffic = Traffic(samples, directory)
    traffic.settle(NEW_TRACES)
    exposition = Exposition()
    exposition.publish(traffic.rig.published[-1])
    site = Site(lambda: exposition, "/metrics", "", lambda: "", lambda _: None, lambda _: b"", lambda: None)
    web = server.web_server(application(site), WebConfigFile(None).settings)
    thread = threading.Thread(target=web.run, kwargs={"sockets": [server.listen(f"127.0.0.1:{port}")]}, daemon=True)
    thread.start()
    poll_on(traffic, exposition.publish)


class Plain(Collector):
    """A collector of the same samples for prometheus_client."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """The samples over traces."""
        return trace_metrics(FAMILIES, self.snapshot.totals) if self.snapshot else ()


def serve_plain(samples: int, port: int, directory: Path) -> None:
    """Run prometheus_client's own server, which renders at each scrape, with a poll every second."""
    traffic = Traffic(samples, directory)
    traffic.settle(NEW_TRACES)
    registry, collector = CollectorRegistry(), Plain()
    collector.publish(traffic.rig.published[-1])
    registry.register(collector)
    start_http_server(port, addr="127.0.0.1", registry=registry)
    poll_on(traffic, collector.publish)


def poll_on(traffic: Traffic, publish: Callable[[Snapshot], None]) -> None:
    """Poll every second until SIGTERM. Each poll counts NEW_TRACES."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set():
        began = time.monotonic()
        traffic.poll(NEW_TRACES)
        publish(traffic.rig.published[-1])
        stop.wait(max(0.0, 1 - (time.monotonic() - began)))
    sys.stdout.write(f"{traffic.polls}\n")


def measure(port: int, scrapes: int) -> tuple[list[float], int]:
    """How long each scrape took (seconds), and how many bytes the last one had."""
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
    return took, size


def scraped(kind: str, samples: int, directory: Path) -> list[float]:
    """How long the scrapes of a server took (seconds)."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.scrapes", kind, str(samples), str(port), str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: process.poll() is not None or answers(port), "it serves", 240)
        assert process.poll() is None, "the server has ended"
        measure(port, 3)
        took, size = measure(port, SCRAPES[kind])
        process.terminate()
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, "a poll counted another number of traces"
    finally:
        process.kill()
        process.wait()
    at = "  ".join(f"p{level * 100:g} {quantile(took, level) * 1000:.1f} ms" for level in LEVELS)
    say(f"scrapes: {samples:,} samples, {kind}: {at}  {size:,} bytes; {int(said)} polls counted {NEW_TRACES} each")
    return took


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure both servers for all sizes."""
    for samples in SIZES:
        took = {kind: scraped(kind, samples, setting.folder(f"{kind}-{samples}")) for kind in SERVERS}
        for level in LEVELS:
            ours, plain = (quantile(took[kind], level) * 1000 for kind in SERVERS)
            name = f"scrape of {samples:,} samples, p{level * 100:g}"
            yield Figure(name, ours, "ms", ours / plain, "prometheus_client")


def answers(port: int) -> bool:
    """Whether a server answers at this port."""
    try:
        measure(port, 1)
    except OSError:
        return False
    return True


SERVERS = {"ours": serve_ours, "prometheus_client": serve_plain}

if __name__ == "__main__":
    kind, samples, port, directory = sys.argv[1:]
    SERVERS[kind](int(samples), int(port), Path(directory))
