"""Parsing MLflow's answers with spans."""

import base64
import json
import sys
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.calls import inside
from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.tracking.span_parsing import KEPT_EVENTS, PROVIDERS, spans_of

START_NS, END_NS = 1_800_000_000_000_000_000, 1_800_000_001_500_000_000
ID = base64.b64encode(bytes.fromhex("00000000000000ab")).decode()
NAN = float("nan")

USAGE = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 30}
COST = {"input_cost": 0.5, "output_cost": 0.25, "total_cost": 0.75}


def answer(*spans: Any) -> str:
    """What MLflow answers about a trace with these spans."""
    return json.dumps({"traces": [{"trace_info": {"trace_id": "tr-1"}, "spans": spans}]})


def typed(value: Any) -> dict[str, Any]:
    """A value as OTLP's JSON gives it."""
    if isinstance(value, dict):
        return {"kvlist_value": {"values": pairs(value)}}
    kinds = ((bool, "bool_value"), (str, "string_value"), (int, "int_value"), (float, "double_value"))
    return next({name: value} for kind, name in kinds if isinstance(value, kind))


def pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": typed(value)} for key, value in values.items()]


def event(name: str, at_ns: object = START_NS + 1, **attributes: str) -> dict[str, Any]:
    named = {key.replace("_", "."): value for key, value in attributes.items()}
    return {"name": name, "time_unix_nano": at_ns, "attributes": pairs(named)}


def as_sent(values: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
    """A span with these attributes and fields as MLflow sends it, without fields that are None."""
    sent = {
        "trace_id": "AAAAAAAAAAAAAAAAAAAAAQ==",
        "span_id": ID,
        "name": "Completions",
        "start_time_unix_nano": START_NS,
        "end_time_unix_nano": END_NS,
        "attributes": pairs(values or {}),
        "status": {"code": "STATUS_CODE_OK"},
        **fields,
    }
    return {key: value for key, value in sent.items() if value is not None}


def parsed(values: dict[str, Any] | None = None, /, **fields: Any) -> Span:
    (span,) = spans_of(answer(as_sent(values, **fields)))["tr-1"]
    return span


def test_a_span_with_everything() -> None:
    span = parsed(
        {
            "mlflow.spanType": "CHAT_MODEL",
            "mlflow.spanInputs": {"messages": "what is my balance?"},
            "mlflow.llm.model": "gpt-4o",
            "mlflow.llm.provider": "openai",
            "mlflow.chat.tokenUsage": USAGE,
            "mlflow.llm.cost": COST,
        },
        parent_span_id=base64.b64encode(b"\1" * 8).decode(),
        status={"code": "STATUS_CODE_ERROR", "message": "what is my balance?"},
        events=[event("mlflow.chunk.item.0"), event("exception", exception_type="RateLimitError")],
    )
    assert span == Span(
        span_id="00000000000000ab",
        parent_id="01" * 8,
        name="Completions",
        span_type="CHAT_MODEL",
        start_ns=START_NS,
        end_ns=END_NS,
        failed=True,
        error_type="RateLimitError",
        model="gpt-4o",
        provider="openai",
        usage=TokenUsage(100, 20, 30),
        cost=Cost(0.5, 0.25),
        first_chunk_ns=START_NS + 1,
    )
    assert (span.duration_s, span.end_ms) == (1.5, END_NS // 10**6)


def test_a_span_with_next_to_nothing() -> None:
    (span,) = spans_of(answer({"span_id": ID, "start_time_unix_nano": START_NS}))["tr-1"]
    assert span == Span("00000000000000ab", None, "unknown", "UNKNOWN", START_NS)


def test_several_traces() -> None:
    text = json.dumps(
        {
            "traces": [
                {"trace_info": {"trace_id": "tr-1"}, "spans": [as_sent(), as_sent(span_id="1" * 16)]},
                {"trace_info": {"trace_id": "tr-2"}},
                {"trace_info": {"trace_id": "tr-3"}, "spans": None},
            ]
        }
    )
    found = spans_of(text)
    assert {key: len(spans) for key, spans in found.items()} == {"tr-1": 2, "tr-2": 0, "tr-3": 0}
    assert spans_of(text.encode()) == found


@pytest.mark.parametrize("text", ["{}", '{"traces": []}', '{"traces": null}', '{"next": 1}'])
def test_no_traces(text: str) -> None:
    assert spans_of(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "null",
            "[]",
            "1",
            '"traces"',
            "<html>",
            '{"traces": 1}',
            '{"traces": {}}',
            '{"traces": [',
            "[" * 100_000,
        ),
        *(answer(as_sent())[:-1], answer(as_sent()) + "}", "\ud800", b"\xff\xfe", b"\xff"),
    ],
)
def test_what_is_no_such_response(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="MLflow's response with spans"):
        spans_of(text)


