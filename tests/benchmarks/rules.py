"""What the rules cost a real Prometheus, according to its own metrics.

For about 1,000 and 5,000 series, promtool makes blocks with three days of samples, 15 s apart, of everything that the
rules read. Prometheus then evaluates all rules every 15 s for a minute. Each number is the longest
prometheus_rule_group_last_duration_seconds of a group.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from mlflow_trace_exporter.bundled import rules
from mlflow_trace_exporter.demo.processes import HOST, Processes, fetch, free_port
from tests.benchmarks.figures import Figure, Setting, say
from tests.benchmarks.traffic import SERIES
from tests.support.builders import FAMILIES
from tests.support.real import tool

LABEL_SETS = (13, 65)
STEP_S = 15
LONG_S, SHORT_S = 3 * 86_400, 7_200
WATCH_S = 60.0
RULES = re.sub(r"^    interval: .*\n", "", rules.for_prometheus(rules.Links()), flags=re.MULTILINE)
"""All rules, evaluated at the same interval."""
READ = [family for family in FAMILIES if family.is_of_groups and len(family.labels) > 2]


def series(number: int) -> Iterator[str]:
    """The names of the series of one label set."""
    labels = f'job="mlflow-trace-exporter",instance="a",experiment="chatbot",environment="env-{number % 5}"'
    labels += f',version="1.{number // 5}",trace_name="support"'
    for family in READ:
        for own in family.own_label[1] if family.own_label else ("",):
            pairs = labels if family.own_label is None else f'{labels},{family.own_label[0]}="{own}"'
            if family.edges:
                for edge in family.buckets:
                    yield f'{family.name}_bucket{{{pairs},le="{edge}"}}'
                yield f"{family.name}_count{{{pairs}}}"
                yield f"{family.name}_sum{{{pairs}}}"
            else:
                yield f"{family.name}{{{pairs}}}"


def write_samples(file: Path, label_sets: int, end_s: int) -> None:
    """Write an OpenMetrics file in which each series grows by one per step. Buckets have only two hours of samples,
    because no long window reads them."""
    objectives = [("error_ratio", 0.05), ("latency_seconds", 5), ("latency_ratio", 0.95), ("min_traces", 20)]
    with file.open("w", encoding="utf-8") as out:
        for number in range(label_sets):
            for name in series(number):
                span_s = SHORT_S if "_bucket{" in name else LONG_S
                for step, at_s in enumerate(range(end_s - span_s, end_s, STEP_S)):
                    out.write(f"{name} {step} {at_s}\n")
        for environment in range(5):
            for objective, value in objectives:
                labels = f'job="mlflow-trace-exporter",instance="a",environment="env-{environment}"'
                for at_s in range(end_s - SHORT_S, end_s, STEP_S):
                    out.write(f"mlflow_objective_{objective}{{{labels}}} {value} {at_s}\n")
        out.write("# EOF\n")


def longest(label_sets: int, directory: Path) -> dict[str, float]:
    """The longest evaluation of each group, in seconds."""
    samples = directory / "samples.txt"
    write_samples(samples, label_sets, int(time.time()) + int(WATCH_S))
    blocks = [
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "--max-block-duration=24h",
        str(samples),
        str(directory / "data"),
    ]
    subprocess.run([tool("promtool"), *blocks], check=True, stdout=subprocess.DEVNULL)
    (directory / "rules.yml").write_text(RULES, encoding="utf-8")
    config = {"global": {"evaluation_interval": f"{STEP_S}s"}, "rule_files": ["rules.yml"]}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    url = f"http://{HOST}:{free_port()}"
    command = [tool("prometheus"), f"--config.file={directory / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={url.removeprefix('http://')}"]
    found: dict[str, float] = {}
    with Processes(directory) as processes:
        processes.start_program("prometheus", command, {})
        processes.wait_until_ready(f"{url}/-/ready", lambda: False)
        until = time.monotonic() + WATCH_S
        while time.monotonic() < until:
            for group, seconds in durations(fetch(f"{url}/metrics") or ""):
                found[group] = max(seconds, found.get(group, 0.0))
            time.sleep(1)
    return found


def durations(text: str) -> Iterator[tuple[str, float]]:
    """The last duration of each group in seconds, from Prometheus' own metrics."""
    for family in text_string_to_metric_families(text):
        if family.name == "prometheus_rule_group_last_duration_seconds":
            for sample in family.samples:
                yield sample.labels["rule_group"].rpartition(";")[2], sample.value


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure all sizes."""
    for label_sets in LABEL_SETS:
        found = longest(label_sets, setting.folder(f"{label_sets}"))
        assert len(found) == len(re.findall(r"^ *- name:", RULES, re.MULTILINE)), f"groups without a duration: {found}"
        for group, seconds in found.items():
            say(f"rules: {label_sets} label sets: {group}: {seconds * 1000:.1f} ms")
        series = label_sets * SERIES
        yield Figure(f"longest evaluation of all groups, {series:,} series", sum(found.values()) * 1000, "ms")
