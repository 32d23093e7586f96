from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mlflow_trace_exporter.domain.horizon import Horizon
from mlflow_trace_exporter.domain.labels import MAX_VALUE_LENGTH, LabelRules, LabelSource, clean
from mlflow_trace_exporter.domain.patterns import Pattern
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.metrics.exposition import Exposition, Format
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.metrics.status import Snapshot, Status
from mlflow_trace_exporter.shown import is_fit, shown
from tests.support import labelled
from tests.support.builders import BUILD, METER, RULES, record
from tests.support.rig import IN_MEMORY

REPLACED = "\N{REPLACEMENT CHARACTER}"


def test_environment_and_version_come_from_the_first_source_that_has_a_value() -> None:
    rules = LabelRules(
        (LabelSource("tag", "env"), LabelSource("metadata", "stage")), (LabelSource("tag", "app_version"),)
    )
    values = rules.values(record(tags={"env": "  "}, metadata={"stage": "production"}))
    assert values == {
        "experiment": "chatbot",
        "environment": "production",
        "version": "unknown",
        "trace_name": "support",
    }


def test_version_falls_back_to_the_model_id() -> None:
    assert RULES.values(record(tags={}, metadata={"mlflow.modelId": "m-1"}))["version"] == "m-1"


def test_a_value_that_an_application_sets_comes_before_that_of_opentelemetry() -> None:
    otlp = {"deployment.environment.name": "b", "deployment.environment": "c", "service.version": "3"}
    assert labels(tags=otlp) == ("b", "3")
    assert labels(tags={**otlp, "environment": "a", "app_version": "1"}) == ("a", "1")
    assert labels(tags=otlp, metadata={"mlflow.modelId": "m-1"}) == ("b", "m-1")
    assert labels(tags={"deployment.environment": "c"}) == ("c", "unknown")


def labels(rules: LabelRules = RULES, **fields: object) -> tuple[str, str]:
    """The environment and version of a trace."""
    values = rules.values(record(**fields))
    return values["environment"], values["version"]


STAGE = LabelSource("experiment", "name", Pattern("(.+)-(prod|stag)", "$2"))


def test_a_label_may_come_from_the_experiment() -> None:
    rules = LabelRules((LabelSource("tag", "stage"), STAGE), (LabelSource("experiment_tag", "release"),))
    assert labels(rules, experiment="bot-prod", experiment_tags={"release": "7"}) == ("prod", "7")
    assert labels(rules, experiment="bot-prod", tags={"stage": "test"}) == ("test", "unknown")
    assert labels(rules, experiment="bot", experiment_tags={"release": " "}) == ("unknown", "unknown")


def test_a_map_is_applied_once_and_to_the_whole_text_before_it_is_cut() -> None:
    long = "x" * 200
    rules = LabelRules((STAGE, LabelSource("tag", "environment")), maps={"environment": {"prod": "live", long: "long"}})
    assert labels(rules, experiment="bot-prod")[0] == "live"
    assert labels(rules, tags={"environment": " prod\n"})[0] == "live"
    assert labels(rules, tags={"environment": "prod-eu"})[0] == "prod-eu"
    assert labels(rules, tags={"environment": long})[0] == "long"


def test_a_default_is_for_traces_without_a_value_and_is_not_mapped() -> None:
    rules = LabelRules(defaults={"environment": "prod", "trace_name": "chat"}, maps={"environment": {"prod": "live"}})
    for tags in ({}, {"environment": " "}):
        trace = record(tags=tags, name=None)
        assert rules.values(trace) == {
            "experiment": "chatbot",
            "environment": "prod",
            "version": "unknown",
            "trace_name": "chat",
        }
        assert (rules.has("environment", trace), rules.has("version", trace)) == (False, False)
    assert labels(rules, tags={"environment": "prod"})[0] == "live"
    assert rules.has("environment", record(tags={"environment": "prod"}))
    assert not rules.has("environment", record(tags={"environment": "unknown"}))


def test_the_name_of_a_trace_can_be_left_out_of_the_series() -> None:
    rules = LabelRules(trace_name=False, extra=(("team", (LabelSource("experiment_tag", "team"),)),))
    assert rules.names == ("experiment", "environment", "version", "team")
    assert rules.all_names == ("experiment", "environment", "version", "trace_name", "team")
    assert rules.values(record(experiment_tags={"team": "search"})).keys() == {*rules.all_names}


