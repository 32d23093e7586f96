"""Parsing MLflow's traces."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.tracking import parsing
from mlflow_trace_exporter.tracking.amounts import MAX_AMOUNT
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.json_text import Json
from mlflow_trace_exporter.tracking.parsing import TraceInfo, TracePage

TRACE = Json(TraceInfo)


def to_record(found: dict[str, Any], experiments: Mapping[str, str], seen_ms: int) -> TraceRecord:
    """Convert a trace to a record by way of JSON."""
    known = {key: Experiment(key, name, 0, {"team": "a"}) for key, name in experiments.items()}
    return parsing.to_record(TRACE.read(json.dumps(found)), known, seen_ms)


def trace(**metadata: str) -> dict[str, Any]:
    """A trace as MLflow's REST API gives it."""
    return {
        "trace_id": "tr-1",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "7"}},
        "request_time": "1970-01-01T00:00:01Z",
        "execution_duration": "0.005s",
        "state": "OK",
        "trace_metadata": {f"mlflow.trace.{key}": value for key, value in metadata.items()},
        "tags": {"mlflow.traceName": "support", "environment": "production"},
    }


def but(**fields: Any) -> TraceRecord:
    """The record of a trace that has other fields, or lacks those that are None."""
    return to_record({key: value for key, value in {**trace(), **fields}.items() if value is not None}, {}, 0)


def test_a_trace_with_everything() -> None:
    usage = '{"input_tokens": 10, "output_tokens": 2, "total_tokens": 12, "cache_read_input_tokens": 8}'
    cost = '{"input_cost": 0.5, "output_cost": 0.25, "total_cost": 0.75}'
    record = to_record(trace(tokenUsage=usage, cost=cost, user="u", session="s"), {"7": "chatbot"}, seen_ms=9_000)
    assert (record.trace_id, record.experiment, record.state) == ("tr-1", "chatbot", State.OK)
    assert record.experiment_tags == {"team": "a"}
    assert (record.start_ms, record.end_ms, record.duration_s, record.seen_ms) == (1_000, 1_005, 0.005, 9_000)
    assert (record.name, record.user, record.session) == ("support", "u", "s")
    assert record.usage == TokenUsage(10, 2, 8, None)
    assert record.cost == Cost(0.5, 0.25)


def test_a_trace_with_next_to_nothing() -> None:
    record = but(execution_duration=None, state=None, trace_metadata=None, tags=None)
    assert (record.state, record.duration_ms, record.name, record.tags) == (State.IN_PROGRESS, None, None, {})


@pytest.mark.parametrize(("mark", "finalized"), [("true", True), ("false", False), ("", False)])
def test_mlflow_s_mark(mark: str, finalized: bool) -> None:
    assert to_record(trace(infoFinalized=mark), {}, 0).finalized is finalized
    assert but().finalized is False


def test_user_input_is_not_in_the_repr() -> None:
    record = to_record(trace(user="alice", secret="prompt text"), {"7": "chatbot"}, 0)
    assert not re.search("alice|prompt text|production|team", repr(record))


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", '"12"', "12", "{", "{}", "nonsense", "[" * 100_000, '{"input_tokens": null}'),
        *('{"input_tokens": "10"}', '{"input_tokens": true}', '{"input_tokens": -1}', '{"input_tokens": 1.5}'),
        *('{"input_tokens": NaN}', '{"input_tokens": Infinity}', '{"input_tokens": 1e300}', '{"input_tokens": [1]}'),
        *('{"total_tokens": "9"}', '{"total_tokens": true}', '{"total_tokens": -1}', '{"total_tokens": 1e300}'),
    ],
)
def test_an_unreadable_usage_is_missing(text: str) -> None:
    assert to_record(trace(tokenUsage=text), {}, 0).usage is None


def test_the_readable_part_of_a_usage_is_kept() -> None:
    usage = to_record(trace(tokenUsage='{"input_tokens": "x", "output_tokens": 3.0}'), {}, 0).usage
    assert usage == TokenUsage(input=None, output=3)


