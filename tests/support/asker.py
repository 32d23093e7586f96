"""Asks the demo's chatbot so many questions of each kind, for each line on standard input, and says what came of them.

    echo '{"support": 3, "billing": 1}' | python -m tests.asker EXPERIMENT

A process of its own, for MLflow reads how to sample and to log when it is imported. At the end of its input it sends
what traces are left.
"""

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
from openai import OpenAI

from mlflow_trace_exporter.demo.chatbot import Chatbot, Conversation, KnowledgeBaseError, Release
from mlflow_trace_exporter.demo.providers import Model
from tests.support.asked import USERS, VERSIONS
from tests.support.waiting import HANG_S

RELEASES = {
    "production": Release(VERSIONS["production"], 0.01, 0.1),
    "staging": Release(VERSIONS["staging"], 0.02, 0.3),
}


def ask(model: Model, path: str) -> dict[str, Any]:
    """Somebody asks something somewhere."""
    environment, user = random.choice(list(RELEASES)), random.choice(USERS)
    chatbot = Chatbot(model, model, environment, RELEASES[environment])
    conversation = Conversation(user, f"{user}-{random.randrange(3)}")
    began, failed = time.monotonic(), False
    try:
        getattr(chatbot, path)(conversation, "How do I reset my password?")
    except KnowledgeBaseError:
        failed = True
    return {
        "path": path,
        "environment": environment,
        "user": user,
        "failed": failed,
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    mlflow.set_experiment(sys.argv[1])
    mlflow.openai.autolog()
    model = Model("gpt-4o-mini", OpenAI(max_retries=0, timeout=HANG_S))
    with ThreadPoolExecutor(24) as pool:
        for line in sys.stdin:
            paths = [path for path, number in json.loads(line).items() for _ in range(number)]
            answers = list(pool.map(lambda path: ask(model, path), paths))
            sys.stdout.write(json.dumps(answers) + "\n")
            sys.stdout.flush()
    mlflow.flush_trace_async_logging()


if __name__ == "__main__":
    main()
