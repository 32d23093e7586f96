"""The demo's users: they ask an application questions at a given rate until the process is stopped.

Run it with ``python -m mlflow_trace_exporter.demo.load``. Environment variables set the addresses of MLflow and the
LLMs.
"""

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
import mlflow
from openai import OpenAIError

from mlflow_trace_exporter.demo import providers
from mlflow_trace_exporter.demo.chatbot import ARTICLES, Chatbot, Conversation, KnowledgeBaseError, Release
from mlflow_trace_exporter.demo.llm import FREE_PLAN
from mlflow_trace_exporter.demo.opinions import Opinions
from mlflow_trace_exporter.demo.providers import Model
from mlflow_trace_exporter.demo.search import Search

log = logging.getLogger("mlflow_trace_exporter.demo.load")

STABLE = Release("1.4.0", lookup_s=0.15, failure_rate=0.01)
NEXT = Release("1.5.0", lookup_s=0.15, failure_rate=0.01)
BROKEN_NEXT = Release("1.5.0", lookup_s=0.15, failure_rate=0.01, tool_failure_rate=0.5, max_tokens=12)

PRODUCTION, STAGING = "production", "staging"
GPT, LLAMA, LLAMA_ON_FREE_PLAN = "gpt", "llama", "llama on the free plan"

USERS = tuple(f"user-{number:02}" for number in range(1, 21))
QUESTIONS = {
    "support": (
        "How do I change the e-mail address of my account?",
        "My export has been stuck at 90 % since yesterday. What can I do?",
        "Can I move a project to another workspace without losing the comments?",
    ),
    "billing": ("Why was I charged for six seats this month?", "How do I get an invoice with our VAT number?"),
    "faq": ("Where do I change the language?", "Does it work offline?"),
}
QUERIES = ("e-mail address", "export a project with its comments", "seats and billing", "language and time zone")
SHARES = {"support": 0.65, "billing": 0.15, "faq": 0.2}
MAX_TURNS = 4
WORKERS = 64


@dataclass(frozen=True)
class Deployment:
    """A share of the traffic that goes to a release in an environment, and the model that writes its answers."""

    share: float
    environment: str
    release: Release
    model: str


STEADY = (
    Deployment(0.6, PRODUCTION, STABLE, GPT),
    Deployment(0.15, PRODUCTION, NEXT, LLAMA),
    Deployment(0.25, STAGING, NEXT, LLAMA),
)
INCIDENT = (
    Deployment(0.15, PRODUCTION, STABLE, GPT),
    Deployment(0.6, PRODUCTION, BROKEN_NEXT, LLAMA_ON_FREE_PLAN),
    Deployment(0.25, STAGING, NEXT, LLAMA_ON_FREE_PLAN),
)
"""The new version has been rolled out to most of production. It sends more requests to the provider of its model than
its plan allows: the provider keeps them waiting and refuses most of them. Staging has the same plan. In production, its
questions to the account service often fail, too, and the answers that it still gives are cut off."""
ROLLED_BACK = (Deployment(0.75, PRODUCTION, STABLE, GPT), Deployment(0.25, STAGING, NEXT, LLAMA))


class Users:
    """Simulated users of the chatbot, who return to their last conversation and leave it after a few questions."""

    def __init__(self, models: Mapping[str, Model], opinions: Opinions) -> None:
        self._models = models
        self._opinions = opinions
        self._conversations: dict[str, Conversation] = {}
        self._sessions = 0
        self._lock = threading.Lock()

    def ask(self, deployment: Deployment) -> None:
        """Let a random user ask a question. Failures are part of the demo, so they are only logged."""
        routing, answering = self._models[GPT], self._models[deployment.model]
        chatbot = Chatbot(routing, answering, deployment.environment, deployment.release)
        (path,) = random.choices(list(SHARES), weights=list(SHARES.values()))
        conversation = self._join()
        try:
            answer = getattr(chatbot, path)(conversation, random.choice(QUESTIONS[path]))
        except (KnowledgeBaseError, OpenAIError) as error:
            log.info("%s in %s, %s: %s", path, deployment.environment, deployment.release.version, error)
            self._opinions.of(chatbot.trace_id, conversation.user, None)
            return
        self._opinions.of(chatbot.trace_id, conversation.user, answer)
        if len(conversation.messages) < 2 * MAX_TURNS:
            with self._lock:
                self._conversations[conversation.user] = conversation

    def _join(self) -> Conversation:
        user = random.choice(USERS)
        with self._lock:
            self._sessions += 1
            return self._conversations.pop(user, None) or Conversation(user, f"{user}-session-{self._sessions:04}")


@dataclass(frozen=True)
class Incident:
    """When the bad version is rolled out, and for how long, in seconds."""

    after_s: float
    for_s: float

    def deployments(self, elapsed_s: float) -> tuple[Deployment, ...]:
        """Which releases get the traffic."""
        if elapsed_s <= self.after_s:
            return STEADY
        return INCIDENT if elapsed_s <= self.after_s + self.for_s else ROLLED_BACK


def chatbot_users(incident: Incident | None) -> Callable[[float], None]:
    """A function that asks the chatbot one question. It takes the seconds since the start."""
    models = {GPT: providers.gpt(), LLAMA: providers.llama(), LLAMA_ON_FREE_PLAN: providers.llama(FREE_PLAN)}
    users = Users(models, Opinions(ARTICLES))

    def ask(elapsed_s: float) -> None:
        deployments = incident.deployments(elapsed_s) if incident else STEADY
        (deployment,) = random.choices(deployments, weights=[each.share for each in deployments])
        users.ask(deployment)

    return ask


def search_users() -> Callable[[float], None]:
    """A function that sends one query to the search."""
    search = Search(providers.gpt(), PRODUCTION)

    def ask(_: float) -> None:
        try:
            search.search(random.choice(QUERIES))
        except OpenAIError as error:
            log.info("search: %s", error)

    return ask


def play(ask: Callable[[float], None], rate: float, stopping: threading.Event) -> int:
    """Ask ``rate`` questions per second, at random times, until stopped. Returns how many were asked."""
    began, asked = time.monotonic(), 0
    with ThreadPoolExecutor(WORKERS) as pool:
        while not stopping.wait(random.expovariate(rate)):
            pool.submit(ask, time.monotonic() - began)
            asked += 1
        pool.shutdown(cancel_futures=True)
    return asked


@click.command()
@click.argument("application", type=click.Choice(["chatbot", "search"]), default="chatbot")
@click.option("--rate", type=float, required=True)
@click.option("--experiment", required=True)
@click.option("--incident", type=float, nargs=2, default=None, help="Start and duration of the incident, in seconds.")
def main(application: str, rate: float, experiment: str, incident: tuple[float, float] | None) -> None:
    """Simulate the users until SIGTERM, then send the remaining traces."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    logging.basicConfig(level=logging.WARNING)
    log.setLevel(logging.INFO)
    mlflow.set_experiment(experiment)
    mlflow.openai.autolog()
    mlflow.tracing.configure(span_processors=[providers.name_provider])
    ask = chatbot_users(Incident(*incident) if incident else None) if application == "chatbot" else search_users()
    asked = play(ask, rate, stopping)
    mlflow.flush_trace_async_logging()
    log.info("asked %d questions; sampling ratio %s", asked, os.environ.get("MLFLOW_TRACE_SAMPLING_RATIO", "1"))


if __name__ == "__main__":
    main()
