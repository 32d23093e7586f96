"""The demo's second application: a search in the articles of the knowledge base, by another team.

It has its own experiment in MLflow, so it is judged by itself: what happens to the chatbot does not alert this team.
"""

from collections.abc import Sequence
from functools import cached_property

import mlflow
from mlflow.entities import SpanType

from mlflow_trace_exporter.demo.chatbot import ARTICLES
from mlflow_trace_exporter.demo.providers import EMBEDDINGS, Model

VERSION = "2.3.0"


class Search:
    """The search in an environment. The provider of the model also embeds the texts."""

    def __init__(self, model: Model, environment: str) -> None:
        self._model = model
        self._environment = environment

    @mlflow.trace(name="search", span_type=SpanType.CHAIN)
    def search(self, query: str) -> str:
        """Find articles, and summarize them in a sentence."""
        if mlflow.get_current_active_span() is not None:
            mlflow.update_current_trace(tags={"environment": self._environment, "app_version": VERSION})
        return self._summarize(self._find(query))

    @mlflow.trace(name="find", span_type=SpanType.RETRIEVER)
    def _find(self, query: str) -> Sequence[str]:
        (wanted,) = self._embed([query])

        def likeness(article: str) -> float:
            return sum(a * b for a, b in zip(wanted, self._vectors[article], strict=True))

        return sorted(ARTICLES, key=likeness, reverse=True)[:2]

    @cached_property
    def _vectors(self) -> dict[str, list[float]]:
        return dict(zip(ARTICLES, self._embed(ARTICLES), strict=True))

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        answer = self._model.client.embeddings.create(model=EMBEDDINGS, input=list(texts))
        return [each.embedding for each in answer.data]

    def _summarize(self, articles: Sequence[str]) -> str:
        asked = "Summarize in one sentence:\n\n" + "\n\n".join(articles)
        completion = self._model.client.chat.completions.create(
            model=self._model.name, messages=[{"role": "user", "content": asked}]
        )
        return completion.choices[0].message.content or ""
