"""What `report` and `backfill` take over many traces, beside the loop of MLflow's cookbook on the same server.

Report and loop give the same p95 by environment. Run it with ``python -m tests.benchmarks.reports``; of 100,000 traces
if no other number is said. Numbers are compared within one run only.
"""

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow_trace_exporter.demo.processes import Processes, free_port
from tests.benchmarks.scrapes import say
from tests.support.real import Mlflow, Trace, now_ms

TRACES = 100_000
DAYS = 30
DAY_MS = 86_400_000

COOKBOOK = """
import mlflow, sys
mlflow.set_tracking_uri(sys.argv[1])
found = {}
traces = mlflow.search_traces(locations=[sys.argv[2]], max_results=1_000_000, return_type="list")
for trace in traces:
    if trace.info.execution_duration is not None:
        found.setdefault(trace.info.tags.get("environment"), []).append(trace.info.execution_duration)
for environment, latencies in sorted(found.items()):
    latencies.sort()
    print(environment, len(latencies), latencies[int(len(latencies) * 0.95)])
"""


def traces(number: int) -> Iterator[Trace]:
    """Traces over a month that ended four hours ago, a few of which failed."""
    dice = random.Random(1)
    first_ms = now_ms() - DAYS * DAY_MS - DAY_MS // 6
    for at in range(number):
        usage = {"input_tokens": dice.randrange(2_000), "output_tokens": dice.randrange(500)}
        metadata = {
            "mlflow.trace.user": f"user-{dice.randrange(100)}",
            "mlflow.trace.session": f"session-{dice.randrange(500)}",
            "mlflow.trace.tokenUsage": json.dumps(usage),
            "mlflow.trace.cost": json.dumps({"input_cost": 0.001, "output_cost": 0.002}),
        }
        yield Trace(
            first_ms + DAYS * DAY_MS * at // number,
            int(dice.lognormvariate(0, 1) * 1000),
            "ERROR" if dice.random() < 0.05 else "OK",
            dice.choice(["support", "billing"]),
            tags={
                "environment": dice.choice(["production", "staging"]),
                "app_version": dice.choice(["1.4.0", "1.5.0"]),
            },
            metadata=metadata,
        )


def measured(command: list[str]) -> tuple[str, float, int]:
    """What a command prints, how long it takes in seconds, and how much memory it has at most in MB."""
    ran = subprocess.run(["/usr/bin/time", "-f", "%e %M", *command], capture_output=True, text=True, check=True)
    seconds, kilobytes = re.split(r"\s", ran.stderr.strip().splitlines()[-1])
    return ran.stdout, float(seconds), int(kilobytes) // 1024


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else TRACES
    with tempfile.TemporaryDirectory() as directory, Processes(Path(directory)) as processes:
        mlflow = Mlflow(Path(directory), processes, free_port())
        experiment = mlflow.experiment("benchmark")
        mlflow.insert(experiment, traces(number))
        file = Path(directory) / "exporter.yml"
        file.write_text(json.dumps({"mlflow": {"tracking_uri": mlflow.uri}}))
        ours = [
            sys.executable,
            "-m",
            "mlflow_trace_exporter",
            "report",
            f"--config.file={file}",
            "--since=40d",
            "--by=environment",
        ]
        theirs = [sys.executable, "-c", COOKBOOK, mlflow.uri, mlflow.experiment_id(experiment)]
        history, blocks = f"{directory}/history.om", f"{directory}/blocks"
        fill = [
            sys.executable,
            "-m",
            "mlflow_trace_exporter",
            "backfill",
            f"--config.file={file}",
            "--since=40d",
            f"--output={history}",
        ]
        make = ["tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration=162h", history, blocks]
        commands = {"report": ours, "report, again": ours, "the cookbook's loop": theirs, "backfill": fill}
        if promtool := shutil.which("promtool"):
            commands["blocks of it"] = [promtool, *make]
        for name, command in commands.items():
            said, seconds, megabytes = measured(command)
            say(f"{name}: {number:,} traces in {seconds:.1f} s ({number / seconds:,.0f}/s), {megabytes} MB\n{said}")
        if promtool:
            size = sum(file.stat().st_size for file in Path(blocks).rglob("*") if file.is_file())
            say(f"the blocks take {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