@pytest.mark.parametrize(
    ("text", "given", "made"),
    [
        ('{"total_tokens": 120}', 120, None),
        ('{"input_tokens": 0, "output_tokens": 0, "total_tokens": 120}', 120, 0),  # as MLflow 3.17 stores the one above
        ('{"input_tokens": 0, "total_tokens": 120}', 120, None),
        ('{"output_tokens": 0, "total_tokens": 120}', 120, 0),
        ('{"input_tokens": 100, "total_tokens": 120}', 100, 20),
        ('{"input_tokens": 100, "output_tokens": 0, "total_tokens": 120}', 100, 20),
        ('{"output_tokens": 20, "total_tokens": 120}', 100, 20),
        ('{"input_tokens": 0, "output_tokens": 20, "total_tokens": 120}', 100, 20),
        ('{"input_tokens": -1, "output_tokens": 20, "total_tokens": 120}', 100, 20),
        ('{"input_tokens": 100, "output_tokens": 20, "total_tokens": 150}', 100, 20),  # thinking tokens
        ('{"input_tokens": 100, "output_tokens": 20, "total_tokens": 7}', 100, 20),
        ('{"input_tokens": 100, "total_tokens": 100}', 100, None),
        ('{"input_tokens": 100, "total_tokens": "120"}', 100, None),
        ('{"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}', 0, 0),
        ('{"total_tokens": 0}', 0, None),
    ],
)
def test_tokens_of_a_total_beyond_its_parts(text: str, given: int | None, made: int | None) -> None:
    assert to_record(trace(tokenUsage=text), {}, 0).usage == TokenUsage(given, made)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", '{"input_cost": "1"}', '{"output_cost": -0.1}', '{"input_cost": NaN}'),
        *('{"total_cost": "1"}', '{"total_cost": -0.1}', '{"total_cost": NaN}', '{"total_cost": true}'),
    ],
)
def test_an_unreadable_cost_is_missing(text: str) -> None:
    assert to_record(trace(cost=text), {}, 0).cost is None


@pytest.mark.parametrize(
    ("text", "given", "made"),
    [
        ('{"total_cost": 0.25}', 0.25, None),
        ('{"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.25}', 0.25, 0.0),  # as MLflow 3.17 stores it
        ('{"output_cost": 0.25, "total_cost": 0.75}', 0.5, 0.25),
        ('{"input_cost": 0.25, "total_cost": 0.75}', 0.75, None),
        ('{"input_cost": 0.25, "output_cost": 0.25, "total_cost": 0.75}', 0.5, 0.25),
        ('{"input_cost": 0.1, "output_cost": 0.2, "total_cost": 0.30000000004}', 0.1, 0.2),  # rounding
        ('{"input_cost": 0.5, "output_cost": 0.25, "total_cost": 0.5}', 0.5, 0.25),
        ('{"input_cost": 0.5, "total_cost": "0.75"}', 0.5, None),
        ('{"total_cost": 0}', 0, None),
    ],
)
def test_the_cost_of_a_total_beyond_its_parts(text: str, given: float | None, made: float | None) -> None:
    assert to_record(trace(cost=text), {}, 0).cost == Cost(given, made)


@pytest.mark.parametrize("duration", ["0s", "0.010s", None])
@pytest.mark.parametrize("given", ["OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED", "ok", "DONE", "", 1, None])
def test_an_unknown_state_is_an_end_state_if_there_is_a_duration(given: Any, duration: str | None) -> None:
    known = {"OK": State.OK, "ERROR": State.ERROR, "IN_PROGRESS": State.IN_PROGRESS}
    expected = known.get(given) or (State.IN_PROGRESS if duration is None else State.OK)
    assert but(state=given, execution_duration=duration).state is expected


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        *(("0s", 0), ("0.051s", 51), ("1s", 1_000), ("1.5s", 1_500), ("1000.001s", 1_000_001)),
        *(("0.000999999s", 0), ("0.0519s", 51), ("1000000000s", MAX_AMOUNT)),
    ],
)
def test_durations_are_exact_to_the_millisecond(text: str, duration_ms: int) -> None:
    record = but(execution_duration=text)
    assert record.duration_ms == duration_ms
    assert record.end_ms == 1_000 + duration_ms


