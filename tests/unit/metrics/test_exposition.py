"""The complete exposition of a known snapshot."""

import re
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest as encode_text
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from mlflow_trace_exporter.domain.labels import LabelValues, clean
from mlflow_trace_exporter.domain.objectives import Objective
from mlflow_trace_exporter.domain.trace import State
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.metrics.exposition import PROMETHEUS, WANTED_S, Exposition, Format
from mlflow_trace_exporter.metrics.families import events
from mlflow_trace_exporter.metrics.model import exemplar_of
from mlflow_trace_exporter.metrics.sample_lines import SampleLines
from mlflow_trace_exporter.metrics.series import Exemplars, Numbers, by_series, series_totals
from mlflow_trace_exporter.metrics.status import STATUS_FAMILIES, Reading, Reload, Snapshot, Status
from mlflow_trace_exporter.web.status_page import Links, write
from tests.support.builders import BUILD, FAMILIES, OBJECTIVES, group, increments, record
from tests.support.waiting import HANG_S

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
        objectives=OBJECTIVES.by_place([group("chatbot", "production"), group("chatbot", "staging", "1", "chat")]),
        interval_s=15.0,
        complete_until_s=1_789_992_600.0,
        behind=False,
        pending=3,
        running={("chatbot", "production"): 2, ("chatbot", "staging"): 0},
        first_seen_s={("chatbot", "production", "1.4.0"): 1_789_000_000.0},
        created_s={"chatbot": 1_780_000_000.125},
        series=96,
        series_limit=100_000,
        ledger_bytes=40_960,
        features={"end_time_filter": True, "not_in": True, "trace_metrics": False},
        audit_supported=False,
        audited_until_s=None,
        unaccounted=None,
        active_users={("chatbot", "production", "1d"): 42, ("chatbot", "production", "30d"): 317},
        active_sessions={("chatbot", "production", "1d"): 61, ("chatbot", "production", "30d"): 905},
    ),
)


MADE = increments(*RECORDS)
TOTALS = series_totals(FAMILIES, {**MADE.amounts, **events(Batch(late=1), MADE)})
SNAPSHOT = Snapshot(FAMILIES, TOTALS, STATUS, by_series(MADE.exemplars.items()))


@pytest.fixture
def exposition() -> Exposition:
    made = Exposition()
    made.publish(SNAPSHOT)
    return made


def without_process(text: str) -> str:
    """The text without lines that depend on the process."""
    return "".join(line for line in text.splitlines(keepends=True) if "process_" not in line)


@pytest.mark.parametrize(("fmt", "name"), [(Format.TEXT, "metrics.txt"), (Format.OPENMETRICS, "metrics.openmetrics")])
def test_whole_text(exposition: Exposition, fmt: Format, name: str) -> None:
    """After an intended change: delete the file, run the test once, and read the difference before you commit it."""
    text = without_process(exposition.render((fmt, False)).decode())
    golden = GOLDEN / name
    if not golden.exists():
        golden.write_text(text, encoding="utf-8")
        pytest.fail(f"{golden} was written again; check the difference")
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


@given(st.text(), st.text(), st.text(), st.text())
@settings(max_examples=50, deadline=None)
def test_no_text_breaks_the_exposition_or_the_status_page(environment: str, version: str, name: str, user: str) -> None:
    """Tags, names and metadata are safe, and the page does not show them as markup."""
    odd = record(
        experiment=name,
        name=f"<b>{name}",
        tags={"environment": f"<i>{environment}", "app_version": f"<u>{version}"},
        user=user,
        metadata={"mlflow.modelId": user},
    )
    made = increments(odd)
    totals, exemplars = series_totals(FAMILIES, made.amounts), by_series(made.exemplars.items())
    snapshot = Snapshot(FAMILIES, totals, STATUS, exemplars, dict.fromkeys(made.groups, 1))
    exposition = Exposition()
    exposition.publish(snapshot)
    for fmt, parse in ((Format.TEXT, parse_text), (Format.OPENMETRICS, parse_openmetrics)):
        families = parse(exposition.render((fmt, False)).decode())
        samples = [sample for family in families for sample in family.samples if sample.name == "mlflow_traces_total"]
        assert [sample.value for sample in samples] == [1]
        assert samples[0].labels["environment"] == clean(f"<i>{environment}")
    page = write(snapshot, Links("metrics", "http://mlflow"), 0).decode()
    assert not re.search("<[biu]>", page)
    assert "&lt;i&gt;" in page


