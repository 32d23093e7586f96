from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.labels import MAX_VALUE_LENGTH, LabelRules, LabelSource, clean
from mlflow_trace_exporter.shown import is_fit, shown
from tests.support.builders import RULES, record

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
