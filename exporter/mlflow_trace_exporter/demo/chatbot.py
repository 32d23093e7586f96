"""The demo's application: a support chatbot that uses `openai`, traced by MLflow as in production.

Each question is one trace with the tags ``environment`` and ``app_version`` and the metadata that MLflow reserves for
user and session. ``mlflow.openai.autolog()`` traces the LLM calls inside it. MLflow's environment variables set the
sampling ratio, and that traces are sent in the background. They must be set before mlflow is imported, and are listed
in ``processes.CHATBOT_ENVIRONMENT``.
"""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities import SpanType
from openai import OpenAI

SYSTEM_PROMPT = (
    "You are the support assistant of Tideline, a planning tool for small teams. Answer in at most four sentences, in"
    " plain words, and never promise a refund. Use only what the articles say; if they do not answer the question, say"
    " so and offer to open a ticket. Prices are in USD and without tax. Do not repeat personal data from the question."
)

ARTICLES = (
    "Settings, Account holds name, e-mail address, language and time zone. Changes take effect at once on all devices.",
    "Every plan includes five seats. Owners of a workspace can add seats under Billing; each is billed by the month.",
    "A project can be exported as an archive and imported elsewhere. Comments come along, access rights do not.",
)


class KnowledgeBaseError(Exception):
    """The knowledge base did not answer."""


@dataclass(frozen=True)
class Release:
    """One version of the chatbot, and how it behaves.

    ``lookup_s``: the median time of a look-up in the knowledge base, in seconds. ``failure_rate``: the share of
    look-ups that fail.
    """

    version: str
    lookup_s: float
    failure_rate: float


@dataclass
class Conversation:
    """The messages that a user and the chatbot have exchanged so far."""

    user: str
    session: str
    messages: list[dict[str, str]] = field(default_factory=list)


class Chatbot:
    """One deployment of a release in an environment."""

    def __init__(self, client: OpenAI, model: str, environment: str, release: Release) -> None:
        self._client = client
        self._model = model
        self._environment = environment
        self._release = release

    @mlflow.trace(name="support", span_type=SpanType.AGENT)
    def support(self, conversation: Conversation, question: str) -> str:
        """Answer a question with the help of the knowledge base and the conversation."""
        self._tag_trace(conversation)
        articles = self._look_up(question)
        return self._converse(conversation, question, articles)

    @mlflow.trace(name="billing", span_type=SpanType.AGENT, sampling_ratio_override=1.0)
    def billing(self, conversation: Conversation, question: str) -> str:
        """Answer a question about billing. Always traced, so that every answer can be reviewed later."""
        self._tag_trace(conversation)
        articles = self._look_up(question)
        return self._converse(conversation, question, articles)

    @mlflow.trace(name="faq", span_type=SpanType.AGENT, sampling_ratio_override=0.05)
    def faq(self, conversation: Conversation, question: str) -> str:
        """Answer a frequent question, streamed. Rarely traced."""
        self._tag_trace(conversation)
        chunks = self._complete([{"role": "user", "content": question}], stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    def _tag_trace(self, conversation: Conversation) -> None:
        if mlflow.get_current_active_span() is None:  # not sampled
            return
        mlflow.update_current_trace(
            tags={"environment": self._environment, "app_version": self._release.version},
            metadata={"mlflow.trace.user": conversation.user, "mlflow.trace.session": conversation.session},
        )

    @mlflow.trace(name="look_up", span_type=SpanType.RETRIEVER)
    def _look_up(self, question: str) -> Iterable[str]:  # noqa: ARG002 - the trace shows it as input
        time.sleep(random.lognormvariate(0, 0.4) * self._release.lookup_s)
        if random.random() < self._release.failure_rate:
            raise KnowledgeBaseError("the knowledge base did not answer in time")
        return random.sample(ARTICLES, 2)

    def _converse(self, conversation: Conversation, question: str, articles: Iterable[str]) -> str:
        asked = {"role": "user", "content": "\n\n".join([*articles, question])}
        completion = self._complete([*conversation.messages, asked])
        answer = completion.choices[0].message.content or ""
        conversation.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return answer

    def _complete(self, messages: list[Any], **options: Any) -> Any:
        if options.get("stream"):
            options["stream_options"] = {"include_usage": True}
        return self._client.chat.completions.create(
            model=self._model, messages=[{"role": "system", "content": SYSTEM_PROMPT}, *messages], **options
        )
