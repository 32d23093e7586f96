"""What spans that arrive late add to a trace that is counted."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.calls import inside
from mlflow_trace_exporter.domain.growth import Amounts, Counted, change_of
from mlflow_trace_exporter.domain.late_spans import differences, late_inside, with_late_spans
from mlflow_trace_exporter.domain.spans import Call, Span
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from tests.support.builders import record, span, step

TOKENS = TokenUsage(input=100, output=20)
NONE = TokenUsage(input=0, output=0)
TWICE = TokenUsage(input=200, output=40)


def agent(usage: TokenUsage | None = None, cost: Cost | None = None, model: str | None = None) -> Span:
    """A span above calls that repeats their sum."""
    return step(1, span_type="AGENT", usage=usage, cost=cost, model=model)


def tokens(calls: Sequence[Call]) -> int:
    return sum(call.usage.input or 0 for call in calls if call.usage)


def usd(calls: Sequence[Call]) -> float:
    return sum(call.cost.input_usd or 0.0 for call in calls if call.cost)


@pytest.mark.parametrize(
    ("counted", "late", "calls", "more"),
    [
        ([span(1)], [span(2)], 1, 100),
        ([agent(TOKENS)], [span(2, parent=1)], 0, 0),
        ([agent(TWICE)], [span(2, parent=1), span(3, parent=1)], 1, 0),
        ([agent(TOKENS)], [span(2, parent=1), span(3, parent=1)], 1, 100),
        ([agent(TWICE)], [span(2, parent=1, usage=None)], 0, 0),
        ([agent(model="gpt-4o")], [span(2, parent=1)], 0, 100),
        ([span(2, parent=1, usage=None)], [agent(TOKENS)], 0, 100),
        ([span(2, parent=1)], [agent(TOKENS)], 0, 0),
        ([agent(TOKENS), step(2, parent=1)], [span(3, parent=2)], 0, 0),
        ([agent(TOKENS), span(2, parent=1, usage=NONE)], [span(3, parent=1)], 1, 0),
        ([span(1), step(2)], [step(3)], 0, 0),
    ],
    ids=[
        "another call",
        "the call that an agent was counted as",
        "two of which an agent had the sum",
        "two of which an agent had one",
        "a call that gets its usage from the agent",
        "the call that an agent without usage was counted as",
        "an agent that has the usage of a counted call",
        "an agent that repeats a counted call",
        "two levels below",
        "the call whose usage an agent had lent to another one",
        "no call",
    ],
)
def test_what_is_added_is_the_difference(counted: list[Span], late: list[Span], calls: int, more: int) -> None:
    found = late_inside([*counted, *late], {each.span_id for each in counted})
    assert sum(call.duration_s is not None for call in found.calls) == calls
    assert tokens(found.calls) == more
    counted_before = tokens(inside(counted).calls)
    assert counted_before + more >= tokens(inside([*counted, *late]).calls), "nothing is lost"


def test_steps_are_added_by_their_ids() -> None:
    found = late_inside([step(1), step(2), span(3)], {step(1).span_id, span(3).span_id})
    assert [each.span_id for each in found.steps] == [step(2).span_id]


def test_cost_is_added_like_tokens() -> None:
    both = Cost(input_usd=0.5, output_usd=1.0)
    found = late_inside([agent(TWICE, both), span(2, parent=1), span(3, parent=1)], {agent().span_id})
    assert usd(found.calls) == 0
    found = late_inside([span(2, parent=1, cost=None), agent(cost=both)], {span(2).span_id})
    assert (usd(found.calls), tokens(found.calls)) == (0.5, 0)


@st.composite
def families(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Spans in some order of arrival, parents that repeat the sum of theirs among them, and how many come in time."""
    count = draw(st.integers(1, 8))
    usages: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    parents = {number: draw(st.integers(0, number - 1)) for number in range(2, count + 1)}
    for number in range(count, 0, -1):
        below = sum(usages[child] for child in children.get(number, []))
        usages[number] = below or draw(st.integers(0, 5))
        children.setdefault(parents.get(number, 0), []).append(number)
    repeats = {number: number not in children or draw(st.booleans()) for number in usages}
    made = [
        span(
            number,
            parent=parents.get(number) or None,
            span_type="CHAT_MODEL" if number not in children else "AGENT",
            model="m" if number not in children else None,
            usage=TokenUsage(input=usages[number], output=0) if repeats[number] else None,
            cost=None,
        )
        for number in usages
    ]
    random.Random(draw(st.integers(0, 1_000))).shuffle(made)
    return made, draw(st.integers(0, count))


@given(families())
def test_however_spans_arrive_no_tokens_are_lost(family: tuple[list[Span], int]) -> None:
    """And none are doubled if they come in two parts."""
    spans, in_time = family
    counted = spans[:in_time]
    late = late_inside(spans, {each.span_id for each in counted})
    before, now = inside(counted).calls, inside(spans).calls
    assert tokens(before) + tokens(late.calls) == max(tokens(before), tokens(now))


def counted_as(*spans: Span, usage: TokenUsage | None = TOKENS, cost: Cost | None = None) -> Counted:
    amounts = Amounts.of(record(usage=usage, cost=cost))
    return Counted(1_000, amounts=amounts, span_ids=frozenset(each.span_id for each in spans))


@pytest.mark.parametrize(
    ("now", "expected"), [([span(1), span(2)], ()), ([span(1)], ("tokens",)), ([span(1), step(2)], ("tokens",))]
)
def test_growth_that_no_call_explains_is_a_difference(now: list[Span], expected: tuple[str, ...]) -> None:
    change = change_of(record(usage=TWICE, cost=None), counted_as(span(1)))
    assert change is not None
    assert differences(with_late_spans(change, now)) == expected


def test_growth_of_cost_that_no_call_explains_is_a_difference() -> None:
    before = counted_as(span(1), usage=None, cost=Cost(0.1, 0.2))
    change = change_of(record(usage=None, cost=Cost(0.1 + 0.7, 0.2)), before)
    assert change is not None
    assert differences(change) == ("cost",)
    late = span(2, usage=None, cost=Cost(0.7, 0.0))
    assert differences(with_late_spans(change, [span(1), late])) == ()


def test_what_is_unknown_is_not_compared() -> None:
    """Neither the spans that were not read, nor the cost that MLflow computes after it shows the trace."""
    for before in (Counted(1_000, amounts=Amounts.of(record(usage=TOKENS))), counted_as(span(1), usage=None)):
        change = change_of(record(usage=TWICE), before)
        assert change is not None
        assert differences(change) == ()


def test_nothing_is_asked_for_or_added_twice() -> None:
    change = change_of(record(usage=TWICE, cost=None), counted_as(span(1)))
    assert change is not None
    after = with_late_spans(change, [span(1), span(2)]).after
    again = change_of(record(usage=TokenUsage(input=300, output=60), cost=None), after)
    assert again is not None
    assert with_late_spans(again, [span(1), span(2)]).late is None
