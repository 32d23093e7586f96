"""Converts the spans in MLflow's JSON to the domain type. Pure; does not import mlflow.

What is read of a span is in ``_span``. Everything else, and prompts above all, is skipped and not kept.
"""

import base64
import binascii
import json
import re

import msgspec
from msgspec import Raw

from mlflow_trace_exporter.domain.labels import UNKNOWN
from mlflow_trace_exporter.domain.spans import NS, NS_PER_MS, UNKNOWN_TYPE, Span
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.tracking.amounts import MAX_AMOUNT, amount, cost_of, usage_of
from mlflow_trace_exporter.tracking.attributes import Attributes, Pieces, attempt, label, value_in, whole

TYPES = {
    "chat": "CHAT_MODEL",
    "generate_content": "LLM",
    "text_completion": "LLM",
    "response": "LLM",
    "embeddings": "EMBEDDING",
    "retrieval": "RETRIEVER",
    "execute_tool": "TOOL",
    "create_agent": "AGENT",
    "invoke_agent": "AGENT",
}
"""MLflow's type of a span by OpenTelemetry's name of its operation. Most servers set it so themselves."""

PROVIDERS = {each: each for each in ("anthropic", "bedrock", "gemini", "groq", "mistral", "typesafe")}
"""The provider by MLflow's name of the message format, where it follows: these are SDKs of one provider each.

``openai`` is not one of them, because Azure, DeepSeek, vLLM and many others are called with that SDK. Neither are
frameworks such as ``langchain``, nor LiteLLM, which has no message format."""

ONCE = frozenset({"mlflow.chunk.item.0", "First Token Stream Event", "ai.stream.firstChunk"})
"""Events of the first chunk: MLflow's OpenAI integration and ``mlflow.trace``, OpenInference, Vercel's AI SDK."""

EACH = frozenset(
    {
        *("new_token", "llm.content.completion.chunk"),
        *("chunk", "message_start", "content_block_start", "content_block_delta"),
        *("messageStart", "contentBlockStart", "contentBlockDelta"),
    }
)
"""Events of each chunk: MLflow's LangChain integration, OpenLLMetry, MLflow's Bedrock integration (the rest)."""

KEPT_EVENTS = 128
"""How many events of a span OpenTelemetry's SDK keeps if OTEL_SPAN_EVENT_COUNT_LIMIT is not set. It drops the oldest.
So if a span has just as many, the first of EACH can be that of any chunk."""


def spans_of(answer: str | bytes) -> dict[str, tuple[Span, ...]]:
    """The spans in MLflow's response to ``traces/batchGet``, by the id of their trace. Raises ValueError if it is not
    such a response.

    Spans without an id or a start are left out, and so are traces without an id.
    """
    return {
        trace.trace_info.trace_id: tuple(span for each in trace.spans() if (span := _span(each)) is not None)
        for raw in _traces(answer)
        if (trace := attempt(_TRACE, raw)) is not None
    }


class _Answer(msgspec.Struct, gc=False):
    traces: list[Raw] | None = None


class _TraceInfo(msgspec.Struct, gc=False):
    trace_id: str


class _Trace(msgspec.Struct, gc=False):
    trace_info: _TraceInfo
    raw_spans: Raw = msgspec.field(default=Raw(), name="spans")

    def spans(self) -> list["_Span"]:
        return _SPANS.read(self.raw_spans)


class _Span(msgspec.Struct, gc=False):
    span_id: Raw = Raw()
    parent_span_id: Raw = Raw()
    name: Raw = Raw()
    start_time_unix_nano: Raw = Raw()
    end_time_unix_nano: Raw = Raw()
    status: Raw = Raw()
    attributes: Raw = Raw()
    events: Raw = Raw()


class _Status(msgspec.Struct, gc=False):
    code: object = None


class _Event(msgspec.Struct, gc=False):
    name: str
    time_unix_nano: object = None
    attributes: Raw = Raw()


_ANSWER = msgspec.json.Decoder(_Answer).decode
_TRACE = msgspec.json.Decoder(_Trace).decode
_STATUS = msgspec.json.Decoder(_Status).decode
_SPANS = Pieces(_Span)
_EVENTS = Pieces(_Event)


