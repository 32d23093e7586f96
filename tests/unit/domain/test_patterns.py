"""Regular expressions of label sources, as Prometheus relabels."""

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.patterns import MAX_TEXT, Pattern
from mlflow_trace_exporter.shown import shown


@pytest.mark.parametrize(
    ("regex", "value", "text", "expected"),
    [
        ("(.+)-(prod|stag).*", "$2", "bot-prod-1", "prod"),
        ("(.+)-(prod|stag)", "$2", "bot-prod-1", None),
        ("prod", "$0", "a prod", None),
        ("(?P<app>.+)-(?P<stage>prod)", "${stage} of ${app}", "bot-prod", "prod of bot"),
        ("(?P<app>.+)-prod", "$app", "bot-prod", "bot"),
        ("(a)(b)?", "$1$2", "a", "a"),
        ("(a)", "$$1 ${1}0 $", "a", "$1 a0 $"),
        ("a|ab", "x", "ab", "x"),
        ("(?i)(PROD)", "$1", "prod", "prod"),
        (".*", "x", "", "x"),
        (".*", "x", "a\nb", "x"),
        ("(.*)", "$1", "a\x00\ud800", "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ("(本番)環境", "$1", "本番環境", "本番"),
    ],
)
def test_a_text_is_rewritten_as_by_prometheus(regex: str, value: str, text: str, expected: str | None) -> None:
    assert Pattern(regex, value).replace(text) == expected


def test_the_first_group_is_the_value_by_default() -> None:
    assert Pattern("v?([0-9.]+)").replace("v1.4.0") == "1.4.0"


@pytest.mark.parametrize(
    ("regex", "at"),
    [("(a", 1), ("a)", 2), ("ab[", 3), ("*a", 1), ("a(?!b)", 2), (r"(a)\1", 4), ("a{2,1}", 2), ("a**", 2)],
)
def test_a_mistake_is_told_with_its_position(regex: str, at: int) -> None:
    with pytest.raises(ValueError, match=rf"regex '.+' is invalid at character {at}: "):
        Pattern(regex, "x")


@pytest.mark.parametrize(
    ("regex", "value", "complaint"),
    [
        (r"\pL{0,1000}", "x", "is too complex; use fewer or smaller repetitions"),
        ("x" * 501, "x", "has 501 characters; at most 500 are supported"),
        ("\ud800", "x", "contains a control character or half a surrogate pair"),
        ("a", "$1", "regex has no group 1; put parentheses around the part of the text that is meant"),
        ("(a)", "${app}", "regex has no group app; it has ${1}"),
        ("(a)", "$1st", "there is no group 1st; write ${1} before a letter, digit or underscore"),
    ],
)
def test_what_cannot_be_used_is_refused(regex: str, value: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Pattern(regex, value)


@pytest.mark.parametrize("regex", ["(a+)+b", "(a|aa)+b", "(.*)(.*)(.*)(.*)(.*)c", "(a?){100}a{100}b", "(.{0,500}){2}b"])
def test_no_expression_takes_for_ever(regex: str) -> None:
    """Python's engine would not end before this machine does."""
    began = time.process_time()
    assert Pattern(regex, "x").replace("a" * 1_000_000) is None
    assert time.process_time() - began < 5


def test_only_the_beginning_of_a_long_text_is_looked_at() -> None:
    assert Pattern("a*", "x").replace("a" * MAX_TEXT + "b") == "x"


@given(st.text(max_size=20), st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_expression_is_used_or_refused(regex: str, text: str) -> None:
    with suppress(ValueError):
        found = Pattern(regex, "$0").replace(text)
        assert found is None or found == shown(text)
