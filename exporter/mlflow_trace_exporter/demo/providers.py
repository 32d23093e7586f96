"""The models that the demo's applications use, from two providers with OpenAI's protocol.

``mlflow.openai.autolog()`` records the model of a call, its tokens and when the first chunk of a stream arrived. It
cannot know the provider, because many are called with this SDK. ``name_provider`` adds it.
"""

import os
from dataclasses import dataclass

from mlflow.entities.span import LiveSpan
from openai import OpenAI

GPT, EMBEDDINGS = "gpt-4o-mini", "text-embedding-3-small"
LLAMA = "llama-3.3-70b-versatile"

PROVIDERS = {GPT: "openai", EMBEDDINGS: "openai", LLAMA: "groq"}
"""The provider by model."""


@dataclass(frozen=True)
class Model:
    """A model, and a client of its provider."""

    name: str
    client: OpenAI


def gpt() -> Model:
    """OpenAI's model. The SDK reads OPENAI_BASE_URL and OPENAI_API_KEY."""
    return Model(GPT, OpenAI(max_retries=1, timeout=30))


def llama(api_key: str | None = None) -> Model:
    """Groq's model, at GROQ_BASE_URL and with GROQ_API_KEY unless another key is given."""
    key = api_key or os.environ["GROQ_API_KEY"]
    return Model(LLAMA, OpenAI(base_url=os.environ["GROQ_BASE_URL"], api_key=key, max_retries=1, timeout=30))


def name_provider(span: LiveSpan) -> None:
    """Set the provider of a call. For ``mlflow.tracing.configure(span_processors=[name_provider])``."""
    if provider := PROVIDERS.get(span.get_attribute("model")):
        span.set_attribute("mlflow.llm.provider", provider)
