"""What the rules cost a real Prometheus, according to its own metrics.

200 applications in two environments have three versions each: 1,200 label sets. Prometheus has everything that the
exporter exposes about them, every 15 s: three days of the counters that long windows read, and two hours of all others.
It evaluates all rules at their own intervals, once while all applications are healthy, and once while all of them
fail, as when their LLM is down. Each figure is the longest prometheus_rule_group_last_duration_seconds of a group, and
its goal is a quarter of the interval.
"""

import json
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from mlflow_trace_exporter.bundled import rules
from mlflow_trace_exporter.demo.processes import HOST, Processes, fetch, free_port
from tests.benchmarks import remote_write
from tests.benchmarks.figures import Figure, Setting, at_most, say
from tests.benchmarks.machine import cpu_s, resident_mb
from tests.support.builders import FAMILIES
from tests.support.real import tool

APPLICATIONS, ENVIRONMENTS, VERSIONS = 200, 2, 3
STEP_S, HOUR_S, DAY_S = 15, 3_600, 86_400
LONG = {
    "mlflow_traces_total": 3 * DAY_S,
    "mlflow_trace_errors_total": 3 * DAY_S,
    "mlflow_trace_slow_total": 3 * DAY_S,
    "mlflow_trace_input_cost_usd_total": DAY_S,
    "mlflow_trace_output_cost_usd_total": DAY_S,
    "mlflow_traces_missing_total": DAY_S,
}
"""How long rules look back, where it is more than two hours."""
TRACES_PER_S = 0.5
RATES = {
    "mlflow_trace_errors_total": 0.01 * TRACES_PER_S,
    "mlflow_trace_slow_total": 0.02 * TRACES_PER_S,
    "mlflow_trace_input_cost_usd_total": 1e-5,
    "mlflow_trace_output_cost_usd_total": 1e-5,
    "mlflow_traces_missing_total": 0.01 * TRACES_PER_S,
}
"""How much a counter grows per second, where it is not by the number of traces."""
OBJECTIVES = {
    "error_ratio": 0.05,
    "latency_seconds": 5,
    "latency_ratio": 0.95,
    "cost_usd_per_day": 100,
    "min_traces": 20,
}
GROUP = re.compile(r"^  - name: (?P<name>.+)\n(?:    interval: (?P<minutes>\d+)m\n)?", re.MULTILINE)
DEFAULT_INTERVAL_S = 30
FAILING_FOR_S = {"healthy": 0, "all fail": 2.5 * HOUR_S}
"""For how long all applications have failed in each state. After two and a half hours all pages on errors fire."""
WATCH_S = 400.0
"""Longer than the longest interval, and than alerts are held back."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Kind:
    """Series of which each label set has one, and all have the same values."""

    name: str
    own: Labels
    per_s: float
    start: float = 0.0
    history_s: int = 2 * HOUR_S

    @property
    def fails(self) -> bool:
        """Whether it counts failed traces."""
        return self.name == "mlflow_trace_errors_total"


@dataclass(frozen=True)
class Series:
    """A series: its kind, and its encoded labels."""

    kind: Kind
    labels: bytes


def of_version() -> Iterator[Kind]:
    """What the exporter exposes for each version."""
    for family in (each for each in FAMILIES if "version" in each.label_names):
        rate = RATES.get(family.name, TRACES_PER_S)
        label, values = family.own_label or ("", ("",))
        for own in (((label, value),) if label else () for value in values):
            history_s = LONG.get(family.name, 2 * HOUR_S)
            if not family.edges:
                yield Kind(family.name, own, rate, history_s=history_s)
                continue
            for number, edge in enumerate(family.buckets, 1):
                yield Kind(f"{family.name}_bucket", (*own, ("le", edge)), rate * number / len(family.buckets))
            yield Kind(f"{family.name}_count", own, rate)
            yield Kind(f"{family.name}_sum", own, rate)


def of_application(number: int) -> Iterator[Kind]:
    """What the exporter exposes for each application."""
    yield Kind("mlflow_traces_in_progress", (), 0, 3)
    yield Kind("mlflow_traces_abandoned_total", (), 0, history_s=DAY_S)
    yield Kind("mlflow_objective_info", (("team", f"team {number % 10}"),), 0, 1)
    for name, value in OBJECTIVES.items():
        yield Kind(f"mlflow_objective_{name}", (), 0, value)


def of_exporter(origin_s: float) -> Iterator[Kind]:
    """An exporter with fresh data."""
    yield Kind("up", (), 0, 1)
    yield Kind("mlflow_up", (), 0, 1)
    yield Kind("mlflow_trace_exporter_last_successful_poll_timestamp_seconds", (), 1, origin_s)
    yield Kind("mlflow_trace_exporter_poll_interval_seconds", (), 0, 15)
    yield Kind("mlflow_trace_exporter_catching_up", (), 0, 0)


def all_series(origin_s: float) -> Iterator[Series]:
    """All series of all label sets."""
    target = {"job": "mlflow-trace-exporter", "instance": "a"}

    def series(kinds: Iterable[Kind], **labels: str) -> Iterator[Series]:
        for kind in kinds:
            names = {"__name__": kind.name, **target, **labels, **dict(kind.own)}
            yield Series(kind, remote_write.labels(names))

    yield from series(of_exporter(origin_s))
    kinds = list(of_version())
    for number, environment in product(range(APPLICATIONS), range(ENVIRONMENTS)):
        labels = {"experiment": f"application {number}", "environment": f"environment {environment}"}
        yield from series(of_application(number), **labels)
        for version in range(VERSIONS):
            yield from series(kinds, **labels, version=f"1.{version}", trace_name="support")


class Feed:
    """The series of an exporter, from three days before now on. All its applications have failed for some time."""

    def __init__(self, url: str, now_s: float, failing_for_s: float) -> None:
        self._url = url
        self._origin_s = now_s - max(LONG.values())
        self._begins_s = now_s
        self._series = list(all_series(self._origin_s))
        self._sent_s = now_s
        self._failing_since_s = now_s - failing_for_s if failing_for_s else float("inf")

    def __len__(self) -> int:
        return len(self._series)

    def send_history(self) -> None:
        """Send all samples until now, half an hour at a time, because Prometheus accepts none that are much older than
        others."""
        for start_s in range(round(self._origin_s), round(self._begins_s), HOUR_S // 2):
            self._send([float(at_s) for at_s in range(start_s, start_s + HOUR_S // 2, STEP_S)])

    def keep_up(self) -> None:
        """Send the samples since the last ones."""
        steps = int((time.time() - self._sent_s) / STEP_S)
        if steps:
            times = [self._sent_s + STEP_S * number for number in range(1, steps + 1)]
            self._send(times)
            self._sent_s = times[-1]

    def _send(self, times: list[float]) -> None:
        encoded: dict[Kind, bytes] = {}
        for kind in {each.kind for each in self._series}:
            if times[0] >= self._begins_s - kind.history_s:
                encoded[kind] = remote_write.samples((at_s, self._value(kind, at_s)) for at_s in times)
        remote_write.send(
            self._url, ((each.labels, encoded[each.kind]) for each in self._series if each.kind in encoded)
        )

    def _value(self, kind: Kind, at_s: float) -> float:
        more = (TRACES_PER_S - kind.per_s) * max(0.0, at_s - self._failing_since_s) if kind.fails else 0.0
        return kind.start + kind.per_s * (at_s - self._origin_s) + more


class Prometheus:
    """A running Prometheus, which evaluates rules once it is told to."""

    def __init__(self, processes: Processes, directory: Path) -> None:
        self.url = f"http://{HOST}:{free_port()}"
        self._config = directory / "prometheus.yml"
        self._configure({})
        command = [tool("prometheus"), f"--config.file={self._config}", f"--storage.tsdb.path={directory / 'data'}"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}", "--web.enable-remote-write-receiver"]
        self._process = processes.start_program("prometheus", command, {})
        processes.wait_until_ready(f"{self.url}/-/ready", lambda: False)

    def evaluate(self, text: str) -> None:
        """Evaluate these rules from now on."""
        self._config.with_name("rules.yml").write_text(text, encoding="utf-8")
        self._configure({"rule_files": ["rules.yml"]})
        self._process.popen.send_signal(signal.SIGHUP)

    def cpu_s(self) -> float:
        """The CPU seconds that it has used."""
        return cpu_s(self._process.popen.pid)

    def resident_mb(self) -> float:
        """Its resident memory."""
        return resident_mb(self._process.popen.pid)

    def firing(self) -> int:
        """How many alerts fire."""
        alerts = json.loads(fetch(f"{self.url}/api/v1/alerts") or "{}")["data"]["alerts"]
        return sum(each["state"] == "firing" for each in alerts)

    def samples(self, name: str) -> list[Sample]:
        """Samples of one of its own metrics."""
        found = text_string_to_metric_families(fetch(f"{self.url}/metrics") or "")
        return [each for family in found if family.name == name for each in family.samples]

    def _configure(self, more: Mapping[str, Any]) -> None:
        config = {"global": {"evaluation_interval": f"{DEFAULT_INTERVAL_S}s"}, **more}
        self._config.write_text(yaml.safe_dump(config), encoding="utf-8")


def longest(prometheus: Prometheus, feed: Feed) -> dict[str, float]:
    """The longest evaluation of each group, in seconds."""
    found: dict[str, float] = {}
    until = time.monotonic() + WATCH_S
    while time.monotonic() < until:
        feed.keep_up()
        for sample in prometheus.samples("prometheus_rule_group_last_duration_seconds"):
            group = sample.labels["rule_group"].rpartition(";")[2]
            found[group] = max(sample.value, found.get(group, 0.0))
        time.sleep(1)
    failures = sum(each.value for each in prometheus.samples("prometheus_rule_evaluation_failures"))
    assert not failures, f"{failures:.0f} evaluations have failed"
    return found


def measured(state: str, failing_for_s: float, directory: Path) -> Iterator[Figure]:
    """The figures of a state."""
    text = rules.for_prometheus(rules.Links())
    intervals = {each["name"]: 60 * int(each["minutes"] or 0) or DEFAULT_INTERVAL_S for each in GROUP.finditer(text)}
    with Processes(directory) as processes:
        prometheus = Prometheus(processes, directory)
        feed = Feed(prometheus.url, time.time() // STEP_S * STEP_S, failing_for_s)
        feed.send_history()
        say(f"rules: {len(feed):,} series are there; Prometheus uses {prometheus.resident_mb():,.0f} MB")
        prometheus.evaluate(text)
        before_s = prometheus.cpu_s()
        found = longest(prometheus, feed)
        spent_s = prometheus.cpu_s() - before_s
        assert found.keys() == intervals.keys(), f"groups without a duration: {intervals.keys() - found.keys()}"
        for group, seconds in found.items():
            goal = at_most(intervals[group] * 1000 / 4)
            yield Figure(f"{state}: {group}, every {intervals[group]} s", seconds * 1000, "ms", goal=goal)
        yield Figure(f"{state}: Prometheus, which also receives the samples", spent_s / WATCH_S, "cores")
        yield Figure(f"{state}: resident memory of Prometheus", prometheus.resident_mb(), "MB")
        yield Figure(f"{state}: alerts that fire", prometheus.firing(), "")


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure both states."""
    for state, failing_for_s in FAILING_FOR_S.items():
        yield from measured(state, failing_for_s, setting.folder(state.replace(" ", "-")))
