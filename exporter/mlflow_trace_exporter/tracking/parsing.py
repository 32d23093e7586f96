"""MLflow's answers as the values that the rest of the program works with. Pure; needs no MLflow."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow_trace_exporter.domain.trace import Cost, State, TokenUsage, TraceRecord

MAX_AMOUNT = 10**12
"""No trace has more tokens, costs more USD or takes longer in ms (31 years); what claims to would spoil a counter for
good."""

ROUNDING = 1e-9
"""By what part of it a total may differ from the sum of its parts."""


def to_record(found: Mapping[str, Any], experiments: Mapping[str, str], seen_ms: int) -> TraceRecord:
    """What we keep of a trace, from its JSON object (TraceInfo of MLflow's REST API 3.0); ``experiments`` are names by
    id. Raises ValueError where it has no id, no start, or tags that are none.

    A duration, a usage or a cost that cannot be read is as good as none: the trace still counts.
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
    trace_id.encode()  # or it could not be stored
    return trace_id


def _experiment_id(found: Mapping[str, Any]) -> str:
    match found:
        case {"trace_location": {"mlflow_experiment": {"experiment_id": str(experiment_id)}}}:
            return experiment_id
    raise ValueError("a trace has no experiment_id")


def _texts(found: Mapping[str, Any], key: str) -> Mapping[str, str]:
    texts = found.get(key) or {}
    if not isinstance(texts, dict) or not all(isinstance(value, str) for value in texts.values()):
        raise ValueError(f"the {key} of a trace are no texts by name")
    return texts


def _state(state: object, ended: bool) -> State:
    """MLflow counts STATE_UNSPECIFIED (no state, or one that it does not know) among its end states: such a trace is in
    progress only as long as it has no duration."""
    match state:
        case "IN_PROGRESS" | "OK" | "ERROR":
            return State(state)
    return State.OK if ended else State.IN_PROGRESS


_EPOCH = datetime.fromtimestamp(0, UTC)
_MS = timedelta(milliseconds=1)


def _unix_ms(text: object) -> int:
    """RFC 3339 in Unix ms, cut to whole ones. Example: 1970-01-01T00:00:01.0005Z is 1000."""
    if not isinstance(text, str):
        raise ValueError("a trace has no request_time")
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"the request_time {text[:50]!r} of a trace has no time zone")
    return (time - _EPOCH) // _MS


_DURATION = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?s", re.ASCII)


def _duration_ms(text: object) -> int | None:
    """A duration as Protocol Buffers write it, in ms, cut to whole ones; None where it cannot be one. Examples: 0.051s
    is 51, 1780000000s (a start of 1970) and -1.500s are none."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    duration_ms = int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0")[:3])
    return duration_ms if duration_ms <= MAX_AMOUNT else None


def _usage(text: str | None) -> TokenUsage | None:
    """The tokens. What a total has beyond the parts belongs to the part that is absent or 0; where both are, it is
    counted as input, or it would not be counted at all. Where neither is, they stay as they are: the total of Gemini
    also has the tokens that it thinks in."""
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
    """The cost; what a total has beyond its parts, which is all of it where MLflow does not split it, is counted with
    the input."""
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
