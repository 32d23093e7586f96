"""What the demo's judge finds."""

import pytest

from mlflow_trace_exporter.demo.llm import ANSWERS
from mlflow_trace_exporter.demo.opinions import is_complete


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_was_cut_off_is_not_complete(answer: str) -> None:
    assert is_complete(answer + " ")
    assert not is_complete(answer[:48])
