"""`backfill` as its user does it: the file, real blocks of it, a real Prometheus, and then `serve` on top."""

import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mlflow_trace_exporter.metrics.model import histogram_quantile
from tests.support.builders import FAMILIES
from tests.support.commands import invoke
from tests.support.real import Exporter, Mlflow, Prometheus, Trace, eventually, now_ms, tool

pytestmark = pytest.mark.long

HOUR_MS = 3_600_000
STEP_MS = 60_000
HISTORY_H = 30
END_MS = (now_ms() - 4 * HOUR_MS) // STEP_MS * STEP_MS
"""When the last trace of the past has ended: long enough ago."""

PRODUCTION = {"environment": "production", "app_version": "1.4.0"}
JOB = "mlflow-trace-exporter"


def past() -> list[Trace]:
    """One trace every four minutes over thirty hours, but for five hours without, one in eight of which failed."""
    dice = random.Random(3)
    usage = {"mlflow.trace.tokenUsage": json.dumps({"input_tokens": 100, "output_tokens": 20})}
    made = []
    for minute in range(-HISTORY_H * 60, 0, 4):
        if not -15 * 60 <= minute < -10 * 60:
            start_ms = END_MS + minute * STEP_MS + dice.randrange(STEP_MS)
            state = dice.choice(["ERROR"] + ["OK"] * 7)
            made.append(Trace(start_ms, round(dice.lognormvariate(7, 1)), state, tags=PRODUCTION, metadata=usage))
    return made


@dataclass
class Asked:
    """A Prometheus that has the history and scrapes an exporter, and the traces that are in the history."""

    prometheus: Prometheus
    exporter: Exporter
    mlflow: Mlflow
    experiment: str
    traces: list[Trace]

    def at(self, query: str, ms: int) -> float | None:
        """What a query gives for a time; TIME in it stands for that."""
        return self.prometheus.value(query.replace("TIME", f"@ {ms / 1000}"))

    def ended(self, lo_ms: int, hi_ms: int) -> list[Trace]:
        """The traces that ended in (lo_ms, hi_ms]."""
        return [each for each in self.traces if lo_ms < each.start_ms + (each.duration_ms or 0) <= hi_ms]