# Ids and times


@pytest.mark.parametrize(
    ("sent", "span_id"),
    [
        ("AAAAAAAAAAE=", "0000000000000001"),
        ("/+7dzLuqmYg=", "ffeeddccbbaa9988"),
        ("00f067aa0ba902b7", "00f067aa0ba902b7"),
        ("00F067AA0BA902B7", "00f067aa0ba902b7"),
    ],
)
def test_ids(sent: str, span_id: str) -> None:
    assert parsed(span_id=sent).span_id == parsed(parent_span_id=sent).parent_id == span_id


@pytest.mark.parametrize(
    "sent", ["", "AAAAAAAAAAA=", "0" * 16, "AAAA", "AAAAAAAAAAE", "?" * 16, "é", 1, True, ["a"], {}]
)
def test_a_span_with_no_such_parent_has_none(sent: object) -> None:
    assert parsed(parent_span_id=sent).parent_id is None


NO_ID: list[Any] = [None, "", "AAAAAAAAAAA=", 7]
NO_START: list[Any] = [None, 0, -1, "", "-1", "x", 1.5, 2**63, "9" * 5_000, True, {}]


@pytest.mark.parametrize(
    ("field", "odd"),
    [*(("span_id", odd) for odd in NO_ID), *(("start_time_unix_nano", odd) for odd in NO_START)],
)
def test_spans_without_an_id_or_a_start_are_left_out(field: str, odd: object) -> None:
    text = answer(as_sent(**{field: odd, "name": "odd"}), as_sent())
    assert [span.name for span in spans_of(text)["tr-1"]] == ["Completions"]


@pytest.mark.parametrize("odd", [None, 1, "span", [], [as_sent()]])
def test_what_is_no_span_or_trace_does_not_hide_the_others(odd: object) -> None:
    text = json.dumps({"traces": [odd, {"spans": [as_sent()]}, *json.loads(answer(odd, as_sent(), odd))["traces"]]})
    assert {key: len(spans) for key, spans in spans_of(text).items()} == {"tr-1": 1}


def test_times_in_texts() -> None:
    span = parsed(
        start_time_unix_nano=str(START_NS),
        end_time_unix_nano=str(END_NS),
        events=[event("new_token", str(START_NS + 5))],
    )
    assert (span.start_ns, span.end_ns, span.first_chunk_ns) == (START_NS, END_NS, START_NS + 5)


@pytest.mark.parametrize("end", [None, 0, -1, "", "x", START_NS - 1, 2**64, True, 1.5, [], START_NS + 10**18 + 1])
def test_spans_without_an_end(end: object) -> None:
    assert parsed(end_time_unix_nano=end).end_ns is None


# Failures


@pytest.mark.parametrize("code", ["STATUS_CODE_ERROR", "ERROR", 2, "2"])
def test_failed(code: object) -> None:
    assert parsed(status={"code": code}).failed


NOT_FAILED: list[Any] = ["STATUS_CODE_OK", "UNSET", 1, None, [2], {}]


@pytest.mark.parametrize("status", [None, {}, "ERROR", 2, [], *({"code": code} for code in NOT_FAILED)])
def test_not_failed(status: object) -> None:
    span = parsed({"error.type": "TimeoutError"}, status=status, events=[event("exception", exception_type="KeyError")])
    assert (span.failed, span.error_type) == (False, None)


@pytest.mark.parametrize(
    ("types", "error_type"),
    [
        (["RateLimitError"], "RateLimitError"),
        (["Handled", "openai.RateLimitError"], "openai.RateLimitError"),
        (["RateLimitError", ""], "RateLimitError"),
        ([""], "TimeoutError"),  # openai-agents
        ([], "TimeoutError"),
    ],
)
def test_the_error_type_is_that_of_the_last_exception(types: list[str], error_type: str) -> None:
    events = [event("exception", exception_type=each, exception_message="what is my balance?") for each in types]
    assert parsed({"error.type": "TimeoutError"}, status={"code": 2}, events=events).error_type == error_type


# Attributes


