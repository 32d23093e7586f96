"""The order in which several requests are sent, answered and dropped."""

from collections.abc import Iterator

import pytest

from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.tracking.pending import PendingAnswer, answers
from tests.support.simulated import unreachable


class Requests:
    """Requests 1, 2 and so on. ``told`` lists what happened to them. ``fail_at`` fails."""

    def __init__(self, number: int, fail_at: int = 0) -> None:
        self._number, self._fail_at = number, fail_at
        self.told: list[str] = []

    def __iter__(self) -> Iterator[PendingAnswer[int]]:
        return (self._sent(number) for number in range(1, self._number + 1))

    def _sent(self, number: int) -> PendingAnswer[int]:
        def answer() -> int:
            self.told.append(f"answer {number}")
            if number == self._fail_at:
                raise unreachable()
            return number

        self.told.append(f"ask {number}")
        return PendingAnswer(answer, lambda: self.told.append(f"drop {number}"))


def test_two_requests_are_in_flight_while_an_answer_is_processed() -> None:
    requests = Requests(4)
    for number in answers(requests):
        requests.told.append(f"process {number}")
    assert " ".join(requests.told) == (
        "ask 1 ask 2 answer 1 ask 3 process 1 answer 2 ask 4 process 2 answer 3 process 3 answer 4 process 4"
    )


def test_requests_whose_answers_are_not_needed_are_dropped() -> None:
    requests = Requests(9)
    found = answers(requests)
    next(found)
    found.close()
    assert requests.told[-2:] == ["drop 2", "drop 3"]


def test_after_a_failure_the_rest_is_dropped() -> None:
    requests = Requests(9, fail_at=2)
    found = answers(requests)
    next(found)
    with pytest.raises(PollError):
        next(found)
    assert requests.told[-2:] == ["answer 2", "drop 3"]
    assert list(found) == []


def test_nothing_is_requested_if_there_is_nothing_to_request() -> None:
    assert list(answers(Requests(0))) == []
