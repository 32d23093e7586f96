"""The calls in answers that MLflow gave for traces of real autologgers. See tests/fixtures/spans."""

import json
from pathlib import Path

import pytest

from mlflow_trace_exporter.domain.calls import differs, inside
from mlflow_trace_exporter.domain.spans import Call, Inside, Step
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.tracking.json_text import Json
from mlflow_trace_exporter.tracking.parsing import TraceInfo, to_record
from mlflow_trace_exporter.tracking.span_parsing import spans_of

RECORDED = Path(__file__).parents[2] / "fixtures" / "spans"

CALLS = """
anthropic.create_stream             anthropic claude-sonnet-4-5
anthropic.error429                  anthropic claude-sonnet-4-5 RateLimitError
anthropic.messages                  anthropic claude-sonnet-4-5 100+20 (20 read, 10 written) 553.5
gemini.generate                     gemini gemini-2.0-flash 100+20 (30 read) 15.75
langchain.agent_tool                openai gpt-4o-mini 100+20 (30 read) 24.75
langchain.agent_tool                openai gpt-4o-mini 100+20 (30 read) 24.75
langchain.chain                     openai gpt-4o-mini 100+20 (30 read) 24.75
langchain.chain_stream              openai gpt-4o-mini streamed
langchain.error429                  openai gpt-4o-mini OpenAIRateLimitError
langchain.invoke                    openai gpt-4o-mini 100+20 (30 read) 24.75
langchain.stream_usage              openai gpt-4o-mini 100+20 (30 read) 24.75 streamed
langchain_and_openai.chain          openai gpt-4o-mini 100+20 (30 read) 24.75
langchain_and_openai.chain_stream   openai gpt-4o-mini streamed
langchain_and_openai.error429       openai gpt-4o-mini RateLimitError
langchain_and_openai.invoke         openai gpt-4o-mini 100+20 (30 read) 24.75
litellm.anthropic                   unknown claude-sonnet-4-5 100+20 600
litellm.completion                  unknown gpt-4o-mini 100+20 27
litellm.error429                    unknown unknown RateLimitError 0+0
litellm.stream_usage                unknown gpt-4o-mini 100+20 27
litellm_and_openai.anthropic        unknown claude-sonnet-4-5 100+20 600
litellm_and_openai.error429         unknown unknown RateLimitError 0+0
litellm_and_openai.stream_usage     unknown gpt-4o-mini 100+20 27
llama_index.chat                    openai gpt-4o-mini 100+20 27
llama_index.error429                openai gpt-4o-mini RateLimitError
llama_index.query_engine.2          openaiembedding text-embedding-ada-002
llama_index.query_engine.3          openaiembedding text-embedding-ada-002
llama_index.query_engine.3          openai gpt-4o-mini 100+20 27
llama_index.stream_chat             openai gpt-4o-mini
openai.app_handled_error            unknown gpt-4o-mini RateLimitError
openai.app_handled_error            unknown gpt-4o-mini 100+20 (30 read) 24.75
openai.app_two_models               unknown text-embedding-3-small
openai.app_two_models               unknown gpt-4o-mini 100+20 (30 read) 24.75
openai.app_two_models               unknown gpt-4o 100+20 (30 read) 412.5
openai.async_chat                   unknown gpt-4o-mini 100+20 (30 read) 24.75
openai.async_stream_usage           unknown gpt-4o-mini 100+20 (30 read) 24.75 streamed
openai.chat                         unknown gpt-4o-mini 100+20 (30 read) 24.75
openai.embeddings                   unknown text-embedding-3-small
openai.error429                     unknown gpt-4o-mini RateLimitError
openai.responses                    unknown gpt-4o-mini 100+20 (30 read) 24.75
openai.responses_stream             unknown gpt-4o-mini 100+20 (30 read) 24.75 streamed
openai.stream_nousage               unknown gpt-4o-mini streamed
openai.stream_usage                 unknown gpt-4o-mini 100+20 (30 read) 24.75 streamed
openai.unknown_model                unknown my-own-llm 100+20 (30 read)
openai_agents.responses_run         unknown gpt-4o-mini 100+20 (30 read) 24.75
otlp.error                          openai gpt-4o-mini-2024-07-18 TimeoutError
otlp.late130                        openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.late30                         openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.named                          openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.no_root                        openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.no_root_remote_parent          openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.old_semconv                    openai gpt-4o-mini 100+20 27
otlp.plain                          openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.rollup_simple                  openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.rollup_simple                  openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.tags                           openai gpt-4o-mini-2024-07-18 100+20 (30 read) 24.75
otlp.unknown_model                  openai my-own 100+20 (30 read)
pydantic_ai.error429                openai gpt-4o-mini ModelHTTPError
pydantic_ai.run_sync                openai gpt-4o-mini 100+20 (30 read) 24.75
pydantic_ai.stream                  openai gpt-4o-mini 100+20 (30 read) 24.75
server-3.10.1.error                 openai gpt-4o-mini 100+20
server-3.12.0.error                 openai gpt-4o-mini 100+20 27
server-3.14.0.error                 openai gpt-4o-mini 100+20 27
server-3.6.0.error                  openai gpt-4o-mini 100+20
"""
"""A call in a line: the file, provider, model, error type, input and output tokens (and cached), cost in millionths of
a USD, whether its first chunk has a time.

Where MLflow is odd: ``litellm`` drops cached tokens and prices them as input, and says no model of a failed call;
``anthropic`` streams have no usage and no events; ``llama_index`` names the class of an embedding for its provider."""