@pytest.mark.parametrize(
    ("attributes", "model"),
    [
        ({"mlflow.llm.model": "a", "gen_ai.response.model": "b", "gen_ai.request.model": "c"}, "a"),
        ({"gen_ai.response.model": "b-2024-08-06", "gen_ai.request.model": "c"}, "b-2024-08-06"),
        ({"gen_ai.request.model": "c"}, "c"),
        ({"mlflow.llm.model": " ", "gen_ai.request.model": "c"}, "c"),
        ({"mlflow.llm.model": 7, "gen_ai.request.model": "c"}, "c"),
        ({"model": "c"}, None),
        ({"mlflow.llm.model": " gpt\n4o "}, "gpt\N{REPLACEMENT CHARACTER}4o"),
        ({"mlflow.llm.model": "x" * 1_000}, "x" * 128),
        ({"mlflow.llm.model": '"gpt-4o"'}, "gpt-4o"),
        ({"mlflow.llm.model": '"'}, '"'),
        ({"mlflow.llm.model": '""'}, None),
        ({"mlflow.llm.model": '"a" or "b"'}, '"a" or "b"'),
    ],
)
def test_models(attributes: dict[str, Any], model: str | None) -> None:
    assert parsed(attributes).model == model


@pytest.mark.parametrize(
    ("attributes", "provider"),
    [
        ({"mlflow.llm.provider": "a", "gen_ai.provider.name": "b", "gen_ai.system": "c"}, "a"),
        ({"gen_ai.provider.name": "aws.bedrock", "gen_ai.system": "c"}, "aws.bedrock"),
        ({"gen_ai.system": "c", "mlflow.message.format": "anthropic"}, "c"),
        *(({"mlflow.message.format": name}, provider) for name, provider in PROVIDERS.items()),
        *(({"mlflow.message.format": name}, None) for name in ("openai", "openai-agent", "langchain", "pydantic_ai")),
        ({}, None),
    ],
)
def test_providers(attributes: dict[str, str], provider: str | None) -> None:
    assert parsed(attributes).provider == provider


@pytest.mark.parametrize(
    ("attributes", "span_type"),
    [
        ({"mlflow.spanType": "TOOL", "gen_ai.operation.name": "chat"}, "TOOL"),
        ({"mlflow.spanType": "UNKNOWN", "gen_ai.operation.name": "chat"}, "CHAT_MODEL"),
        ({"gen_ai.operation.name": "embeddings"}, "EMBEDDING"),
        ({"gen_ai.operation.name": "execute_tool"}, "TOOL"),
        ({"gen_ai.operation.name": "invoke_agent"}, "AGENT"),
        ({"gen_ai.operation.name": "retrieval"}, "RETRIEVER"),
        ({"gen_ai.operation.name": "sing"}, "UNKNOWN"),
        ({"mlflow.spanType": "my own"}, "my own"),
        ({}, "UNKNOWN"),
    ],
)
def test_types(attributes: dict[str, str], span_type: str) -> None:
    assert parsed(attributes).span_type == span_type