@pytest.mark.parametrize("value", ["\ud800", "a\0b", "a\nb", 'quo"te\\', "\u2028", "x" * 1_000_000])
def test_fault_23_whatever_a_tag_holds_the_scrape_succeeds_and_parses(value: str) -> None:
    exposition = Exposition()
    odd = record(experiment=value, name=value, tags={"environment": value, "app_version": value})
    exposition.publish(Snapshot(FAMILIES, series_totals(FAMILIES, increments(odd).amounts), STATUS))
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


@pytest.mark.parametrize("gzip_first", [False, True])
def test_gzip_holds_the_same_bytes(exposition: Exposition, gzip_first: bool) -> None:
    """Also of a snapshot with the same totals, with other ones, and with the same again."""
    for totals in (TOTALS, TOTALS, {}, TOTALS):
        exposition.publish(replace(SNAPSHOT, totals=totals))
        variants = [(Format.TEXT, gzip_first), (Format.TEXT, not gzip_first)]
        texts = {compressed: exposition.render((fmt, compressed)) for fmt, compressed in variants}
        unzip = zlib.decompressobj(wbits=31)
        assert unzip.decompress(texts[True]) == texts[False]
        assert unzip.eof, "the checksum is right"
        assert not unzip.unused_data, "it is one member"


def counting_encoder(monkeypatch: pytest.MonkeyPatch) -> list[Collector]:
    """Record each call of the library's text encoder."""
    used: list[Collector] = []

    def encode(metrics: Collector) -> bytes:
        used.append(metrics)
        return encode_text(metrics)

    monkeypatch.setattr("mlflow_trace_exporter.metrics.exposition.encode_text", encode)
    return used


def test_scrapes_at_the_same_time_share_one_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    used = counting_encoder(monkeypatch)
    exposition = Exposition()
    exposition.publish(SNAPSHOT)
    assert not used, "this format was not requested yet"
    exposition.render((Format.TEXT, False))
    once = len(used)
    exposition.publish(SNAPSHOT)
    used.clear()
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: exposition.render((Format.TEXT, False)), range(8)))
    assert len(set(texts)) == 1
    assert not used, "it was rendered when it was published"
    assert once > len(FAMILIES)


def test_unchanged_series_are_not_rendered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[LabelValues] = []
    write = SampleLines.write

    def noted(lines: SampleLines, labels: LabelValues, numbers: Numbers, exemplars: Exemplars) -> bytes:
        written.append(labels)
        return write(lines, labels, numbers, exemplars)

    monkeypatch.setattr(SampleLines, "write", noted)
    exposition = Exposition()
    exposition.publish(SNAPSHOT)
    before = exposition.render((Format.TEXT, False))
    written.clear()
    traces = TOTALS["mlflow_traces_total"]
    changed = {**traces, next(iter(traces)): (41,)}
    exposition.publish(replace(SNAPSHOT, totals={**TOTALS, "mlflow_traces_total": changed}))
    after = exposition.render((Format.TEXT, False))
    assert [labels for labels in written if labels in traces] == 2 * [next(iter(traces))], "in both formats"
    assert without_process(after.decode()) == without_process(before.decode()).replace(
        'version="1.4.0"} 2.0\n', 'version="1.4.0"} 41.0\n', 1
    )


def test_a_requested_format_is_ready_when_a_snapshot_is_published() -> None:
    now_s = 0.0
    exposition = Exposition(lambda: now_s)
    exposition.publish(SNAPSHOT)
    assert exposition.ready(PROMETHEUS) is not None, "the format of Prometheus is always rendered"
    assert exposition.ready((Format.TEXT, False)) is None
    exposition.publish(SNAPSHOT)
    assert exposition.ready((Format.TEXT, False)) is not None
    now_s = WANTED_S + 1
    exposition.publish(SNAPSHOT)
    assert exposition.ready((Format.TEXT, False)) is None, "it has not been requested for long"


def test_a_reader_does_not_wait_for_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    exposition = Exposition()
    exposition.publish(SNAPSHOT)
    before = exposition.ready(PROMETHEUS)
    began, go_on = Event(), Event()

    def encode(metrics: Collector) -> bytes:
        began.set()
        go_on.wait(HANG_S)
        text: bytes = encode_openmetrics(metrics)
        return text

    monkeypatch.setattr(exposition._renderers[Format.OPENMETRICS], "_encode", encode)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(exposition.publish, replace(SNAPSHOT, totals={}))
        assert began.wait(HANG_S)
        assert exposition.ready(PROMETHEUS) == before
        go_on.set()
        publishing.result(HANG_S)
    assert exposition.ready(PROMETHEUS) != before