STEPS = """
langchain.agent_tool                CHAIN LangGraph, CHAIN model, CHAIN tools, TOOL weather, CHAIN model
langchain_and_openai.error429       CHAIN RunnableSequence failed, CHAIN ChatPromptTemplate, \
CHAT_MODEL ChatOpenAI failed
llama_index.query_engine.1          CHAIN SentenceSplitter.__call__, CHAIN SentenceSplitter._parse_nodes, \
CHAIN SentenceSplitter.split_text_metadata_aware
openai.app_handled_error            UNKNOWN handled
otlp.error                          UNKNOWN invoke_agent shop failed
otlp.rollup_simple                  AGENT invoke_agent shop
pydantic_ai.run_sync                AGENT Agent.run_sync, AGENT Agent.run
"""
"""The steps of a trace in a line."""


def lines(table: str) -> dict[str, list[str]]:
    """The lines of a table by their first word."""
    found: dict[str, list[str]] = {path.stem: [] for path in RECORDED.glob("*.json")}
    for line in table.strip().splitlines():
        name, text = line.split(maxsplit=1)
        found[name].append(text)
    return found


def recorded(name: str) -> tuple[TraceRecord, Inside]:
    """The trace in a file, and what is inside it."""
    text = (RECORDED / f"{name}.json").read_text(encoding="utf-8")
    (trace,) = json.loads(text)["traces"]
    record = to_record(Json(TraceInfo).read(json.dumps(trace["trace_info"])), {}, seen_ms=0)
    spans = spans_of(text)
    assert list(spans) == [record.trace_id]
    assert len(spans[record.trace_id]) == len(trace["spans"])
    return record, inside(spans[record.trace_id])


def as_line(call: Call) -> str:
    words = [call.provider, call.model]
    if call.failed:
        words.append(call.error_type or "failed")
    if call.usage:
        words.append(f"{call.usage.input}+{call.usage.output}")
        cached = ((call.usage.cache_read_input, "read"), (call.usage.cache_creation_input, "written"))
        words += [f"({', '.join(f'{n} {what}' for n, what in cached if n is not None)})"]
    if call.cost:
        words.append(f"{((call.cost.input_usd or 0) + (call.cost.output_usd or 0)) * 1e6:g}")
    if call.first_chunk_s is not None:
        words.append("streamed")
    return " ".join(word for word in words if word != "()")


@pytest.mark.parametrize(("name", "expected"), sorted(lines(CALLS).items()))
def test_its_calls(name: str, expected: list[str]) -> None:
    assert [as_line(call) for call in recorded(name)[1].calls] == expected


@pytest.mark.parametrize("name", sorted(lines("")))
def test_its_calls_add_up_to_what_mlflow_says_of_the_trace(name: str) -> None:
    record, within = recorded(name)
    assert differs(record.usage, record.cost, within.calls) == ()
    assert (record.usage is None) == all(call.usage is None for call in within.calls)
    assert (record.cost is None) == all(call.cost is None for call in within.calls)


@pytest.mark.parametrize(("name", "expected"), [item for item in sorted(lines(STEPS).items()) if item[1]])
def test_its_steps(name: str, expected: list[str]) -> None:
    steps = recorded(name)[1].steps
    said = ", ".join(f"{step.span_type} {step.name}{' failed' if step.failed else ''}" for step in steps)
    assert [said] == expected


@pytest.mark.parametrize("name", sorted(lines("")))
def test_its_times(name: str) -> None:
    record, within = recorded(name)
    assert record.end_ms is not None
    both: list[Call | Step] = [*within.calls, *within.steps]
    for each in both:
        assert each.duration_s is not None
        assert each.end_ms is not None
        assert 0 < each.duration_s <= record.end_ms / 1000 - record.start_ms / 1000 + 0.002
        assert record.start_ms <= each.end_ms <= record.end_ms + 1
    for call in within.calls:
        assert call.first_chunk_s is None or 0 < call.first_chunk_s < (call.duration_s or 0)
