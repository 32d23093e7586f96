"""A mock of two providers of LLMs: OpenAI's protocol, with canned answers at a realistic speed.

Run it with ``python -m mlflow_trace_exporter.demo.llm PORT``. It counts one token per four characters, streams, embeds,
and sometimes calls a tool. Requests with the key ``FREE_PLAN`` wait, and most of them are refused.
"""

import asyncio
import json
import random
import sys
import time
import uuid
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

ANSWERS = (
    "You can change that under Settings, Account. It takes effect at once, on all your devices.",
    "I am sorry about that. The export waits for a lock that an older version of the application holds. Close that one,"
    " and it should continue within a minute.",
    "Please restart the application first. If the message comes back, send us the log file: Help, Send diagnostics.",
    "Your plan includes five seats. A further one costs 8 USD a month; an owner can add it under Billing.",
    "Yes, that works. Export the old project as an archive, and import the archive in the new workspace. Comments and"
    " attachments come along; access rights do not, because the people may not be the same.",
)

CACHED_PREFIX_TOKENS = 128
"""Prompts share a prefix. Its length, rounded down to a multiple of this, counts as cached by the provider."""

FREE_PLAN = "stand-in-of-the-free-plan"
"""A key of a plan that is not made for so many requests."""

LETTERS_PER_TOKEN = 4
REFUSED_SHARE = 0.9
TOOL_SHARE = 0.4
CHUNK_WORDS = 3
DIMENSIONS = 16


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model answers: the median time to the first token, and the range of the time per token, in seconds."""

    first_token_s: float
    token_s: tuple[float, float]

    def wait_s(self) -> float:
        """The time to the first token: with a median of 0.2 s, the 97.5th percentile is 0.5 s."""
        return self.first_token_s * random.lognormvariate(0, 0.5)

    def text_s(self, text: str) -> float:
        """How long the model takes to write a text."""
        return count_tokens(text) * random.uniform(*self.token_s)


SPEEDS = {
    "gpt-4o-mini": Speed(0.2, (0.005, 0.02)),
    "llama-3.3-70b-versatile": Speed(0.12, (0.002, 0.006)),
    "text-embedding-3-small": Speed(0.05, (0, 0)),
}
"""The models. A model of another name is as fast as the first."""


def count_tokens(text: str) -> int:
    """The approximate number of tokens in a text."""
    return max(1, len(text) // LETTERS_PER_TOKEN)


def usage(messages: list[dict[str, Any]], answer: str) -> dict[str, Any]:
    """The ``usage`` object of one completion."""
    prompt = sum(count_tokens(str(message.get("content") or "")) for message in messages)
    completion = count_tokens(answer)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // CACHED_PREFIX_TOKENS * CACHED_PREFIX_TOKENS},
    }


async def complete(request: Request) -> Response:
    """POST /v1/chat/completions."""
    try:
        body = await request.json()
        messages, model = body["messages"], body["model"]
    except (ValueError, KeyError, TypeError):
        return _error(400, "invalid_request_error", "the body must be JSON with model and messages")
    if refusal := await _refusal(request, model):
        return refusal
    speed = _speed(model)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if body.get("tools"):
        return await _choose_tool(head, messages, body["tools"], speed)
    whole = random.choice(ANSWERS)
    answer = whole[: int(body.get("max_tokens") or len(whole)) * LETTERS_PER_TOKEN]
    reason = "stop" if answer == whole else "length"
    if body.get("stream"):
        with_usage = (body.get("stream_options") or {}).get("include_usage", False)
        events = _stream(head, messages, (answer, reason), speed, with_usage)
        return StreamingResponse(events, media_type="text/event-stream")
    await asyncio.sleep(speed.wait_s() + speed.text_s(answer))
    return _completion(head, messages, answer, {"role": "assistant", "content": answer}, reason)


async def _refusal(request: Request, model: str) -> Response | None:
    """What a request gets whose plan is exhausted, after some seconds in a queue; None if it is not."""
    if request.headers.get("authorization") != f"Bearer {FREE_PLAN}":
        return None
    await asyncio.sleep(random.uniform(2, 4))
    if random.random() >= REFUSED_SHARE:
        return None
    if random.random() < 0.5:
        return _error(429, "rate_limit_error", f"rate limit reached for {model} on the free plan")
    return _error(503, "server_error", f"{model} is over capacity for the free plan")


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind}}, status_code=status)


async def _choose_tool(
    head: dict[str, Any], messages: list[dict[str, Any]], tools: Sequence[dict[str, Any]], speed: Speed
) -> Response:
    """Call one of the tools, without arguments, or reply that none is needed."""
    await asyncio.sleep(speed.wait_s())
    if random.random() >= TOOL_SHARE:
        return _completion(head, messages, "no", {"role": "assistant", "content": "no"}, "stop")
    name = random.choice(tools)["function"]["name"]
    call = {"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": {"name": name, "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return _completion(head, messages, name, message, "tool_calls")


def _completion(
    head: dict[str, Any], messages: list[dict[str, Any]], text: str, message: dict[str, Any], reason: str
) -> Response:
    choice = {"index": 0, "finish_reason": reason, "message": message}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage(messages, text)})


async def _stream(
    head: dict[str, Any], messages: list[dict[str, Any]], ended: tuple[str, str], speed: Speed, with_usage: bool
) -> AsyncIterator[str]:
    """Stream an answer; ``ended`` is the whole of it, and why it ends there."""
    answer, reason = ended

    def event(**fields: Any) -> str:
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **fields})}\n\n"

    await asyncio.sleep(speed.wait_s())
    words = answer.split(" ")
    for start in range(0, len(words), CHUNK_WORDS):
        text = " ".join(words[start : start + CHUNK_WORDS]) + " "
        yield event(choices=[{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}])
        await asyncio.sleep(speed.text_s(text))
    yield event(choices=[{"index": 0, "delta": {}, "finish_reason": reason}])
    if with_usage:
        yield event(choices=[], usage=usage(messages, answer))
    yield "data: [DONE]\n\n"


async def embed(request: Request) -> Response:
    """POST /v1/embeddings."""
    try:
        body = await request.json()
        asked, model = body["input"], body["model"]
    except (ValueError, KeyError, TypeError):
        return _error(400, "invalid_request_error", "the body must be JSON with model and input")
    texts = [asked] if isinstance(asked, str) else asked
    await asyncio.sleep(_speed(model).wait_s())
    data = [{"object": "embedding", "index": index, "embedding": _vector(text)} for index, text in enumerate(texts)]
    tokens = sum(map(count_tokens, texts))
    used = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": model, "data": data, "usage": used})


def _vector(text: str) -> list[float]:
    """How many words of a text fall into each of a few classes, so that texts with the same words are alike."""
    counts = Counter(zlib.crc32(word.encode()) % DIMENSIONS for word in text.lower().split())
    return [float(counts[each]) for each in range(DIMENSIONS)]


def _speed(model: str) -> Speed:
    return SPEEDS.get(model, SPEEDS["gpt-4o-mini"])


async def models(_: Request) -> Response:
    """GET /v1/models."""
    data = [{"id": name, "object": "model", "owned_by": "stand-in"} for name in SPEEDS]
    return JSONResponse({"object": "list", "data": data})


async def healthy(_: Request) -> Response:
    """GET /health."""
    return PlainTextResponse("OK")


app = Starlette(
    routes=[
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/embeddings", embed, methods=["POST"]),
        Route("/v1/models", models),
        Route("/health", healthy),
    ]
)


if __name__ == "__main__":
    port, host = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    uvicorn.run(app, host=host, port=port, access_log=False, log_level="warning")
