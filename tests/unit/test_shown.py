"""What others wrote, where it is shown."""

import re
import unicodedata
from dataclasses import replace

from mlflow_trace_exporter.metrics.status import Failure, Reading, Snapshot, Status
from mlflow_trace_exporter.shown import shown, shown_lines
from mlflow_trace_exporter.tracking.failures import RefusedError, classify
from mlflow_trace_exporter.tracking.mlflow_pages import MlflowPages
from mlflow_trace_exporter.web import trace_page
from mlflow_trace_exporter.web.status_page import Links, write
from mlflow_trace_exporter.web.trace_list import Question
from mlflow_trace_exporter.web.trace_page import Found
from tests.support.builders import BUILD, FAMILIES, RULES, record

ODD = "a\0b\x1b[31m\r\n\x9bc\ud800"
FIT = "a\ufffdb\ufffd[31m\ufffd\ufffd\ufffdc\ufffd"


def test_every_control_character_and_lone_surrogate_is_replaced_and_nothing_else() -> None:
    for number in range(0x110000):
        unfit = unicodedata.category(chr(number)) in ("Cc", "Cs")
        assert shown(chr(number)) == ("\ufffd" if unfit else chr(number))


def test_lines_stay_lines() -> None:
    assert shown_lines("a\n\tb\rc\n") == "a\n\ufffdb\ufffdc\n"


def test_an_error_quotes_mlflow_in_one_line_that_can_be_shown() -> None:
    for text in (ODD, f"{ODD} user:secret@host", "\x1b]0;title\x07"):
        said = str(classify(RefusedError(500, text), "http://mlflow", "/x"))
        assert said == shown(said)


def test_a_page_of_traces_shows_what_can_be_shown_and_leads_to_the_real_one() -> None:
    traces = [record(trace_id=ODD[:-1], experiment=ODD, name=ODD, experiment_id="7")]
    question = Question.parse({"environment": ODD, "version": ODD}.items(), RULES.names, 1)
    page = trace_page.write(
        question, Found(traces), RULES, MlflowPages("http://mlflow"), {"experiment": [ODD]}
    ).decode()
    assert fit(page)
    assert f">{FIT[:-1]}</td>" in page
    assert "/#/experiments/7/traces/a%00b%1B%5B31m%0D%0A%C2%9Bc" in page


def test_the_status_page_shows_what_can_be_shown() -> None:
    reading = Reading(
        experiments=(ODD,),
        objectives={},
        interval_s=15,
        complete_until_s=0,
        behind=False,
        pending=0,
        running={},
        first_seen_s={},
        series=0,
        series_limit=1,
        ledger_bytes=0,
        features={},
        audit_supported=None,
        audited_until_s=None,
        unaccounted=None,
    )
    status = replace(Status.begin(BUILD), reading=reading, failure=Failure(ODD, 0))
    snapshot = Snapshot(FAMILIES, {}, status, {}, {})
    page = write(snapshot, Links("metrics", "http://mlflow"), 0).decode()
    assert fit(page)
    assert FIT in page


def fit(page: str) -> bool:
    return re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", page) is None
