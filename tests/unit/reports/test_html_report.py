"""A report as a page: whole, without a network, and safe whatever users wrote."""

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import pytest

from mlflow_trace_exporter import UserError
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.reports.report import Report
from tests.support.builders import record
from tests.support.days import MLFLOW, UNTIL_MS, day, report_on

ATTACK = "<script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
ODD = "$x^2$ \N{GRINNING FACE} 日本 \uffff & \\frac{"


class Page(HTMLParser):
    """The elements of a page, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def attributes(self, name: str) -> list[str]:
        return [each[name] or "" for _, each in self.elements if name in each]

    def count(self, tag: str) -> int:
        return sum(each == tag for each, _ in self.elements)


@pytest.fixture(scope="module")
def report() -> Report:
    return report_on(day(600), slowest=3, errors=2)


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return report.as_html()


def test_the_page_has_every_chart_with_its_numbers_and_links_to_the_slowest_traces(report: Report, text: str) -> None:
    page = Page(text)
    assert page.count("svg") == page.count("details") == 5
    assert {"traces", "latency", "quantiles", "version", "model"} == report.figures().keys()
    names = [each.get("aria-label") or "" for tag, each in page.elements if tag == "svg"]
    assert all(len(name) > 40 for name in names), "for people who cannot see them"
    assert [each for each in page.attributes("href") if not each.startswith("#")] == [
        MLFLOW,
        *(line.url for line in (*report.slowest, *report.errors)),
    ]
    assert f"Traces of {MLFLOW}, environment production, 2026-11-25 14:30 to 2026-11-26 14:30 UTC" in page.words
    total = report.total
    for number in (f"{total.traces:,}", f"{total.errors} ({total.error_rate:.1%})", f"{total.input_tokens:,}"):
        assert number in page.words
    for each in report.charts.over_time:
        assert f"{each.start:%Y-%m-%d %H:%M}: {each.traces:,} traces, {each.errors:,} failed" in page.words, "a tooltip"


def test_the_page_asks_no_other_for_anything(text: str) -> None:
    page = Page(text)
    assert page.attributes("src") == []
    assert {tag for tag, each in page.elements if (each.get("href") or "#")[0] != "#"} == {"a"}
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert set(re.findall(r"https?://[^/\"<,]*", text)) == {MLFLOW}
    (policy,) = [each["content"] for _, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_each_id_is_there_once_and_each_reference_leads_to_one(text: str) -> None:
    ids = Page(text).attributes("id")
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text)) <= set(ids)


def test_colours_are_those_of_the_reader_s_scheme(text: str) -> None:
    style, _, body = text.partition("</style>")
    assert re.findall("#[0-9a-f]{6}", re.sub(r"href=\"[^\"]*\"|url\([^)]*\)", "", body)) == []
    used = set(re.findall(r"var\(--(\w+)\)", body))
    assert {"ok", "bad", "p50", "p95", "p99", "input", "output", "cost", "ink", "soft", "line"} <= used
    assert all(style.count(f"--{name}: #") == 2 for name in used), "in light and in dark"


@pytest.mark.parametrize("written", [ATTACK, ODD])
def test_what_users_wrote_is_only_text(written: str) -> None:
    traces = [
        record(
            start_ms=UNTIL_MS - 1_000,
            trace_id=written,
            name=written,
            user=written,
            state=state,
            tags={"environment": written, "app_version": written},
        )
        for state in (State.OK, State.ERROR)
    ]
    made = replace(report_on(traces, slowest=2, errors=2), server=written, selection={"user": written})
    for shown in (made.as_html(), made._repr_html_() or ""):
        page = Page(shown)
        assert not {"script", "img"} & {tag for tag, _ in page.elements}
        assert page.attributes("onerror") == []
        assert written.replace("\uffff", "\ufffd")[:20] in page.words.replace("\uffff", "\ufffd")
        assert page.attributes("href") == [each for each in page.attributes("href") if each.startswith("#")], (
            "where the address of MLflow is none"
        )


def test_no_trace_and_one_trace() -> None:
    page = Page(report_on([]).as_html())
    assert "No finished traces" in page.words
    assert page.count("svg") == 0
    one = report_on([record(start_ms=UNTIL_MS - 1_000)], slowest=1)
    assert Page(one.as_html()).count("svg") == 4
    bare = report_on([record(start_ms=UNTIL_MS - 1_000, duration_ms=None, usage=None, cost=None)], slowest=1)
    assert Page(bare.as_html()).count("svg") == 1, "what has no numbers is left out"
    assert "1 of 1 traces have no duration" in Page(bare.as_html()).words


def test_only_the_rows_with_the_most_traces_are_shown() -> None:
    traces = [record(start_ms=UNTIL_MS - 1_000, tags={"app_version": f"v{at}"}) for at in range(60)]
    made = report_on(traces)
    assert "10 more rows are not shown" in Page(made.as_html()).words
    assert "not shown" not in Page(made.as_html(top=None)).words


def test_the_reader_s_own_style_of_figures_is_neither_used_nor_changed(report: Report, text: str) -> None:
    with mpl.rc_context({"lines.linestyle": "--", "xtick.direction": "in", "font.size": 30}):
        assert report.as_html() == text
        assert mpl.rcParams["font.size"] == 30


def test_a_notebook_shows_the_same_charts_without_a_page_around_them(report: Report) -> None:
    shown = report._repr_html_()
    assert shown is not None
    page = Page(shown)
    assert page.count("svg") == 5
    assert page.count("html") == 0
    rules = re.findall(r"^\s*([^{}@]+)\{", shown.partition("</style>")[0].removeprefix("<style>"), re.MULTILINE)
    assert all(rule.startswith(".trace-report") for each in rules for rule in each.split(", ")), "nothing else changes"


def test_without_matplotlib_there_is_one_message_and_a_notebook_shows_text(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for make in (report.as_html, report.figures):
        with pytest.raises(UserError, match=r"pip install 'mlflow-trace-exporter\[plots\]'") as told:
            make()
        assert "\n" not in str(told.value)
    assert report._repr_html_() is None
