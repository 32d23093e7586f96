"""The whole text that is exposed, for a known snapshot."""

import gzip
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from exporter.exposition import Exposition, Format
from exporter.status import STATUS_FAMILIES, Reading, Reload, Snapshot, Status
from exporter.trace import State, TokenUsage
from tests.builders import BUILD, FAMILIES, increments, record

GOLDEN = Path(__file__).with_name("golden")

RECORDS = [
    record(usage=TokenUsage(100, 20, 64, 8)),
    record(trace_id="tr-2", state=State.ERROR, duration_ms=42, user=None, usage=None, cost=None),
    record(
        trace_id="tr-3",
        tags={"environment": 'sta"ging\\', "app_version": "2\n0"},
        duration_ms=700_000,
        usage=None,
        cost=None,
    ),
]
STATUS = Status(
    build=BUILD,
    poll_errors={"unreachable": 2, "timeout": 0},
    mlflow_up=True,
    polls=7,
    poll_duration_s=0.25,
    last_success_s=1_790_000_000.5,
    reload=Reload(successful=False, success_s=1_790_000_000.0),
    reading=Reading(
        experiments=("chatbot",),
        complete_until_s=1_789_992_600.0,
        behind=False,
        pending=3,
        running={("chatbot", "production"): 2, ("chatbot", "staging"): 0},
        series=96,
        series_limit=100_000,
        ledger_bytes=40_960,
        features={"end_time_filter": True, "not_in": True, "trace_metrics": False},
        audit_supported=False,
        audited_until_s=None,
        unaccounted=None,
    ),
)


@pytest.fixture
def exposition() -> Exposition:
    made = Exposition()
    made.publish(Snapshot(FAMILIES, increments(*RECORDS).amounts, STATUS))
    return made


def without_process(text: str) -> str:
    """The text without what differs from process to process."""
    return "".join(line for line in text.splitlines(keepends=True) if "process_" not in line)


@pytest.mark.parametrize(("fmt", "name"), [(Format.TEXT, "metrics.txt"), (Format.OPENMETRICS, "metrics.openmetrics")])
def test_whole_text(exposition: Exposition, fmt: Format, name: str) -> None:
    """After a change that is meant: delete the file, run once, and read the difference before you commit it."""
    text = without_process(exposition.render((fmt, False)).decode())
    golden = GOLDEN / name
    if not golden.exists():
        golden.write_text(text, encoding="utf-8")
        pytest.fail(f"{golden} was written anew; look at it")
    assert text == golden.read_text(encoding="utf-8")


def test_both_formats_parse_and_hold_the_same(exposition: Exposition) -> None:
    def samples(families: object) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in families  # type: ignore[attr-defined]  # both parsers are generators of Metric, untyped
            for sample in family.samples
        }

    text = samples(parse_text(exposition.render((Format.TEXT, False)).decode()))
    openmetrics = samples(parse_openmetrics(exposition.render((Format.OPENMETRICS, False)).decode()))
    assert text == openmetrics


@pytest.mark.parametrize("value", ["\ud800", "a\0b", "a\nb", 'quo"te\\', "\u2028", "x" * 1_000_000])
def test_fault_23_whatever_a_tag_holds_the_scrape_succeeds_and_parses(value: str) -> None:
    exposition = Exposition()
    odd = record(experiment=value, name=value, tags={"environment": value, "app_version": value})
    exposition.publish(Snapshot(FAMILIES, increments(odd).amounts, STATUS))
    text = exposition.render((Format.TEXT, False))
    assert len(text) < 100_000
    for parse, found in (
        (parse_text, text),
        (parse_openmetrics, exposition.render((Format.OPENMETRICS, False))),
    ):
        assert (
            sum(
                sample.value
                for family in parse(found.decode())
                for sample in family.samples
                if sample.name == "mlflow_traces_total"
            )
            == 1
        )


def test_gzip_holds_the_same_bytes(exposition: Exposition) -> None:
    plain = exposition.render((Format.TEXT, False))
    assert gzip.decompress(exposition.render((Format.TEXT, True))) == plain


def test_scrapes_at_the_same_time_share_one_rendering(exposition: Exposition, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []

    def encode(metrics: Collector) -> bytes:
        rendered.append(metrics)
        with suppress(BrokenBarrierError):  # it breaks, for a second rendering never comes
            second_one.wait(0.2)
        return b"text"

    monkeypatch.setattr("exporter.exposition.encode_text", encode)
    second_one = Barrier(2)
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: exposition.render((Format.TEXT, False)), range(4)))
    assert texts == [b"text"] * 4
    assert len(rendered) == 1


def test_what_is_not_known_yet_is_not_exposed() -> None:
    exposition = Exposition()
    exposition.publish(Snapshot(FAMILIES, {}, Status(BUILD, {})))
    text = exposition.render((Format.TEXT, False)).decode()
    assert "# TYPE mlflow_up gauge" in text
    assert "\nmlflow_up " not in text


def test_a_reader_gets_the_latest_snapshot(exposition: Exposition) -> None:
    exposition.render((Format.TEXT, False))
    exposition.publish(Snapshot(FAMILIES, {}, Status(BUILD, {}, polls=123)))
    assert b"mlflow_trace_exporter_polls_total 123.0" in exposition.render((Format.TEXT, False))


@pytest.mark.parametrize(
    ("accept", "fmt"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html", Format.TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5", Format.OPENMETRICS),
    ],
)
def test_format_by_accept_header(accept: str, fmt: Format) -> None:
    assert Format.accepted(accept) is fmt


def test_names_are_unique_and_say_their_type() -> None:
    counters = [family.name for family in FAMILIES if not family.edges]
    counters += [family.name for family in STATUS_FAMILIES if family.type == "counter"]
    others = [family.name for family in FAMILIES if family.edges]
    others += [family.name for family in STATUS_FAMILIES if family.type == "gauge"]
    assert len({*counters, *others}) == len(counters) + len(others)
    assert all(name.endswith("_total") for name in counters)
    assert not any(name.endswith("_total") for name in others)
