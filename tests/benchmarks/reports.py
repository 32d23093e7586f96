"""How long `report` and `backfill` take for many traces, compared with the loop of MLflow's cookbook.

The loop reads traces with their spans. Here each trace has one small span. The loop reads only a tenth of the traces,
and its time is extrapolated. For this tenth, the report and the loop must agree on the number of traces and on the p95
by environment.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Figure, Setting, at_most, say
from tests.benchmarks.store import Store, month, server

BY = ("--by=environment", "--format=json")

COOKBOOK = """
import json, mlflow, sys, time
mlflow.set_tracking_uri(sys.argv[1])
began, found = time.perf_counter(), {}
traces = mlflow.search_traces(locations=[sys.argv[2]], max_results=1_000_000, return_type="list")
for trace in traces:
    if trace.info.execution_duration is not None:
        found.setdefault(trace.info.tags.get("environment"), []).append(trace.info.execution_duration)
answer = {}
for environment, latencies in found.items():
    latencies.sort()
    answer[environment] = [len(latencies), latencies[int(len(latencies) * 0.95)] / 1000]
print(json.dumps({"answer": answer, "seconds": time.perf_counter() - began}))
"""


def measured(name: str, command: list[str]) -> tuple[str, float, int]:
    """What a command prints, how long it takes in seconds, and how much memory it has at most in MB."""
    ran = subprocess.run(["/usr/bin/time", "-f", "%e %M", *command], capture_output=True, text=True, check=True)
    seconds, kilobytes = re.split(r"\s", ran.stderr.strip().splitlines()[-1])
    took_s, megabytes = float(seconds), int(kilobytes) // 1024
    say(f"reports: {name}: {took_s:.1f} s, {megabytes} MB")
    return ran.stdout, took_s, megabytes


def figures(setting: Setting) -> Iterator[Figure]:
    """Measure the report, the loop, and the history."""
    with server(setting.folder("mlflow")) as store:
        file = setting.directory / "exporter.yml"
        file.write_text(json.dumps({"mlflow": {"tracking_uri": store.uri, "experiments": ["all"]}}))
        number = len(store.insert(store.experiment("all"), month(setting.traces)))
        said, took_s, megabytes = measured("report", [*ours("report", file), *BY])
        assert json.loads(said)["total"]["traces"] == number
        loop_s, loop_megabytes = of_loop(setting, store)
        yield Figure(
            f"report --by environment, {number:,} traces",
            took_s,
            "s",
            took_s / loop_s,
            "the cookbook's loop",
            at_most(13) if number == 100_000 else None,
        )
        yield Figure("report, peak memory", megabytes, "MB")
        yield Figure(f"the cookbook's loop, a tenth, for {number:,}", loop_s, "s")
        yield Figure("the cookbook's loop, a tenth, peak memory", loop_megabytes, "MB")
        yield from of_history(setting.directory, file)


def of_loop(setting: Setting, store: Store) -> tuple[float, int]:
    """How many seconds the loop needs for all traces, extrapolated from a tenth, and how many MB for the tenth. The
    time to start Python is not multiplied."""
    experiment_id = store.experiment("tenth")
    number = len(store.insert(experiment_id, month(setting.traces // 10)))
    store.add_spans(experiment_id, 1, 500)
    file = setting.directory / "tenth.yml"
    file.write_text(json.dumps({"mlflow": {"tracking_uri": store.uri, "experiments": ["tenth"]}}))
    said, _, _ = measured("report, a tenth", [*ours("report", file), *BY])
    theirs = [sys.executable, "-c", COOKBOOK, store.uri, experiment_id]
    printed, took_s, megabytes = measured("the cookbook's loop, a tenth", theirs)
    found = json.loads(printed)
    assert_same(json.loads(said), found["answer"], number)
    return took_s - found["seconds"] + found["seconds"] * setting.traces / number, megabytes


def of_history(directory: Path, file: Path) -> Iterator[Figure]:
    """The history of a week, and the blocks that promtool makes of it, if there is one."""
    history, blocks = directory / "history.om", directory / "blocks"
    _, took_s, megabytes = measured("backfill", [*ours("backfill", file, "8d"), f"--output={history}"])
    with history.open("rb") as written:
        written.seek(-6, os.SEEK_END)
        assert written.read() == b"# EOF\n"
    yield Figure("backfill of a week", took_s, "s")
    yield Figure("size of the history", history.stat().st_size / 1e6, "MB")
    yield Figure("backfill, peak memory", megabytes, "MB")
    if promtool := shutil.which("promtool"):
        make = ["tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration=162h"]
        _, took_s, _ = measured("blocks of it", [promtool, *make, str(history), str(blocks)])
        yield Figure("blocks of the history", took_s, "s")
        size = sum(file.stat().st_size for file in blocks.rglob("*") if file.is_file())
        yield Figure("size of the blocks", size / 1e6, "MB")


def ours(command: str, file: Path, since: str = "40d") -> list[str]:
    """One of our commands, by default for the whole month."""
    return [sys.executable, "-m", "mlflow_trace_exporter", command, f"--config.file={file}", f"--since={since}"]


def assert_same(report: dict[str, Any], loop: dict[str, tuple[int, float]], number: int) -> None:
    """Assert that the report has all traces, and the same p95 as the loop. Quantiles may be
    interpolated differently."""
    assert report["total"]["traces"] == number == sum(traces for traces, _ in loop.values())
    assert len(report["rows"]) == len(loop), report["rows"]
    for row in report["rows"]:
        traces, p95_s = loop[row["environment"]]
        assert row["traces"] == traces, f"{row} has not {traces} traces"
        assert abs(row["p95_s"] - p95_s) <= 0.03 * p95_s, f"{row} has not p95 {p95_s}"
