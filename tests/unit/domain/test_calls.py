"""Which spans of a trace are calls, and what each of them used."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.calls import Difference, differs, inside
from mlflow_trace_exporter.domain.spans import Call, Inside, Span, Step
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

S = 10**9
START_NS = 1_800_000_000 * S


def span(span_id: str, parent_id: str | None, span_type: str = "CHAIN", **fields: Any) -> Span:
    """A span of a second. A number for ``usage`` or ``cost`` is split into input and output."""
    start_ns = fields.pop("start_ns", START_NS)
    return Span(
        span_id=span_id,
        parent_id=parent_id,
        name=fields.pop("name", f"name of {span_id}"),
        span_type=span_type,
        start_ns=start_ns,
        end_ns=fields.pop("end_ns", start_ns + S),
        usage=tokens(fields.pop("usage", None)),
        cost=usd(fields.pop("cost", None)),
        **fields,
    )


def tokens(total: int | None) -> TokenUsage | None:
    return None if total is None else TokenUsage(total - total // 5, total // 5)


def usd(total: float | None) -> Cost | None:
    return None if total is None else Cost(total / 2, total / 2)


def used(within: Inside) -> dict[str, int | None]:
    """The tokens of each call, by the id of its span."""
    return {call.span_id: None if call.usage is None else total(call) for call in within.calls}


def total(call: Call) -> int:
    return 0 if call.usage is None else (call.usage.input or 0) + (call.usage.output or 0)


def both(within: Inside) -> list[Call | Step]:
    return [*within.calls, *within.steps]


@pytest.mark.parametrize("span_type", ["LLM", "CHAT_MODEL", "EMBEDDING", "RERANKER"])
def test_spans_of_a_call_s_type_are_calls_whatever_else_is_known(span_type: str) -> None:
    within = inside([span("a", None, "AGENT"), span("b", "a", span_type, failed=True, error_type="RateLimitError")])
    assert within.calls == (
        Call("b", "unknown", "unknown", True, "RateLimitError", duration_s=1.0, end_ms=1_800_000_001_000),
    )
    assert [step.span_id for step in within.steps] == ["a"]


@pytest.mark.parametrize("known", [{"model": "gpt-4o"}, {"usage": 120}, {"cost": 0.5}])
def test_a_span_of_any_type_that_knows_of_a_call_is_one(known: dict[str, Any]) -> None:
    within = inside([span("a", None), span("b", "a", "UNKNOWN", **known)])
    assert [call.span_id for call in within.calls] == ["b"]
    assert within.calls[0].model == known.get("model", "unknown")


def test_all_that_is_known_of_a_call() -> None:
    call = span(
        "a",
        None,
        "LLM",
        model="gpt-4o-2024-08-06",
        provider="openai",
        usage=120,
        cost=0.5,
        first_chunk_ns=START_NS + S // 4,
    )
    assert inside([call]).calls == (
        Call(
            "a",
            "openai",
            "gpt-4o-2024-08-06",
            duration_s=1.0,
            end_ms=1_800_000_001_000,
            first_chunk_s=0.25,
            usage=tokens(120),
            cost=usd(0.5),
        ),
    )


def test_everything_else_is_a_step() -> None:
    spans = [span("a", None, "AGENT", failed=True), span("b", "a", "TOOL", name="weather", end_ns=None)]
    assert inside(spans) == Inside(
        (), (Step("a", "AGENT", "name of a", True, 1.0, 1_800_000_001_000), Step("b", "TOOL", "weather"))
    )


def test_no_spans() -> None:
    assert inside([]) == Inside((), ())


def test_names_are_not_in_the_repr() -> None:
    spans = [span("a", None, name="what is my balance?")]
    assert "balance" not in repr((spans, inside(spans)))


def test_calls_and_steps_are_in_order_of_their_start_however_the_spans_came() -> None:
    spans = [
        span(name, None, kind, start_ns=at) for name, kind, at in (("a", "LLM", 3), ("b", "LLM", 2), ("c", "X", 9))
    ]
    spans.append(span("d", None, "X", start_ns=1))
    for _ in range(5):
        random.shuffle(spans)
        within = inside(spans)
        assert [[each.span_id for each in group] for group in (within.calls, within.steps)] == [["b", "a"], ["d", "c"]]


# One call in several spans


def test_of_nested_spans_the_one_nearest_to_the_provider_is_the_call() -> None:
    spans = [
        span("outer", None, "CHAT_MODEL", model="gpt-4o", provider="openai", usage=120, cost=0.5, failed=True),
        span("inner", "outer", "CHAT_MODEL", model="gpt-4o-2024-08-06", usage=120, cost=0.5, end_ns=START_NS + S // 2),
    ]
    (call,) = inside(spans).calls
    assert (call.span_id, call.model, call.failed, call.duration_s) == ("inner", "gpt-4o-2024-08-06", False, 0.5)
    assert (call.usage, call.cost) == (tokens(120), usd(0.5))


def test_what_a_call_lacks_the_nearest_span_above_knows() -> None:
    spans = [
        span("a", None, "AGENT", model="far", provider="far", usage=999, cost=9.0),
        span("b", "a", "LLM", model="near", provider="near", first_chunk_ns=START_NS + S // 2),
        span("c", "b", "CHAIN", usage=120, cost=0.5),
        span("d", "c", "LLM", start_ns=START_NS + S // 4),
    ]
    (call,) = inside(spans).calls
    assert (call.span_id, call.model, call.provider) == ("d", "near", "near")
    assert (call.first_chunk_s, call.usage, call.cost) == (0.25, tokens(120), usd(0.5))


def test_what_several_calls_lack_is_not_known() -> None:
    above = span("a", None, "CHAT_MODEL", model="gpt-4o", provider="openai", first_chunk_ns=START_NS + 1)
    calls = inside([above, span("b", "a", "LLM"), span("c", "a", "LLM", failed=True)]).calls
    assert [(call.model, call.provider, call.first_chunk_s) for call in calls] == [("unknown", "unknown", None)] * 2


def test_a_function_that_streams_what_it_makes_of_a_response_is_no_streamed_call() -> None:
    spans = [span("a", None, "CHAIN", first_chunk_ns=START_NS + S), span("b", "a", "LLM")]
    assert inside(spans).calls[0].first_chunk_s is None


def test_a_first_chunk_before_its_call() -> None:
    spans = [span("a", None, "LLM", first_chunk_ns=START_NS), span("b", "a", "LLM", start_ns=START_NS + 1)]
    assert inside(spans).calls[0].first_chunk_s is None


# Usage that is repeated


def test_what_parents_repeat_is_counted_once() -> None:
    spans = [
        span("run", None, "AGENT", usage=360),
        span("turn", "run", "AGENT", usage=240),
        span("a", "turn", "LLM", model="m", usage=120),
        span("b", "turn", "LLM", model="m", usage=120),
        span("c", "run", "LLM", model="n", usage=120),
    ]
    assert used(inside(spans)) == {"a": 120, "b": 120, "c": 120}


def test_usage_and_cost_can_come_from_different_spans() -> None:
    spans = [span("a", None, usage=120), span("b", "a", cost=0.5), span("c", "b", "LLM", model="m")]
    (call,) = inside(spans).calls
    assert (call.span_id, call.usage, call.cost) == ("c", tokens(120), usd(0.5))


def test_a_span_with_usage_and_no_call_below_it_is_a_call_of_an_unknown_model() -> None:
    within = inside([span("a", None, "AGENT", usage=120), span("b", "a", "TOOL")])
    assert (used(within), within.calls[0].model) == ({"a": 120}, "unknown")


def test_usage_above_calls_of_which_some_have_their_own_is_a_sum() -> None:
    spans = [span("a", None, usage=360), span("b", "a", "LLM", usage=120), span("c", "a", "LLM")]
    assert used(inside(spans)) == {"b": 120, "c": None}


def test_usage_above_calls_without_any_belongs_to_their_model() -> None:
    spans = [
        span("a", None, "CHAIN", usage=360, cost=0.5),
        span("b", "a", "LLM", model="m", start_ns=START_NS + 1),
        span("c", "a", "LLM", model="m"),
    ]
    assert used(inside(spans)) == {"c": 360, "b": None}
    assert [call.cost for call in inside(spans).calls] == [usd(0.5), None]


@pytest.mark.parametrize("other", [{"model": "n"}, {"model": "m", "provider": "azure"}])
def test_usage_above_calls_of_several_models_is_nobody_s(other: dict[str, str]) -> None:
    spans = [span("a", None, usage=360, cost=0.5), span("b", "a", "LLM", model="m"), span("c", "a", "LLM", **other)]
    assert used(inside(spans)) == {"b": None, "c": None}
    assert differs(tokens(360), usd(0.5), inside(spans).calls) == ("tokens", "cost")


def test_a_failed_attempt_does_not_hide_whose_usage_it_is() -> None:
    spans = [
        span("a", None, "LLM", usage=120),
        span("b", "a", "LLM", model="m", failed=True, usage=0),
        span("c", "a", "LLM", model="n"),
    ]
    assert used(inside(spans)) == {"b": 0, "c": 120}


def test_usage_above_failed_calls_only() -> None:
    spans = [span("a", None, "LLM", usage=120), span("b", "a", "LLM", model="m", failed=True)]
    assert used(inside(spans)) == {"b": 120}


def test_a_usage_of_zero_is_none_of_its_own() -> None:
    spans = [span("a", None, "CHAT_MODEL", usage=120, cost=0.5), span("b", "a", "LLM", model="m", usage=0, cost=0.0)]
    (call,) = inside(spans).calls
    assert (call.usage, call.cost) == (tokens(120), usd(0.5))


# Embeddings have no output


def test_tokens_of_a_response_do_not_belong_to_an_embedding() -> None:
    spans = [
        span("a", None, "CHAIN", usage=120, cost=0.5),
        span("b", "a", "EMBEDDING", model="ada"),
        span("c", "a", "LLM", model="m"),
    ]
    assert used(inside(spans)) == {"b": None, "c": 120}
    assert [call.cost for call in inside(spans).calls] == [None, usd(0.5)]


def test_tokens_of_a_prompt_alone_can_belong_to_an_embedding() -> None:
    spans = [replace(span("a", None), usage=TokenUsage(8, 0)), span("b", "a", "EMBEDDING", model="ada")]
    assert inside(spans).calls[0].usage == TokenUsage(8, 0)


@pytest.mark.parametrize(
    ("span_type", "known"), [("AGENT", {"usage": 120}), ("LLM", {"model": "m"}), ("LLM", {"model": "m", "usage": 120})]
)
def test_a_call_that_searches_is_another_call_than_its_embeddings(span_type: str, known: dict[str, Any]) -> None:
    spans = [span("a", None, span_type, **known), span("b", "a", "RETRIEVER"), span("c", "b", "EMBEDDING", model="ada")]
    calls = {call.span_id: (call.model, call.usage) for call in inside(spans).calls}
    assert calls == {"a": (known.get("model", "unknown"), tokens(known.get("usage"))), "c": ("ada", None)}


def test_an_embedding_in_two_spans_is_one_call() -> None:
    spans = [span("a", None, "EMBEDDING", model="ada"), span("b", "a", "EMBEDDING", model="ada")]
    assert [call.span_id for call in inside(spans).calls] == ["b"]


# What should not be


def test_a_span_that_came_twice_is_as_it_came_last() -> None:
    spans = [span("a", None, "LLM", end_ns=None), span("a", None, "LLM", usage=120)]
    (call,) = inside(spans).calls
    assert (call.duration_s, call.usage) == (1.0, tokens(120))


def test_spans_without_an_end() -> None:
    within = inside([span("a", None, "LLM", end_ns=None), span("b", None, end_ns=None)])
    assert [(each.duration_s, each.end_ms) for each in both(within)] == [(None, None)] * 2


@pytest.mark.parametrize("parents", ["a", "ba", "bca", "xx", "bab"])
def test_circles_and_orphans(parents: str) -> None:
    spans = [span("abc"[n], parent, "LLM", usage=120) for n, parent in enumerate(parents)]
    within = inside(spans)
    assert sorted(each.span_id for each in both(within)) == sorted("abc"[: len(parents)])
    assert within.calls


def test_spans_that_nest_deeper_than_python_can() -> None:
    spans = [span(str(n), str(n - 1) if n else None, usage=120) for n in range(5_000)]
    assert used(inside(spans)) == {"4999": 120}


@given(st.data())
def test_any_graph(data: st.DataObject) -> None:
    """Every span is a call or a step. Nothing is used twice, and nothing is used that no span has."""
    ids = [*"abcdefgh"]
    drawn = st.builds(
        span,
        st.sampled_from(ids),
        st.none() | st.sampled_from([*ids, "missing"]),
        st.sampled_from(["LLM", "EMBEDDING", "AGENT", "UNKNOWN"]),
        model=st.none() | st.sampled_from("mn"),
        failed=st.booleans(),
        start_ns=st.integers(START_NS, START_NS + 5),
    )
    spans = [
        replace(each, usage=tokens(data.draw(st.sampled_from([None, 0, n]))))
        for n, each in enumerate(data.draw(st.lists(drawn, max_size=12)), start=1)
    ]
    within = inside(spans)
    last = {each.span_id: each for each in spans}
    assert sorted(each.span_id for each in both(within)) == sorted(last)
    counted = [n for call in within.calls if (n := total(call))]
    assert len(counted) == len(set(counted))
    assert set(counted) <= {total(Call("", "", "", usage=each.usage)) for each in last.values()}


@dataclass
class Tree:
    """What an application did: calls, each in one or several spans, in functions and agents that may add them up."""

    spans: list[Span]
    used: list[int]


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Tree:
    tree, ids = Tree([], []), map(str, count())

    def grow(parent_id: str | None, depth: int) -> int:
        if not depth or draw(st.booleans()):
            return call(parent_id)
        span_id, at = next(ids), len(tree.spans)
        tree.spans.append(span(span_id, parent_id, draw(st.sampled_from(["AGENT", "CHAIN", "TOOL"]))))
        below = sum(grow(span_id, depth - 1) for _ in range(draw(st.integers(1, 3))))
        if draw(st.booleans()):
            tree.spans[at] = replace(tree.spans[at], usage=tokens(below))
        return below

    def call(parent_id: str | None) -> int:
        n = draw(st.integers(5, 500))
        carrying = draw(st.lists(st.booleans(), min_size=1, max_size=4).filter(any))
        for carries in carrying:
            span_id = next(ids)
            kind, model = draw(st.sampled_from(["LLM", "CHAT_MODEL"])), draw(st.sampled_from([None, "m"]))
            tree.spans.append(span(span_id, parent_id, kind, model=model, usage=n if carries else None))
            parent_id = span_id
        tree.used.append(n)
        return n

    grow(None, depth)
    return tree


@given(trees(), st.randoms(use_true_random=False))
def test_whatever_repeats_a_usage_each_is_counted_once(tree: Tree, shuffled: random.Random) -> None:
    within = inside(tree.spans)
    assert sorted(total(call) for call in within.calls) == sorted(tree.used)
    shuffled.shuffle(tree.spans)
    assert inside(tree.spans) == within


# Against what MLflow says of the trace


def made(*amounts: tuple[int | None, float | None]) -> Sequence[Call]:
    return [Call(str(n), "openai", "m", usage=tokens(used), cost=usd(cost)) for n, (used, cost) in enumerate(amounts)]


@pytest.mark.parametrize(
    ("usage", "cost", "amounts", "expected"),
    [
        (120, 0.5, [(120, 0.5)], ()),
        (240, 1.0, [(120, 0.5), (120, 0.5), (None, None)], ()),
        (None, None, [(120, 0.5)], ()),
        (120, 0.5, [], ("tokens", "cost")),
        (120, 0.5, [(None, 0.5)], ("tokens",)),
        (240, 0.5, [(120, 0.5), (120, 0.5)], ("cost",)),  # openai-agents with tools
        (0, 0.0, [], ()),
        (None, 0.3, [(None, 0.1)] * 3, ()),
        (None, 2e-9, [(None, 1e-8)], ("cost",)),
    ],
)
def test_differences(
    usage: int | None, cost: float | None, amounts: list[tuple[int | None, float | None]], expected: tuple[Difference]
) -> None:
    assert differs(tokens(usage), usd(cost), made(*amounts)) == expected


def test_parts_that_the_trace_lacks_are_not_compared() -> None:
    calls = made((120, 0.5))
    assert differs(TokenUsage(96, None), Cost(None, 0.25), calls) == ()
    assert differs(TokenUsage(None, 96), Cost(0.5, None), calls) == ("tokens", "cost")