def test_exemplars_are_in_openmetrics_only_and_keep_their_time(exposition: Exposition) -> None:
    text = exposition.render((Format.OPENMETRICS, False)).decode()
    found = {
        sample.exemplar.labels["trace_id"]: (sample.exemplar.value, float(sample.exemplar.timestamp))
        for family in parse_openmetrics(text)
        for sample in family.samples
        if sample.exemplar
    }
    ends = {each.trace_id: (each.start_ms + (each.duration_ms or 0)) / 1000 for each in RECORDS}
    assert found == {
        each.trace_id: (each.duration_s, ends[each.trace_id]) for each in RECORDS if each.trace_id != "tr-3"
    }
    assert "trace_id" not in exposition.render((Format.TEXT, False)).decode()


@pytest.mark.parametrize(
    ("fields", "has"),
    [
        ({}, True),
        ({"trace_id": "t" * 120}, True),
        ({"trace_id": "t" * 121}, False),
        ({"trace_id": "tr\n1"}, False),
        ({"trace_id": "tr-\u00e9"}, False),
        ({"duration_ms": None}, False),
        ({"start_ms": 10_000}, False),
    ],
)
def test_which_traces_can_be_exemplars(fields: dict[str, object], has: bool) -> None:
    trace = record(**fields)
    exemplar = exemplar_of(trace, 1.5, trace.end_ms)
    assert (exemplar is not None) is has


def test_the_exemplar_of_a_bucket_is_the_trace_that_ended_last() -> None:
    times = (3_000, 1_000, 2_000)
    found = increments(*(record(trace_id=f"tr-{start_ms}", start_ms=start_ms) for start_ms in times)).exemplars
    assert [each.trace_id for each in found.values()] == ["tr-3000"]


def test_unknown_values_are_not_exposed() -> None:
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


def test_names_are_unique_and_show_their_type() -> None:
    counters = [family.name for family in FAMILIES if not family.edges]
    counters += [family.name for family in STATUS_FAMILIES if family.type == "counter"]
    others = [family.name for family in FAMILIES if family.edges]
    others += [family.name for family in STATUS_FAMILIES if family.type == "gauge"]
    assert len({*counters, *others}) == len(counters) + len(others)
    assert all(name.endswith("_total") for name in counters)
    assert not any(name.endswith("_total") for name in others)


@pytest.mark.parametrize("fmt", Format)
def test_series_with_an_experiment_have_its_workspace_if_the_server_has_workspaces(fmt: Format) -> None:
    parse = parse_text if fmt is Format.TEXT else parse_openmetrics

    def workspaces(*names: str) -> dict[str, set[str | None]]:
        """The label ``workspace`` of all series that have an experiment, by that."""
        exposition.publish(replace(snapshot, workspaces=frozenset(names)))
        families = parse(exposition.render((fmt, False)).decode())
        labels = [sample.labels for family in families for sample in family.samples]
        found: dict[str, set[str | None]] = defaultdict(set)
        for each in labels:
            if "experiment" in each:
                found[each["experiment"]].add(each.get("workspace"))
            else:
                assert "workspace" not in each
        return dict(found)

    experiments = ("team-a/chatbot", "team-b/chatbot", "other", "/team-a")
    made = increments(*(record(trace_id=name, experiment=name) for name in experiments))
    reading = replace(
        SNAPSHOT.status.reading,  # type: ignore[type-var]  # it is there
        running={(name, "production"): 1 for name in experiments},
        created_s=dict.fromkeys(experiments, 1.0),
        objectives={(name, "production"): Objective() for name in experiments},
        first_seen_s={(name, "production", "1.4.0"): 1.0 for name in experiments},
        active_users={(name, "production", "1d"): 1 for name in experiments},
        active_sessions={(name, "production", "1d"): 1 for name in experiments},
    )
    status = replace(STATUS, reading=reading)
    snapshot = Snapshot(FAMILIES, series_totals(FAMILIES, made.amounts), status, by_series(made.exemplars.items()))
    exposition = Exposition()
    nowhere = {"other": {None}, "/team-a": {None}}
    assert workspaces() == {"team-a/chatbot": {None}, "team-b/chatbot": {None}, **nowhere}
    assert workspaces("team-a") == {"team-a/chatbot": {"team-a"}, "team-b/chatbot": {None}, **nowhere}
    both = {"team-a/chatbot": {"team-a"}, "team-b/chatbot": {"team-b"}, **nowhere}
    assert workspaces("team-a", "team-b") == both


def test_a_label_workspace_of_the_configuration_is_kept() -> None:
    labels = (*FAMILIES[0].labels, "workspace")
    lines = SampleLines("mlflow_traces_total", labels, workspaces={"team-a"})
    text = lines.write(("team-a/chatbot", "production", "1", "support", "mine"), (1,), {}).decode()
    assert text.count("workspace=") == 1
    assert 'workspace="mine"' in text
