"""Which assessments of a trace are counted."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.assessed import Added, Assessed, assessed
from mlflow_trace_exporter.domain.assessments import HUMAN, Assessment
from tests.support.builders import group, record


def opinion(number: int, value: str | float | None = "yes", form: int = 1, **fields: Any) -> Assessment:
    return Assessment(f"a-{number}", fields.pop("name", "correctness"), HUMAN, value, form, **fields)


def about(*opinions: Assessment, **known: int | None) -> Assessed | None:
    """What is new, if the ledger has ``known``: a1=form."""
    return assessed(record(assessments=opinions), {f"a-{key.removeprefix('a')}": form for key, form in known.items()})


def test_a_new_one_is_counted_in_the_group_of_its_trace() -> None:
    trace, its_group = record(assessments=(opinion(1),)), group("chatbot", "production", "1", "chat")
    assert assessed(trace, {}, its_group) == Assessed(trace, its_group, (Added(opinion(1), is_first=True),), {"a-1": 1})


def test_a_known_one_is_not_counted_again() -> None:
    assert about(opinion(1), a1=1) is None
    assert about() is None
    assert about(opinion(1, valid=False), a1=None) is None


def test_an_edited_one_is_counted_again_without_its_cost() -> None:
    found = about(opinion(1, "no", form=2, cost_usd=0.5), a1=1)
    assert found is not None
    assert found.added == (Added(opinion(1, "no", form=2)),)
    assert (dict(found.forms), found.changed) == ({"a-1": 2}, 1)


def test_one_that_overrides_another_is_counted_and_that_is_told() -> None:
    found = about(opinion(1, valid=False), opinion(2, "no", form=2), a1=1)
    assert found is not None
    assert found.added == (Added(opinion(2, "no", form=2)),)
    assert (dict(found.forms), found.changed) == ({"a-1": None, "a-2": 2}, 1)


def test_of_one_that_was_overridden_before_it_was_read_only_the_cost_is_counted() -> None:
    found = about(opinion(1, valid=False, cost_usd=0.5), opinion(2, "no", form=2))
    assert found is not None
    assert [(each.assessment.value, each.assessment.cost_usd, each.is_first) for each in found.added] == [
        (None, 0.5, False),
        ("no", None, True),
    ]
    assert found.changed == 0


def test_one_that_is_valid_again_is_not_counted_again() -> None:
    """The one that overrode it was deleted."""
    found = about(opinion(1), a1=None, a2=2)
    assert found is not None
    assert (found.added, dict(found.forms), found.changed) == ((), {"a-1": 1}, 0)


def test_the_first_of_each_name_with_a_value_is_told_apart() -> None:
    found = about(
        opinion(1, None, failed=True), opinion(2), opinion(3), opinion(4, 0.5, name="relevance"), opinion(5, None)
    )
    assert found is not None
    assert [each.assessment.assessment_id for each in found.added if each.is_first] == ["a-2", "a-4"]
    failed_before = about(opinion(1, None, failed=True), opinion(2), a1=1)
    assert failed_before is not None
    assert failed_before.added[0].is_first


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=3, unique_by=lambda x: x[0]))
def test_what_is_stored_is_not_new_any_more(given_ones: list[tuple[int, int, bool]]) -> None:
    trace = record(assessments=tuple(opinion(number, form=form, valid=valid) for number, form, valid in given_ones))
    found = assessed(trace, {"a-1": 1, "a-2": None})
    known = {"a-1": 1, "a-2": None, **(found.forms if found else {})}
    assert assessed(trace, known) is None
