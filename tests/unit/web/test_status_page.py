"""What the status page tells people."""

import re
from dataclasses import replace
from typing import Any

from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.metrics.series import series_totals
from mlflow_trace_exporter.metrics.status import Reading, Snapshot, Status
from mlflow_trace_exporter.web.status_page import Links, write
from tests.support.builders import BUILD, FAMILIES, increments, record

NOW_S = 1_790_000_000.0
LINKS = Links("metrics", "http://mlflow")
READING = Reading(
    experiments=("chatbot",),
    objectives={},
    interval_s=15,
    complete_until_s=NOW_S - 3_600,
    behind=False,
    pending=0,
    running={},
    first_seen_s={},
    series=1,
    series_limit=1_000,
    ledger_bytes=0,
    features={},
    audit_supported=True,
    audited_until_s=None,
    unaccounted=0,
    counts_from_s=NOW_S - 3_600,
)


def page(*records: TraceRecord, **fields: Any) -> str:
    status = replace(Status.begin(BUILD), reading=replace(READING, **fields))
    return write(
        Snapshot(FAMILIES, series_totals(FAMILIES, increments(*records).amounts), status), LINKS, NOW_S
    ).decode()


def tiles(text: str) -> dict[str, tuple[str, str]]:
    found = re.findall(r'<dt>(.*?)</dt><dd.*?>(.*?)</dd><dd class="meaning">(.*?)</dd>', text)
    return {name: (value, meaning) for name, value, meaning in found}


def rows(text: str) -> list[list[str]]:
    body = text.partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<td.*?>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]


def test_each_tile_says_what_it_means() -> None:
    found = tiles(page())
    assert len(found) == page().count("<dt>") == 10
    assert all(meaning.endswith(".") for _, meaning in found.values())


def test_as_long_as_no_time_is_complete_the_page_says_what_it_waits_for() -> None:
    value, meaning = tiles(page(first_complete_s=NOW_S + 4_200))["Complete until"]
    assert value == "not yet"
    assert "Counts traces that started since 2026-09-21 13:13:20 UTC." in meaning
    assert "The first complete time is known after poll.lateness, at 2026-09-21 15:23:20 UTC." in meaning
    value, meaning = tiles(page(first_complete_s=8_100, counts_from_s=0, complete_until_s=0))["Complete until"]
    assert value == "not yet"
    assert "Counts all traces." in meaning
    assert "is still reading older traces" in meaning
    assert tiles(page())["Complete until"][0] == "2026-09-21 13:13:20 UTC"


def test_what_no_trace_says_is_not_zero() -> None:
    silent = record(trace_id="tr-1", usage=None, cost=None, tags={"environment": "production", "app_version": "2.0"})
    (told, untold) = rows(page(record(), silent))
    assert (told[7:9], untold[7:9]) == (["120", "$0.7500"], ["-", "-"])
    (mixed,) = rows(page(record(), replace(silent, tags=record().tags)))
    assert mixed[7:9] == ["120", "$0.7500"], "those that say it count"


def test_versions_of_two_applications_are_two_rows() -> None:
    found = rows(page(record(), record(trace_id="tr-2", experiment="search")))
    assert [row[:4] for row in found] == [
        ["chatbot", "production", "1.4.0", "1"],
        ["search", "production", "1.4.0", "1"],
    ]


def test_many_experiments_are_cut_short() -> None:
    text = page(experiments=tuple(f"experiment-{number}" for number in range(35_000)))
    assert "experiment-29 and 34,970 more" in re.sub(r"\s+", " ", text)
    assert "experiment-30" not in text
    assert len(text) < 10_000
