"""The demo's users: they ask the chatbot questions at a given rate until the process is stopped.

Run it with ``python -m mlflow_trace_exporter.demo.load``. Environment variables set the addresses of MLflow and the
LLM.
"""

import logging
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click
import mlflow
from openai import OpenAI, OpenAIError

from mlflow_trace_exporter.demo.chatbot import Chatbot, Conversation, KnowledgeBaseError, Release

log = logging.getLogger("mlflow_trace_exporter.demo.load")

STABLE = Release("1.4.0", lookup_s=0.15, failure_rate=0.01)
NEXT = Release("1.5.0", lookup_s=0.15, failure_rate=0.01)
BROKEN_NEXT = Release("1.5.0", lookup_s=6.0, failure_rate=0.6)

PRODUCTION, STAGING = "production", "staging"

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
SHARES = {"support": 0.65, "billing": 0.15, "faq": 0.2}
MAX_TURNS = 4
WORKERS = 64


@dataclass(frozen=True)
class Deployment:
    """A share of the traffic that goes to a release in an environment."""

    share: float
    environment: str
    release: Release


STEADY = (Deployment(0.6, PRODUCTION, STABLE), Deployment(0.15, PRODUCTION, NEXT), Deployment(0.25, STAGING, NEXT))
INCIDENT = (
    Deployment(0.15, PRODUCTION, STABLE),
    Deployment(0.6, PRODUCTION, BROKEN_NEXT),
    Deployment(0.25, STAGING, NEXT),
)
"""The new version has been rolled out to most of production, where its look-ups are slow and fail often."""
ROLLED_BACK = (Deployment(0.75, PRODUCTION, STABLE), Deployment(0.25, STAGING, NEXT))


class Users:
    """Simulated users, who return to their last conversation and leave it after a few questions."""

    def __init__(self, client: OpenAI, model: str) -> None:
        self._client = client
        self._model = model
        self._conversations: dict[str, Conversation] = {}
        self._sessions = 0
        self._lock = threading.Lock()

    def ask(self, deployment: Deployment) -> None:
        """Let a random user ask a question. Failures are part of the demo, so they are only logged."""
        chatbot = Chatbot(self._client, self._model, deployment.environment, deployment.release)
        (path,) = random.choices(list(SHARES), weights=list(SHARES.values()))
        conversation = self._join()
        try:
            getattr(chatbot, path)(conversation, random.choice(QUESTIONS[path]))
        except (KnowledgeBaseError, OpenAIError) as error:
            log.info("%s in %s, %s: %s", path, deployment.environment, deployment.release.version, error)
            return
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


def play(users: Users, rate: float, incident: Incident | None, stopping: threading.Event) -> int:
    """Ask ``rate`` questions per second, at random times, until stopped. Returns how many were asked."""
    began, asked = time.monotonic(), 0
    with ThreadPoolExecutor(WORKERS) as pool:
        while not stopping.wait(random.expovariate(rate)):
            deployments = incident.deployments(time.monotonic() - began) if incident else STEADY
            (deployment,) = random.choices(deployments, weights=[each.share for each in deployments])
            pool.submit(users.ask, deployment)
            asked += 1
        pool.shutdown(cancel_futures=True)
    return asked


@click.command()
@click.option("--rate", type=float, required=True)
@click.option("--model", default="gpt-4o-mini", show_default=True)
@click.option("--experiment", required=True)
@click.option("--incident", type=float, nargs=2, default=None, help="Start and duration of the incident, in seconds.")
def main(rate: float, model: str, experiment: str, incident: tuple[float, float] | None) -> None:
    """Simulate the users until SIGTERM, then send the remaining traces."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    logging.basicConfig(level=logging.WARNING)
    log.setLevel(logging.INFO)
    mlflow.set_experiment(experiment)
    mlflow.openai.autolog()
    users = Users(OpenAI(max_retries=1, timeout=30), model)
    asked = play(users, rate, Incident(*incident) if incident else None, stopping)
    mlflow.flush_trace_async_logging()
    log.info("asked %d questions; sampling ratio %s", asked, os.environ.get("MLFLOW_TRACE_SAMPLING_RATIO", "1"))


if __name__ == "__main__":
    main()
