"""The demo's application: a support chatbot that uses `openai`, traced by MLflow as in production.

Each question is one trace with the tags ``environment`` and ``app_version`` and the metadata that MLflow reserves for
user and session. Inside it are a retriever, a tool, and the calls of the models, which ``mlflow.openai.autolog()``
traces. MLflow's environment variables set the sampling ratio, and that traces are sent in the background. They must be
set before mlflow is imported, and are listed in ``processes.CHATBOT_ENVIRONMENT``.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities import SpanType

from mlflow_trace_exporter.demo.providers import Model

SYSTEM_PROMPT = (
    "You are the support assistant of Tideline, a planning tool for small teams. Answer in at most four sentences, in"
    " plain words, and never promise a refund. Use only what the articles say; if they do not answer the question, say"
    " so and offer to open a ticket. Prices are in USD and without tax. Do not repeat personal data from the question."
)

ROUTING_PROMPT = (
    "You prepare the answers of a support assistant. If the answer needs the plan or the seats of the user's account,"
    " call the tool. Otherwise reply: no."
)

ACCOUNT_TOOL = {
    "type": "function",
    "function": {
        "name": "account",
        "description": "The plan and the seats of the user's account.",
        "parameters": {"type": "object", "properties": {}},
    },
}

ARTICLES = (
    "Settings, Account holds name, e-mail address, language and time zone. Changes take effect at once on all devices.",
    "Every plan includes five seats. Owners of a workspace can add seats under Billing; each is billed by the month.",
    "A project can be exported as an archive and imported elsewhere. Comments come along, access rights do not.",
)


class KnowledgeBaseError(Exception):
    """The knowledge base did not answer."""


class AccountServiceError(Exception):
    """The account service did not answer."""


@dataclass(frozen=True)
class Release:
    """One version of the chatbot, and how it behaves.

    ``lookup_s``: the median time of a look-up in the knowledge base, in seconds. ``failure_rate``: the share of
    look-ups that fail. ``tool_failure_rate``: the share of questions to the account service that fail.
    ``max_tokens``: where the model ends an answer, even in the middle of a sentence.
    """

    version: str
    lookup_s: float
    failure_rate: float
    tool_failure_rate: float = 0.0
    max_tokens: int = 300


@dataclass
class Conversation:
    """The messages that a user and the chatbot have exchanged so far."""

    user: str
    session: str
    messages: list[dict[str, str]] = field(default_factory=list)


class Chatbot:
    """One deployment of a release in an environment. One model decides whether a question needs the user's account.
    Another, or the same, writes the answers."""

    def __init__(self, routing: Model, answering: Model, environment: str, release: Release) -> None:
        self._routing = routing
        self._answering = answering
        self._environment = environment
        self._release = release
        self.trace_id: str | None = None
        """The trace of the last question, None if it was not sampled."""

    @mlflow.trace(name="support", span_type=SpanType.AGENT)
    def support(self, conversation: Conversation, question: str) -> str:
        """Answer a question with the help of the knowledge base, the account and the conversation."""
        self._tag_trace(conversation)
        return self._converse(conversation, question)

    @mlflow.trace(name="billing", span_type=SpanType.AGENT, sampling_ratio_override=1.0)
    def billing(self, conversation: Conversation, question: str) -> str:
        """Answer a question about billing. Always traced, so that every answer can be reviewed later."""
        self._tag_trace(conversation)
        return self._converse(conversation, question)

    @mlflow.trace(name="faq", span_type=SpanType.AGENT, sampling_ratio_override=0.05)
    def faq(self, conversation: Conversation, question: str) -> str:
        """Answer a frequent question. Rarely traced."""
        self._tag_trace(conversation)
        return self._answer([{"role": "user", "content": question}])

    def _tag_trace(self, conversation: Conversation) -> None:
        span = mlflow.get_current_active_span()
        self.trace_id = None if span is None else span.trace_id
        if span is None:  # not sampled
            return
        mlflow.update_current_trace(
            tags={"environment": self._environment, "app_version": self._release.version},
            metadata={"mlflow.trace.user": conversation.user, "mlflow.trace.session": conversation.session},
        )

    def _converse(self, conversation: Conversation, question: str) -> str:
        known = [*self._look_up(question), *self._facts(conversation, question)]
        asked = {"role": "user", "content": "\n\n".join([*known, question])}
        answer = self._answer([*conversation.messages, asked])
        conversation.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return answer

    @mlflow.trace(name="look_up", span_type=SpanType.RETRIEVER)
    def _look_up(self, question: str) -> Sequence[str]:  # noqa: ARG002 - the trace shows it as input
        time.sleep(random.lognormvariate(0, 0.4) * self._release.lookup_s)
        if random.random() < self._release.failure_rate:
            raise KnowledgeBaseError("the knowledge base did not answer in time")
        return random.sample(ARTICLES, 2)

    def _facts(self, conversation: Conversation, question: str) -> Sequence[str]:
        """What the account says, if the question needs it. Without it, the answer is less specific."""
        if not self._needs_account(question):
            return ()
        try:
            return (self._account(conversation.user),)
        except AccountServiceError:
            return ("The account cannot be seen at the moment.",)

    def _needs_account(self, question: str) -> bool:
        messages: list[Any] = [{"role": "system", "content": ROUTING_PROMPT}, {"role": "user", "content": question}]
        tools: list[Any] = [ACCOUNT_TOOL]
        completion = self._routing.client.chat.completions.create(
            model=self._routing.name, messages=messages, tools=tools
        )
        return bool(completion.choices[0].message.tool_calls)

    @mlflow.trace(name="account", span_type=SpanType.TOOL)
    def _account(self, user: str) -> str:
        time.sleep(random.lognormvariate(0, 0.4) * 0.05)
        if random.random() < self._release.tool_failure_rate:
            raise AccountServiceError(f"the account service has no answer about {user}")
        return "The user's account: plan Team, 6 seats, the sixth since the 3rd of this month."

    def _answer(self, messages: Sequence[Any]) -> str:
        """The answer, streamed, as a chat window shows it word by word."""
        chunks = self._answering.client.chat.completions.create(
            model=self._answering.name,
            messages=[{"role": "system", "content": SYSTEM_PROMPT}, *messages],
            max_tokens=self._release.max_tokens,
            stream=True,
            stream_options={"include_usage": True},  # without it, a stream does not tell its tokens
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
