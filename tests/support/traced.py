"""An application that makes traces of every shape with MLflow's SDK, and writes their ids as JSON.

    python -m tests.support.traced EXPERIMENT LLM_URL THROTTLED_URL

A process of its own, because the autologger changes ``openai`` for good.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import mlflow
from mlflow.entities import SpanType
from openai import OpenAI, RateLimitError

from tests.support.waiting import HANG_S

QUESTION: list[Any] = [{"role": "user", "content": "How do I reset my password?"}]
MODEL = "gpt-4o-mini"
TEXT = "ä" * 500_000
"""1 MB."""


def usage(given: int, made: int) -> dict[str, Any]:
    """The attribute of a span with so many tokens."""
    return {"mlflow.chat.tokenUsage": {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}}


def model(name: str, provider: str) -> dict[str, Any]:
    """The attributes of a span that calls a model."""
    return {"mlflow.llm.model": name, "mlflow.llm.provider": provider}


@mlflow.trace(name="plain", span_type=SpanType.AGENT)
def plain(client: OpenAI, _: OpenAI) -> None:
    client.chat.completions.create(model=MODEL, messages=QUESTION)


def streamed(client: OpenAI, _: OpenAI) -> None:
    options: Any = {"include_usage": True}
    for _chunk in client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, stream_options=options):
        pass


def streamed_without_usage(client: OpenAI, _: OpenAI) -> None:
    for _chunk in client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True):
        pass


def failed(_: OpenAI, throttled: OpenAI) -> None:
    with suppress(RateLimitError):
        throttled.chat.completions.create(model="gpt-4o", messages=QUESTION)


@mlflow.trace(name="handled", span_type=SpanType.AGENT)
def handled(client: OpenAI, throttled: OpenAI) -> None:
    """The second provider is asked after the first has failed."""
    failed(client, throttled)
    client.chat.completions.create(model=MODEL, messages=QUESTION)


@mlflow.trace(name="generator", span_type=SpanType.LLM)
def chunks() -> Iterator[str]:
    span = mlflow.get_current_active_span()
    assert span is not None
    span.set_attributes({**model("llama-3", "ollama"), **usage(11, 3)})
    yield from ("one ", "two ", "three")


def generator(*_: OpenAI) -> None:
    assert len(list(chunks())) == 3


def manual(*_: OpenAI) -> None:
    with mlflow.start_span("manual", span_type=SpanType.AGENT):
        with mlflow.start_span("articles", span_type=SpanType.RETRIEVER):
            pass
        with mlflow.start_span("embed", span_type=SpanType.EMBEDDING) as span:
            span.set_attributes({**model("text-embedding-3-small", "openai"), **usage(8, 0)})
        with mlflow.start_span("claude", span_type=SpanType.CHAT_MODEL) as span:
            span.set_attributes({**model("claude-sonnet-4-5", "anthropic"), **usage(1_000, 50)})
        try:
            with mlflow.start_span("weather", span_type=SpanType.TOOL):
                raise ValueError("no such place")
        except ValueError:
            pass


def nested(*_: OpenAI) -> None:
    """The agent repeats the sum of its calls, and a chat the usage of the call below it."""
    with mlflow.start_span("nested", span_type=SpanType.AGENT) as agent:
        for _number in range(2):
            with mlflow.start_span("chat", span_type=SpanType.CHAT_MODEL) as chat:
                chat.set_attributes({**model("gpt-4o", "openai"), **usage(100, 20)})
                with mlflow.start_span("completions", span_type=SpanType.CHAT_MODEL) as call:
                    call.set_attributes({**model("gpt-4o", "openai"), **usage(100, 20)})
        agent.set_attributes(usage(200, 40))


def large(*_: OpenAI) -> None:
    with mlflow.start_span("large", span_type=SpanType.CHAT_MODEL) as span:
        span.set_inputs({"messages": TEXT})
        span.set_attributes({**model("gpt-4o", "openai"), **usage(250_000, 1)})


def lost(*_: OpenAI) -> None:
    """Its spans are deleted afterwards."""
    with mlflow.start_span("lost"):
        pass


SHAPES: dict[str, Callable[[OpenAI, OpenAI], None]] = {
    each.__name__: each
    for each in (
        *(plain, streamed, streamed_without_usage, failed, handled),
        *(generator, manual, nested, large, lost),
    )
}


def main(experiment: str, llm: str, throttled: str) -> None:
    """Make a trace of each shape."""
    mlflow.set_experiment(experiment)
    mlflow.openai.autolog()
    options: dict[str, Any] = {"api_key": "stand-in", "max_retries": 0, "timeout": HANG_S}
    clients = [OpenAI(base_url=f"{url}/v1", **options) for url in (llm, throttled)]
    made: dict[str, str | None] = {}
    for name, make in SHAPES.items():
        make(*clients)
        made[name] = mlflow.get_last_active_trace_id()
    mlflow.flush_trace_async_logging()
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
