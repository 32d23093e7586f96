"""Requests in flight: MLflow works on the next responses while one is processed."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, TypeVar

T = TypeVar("T")

IN_FLIGHT = 2
"""The maximum number of requests of a scan or a lookup at the same time."""


@dataclass(frozen=True, slots=True)
class PendingAnswer(Generic[T]):
    """A request in flight. ``answer`` waits for the response and may be called once. It raises PollError. ``drop`` ends
    the request if the response is not needed."""

    answer: Callable[[], T]
    drop: Callable[[], None]


def together(requests: Iterable[PendingAnswer[T]]) -> PendingAnswer[list[T]]:
    """Several requests as one. From now on up to IN_FLIGHT of them are in flight at a time."""
    unsent = iter(requests)
    sent = list(islice(unsent, IN_FLIGHT))

    def drop() -> None:
        for pending in sent:
            pending.drop()

    return PendingAnswer(lambda: list(answers(chain(sent, unsent))), drop)


def answers(requests: Iterable[PendingAnswer[T]]) -> Generator[T, None, None]:
    """The answers to requests, in their order. ``requests`` sends each request when its next item is taken, so that
    IN_FLIGHT of them are in flight while the caller processes an answer. If a request fails, PollError is raised when
    its answer is due."""
    unsent = iter(requests)
    sent: deque[PendingAnswer[T]] = deque()
    try:
        sent.extend(islice(unsent, IN_FLIGHT))
        while sent:
            answer = sent.popleft().answer()
            sent.extend(islice(unsent, 1))
            yield answer
    finally:
        for pending in sent:
            pending.drop()
