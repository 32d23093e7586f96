"""MLflow's answers as the values that the rest of the program works with. Pure; needs no MLflow."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from exporter.trace import Cost, State, TokenUsage, TraceRecord

if TYPE_CHECKING:
    from mlflow.entities import TraceInfo


def to_record(info: "TraceInfo", experiments: Mapping[str, str], seen_ms: int) -> TraceRecord:
    """What we keep of a trace; ``experiments`` are names by id.

    A usage or a cost that cannot be read is as good as none: the trace still counts.
    """
    metadata, tags = info.trace_metadata, info.tags
    duration_ms = info.execution_duration
    return TraceRecord(
        trace_id=info.trace_id,
        experiment_id=info.experiment_id,
        experiment=experiments.get(info.experiment_id, info.experiment_id),
        state=_STATES.get(info.state.value, State.IN_PROGRESS),
        start_ms=info.request_time,
        seen_ms=seen_ms,
        duration_ms=duration_ms if duration_ms is not None and duration_ms >= 0 else None,
        finalized=metadata.get("mlflow.trace.infoFinalized") == "true",
        name=tags.get("mlflow.traceName"),
        user=metadata.get("mlflow.trace.user"),
        session=metadata.get("mlflow.trace.session"),
        usage=_usage(metadata.get("mlflow.trace.tokenUsage")),
        cost=_cost(metadata.get("mlflow.trace.cost")),
        tags=tags,
        metadata=metadata,
    )


_STATES = {state.value: state for state in State}


def _usage(text: str | None) -> TokenUsage | None:
    found = _object(text)
    usage = TokenUsage(
        input=_tokens(found.get("input_tokens")),
        output=_tokens(found.get("output_tokens")),
        cache_read_input=_tokens(found.get("cache_read_input_tokens")),
        cache_creation_input=_tokens(found.get("cache_creation_input_tokens")),
    )
    return None if usage.input is None and usage.output is None else usage


def _cost(text: str | None) -> Cost | None:
    found = _object(text)
    cost = Cost(input_usd=_amount(found.get("input_cost")), output_usd=_amount(found.get("output_cost")))
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


MAX_AMOUNT = 10**12
"""No trace has more tokens or costs more USD; what claims to would spoil a counter for good."""


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= MAX_AMOUNT else None  # NaN and infinities fail the comparison
