"""Converts MLflow's JSON to the domain types. Pure; does not import mlflow."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow_trace_exporter.domain.trace import Cost, State, TokenUsage, TraceRecord

MAX_AMOUNT = 10**12
"""The limit for tokens, cost in USD and duration in ms (31 years) of one trace. A larger, wrong value would spoil a
counter for good."""

ROUNDING = 1e-9
"""The relative difference that is tolerated between a total and the sum of its parts."""


def to_record(found: Mapping[str, Any], experiments: Mapping[str, str], seen_ms: int) -> TraceRecord:
    """Convert a JSON object (TraceInfo of MLflow's REST API 3.0) to a TraceRecord. ``experiments`` are names by id.
    Raises ValueError if it has no id or no start, or if its tags are invalid.

    A duration, usage or cost that cannot be parsed is treated as missing: the trace is still counted.
    """
    metadata, tags = _texts(found, "trace_metadata"), _texts(found, "tags")
    experiment_id = _experiment_id(found)
    duration = found.get("execution_duration")
    return TraceRecord(
        trace_id=_trace_id(found),
        experiment_id=experiment_id,
        experiment=experiments.get(experiment_id, experiment_id),
        state=_state(found.get("state"), ended=duration is not None),
        start_ms=_unix_ms(found.get("request_time")),
        seen_ms=seen_ms,
        duration_ms=_duration_ms(duration),
        finalized=metadata.get("mlflow.trace.infoFinalized") == "true",
        name=tags.get("mlflow.traceName"),
        user=metadata.get("mlflow.trace.user"),
        session=metadata.get("mlflow.trace.session"),
        usage=_usage(metadata.get("mlflow.trace.tokenUsage")),
        cost=_cost(metadata.get("mlflow.trace.cost")),
        tags=tags,
        metadata=metadata,
    )


def _trace_id(found: Mapping[str, Any]) -> str:
    trace_id = found.get("trace_id")
    if not isinstance(trace_id, str):
        raise ValueError("a trace has no trace_id")
    trace_id.encode()  # raises if it cannot be stored
    return trace_id


def _experiment_id(found: Mapping[str, Any]) -> str:
    match found:
        case {"trace_location": {"mlflow_experiment": {"experiment_id": str(experiment_id)}}}:
            return experiment_id
    raise ValueError("a trace has no experiment_id")


def _texts(found: Mapping[str, Any], key: str) -> Mapping[str, str]:
    texts = found.get(key) or {}
    if not isinstance(texts, dict) or not all(isinstance(value, str) for value in texts.values()):
        raise ValueError(f"the {key} of a trace are not a map of strings")
    return texts


def _state(state: object, ended: bool) -> State:
    """MLflow treats STATE_UNSPECIFIED (no state, or an unknown one) as an end state. So such a trace is in progress
    only while it has no duration."""
    match state:
        case "IN_PROGRESS" | "OK" | "ERROR":
            return State(state)
    return State.OK if ended else State.IN_PROGRESS


_EPOCH = datetime.fromtimestamp(0, UTC)
_MS = timedelta(milliseconds=1)


def _unix_ms(text: object) -> int:
    """Convert an RFC 3339 time to Unix ms, rounded down. Example: 1970-01-01T00:00:01.0005Z is 1000."""
    if not isinstance(text, str):
        raise ValueError("a trace has no request_time")
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"the request_time {text[:50]!r} of a trace has no time zone")
    return (time - _EPOCH) // _MS


_DURATION = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?s", re.ASCII)


def _duration_ms(text: object) -> int | None:
    """Convert a Protocol Buffers duration to ms, rounded down; None if it is invalid. Examples: 0.051s is 51.
    1780000000s (a start in 1970) and -1.500s are invalid."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    duration_ms = int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0")[:3])
    return duration_ms if duration_ms <= MAX_AMOUNT else None


def _usage(text: str | None) -> TokenUsage | None:
    """Parse the token usage. If the total exceeds the sum of input and output, the rest belongs to the one that is
    missing or 0, and to the input if both are. If neither is, the rest is ignored: Gemini's total includes thinking
    tokens."""
    found = _object(text)
    given, made, total = (_tokens(found.get(f"{name}_tokens")) for name in ("input", "output", "total"))
    rest = (total or 0) - (given or 0) - (made or 0)
    if given is None and made is None:
        given = total
    elif rest > 0 and not given:
        given = rest
    elif rest > 0 and not made:
        made = rest
    usage = TokenUsage(
        input=given,
        output=made,
        cache_read_input=_tokens(found.get("cache_read_input_tokens")),
        cache_creation_input=_tokens(found.get("cache_creation_input_tokens")),
    )
    return None if usage.input is None and usage.output is None else usage


def _cost(text: str | None) -> Cost | None:
    """Parse the cost. If the total exceeds the sum of input and output, the rest is added to the input. If MLflow does
    not split the total, this is all of it."""
    found = _object(text)
    given, made, total = (_amount(found.get(f"{name}_cost")) for name in ("input", "output", "total"))
    rest = (total or 0.0) - (given or 0.0) - (made or 0.0)
    if given is None and made is None:
        given = total
    elif total and rest > ROUNDING * total:
        given = (given or 0.0) + rest
    cost = Cost(input_usd=given, output_usd=made)
    return None if cost == Cost() else cost


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _tokens(value: object) -> int | None:
    amount = _amount(value)
    return None if amount is None or amount != int(amount) else int(amount)


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= MAX_AMOUNT else None  # NaN and infinities fail the comparison