@given(labelled.rules, st.lists(labelled.records, max_size=4))
@settings(max_examples=100)
def test_no_label_breaks_the_exposition_or_the_ledger(rules: LabelRules, traces: list[TraceRecord]) -> None:
    """From any source, with any text: what is read from the ledger and from the exposition is what was counted."""
    families = trace_families((1.0,), (1.0,), rules)
    meter = replace(METER, families=families, rules=rules)
    counted = tuple(replace(trace, trace_id=f"tr-{number}") for number, trace in enumerate(traces))
    batch = Batch(counted=counted)
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        for number in range(2):
            with closing(open_ledger(Path(folder) / "ledger.db")) as ledger:
                assert ledger.totals.adopt(families) == []
                if number == 0:
                    made = meter.measure(batch, meter.admission(()))
                    ledger.commit(Horizon.at(0), batch, made.amounts, dict.fromkeys(made.groups, 1), made.first_ms)
                    ledger.totals.stage(made.groups, [])
                totals = ledger.totals.shown()
    exposition = Exposition()
    exposition.publish(Snapshot(families, totals, Status.begin(BUILD)))
    expected = Counter(tuple(rules.values(trace)[name] for name in rules.names) for trace in counted)
    for fmt, parse in ((Format.TEXT, parse_text), (Format.OPENMETRICS, parse_openmetrics)):
        found = parse(exposition.render((fmt, False)).decode())
        samples = [each for family in found for each in family.samples if each.name == "mlflow_traces_total"]
        assert {tuple(each.labels[name] for name in rules.names): each.value for each in samples} == expected


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("production", "production"),
        ("  a b\t", "a b"),
        (None, "unknown"),
        ("", "unknown"),
        (" \n ", "unknown"),
        ("a\nb\0c", f"a{REPLACED}b{REPLACED}c"),
        ("a\x7fb\x85c\x9fd", f"a{REPLACED}b{REPLACED}c{REPLACED}d"),
        ("\ud800", REPLACED),
        ("\ud83d\ude80", REPLACED * 2),
        ('quo"te\\', 'quo"te\\'),
        ("日本語 🚀", "日本語 🚀"),
        ("x" * 1_000_000, "x" * MAX_VALUE_LENGTH),
        ("x" * 127 + "   y", "x" * 127),
        ("\u3000 本番　環境\xa0", "本番　環境"),
    ],
)
def test_clean(raw: str | None, cleaned: str) -> None:
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    "name",
    [
        "本番\N{IDEOGRAPHIC SPACE}環境",
        "avant\N{NO-BREAK SPACE}prod",
        "10\N{NARROW NO-BREAK SPACE}000",
        "می\N{ZERO WIDTH NON-JOINER}خواهم",
        "क्\N{ZERO WIDTH JOINER}ष",
        "👩\N{ZERO WIDTH JOINER}💻",
        "pre\N{SOFT HYPHEN}view",
        "\N{ARABIC NUMBER SIGN}١٢",
        "a\N{RIGHT-TO-LEFT MARK}b",
        "a\N{LINE SEPARATOR}b",
        "\ue000 and \U0010fffd",
        "unassigned \u0378 \uffff",
    ],
    ids=ascii,
)
def test_printable_text_is_unchanged(name: str) -> None:
    assert clean(name) == name


def test_only_two_categories_are_replaced() -> None:
    replaced = {category(char) for char in map(chr, range(0x110000)) if shown(char) != char}
    assert replaced == {"Cc", "Cs"}
    assert not [char for char in map(chr, range(0x110000)) if category(char) in replaced and shown(char) == char]


@given(st.text(st.characters(exclude_categories=())))
def test_a_label_value_has_no_control_character_and_no_surrogate_but_everything_else(raw: str) -> None:
    expected = "".join(REPLACED if category(char) in ("Cc", "Cs") else char for char in raw)
    assert shown(raw) == expected
    assert is_fit(raw) is not (shown(raw) != raw)
    cleaned = clean(raw)
    assert cleaned in expected or cleaned == "unknown"
    assert cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned, "cleaning is idempotent"


@pytest.mark.parametrize("text", ["environment", "tag.", "tags.environment", "tag. ", "", "."])
def test_an_invalid_label_source_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write tag\.NAME, metadata\.NAME, experiment_tag\.NAME or experiment\.name"):
        LabelSource.parse(text)


def test_a_label_source_reads_keys_with_dots() -> None:
    assert LabelSource.parse("metadata.mlflow.modelId") == LabelSource("metadata", "mlflow.modelId")