@pytest.mark.parametrize(
    "text",
    [
        *("-0.005s", "-1.500s", "1000000000.001s", "1780000000s", "315576000000s", f"{10**300}s"),
        *(
            "NaN",
            "NaNs",
            "infs",
            "1e3s",
            "5",
            "",
            "s",
            "5 s",
            "\N{ARABIC-INDIC DIGIT FIVE}s",
            5,
            0.5,
            [],
            {"seconds": 5},
        ),
    ],
)
def test_an_impossible_duration_is_missing(text: Any) -> None:
    record = but(execution_duration=text)
    assert record.duration_ms is None
    assert record.end_ms is None
    assert record.state is State.OK


@pytest.mark.parametrize(
    ("text", "start_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01T00:00:00.001999999Z", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-05-28T20:26:40.123456Z", 1_780_000_000_123),
        ("2026-05-28T22:26:40.123+02:00", 1_780_000_000_123),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_starts_are_exact_to_the_millisecond(text: str, start_ms: int) -> None:
    assert but(request_time=text).start_ms == start_ms


@pytest.mark.parametrize(
    "fields",
    [
        *({"trace_id": each} for each in (None, 7, ["tr-1"], "tr-\ud800")),
        *(
            {"request_time": each}
            for each in (None, 7, "", "yesterday", "2026-05-28T20:26:40", "10000-01-01T00:00:00Z")
        ),
        *({"trace_location": each} for each in (None, 7, {}, {"mlflow_experiment": {"experiment_id": 7}})),
        *({"tags": each} for each in (7, ["a"], {"a": 7}, {"a": None})),
        *({"trace_metadata": each} for each in ("x", {"mlflow.trace.cost": 0.5})),
    ],
)
def test_an_invalid_trace_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"trace|surrogate|isoformat|Expected|required field"):
        but(**fields)


def test_an_experiment_without_a_known_name_is_named_by_its_id() -> None:
    assert but().experiment == "7"


SAMPLE = json.dumps({"traces": [{**trace(user="x"), "state": 7}], "next_page_token": None})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"x"', '"\\ud800"'),  # half of an emoji, as an application may cut it off
        ('"x"', '"\\u0000\\ud83d\\ude00"'),
        *((": 7", f": {each}") for each in ("NaN", "-Infinity", "1e999", "-0.0", "1e5", "9" * 400, "[{}]", "null")),
        ('"tags"', '"tags": {}, "more": NaN, "tags"'),
    ],
)
def test_whatever_json_python_reads_is_read_alike(before: str, after: str) -> None:
    """The fast parser rejects some of it."""
    text = SAMPLE.replace(before, after)
    assert text != SAMPLE
    (found,), (expected,) = Json(TracePage).read(text).traces, json.loads(text)["traces"]
    assert repr(found.state) == repr(expected["state"])
    assert (found.trace_metadata, found.tags) == (expected["trace_metadata"], expected["tags"])


@pytest.mark.parametrize("number", ["9" * 30, "1e999", "NaN", "Infinity", "9" * 5_000])
def test_an_odd_number_does_not_affect_other_numbers(number: str) -> None:
    usage = to_record(trace(tokenUsage=f'{{"input_tokens": 3, "output_tokens": {number}}}'), {}, 0).usage
    assert usage == (None if len(number) > 4_300 else TokenUsage(3, None))  # Python parses no integer with more digits


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{", '{"traces": 7}', '{"traces": [7]}', '{"traces": [{}]}', "{}{}", "\ufeff{}"]
)
def test_what_is_not_a_page_of_traces(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expect|missing|Extra|BOM"):
        Json(TracePage).read(text)