@pytest.mark.parametrize(
    ("attributes", "usage"),
    [
        ({"mlflow.chat.tokenUsage": USAGE, "gen_ai.usage.input_tokens": 7}, TokenUsage(100, 20, 30)),
        ({"mlflow.chat.tokenUsage": json.dumps(USAGE)}, TokenUsage(100, 20, 30)),
        ({"mlflow.chat.tokenUsage": {"total_tokens": 120}}, TokenUsage(120, None)),
        ({"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}, TokenUsage(100, 20)),
        ({"gen_ai.usage.input_tokens": "100"}, TokenUsage(100, None)),
        (
            {
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.cache_read.input_tokens": 30,
                "gen_ai.usage.cache_creation.input_tokens": 10,
            },
            TokenUsage(100, None, 30, 10),
        ),
        (
            {"gen_ai.usage.output_tokens": 20, "gen_ai.usage.cache_write.input_tokens": 10},
            TokenUsage(None, 20, None, 10),
        ),
        ({"gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20}, TokenUsage(100, 20)),
        ({"gen_ai.usage.cache_read.input_tokens": 30}, None),
        ({}, None),
    ],
)
def test_usages(attributes: dict[str, Any], usage: TokenUsage | None) -> None:
    assert parsed(attributes).usage == usage


ODD: list[Any] = [
    *({}, None, [], 7, True, "", NAN, {"string_value": NAN}, {"kvlist_value": None}),
    *({"kvlist_value": {"values": 1}}, {"kvlist_value": {"values": {}}}, {"kvlist_value": {"values": []}}),
    *({"kvlist_value": {"values": [1, {}]}}, {"kvlist_value": {"values": [{"key": 1}, {"key": ["a"]}]}}),
    {"bytes_value": "AAAA"},
]
"""Values of an attribute that say nothing."""

ODD_TEXTS = ["text", "{", "null", "[1]", '"{}"', "{}"]
"""Texts that say nothing about tokens or cost."""

ODD_AMOUNTS: list[Any] = [
    *(None, {}, [], "x", "1.5", -1, "-1", True, NAN, 1e300, "9" * 5_000),
    *({"int_value": None}, {"int_value": ""}, {"int_value": "x"}, {"int_value": "9" * 5_000}, {"int_value": 10**13}),
    *({"int_value": -1}, {"int_value": "-1"}, {"int_value": True}, {"int_value": []}),
    *({"double_value": "NaN"}, {"double_value": NAN}, {"double_value": -0.5}, {"double_value": 1e13}),
    *({"bool_value": True}, {"array_value": {}}, {"kvlist_value": {}}),
]
"""Values of a number of tokens or a cost that are none."""


@pytest.mark.parametrize(
    ("key", "odd"),
    [
        *((key, odd) for key in ("mlflow.llm.model", "mlflow.spanType") for odd in ODD),
        *((key, odd) for key in ("mlflow.chat.tokenUsage", "mlflow.llm.cost") for odd in (*ODD, *ODD_TEXTS)),
    ],
)
def test_odd_attributes_are_missing_and_hide_nothing(key: str, odd: Any) -> None:
    span = parsed(attributes=[{"key": key, "value": odd}, *pairs({"mlflow.llm.provider": "openai"})])
    assert (span.usage, span.cost, span.model, span.span_type) == (None, None, None, "UNKNOWN")
    assert span.provider == "openai"


@pytest.mark.parametrize("odd", ODD_AMOUNTS)
def test_odd_amounts_are_missing_and_hide_nothing(odd: Any) -> None:
    def sent(odd_key: str, key: str, value: Any) -> dict[str, Any]:
        return {"kvlist_value": {"values": [{"key": odd_key, "value": odd}, *pairs({key: value}), {"key": odd_key}]}}

    span = parsed(
        attributes=[
            {"key": "mlflow.chat.tokenUsage", "value": sent("input_tokens", "output_tokens", 20)},
            {"key": "mlflow.llm.cost", "value": sent("input_cost", "output_cost", 0.25)},
        ]
    )
    assert (span.usage, span.cost) == (TokenUsage(None, 20), Cost(None, 0.25))
    assert parsed(attributes=[{"key": "gen_ai.usage.input_tokens", "value": odd}]).usage is None


@pytest.mark.parametrize("attributes", [None, 1, "x", {}, [1, None, {}, {"key": 1, "value": 1}, {"value": 1}]])
def test_odd_lists_of_attributes_and_events(attributes: Any) -> None:
    span = parsed(attributes=attributes, events=attributes)
    assert (span.model, span.first_chunk_ns) == (None, None)


def test_an_odd_attribute_does_not_hide_the_next() -> None:
    sent = [{"key": 1}, None, *pairs({"mlflow.llm.model": "gpt-4o"})]
    assert parsed(attributes=sent, events=[{"name": 1}, 7, event("new_token")]) == parsed(
        {"mlflow.llm.model": "gpt-4o"}, events=[event("new_token")]
    )


def test_attributes_in_plain_json() -> None:
    values = {
        "mlflow.spanType": "LLM",
        "mlflow.llm.model": "gpt-4o",
        "mlflow.chat.tokenUsage": USAGE,
        "mlflow.llm.cost": COST,
        "gen_ai.response.time_to_first_chunk": 0.25,
    }
    expected = parsed(values)
    assert parsed(attributes=values) == expected
    assert parsed(attributes={key: json.dumps(value) for key, value in values.items()}, events=[]) == Span(
        **{name: getattr(expected, name) for name in Span.__slots__ if name != "first_chunk_ns"}
    )


def test_integers_in_texts() -> None:
    usage = {"kvlist_value": {"values": [{"key": "input_tokens", "value": {"int_value": "100"}}]}}
    assert parsed(attributes=[{"key": "mlflow.chat.tokenUsage", "value": usage}]).usage == TokenUsage(100)


@pytest.mark.parametrize("odd", ['{"double_value": NaN}', '{"string_value": "\\ud800"}', '{"string_value": Infinity}'])
def test_json_that_only_python_reads(odd: str) -> None:
    text = answer(as_sent({"mlflow.llm.model": "gpt-4o", "mlflow.spanInputs": 1})).replace('{"int_value": 1}', odd)
    assert odd in text
    assert spans_of(text)["tr-1"] == (parsed({"mlflow.llm.model": "gpt-4o"}),)


# The first chunk


@pytest.mark.parametrize(
    ("events", "first_ns"),
    [
        ([event("mlflow.chunk.item.0", START_NS + 3), event("mlflow.chunk.item.1", START_NS + 4)], 3),
        ([event("new_token", START_NS + 3), event("new_token", START_NS + 2)], 2),
        ([event("First Token Stream Event", START_NS)], 0),
        ([event("messageStart", START_NS + 3), event("contentBlockDelta", START_NS + 4)], 3),
        ([event("mlflow.chunk.item.1")], None),
        ([event("exception"), event("retry")], None),
        ([event("new_token", START_NS - 1)], None),
        ([event("new_token", ""), event("new_token", 0), event("new_token", True), event("new_token", 1.5)], None),
        ([event("new_token", None), event("new_token", {})], None),
        ([], None),
    ],
)
def test_first_chunks(events: list[dict[str, Any]], first_ns: int | None) -> None:
    assert parsed(events=events).first_chunk_ns == (None if first_ns is None else START_NS + first_ns)


@pytest.mark.parametrize(
    ("name", "events", "is_known"),
    [
        ("new_token", KEPT_EVENTS - 1, True),
        ("new_token", KEPT_EVENTS, False),
        ("new_token", KEPT_EVENTS + 1, True),  # the application's limit is another one
        ("mlflow.chunk.item.0", KEPT_EVENTS, True),
    ],
)
def test_the_first_event_that_was_kept_need_not_be_that_of_the_first_chunk(
    name: str, events: int, is_known: bool
) -> None:
    assert (parsed(events=[event(name)] * events).first_chunk_ns is not None) is is_known


@pytest.mark.parametrize(("seconds", "first_ns"), [(0.25, 250_000_000), (0, 0), (-1, None), ("x", None), (True, None)])
def test_the_time_to_the_first_chunk_as_opentelemetry_has_it(seconds: Any, first_ns: int | None) -> None:
    span = parsed({"gen_ai.response.time_to_first_chunk": seconds})
    assert span.first_chunk_ns == (None if first_ns is None else START_NS + first_ns)


# Prompts


def test_prompts_are_in_no_message() -> None:
    text = answer(as_sent({"mlflow.spanInputs": "what is my balance?"}, name="my balance"))
    assert "balance" not in repr(spans_of(text))
    with pytest.raises(ValueError, match="MLflow's response") as failure:
        spans_of(text[:-1])
    assert "balance" not in repr(failure.value)
    assert failure.value.__context__ is None  # it would keep the text


def test_prompts_are_not_kept_nor_decoded() -> None:
    large = {"mlflow.spanInputs": {"messages": "hello \n" * 150_000}, "mlflow.llm.model": "gpt-4o"}
    chunk = event("new_token", token="x" * 100_000)
    text = answer(*(as_sent(large, span_id=f"{n:016x}", events=[chunk] * 3) for n in range(1, 11))).encode()
    small = {"mlflow.spanInputs": "hello", "mlflow.llm.model": "gpt-4o"}
    many = answer(*(as_sent(small, span_id=f"{n:016x}") for n in range(1, 1_001))).encode()
    assert peak_bytes(text) < 200_000 < len(text) // 50
    assert peak_bytes(many) < 3_000_000


def peak_bytes(text: bytes) -> int:
    """How much memory the parsing of a text takes at most beside the text. It must not be kept."""
    references = sys.getrefcount(text)
    tracemalloc.start()
    found = spans_of(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found
    assert sys.getrefcount(text) == references
    return peak


# Whatever comes


@given(st.text() | st.binary())
def test_any_text(text: str | bytes) -> None:
    with suppress(ValueError):
        spans_of(text)


KEYS = ["key", "value", "values", "string_value", "int_value", "double_value", "kvlist_value", "code", "name"]
NAMES = ["mlflow.chat.tokenUsage", "mlflow.llm.cost", "mlflow.llm.model", "input_tokens", "exception", "new_token"]
FIELDS = ["span_id", "parent_span_id", "name", "start_time_unix_nano", "end_time_unix_nano", "status", "attributes"]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS + NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(ANY_JSON | st.dictionaries(st.sampled_from([*FIELDS, "events"]), ANY_JSON), max_size=4))
def test_any_json(odd: list[Any]) -> None:
    """Nothing in a span hides another one, or makes one that cannot be counted."""
    sound = as_sent({"mlflow.llm.model": "gpt-4o"})
    odd = [{**sound, **each} if isinstance(each, dict) else each for each in odd]
    spans = spans_of(answer(*odd, sound))["tr-1"]
    assert spans[-1] == parsed({"mlflow.llm.model": "gpt-4o"})
    within = inside(spans)
    durations = [each.duration_s for each in within.calls] + [each.duration_s for each in within.steps]
    assert all(duration_s is None or duration_s >= 0 for duration_s in durations)
