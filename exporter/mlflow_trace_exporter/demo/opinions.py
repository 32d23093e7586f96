"""What the demo's users and a small judge say about the answers, as feedback in MLflow.

A user gives a thumb to some answers, some seconds later. The judge looks at every answer. It is no LLM, but a function
that measures two things which make an answer worse: it ends in the middle of a sentence, or it says much that is not in
the articles. MLflow calls such a judge a scorer, and can also run scorers itself.
"""

import logging
import random
import re
import threading
import time
from collections.abc import Iterable

import mlflow
from mlflow.entities import AssessmentSource
from mlflow.exceptions import MlflowException

log = logging.getLogger("mlflow_trace_exporter.demo.load")

THUMB_SHARE = 0.4
"""The share of questions after which a user gives a thumb."""

LIKED = {"complete": 0.97, "cut off": 0.2, "none": 0.05}
"""The share of thumbs that are up, by what the answer was."""

THINKS_S = (1.0, 5.0)
"""How long a user thinks, in seconds."""

ATTEMPTS, AGAIN_S = 5, 2.0
"""How often a feedback is sent whose trace is not in MLflow yet, and the seconds in between."""


class Opinions:
    """Collects opinions on answers, which should say what is in ``articles``."""

    def __init__(self, articles: Iterable[str]) -> None:
        self._known = set(words(" ".join(articles)))

    def of(self, trace_id: str | None, user: str, answer: str | None) -> None:
        """Have an answer judged, and let its user give a thumb; None if there was an error in its place. Without a
        trace there is nothing to add feedback to."""
        if trace_id is None:
            return
        if answer is not None:
            judge = AssessmentSource("CODE", "judge")
            _later(0.5, trace_id, "complete", "yes" if is_complete(answer) else "no", judge)
            _later(0.5, trace_id, "grounded", self._grounded(answer), judge)
        if random.random() < THUMB_SHARE:
            kind = "none" if answer is None else "complete" if is_complete(answer) else "cut off"
            is_up = random.random() < LIKED[kind]
            _later(random.uniform(*THINKS_S), trace_id, "thumb", is_up, AssessmentSource("HUMAN", user))

    def _grounded(self, answer: str) -> float:
        """The share of the words of an answer that are in the articles."""
        found = words(answer)
        return round(sum(word in self._known for word in found) / len(found), 2) if found else 0.0


def is_complete(answer: str) -> bool:
    """Whether an answer ends with the end of a sentence."""
    return answer.rstrip().endswith((".", "!", "?"))


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[a-z]+", text.lower())


def _later(after_s: float, trace_id: str, name: str, value: bool | str | float, source: AssessmentSource) -> None:
    timer = threading.Timer(after_s, _send, (trace_id, name, value, source))
    timer.daemon = True  # what is not said when the demo ends is not said
    timer.start()


def _send(trace_id: str, name: str, value: bool | str | float, source: AssessmentSource) -> None:
    """Send a feedback. Traces are sent in the background, so it can be there before its trace."""
    for _ in range(ATTEMPTS):
        try:
            mlflow.log_feedback(trace_id=trace_id, name=name, value=value, source=source)
        except MlflowException as error:
            reason = error
            time.sleep(AGAIN_S)
        else:
            return
    log.info("feedback on %s was not accepted: %s", trace_id, reason)
