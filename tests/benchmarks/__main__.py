"""Runs all benchmarks, or those that are named, and prints a table.

    python -m tests.benchmarks [NAME...] [--json FILE] [--traces N]

The exit code is 1 if a benchmark fails. A goal that is not reached is not a failure.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import mlflow_trace_exporter
from tests.benchmarks import (
    assessments,
    catch_up,
    delays,
    late_spans,
    ledger,
    memory,
    postgresql,
    reports,
    rules,
    scrapes,
    spans,
    sustained,
    ticks,
)
from tests.benchmarks.figures import Figure, Setting, as_json, say, table

SUBJECTS: dict[str, Callable[[Setting], Iterator[Figure]]] = {
    "catch-up": catch_up.figures,
    "delays": delays.figures,
    "sustained": sustained.figures,
    "late-spans": late_spans.figures,
    "ticks": ticks.figures,
    "ledger": ledger.figures,
    "postgresql": postgresql.figures,
    "reports": reports.figures,
    "memory": memory.figures,
    "scrapes": scrapes.figures,
    "spans": spans.figures,
    "assessments": assessments.figures,
    "rules": rules.figures,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the arguments name. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure the exporter.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(SUBJECTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--traces", type=int, default=100_000, metavar="N", help="traces in the large stores")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - SUBJECTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    found: list[tuple[str, Figure]] = []
    failed: dict[str, str] = {}
    for name in asked.names or SUBJECTS:
        began = time.monotonic()
        try:
            found += measured(name, asked.traces)
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
        say(f"{name}: {time.monotonic() - began:.0f} s")
        if asked.json:
            asked.json.write_text(json.dumps(summary(found, failed), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(found))
    for name, why in failed.items():
        sys.stdout.write(f"{name} FAILED: {why}\n")
    return int(bool(failed))


def measured(subject: str, traces: int) -> Iterator[tuple[str, Figure]]:
    """The figures of a subject, as they become available."""
    say(f"{subject}: begins")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for figure in SUBJECTS[subject](Setting(traces, Path(directory))):
            say(table([(subject, figure)]).splitlines()[1])
            yield subject, figure


def summary(found: Sequence[tuple[str, Figure]], failed: dict[str, str]) -> dict[str, Any]:
    """The figures of a run, with the machine and the package that were measured, for a JSON file."""
    return {
        "package": str(Path(mlflow_trace_exporter.__file__).parent),
        "version": mlflow_trace_exporter.__version__,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "figures": [as_json(subject, figure) for subject, figure in found],
        "failed": failed,
    }


if __name__ == "__main__":
    sys.exit(main())
