"""The pictures of the documentation: the status page, /traces and a report, as a browser shows them.

    make pictures

The pages are written from fixed values, so their HTML is the same on every machine. Beside the pictures there is a file
with the hash of each page's HTML; tests/unit/test_docs.py fails if a page has changed since its picture was taken.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from mlflow_trace_exporter.domain.moments import unix_ms
from mlflow_trace_exporter.domain.objectives import Objectives
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.metrics.series import series_totals
from mlflow_trace_exporter.metrics.status import Build, Reading, Snapshot, Status
from mlflow_trace_exporter.tracking.mlflow_pages import MlflowPages
from mlflow_trace_exporter.web import status_page, trace_list, trace_page
from tests.support import PROJECT
from tests.support.browser import browse
from tests.support.builders import FAMILIES, RULES, increments, record
from tests.support.days import day, report_on

PICTURES = PROJECT / "docs" / "pictures"
HASHES = PICTURES / "pages.json"
NOW_MS = unix_ms("2026-11-26T14:30:00", 0)
SIZES = {"status": (1040, 890), "traces": (1040, 590), "report": (1040, 1440)}
SHARES = (  # traces, and how many of them fail
    ("tideline-search", "production", "1.4.0", 60, 0.0),
    ("tideline-support", "production", "1.4.0", 200, 0.01),
    ("tideline-orders", "production", "2.1.0", 58, 0.02),
    ("tideline-support", "production", "1.5.0", 100, 0.06),
    ("tideline-support", "staging", "1.5.0", 34, 0.03),
)


def traces() -> Iterator[TraceRecord]:
    """The traces of three applications, over the last hour."""
    dice = Random(1)
    for experiment, environment, version, amount, failing in SHARES:
        for _ in range(amount):
            tokens = TokenUsage(input=200 + int(900 * dice.random()), output=60 + int(250 * dice.random()))
            cost = Cost(input_usd=(tokens.input or 0) * 2e-6, output_usd=(tokens.output or 0) * 8e-6)
            is_search = experiment == "tideline-search"
            yield record(
                trace_id=f"tr-{int(2**128 * dice.random()):032x}",
                experiment=experiment,
                state=State.ERROR if dice.random() < failing else State.OK,
                start_ms=NOW_MS - 60_000 - int(3_500_000 * dice.random()),
                seen_ms=NOW_MS,
                duration_ms=300 + int(6_000 * dice.random() ** 6),
                name="search" if is_search else "answer",
                usage=None if is_search else tokens,
                cost=None if is_search else cost,
                tags={"environment": environment, "app_version": version},
            )


def status() -> bytes:
    """The status page."""
    now_s = NOW_MS / 1000
    counted = increments(*traces())
    reading = Reading(
        experiments=("tideline-orders", "tideline-search", "tideline-support"),
        objectives={},
        interval_s=15,
        complete_until_s=now_s - 7_200,
        behind=False,
        pending=3,
        running={},
        first_seen_s={},
        series=380,
        series_limit=100_000,
        ledger_bytes=0,
        features={},
        audit_supported=True,
        audited_until_s=now_s - 40,
        unaccounted=0,
    )
    known = replace(
        Status.begin(Build("0.1.0", "3.11", "3.17.2")),
        mlflow_up=True,
        mlflow_since_s=now_s - 86_400,
        polls=5_760,
        last_success_s=now_s - 6,
        reading=reading,
    )
    active_ms = dict.fromkeys(counted.groups, NOW_MS - 20_000)
    snapshot = Snapshot(FAMILIES, series_totals(FAMILIES, counted.amounts), known, active_ms=active_ms)
    return status_page.write(snapshot, status_page.Links("metrics", "http://mlflow:5000"), now_s)


def failed_traces() -> bytes:
    """What the link of an alert leads to."""
    query = {"environment": "production", "status": "error", "since": "1h"}
    question = trace_list.Question.parse(query.items(), RULES.names, NOW_MS)
    newest = sorted(traces(), key=lambda each: -each.start_ms)
    rows = trace_list.answer(question, newest, RULES, Objectives(), frozenset({Traffic.APPLICATION}))
    pages = MlflowPages("http://mlflow:5000", None)
    return trace_page.write(question, trace_page.Found(list(rows)), RULES, pages, {})


def report() -> bytes:
    """A day with an incident."""
    return report_on(day(6_000), slowest=10, errors=10).as_html().encode()


PAGES = {"status": status, "traces": failed_traces, "report": report}


def hashes() -> Mapping[str, str]:
    """The hash of the HTML of each page that has a picture."""
    return {name: hashlib.sha256(write()).hexdigest() for name, write in PAGES.items()}


def main() -> None:
    """Take all pictures again."""
    with TemporaryDirectory() as directory:
        for name, write in PAGES.items():
            page, (width, height) = Path(directory) / f"{name}.html", SIZES[name]
            page.write_bytes(write())
            picture = PICTURES / f"{name}.png"
            browse(Path(directory), page.as_uri(), f"--screenshot={picture}", f"--window-size={width},{height}")
    HASHES.write_text(json.dumps(hashes(), indent=2) + "\n")


if __name__ == "__main__":
    main()
