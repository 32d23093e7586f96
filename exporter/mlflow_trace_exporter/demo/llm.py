"""A mock LLM: OpenAI's chat completions protocol, with canned answers at a realistic speed.

Run it with ``python -m mlflow_trace_exporter.demo.llm PORT``. It counts one token per four characters.
"""

import asyncio
import json
import random
import sys
import time
import uuid
from collections.abc import AsyncIterator
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


def count_tokens(text: str) -> int:
    """The approximate number of tokens in a text."""
    return max(1, len(text) // 4)


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
        message = "the body must be JSON with model and messages"
        return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status_code=400)
    answer = random.choice(ANSWERS)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if body.get("stream"):
        with_usage = (body.get("stream_options") or {}).get("include_usage", False)
        return StreamingResponse(_stream(head, messages, answer, with_usage), media_type="text/event-stream")
    await asyncio.sleep(_first_token_s() + count_tokens(answer) * _token_s())
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage(messages, answer)})


async def _stream(
    head: dict[str, Any], messages: list[dict[str, Any]], answer: str, with_usage: bool
) -> AsyncIterator[str]:
    def event(**fields: Any) -> str:
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **fields})}\n\n"

    await asyncio.sleep(_first_token_s())
    for word in answer.split(" "):
        yield event(
            choices=[{"index": 0, "delta": {"role": "assistant", "content": word + " "}, "finish_reason": None}]
        )
        await asyncio.sleep(count_tokens(word) * _token_s())
    yield event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if with_usage:
        yield event(choices=[], usage=usage(messages, answer))
    yield "data: [DONE]\n\n"


def _first_token_s() -> float:
    return random.lognormvariate(-1.6, 0.5)  # the median is 0.2 s, the 97.5th percentile 0.5 s


def _token_s() -> float:
    return random.uniform(0.005, 0.02)


async def models(_: Request) -> Response:
    """GET /v1/models."""
    return JSONResponse({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model", "owned_by": "stand-in"}]})


async def healthy(_: Request) -> Response:
    """GET /health."""
    return PlainTextResponse("OK")


app = Starlette(
    routes=[
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", models),
        Route("/health", healthy),
    ]
)


if __name__ == "__main__":
    port, host = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    uvicorn.run(app, host=host, port=port, access_log=False, log_level="warning")