def _traces(answer: str | bytes) -> list[Raw]:
    try:
        found = attempt(_ANSWER, answer) or _ANSWER(_rewritten(answer))
    except (ValueError, RecursionError):
        found = None
    if found is None:  # not raised above because the cause would hold the whole answer, prompts included
        raise ValueError("MLflow's response with spans is not JSON of the expected form")
    return found.traces or []


def _rewritten(answer: str | bytes) -> bytes:
    """JSON without what msgspec rejects: NaN, infinities and lone surrogates."""
    plain = json.loads(answer, parse_constant=lambda _: None)
    return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")


def _span(found: _Span) -> Span | None:
    span_id, start_ns = _id(value_in(found.span_id)), _moment_ns(value_in(found.start_time_unix_nano))
    if span_id is None or start_ns is None:
        return None
    attributes, events = Attributes(found.attributes), _EVENTS.read(found.events)
    status = attempt(_STATUS, found.status)
    failed = status is not None and status.code in _FAILED
    return Span(
        span_id=span_id,
        parent_id=_id(value_in(found.parent_span_id)),
        name=label(value_in(found.name)) or UNKNOWN,
        span_type=_type(attributes),
        start_ns=start_ns,
        end_ns=_after(start_ns, value_in(found.end_time_unix_nano)),
        failed=failed,
        error_type=_error_type(attributes, events) if failed else None,
        model=attributes.text("mlflow.llm.model", "gen_ai.response.model", "gen_ai.request.model"),
        provider=_provider(attributes),
        usage=_usage(attributes),
        cost=cost_of(attributes.members("mlflow.llm.cost")),
        first_chunk_ns=_first_chunk_ns(start_ns, attributes, events),
    )


_FAILED = ("STATUS_CODE_ERROR", "ERROR", 2, "2")


def _id(value: object) -> str | None:
    """The id of a span in hexadecimal digits, from these or from base64. None for that of no span, which is 0."""
    if not isinstance(value, str):
        return None
    if not _HEX.fullmatch(value):
        try:
            value = base64.b64decode(value, validate=True).hex()
        except (ValueError, binascii.Error):
            return None
    return value.lower() if len(value) == 16 and value.strip("0") else None


_HEX = re.compile("[0-9a-fA-F]{16}")


def _moment_ns(value: object) -> int | None:
    found = whole(value)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 2**63 else None


def _after(start_ns: int, value: object) -> int | None:
    """A moment that is not before the start, nor later than MAX_AMOUNT allows."""
    found = _moment_ns(value)
    return found if found is not None and 0 <= found - start_ns <= MAX_AMOUNT * NS_PER_MS else None


def _type(attributes: Attributes) -> str:
    said = attributes.text("mlflow.spanType")
    if said in (None, UNKNOWN_TYPE):
        return TYPES.get(attributes.text("gen_ai.operation.name") or "", UNKNOWN_TYPE)
    return said


def _provider(attributes: Attributes) -> str | None:
    said = attributes.text("mlflow.llm.provider", "gen_ai.provider.name", "gen_ai.system")
    return said or PROVIDERS.get(attributes.text("mlflow.message.format") or "")


def _usage(attributes: Attributes) -> TokenUsage | None:
    said = usage_of(attributes.members("mlflow.chat.tokenUsage"))
    if said is not None:
        return said
    return usage_of(
        {
            "input_tokens": attributes.number("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
            "output_tokens": attributes.number("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
            "cache_read_input_tokens": attributes.number("gen_ai.usage.cache_read.input_tokens"),
            "cache_creation_input_tokens": attributes.number(
                "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
            ),
        }
    )


def _error_type(attributes: Attributes, events: list[_Event]) -> str | None:
    """The type of the last exception, because the earlier ones were handled."""
    for event in reversed(events):
        if event.name == "exception" and (found := Attributes(event.attributes).text("exception.type")):
            return found
    return attributes.text("error.type")


def _first_chunk_ns(start_ns: int, attributes: Attributes, events: list[_Event]) -> int | None:
    names = ONCE | EACH if len(events) != KEPT_EVENTS else ONCE
    moments = (_after(start_ns, event.time_unix_nano) for event in events if event.name in names)
    first_ns = min((each for each in moments if each is not None), default=None)
    seconds = amount(attributes.number("gen_ai.response.time_to_first_chunk"))
    if first_ns is None and seconds is not None:
        return _after(start_ns, start_ns + round(seconds * NS))
    return first_ns
