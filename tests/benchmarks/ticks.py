"""The CPU time of a poll: everything from MLflow's parsed answer to the bytes that Prometheus gets.

The poller and the ledger are real. MLflow is simulated, and the CPU time of the simulation is left out. Figures are
medians over several polls.
"""

import gzip
import time
from collections.abc import Iterator

from mlflow_trace_exporter.metrics.exposition import PROMETHEUS, Exposition
from tests.benchmarks.figures import Figure, Setting, at_most, median, say
from tests.benchmarks.traffic import Traffic

SAMPLES = 100_000
POLLS = 20


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure polls with nothing new, with some new traces, and with many experiments."""
    traffic, exposition = Traffic(SAMPLES, setting.folder("one")), Exposition()
    assert 0.99 * SAMPLES < samples(traffic, exposition) < 1.02 * SAMPLES
    yield Figure("nothing new, 100,000 samples", cpu_ms(traffic, exposition, 0), "ms of CPU", goal=at_most(25))
    yield Figure("200 new, 100,000 samples", cpu_ms(traffic, exposition, 200), "ms of CPU", goal=at_most(80))
    traffic, exposition = Traffic(SAMPLES, setting.folder("many"), experiments=200), Exposition()
    assert 0.93 * SAMPLES < samples(traffic, exposition) < 1.02 * SAMPLES
    yield Figure("100 new, 200 experiments", cpu_ms(traffic, exposition, 100), "ms of CPU", goal=at_most(60))


def samples(traffic: Traffic, exposition: Exposition) -> int:
    """The number of samples that Prometheus gets."""
    exposition.publish(traffic.rig.published[-1])
    lines = gzip.decompress(exposition.render(PROMETHEUS)).splitlines()
    return sum(not line.startswith(b"#") for line in lines)


def cpu_ms(traffic: Traffic, exposition: Exposition, new: int) -> float:
    """The CPU time in milliseconds of a poll that counts ``new`` traces."""
    traffic.settle(new)
    spent = []
    for _ in range(POLLS):
        began_s, mlflow_s = time.process_time(), traffic.mlflow.spent_s
        traffic.poll(new)
        exposition.publish(traffic.rig.published[-1])
        spent.append(time.process_time() - began_s - (traffic.mlflow.spent_s - mlflow_s))
    say(f"ticks: {POLLS} polls counted {new} traces each, {min(spent) * 1000:.0f} to {max(spent) * 1000:.0f} ms")
    return median(spent) * 1000
