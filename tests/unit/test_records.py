"""What is made of MLflow's traces."""

import re

import pytest
from mlflow.entities import TraceInfo, TraceLocation, TraceState

from exporter.records import to_record
from exporter.trace import Cost, State, TokenUsage


def info(state: TraceState = TraceState.OK, duration: int | None = 5, **metadata: str) -> TraceInfo:
    return TraceInfo(
        trace_id="tr-1",
        trace_location=TraceLocation.from_experiment_id("7"),
        request_time=1_000,
        execution_duration=duration,
        state=state,
        trace_metadata={f"mlflow.trace.{key}": value for key, value in metadata.items()},
        tags={"mlflow.traceName": "support", "environment": "production"},
    )


def test_a_trace_with_everything() -> None:
    usage = '{"input_tokens": 10, "output_tokens": 2, "total_tokens": 12, "cache_read_input_tokens": 8}'
    cost = '{"input_cost": 0.5, "output_cost": 0.25, "total_cost": 0.75}'
    record = to_record(info(tokenUsage=usage, cost=cost, user="u", session="s"), {"7": "chatbot"}, seen_ms=9_000)
    assert (record.trace_id, record.experiment, record.state) == ("tr-1", "chatbot", State.OK)
    assert (record.start_ms, record.end_ms, record.duration_s, record.seen_ms) == (1_000, 1_005, 0.005, 9_000)
    assert (record.name, record.user, record.session) == ("support", "u", "s")
    assert record.usage == TokenUsage(10, 2, 8, None)
    assert record.cost == Cost(0.5, 0.25)


@pytest.mark.parametrize(("mark", "finalized"), [("true", True), ("false", False), ("", False)])
def test_mlflow_s_mark(mark: str, finalized: bool) -> None:
    assert to_record(info(infoFinalized=mark), {}, 0).finalized is finalized
    assert to_record(info(), {}, 0).finalized is False


def test_what_users_wrote_is_not_in_the_repr() -> None:
    record = to_record(info(user="alice", secret="prompt text"), {}, 0)
    assert not re.search("alice|prompt text|production", repr(record))


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", '"12"', "12", "{", "{}", "nonsense", "[" * 100_000, '{"input_tokens": null}'),
        *('{"input_tokens": "10"}', '{"input_tokens": true}', '{"input_tokens": -1}', '{"input_tokens": 1.5}'),
        *('{"input_tokens": NaN}', '{"input_tokens": Infinity}', '{"input_tokens": 1e300}', '{"input_tokens": [1]}'),
    ],
)
def test_a_usage_that_cannot_be_read_is_none(text: str) -> None:
    assert to_record(info(tokenUsage=text), {}, 0).usage is None


def test_what_can_be_read_of_a_usage_is_kept() -> None:
    usage = to_record(info(tokenUsage='{"input_tokens": "x", "output_tokens": 3.0}'), {}, 0).usage
    assert usage == TokenUsage(input=None, output=3)


@pytest.mark.parametrize("text", ["", "{}", '{"input_cost": "1"}', '{"output_cost": -0.1}', '{"input_cost": NaN}'])
def test_a_cost_that_cannot_be_read_is_none(text: str) -> None:
    assert to_record(info(cost=text), {}, 0).cost is None


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (TraceState.OK, State.OK),
        (TraceState.ERROR, State.ERROR),
        (TraceState.IN_PROGRESS, State.IN_PROGRESS),
        (TraceState.STATE_UNSPECIFIED, State.IN_PROGRESS),
    ],
)
def test_states(given: TraceState, state: State) -> None:
    assert to_record(info(state=given), {}, 0).state is state


@pytest.mark.parametrize("duration", [None, -5])
def test_a_duration_that_cannot_be_is_none(duration: int | None) -> None:
    record = to_record(info(duration=duration), {}, 0)
    assert record.duration_ms is None
    assert record.end_ms is None


def test_an_experiment_whose_name_is_not_known_goes_by_its_id() -> None:
    assert to_record(info(), {}, 0).experiment == "7"
