import pytest

from exporter.labels import MAX_VALUE_LENGTH, LabelRules, LabelSource, clean
from tests.builders import RULES, record


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
        ("a\nb\0c", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        ("\ud800", "\N{REPLACEMENT CHARACTER}"),
        ('quo"te\\', 'quo"te\\'),
        ("日本語 🚀", "日本語 🚀"),
        ("x" * 1_000_000, "x" * MAX_VALUE_LENGTH),
    ],
)
def test_clean(raw: str | None, cleaned: str) -> None:
    assert clean(raw) == cleaned


@pytest.mark.parametrize("text", ["environment", "tag.", "tags.environment", "tag. ", "", "."])
def test_a_label_source_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write tag\.NAME or metadata\.NAME"):
        LabelSource.parse(text)


def test_a_label_source_reads_keys_with_dots() -> None:
    assert LabelSource.parse("metadata.mlflow.modelId") == LabelSource("metadata", "mlflow.modelId")