@pytest.fixture(scope="module")
def asked(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    directory = tmp_path_factory.mktemp("backfill")
    experiment = mlflow.experiment()
    traces = past()
    mlflow.insert(experiment, traces)
    settings = {
        "mlflow": {"tracking_uri": mlflow.uri, "experiments": experiment},
        "poll": {"interval": "1s"},
        "series": {"zero_hold": "4s", "ttl": "2h"},
    }
    exporter = Exporter(directory, settings)
    instance = exporter.url.removeprefix("http://")
    prometheus = Prometheus(directory, {JOB: exporter.url})
    with exporter.running():
        exporter.after_next_poll()  # it counts from now on, as its ledger says
        file = directory / "history.om"
        arguments = [f"--config.file={directory}/exporter.yml", f"--instance={instance}", f"--output={file}"]
        done = invoke("backfill", "--since=2d", *arguments)
        assert done.exit_code == 0, done.output
        assert f"{len(traces):,} traces" in done.stdout
        assert " until serve started, at " in done.stdout, "serve began less than three hours ago"
        blocks = directory / "prometheus"
        make = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=162h", str(file), str(blocks)]
        subprocess.run([tool("promtool"), *make], check=True, capture_output=True)
        with prometheus.running():
            yield Asked(prometheus, exporter, mlflow, experiment, traces)


def test_counters_hold_every_trace(asked: Asked) -> None:
    for minutes in (0, 60, 12 * 60, 20 * 60):
        at_ms = END_MS + STEP_MS - minutes * STEP_MS
        ended = asked.ended(0, at_ms)
        found = asked.at("sum(last_over_time(mlflow_traces_total[6h] TIME))", at_ms)
        assert found == len(ended), f"{minutes} minutes before the end"
        errors = asked.at("sum(last_over_time(mlflow_trace_errors_total[6h] TIME))", at_ms)
        assert errors == sum(each.state == "ERROR" for each in ended)
        tokens = asked.at("sum(last_over_time(mlflow_trace_input_tokens_total[6h] TIME))", at_ms)
        assert tokens == 100 * len(ended)


@pytest.mark.parametrize(("hours", "before_h"), [(1, 1), (3, 2), (6, 18), (30, 0)])
def test_increase_is_what_was(asked: Asked, hours: int, before_h: int) -> None:
    hi_ms = END_MS + 2 * STEP_MS - before_h * HOUR_MS
    query = f"sum(increase(mlflow_traces_total[{hours}h] TIME))"
    truth = len(asked.ended(hi_ms - hours * HOUR_MS, hi_ms))
    assert truth > 10
    # a window holds a step less than its length, which Prometheus makes up for by extrapolation
    assert asked.at(query, hi_ms) == pytest.approx(truth, rel=0.02, abs=1.1)


def test_quiet_hours_are_quiet(asked: Asked) -> None:
    assert asked.at("sum(increase(mlflow_traces_total[1h] TIME))", END_MS - 13 * HOUR_MS - 1) == 0
    asleep_ms = END_MS - 11 * HOUR_MS
    assert asked.at("count(mlflow_traces_total TIME)", asleep_ms) is None, "after series.ttl, as in serve"


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_histogram_quantile_is_what_was(asked: Asked, share: float) -> None:
    hi_ms = END_MS + STEP_MS
    window = "increase(mlflow_trace_duration_seconds_bucket[31h] TIME)"
    found = asked.at(f"histogram_quantile({share}, sum by (le) ({window}))", hi_ms)
    (family,) = [each for each in FAMILIES if each.name == "mlflow_trace_duration_seconds"]
    seconds = np.array([(each.duration_ms or 0) / 1000 for each in asked.traces])
    edges = [*family.edges, float("inf")]
    truth = histogram_quantile(share, [(edge, int((seconds <= edge).sum())) for edge in edges])
    assert found == pytest.approx(truth, rel=0.001)
    exact = np.quantile(seconds, share)
    low, high = max(each for each in (0, *edges) if each < exact), min(each for each in edges if each >= exact)
    assert low <= (found or 0) <= high, "in the bucket of the exact one"


def test_the_rules_have_a_past_of_their_own(asked: Asked, tmp_path: Path) -> None:
    rules = tmp_path / "mlflow-rules.yml"
    rules.write_text(invoke("rules").stdout)
    times = (f"--start={END_MS // 1000 - 900}", f"--end={END_MS // 1000}")
    where = (f"--output-dir={tmp_path / 'blocks'}", f"--url={asked.prometheus.url}")
    make = [tool("promtool"), "tsdb", "create-blocks-from", "rules", *times, *where, str(rules)]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "blocks" / "wal").mkdir()  # which promtool looks for where it reads
    dump = subprocess.run(
        [tool("promtool"), "tsdb", "dump", tmp_path / "blocks"], check=True, capture_output=True, text=True
    )
    recorded = {line.split('__name__="')[1].split('"')[0] for line in dump.stdout.splitlines()}
    assert "experiment_environment_version_le:mlflow_trace_duration_seconds_bucket:increase1h" in recorded, sorted(
        recorded
    )


def test_serve_goes_on_without_a_false_spike(asked: Asked) -> None:
    asked.mlflow.log(asked.experiment, *[Trace(now_ms(), 10, tags=PRODUCTION)] * 7)
    live = "sum(mlflow_traces_total)"
    eventually(lambda: asked.prometheus.value(live) == 7, "the live counter has the seven")
    assert asked.prometheus.value("count(mlflow_traces_total)") == 1, "a series of its own"
    whole = asked.prometheus.value("sum(increase(mlflow_traces_total[40h]))") or 0
    assert len(asked.traces) + 7 == pytest.approx(whole, rel=0.02)
    spike = "max_over_time(sum(increase(mlflow_traces_total[10m]))[6h:1m])"
    most = max(len(asked.ended(at, at + 600_000)) for at in range(END_MS - 2 * HOUR_MS, END_MS, STEP_MS))
    found = asked.prometheus.value(spike) or 0
    assert found <= max(most, 7) * 1.5, "hundreds, if the past were seen to happen at once"
