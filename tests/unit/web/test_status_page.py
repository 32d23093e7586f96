"""What the status page tells people."""

import re
from dataclasses import replace
from typing import Any

from mlflow_trace_exporter.domain.assessed import assessed
from mlflow_trace_exporter.domain.objectives import Objective, Objectives, Quality
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.metrics.series import series_totals
from mlflow_trace_exporter.metrics.status import Failure, Leader, Reading, Snapshot, Status
from mlflow_trace_exporter.web.status_page import Links, write
from tests.support.builders import BUILD, FAMILIES, METER_WITH_ALL, assessment, increments, record

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


def assessments_page(*records: TraceRecord, quality: tuple[Quality, ...] = ()) -> str:
    objectives = Objectives((Objective(quality=quality),))
    families = trace_families((1.0,), (1.0,), objectives=objectives, score_edges=(1.0,))
    meter = replace(METER_WITH_ALL, families=families, objectives=objectives, step_types=None)
    opinions = tuple(filter(None, (assessed(each, {}) for each in records)))
    counted = meter.measure(Batch(counted=records, assessed=opinions), meter.admission(()))
    status = replace(Status.begin(BUILD), reading=READING)
    return write(Snapshot(families, series_totals(families, counted.amounts), status), LINKS, NOW_S).decode()


def test_each_assessment_has_a_share_of_the_traces_of_its_version() -> None:
    said = (assessment("correctness", "yes"), assessment("correctness", "no", "code"), assessment("tone", 0.5))
    traces = [record(trace_id=str(at), assessments=said if at < 3 else ()) for at in range(4)]
    traces += [record(trace_id="other", tags={"environment": "staging"}, assessments=(assessment("tone", 1.0),))]
    quality = (Quality(assessment="correctness", ratio=0.9, good=frozenset({"yes"})),)
    text = assessments_page(*traces, quality=quality)
    assert rows(text.partition("<h2>Assessments")[2]) == [
        [
            "chatbot",
            "production",
            "1.4.0",
            LINK.format("production", "1.4.0", "correctness", "correctness"),
            "3",
            "75.0%",
            "-",
            "50.0%",
        ],
        [
            "chatbot",
            "production",
            "1.4.0",
            LINK.format("production", "1.4.0", "tone", "tone"),
            "3",
            "75.0%",
            "0.500",
            "-",
        ],
        [
            "chatbot",
            "staging",
            "unknown",
            LINK.format("staging", "unknown", "tone", "tone"),
            "1",
            "100.0%",
            "1.000",
            "-",
        ],
    ]
    assert [row[3] for row in rows(text)] == ["4", "1"], "the table of traces is as without them"


LINK = '<a href="traces?experiment=chatbot&amp;environment={}&amp;version={}&amp;assessment={}">{}</a>'


def test_where_there_are_no_assessments_nothing_is_shown() -> None:
    assert "ssessment" not in page(record())
    assert "ssessment" not in assessments_page(record())


def test_many_assessments_are_cut_short() -> None:
    text = assessments_page(record(assessments=tuple(assessment(f"n-{at}", "yes") for at in range(60))))
    assert len(rows(text.partition("<h2>Assessments")[2])) == 50
    assert "and 10 more" in text


def test_a_process_that_stands_by_says_who_leads() -> None:
    status = Status.begin(BUILD).standing_by(Leader("exporter-0 (process 7)", 1_795_000_000))
    page = write(Snapshot((), {}, status), LINKS, NOW_S).decode()
    assert "exporter-0 (process 7) leads since 2026-11-18 " in page
    assert "Pending" not in page
    assert "No traces counted yet" not in page
    nobody = replace(status, stands_by=Leader(), failure=Failure("PostgreSQL cannot be reached", NOW_S))
    page = write(Snapshot((), {}, nobody), LINKS, NOW_S).decode()
    assert "nobody is known to lead" in page
    assert "PostgreSQL cannot be reached" in page
