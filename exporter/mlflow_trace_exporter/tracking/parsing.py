"""Converts MLflow's JSON to the domain types. Pure; does not import mlflow."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.tracking.amounts import MAX_AMOUNT, cost_of, usage_of
from mlflow_trace_exporter.tracking.assessment_parsing import assessments_of
from mlflow_trace_exporter.tracking.experiments import Experiment
from mlflow_trace_exporter.tracking.json_text import object_in


# gc=False: values that are read from JSON have no cycles, so the garbage collector need not visit them
class _Experiment(msgspec.Struct, gc=False):
    experiment_id: str


class _Location(msgspec.Struct, gc=False):
    mlflow_experiment: _Experiment


class TraceInfo(msgspec.Struct, gc=False):
    """A trace as MLflow's REST API 3.0 returns it. Fields of type ``object`` may have any JSON value."""

    trace_id: str
    trace_location: _Location
    request_time: str
    execution_duration: object = None
    state: object = None
    trace_metadata: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    assessments: object = None

    @property
    def start_ms(self) -> int:
        """The start in Unix ms, rounded down. Example: 1970-01-01T00:00:01.0005Z is 1000. Raises ValueError if it is
        not an RFC 3339 time."""
        time = datetime.fromisoformat(self.request_time)
        if time.tzinfo is None:
            raise ValueError(f"the request_time {self.request_time[:50]!r} of a trace has no time zone")
        return (time - _EPOCH) // _MS


class TracePage(msgspec.Struct, gc=False):
    """A response to a search for traces. ``next_page_token`` is empty or None on the last page."""

    traces: list[TraceInfo] = []
    next_page_token: str | None = None


_EPOCH = datetime.fromtimestamp(0, UTC)
_MS = timedelta(milliseconds=1)


def to_record(found: TraceInfo, experiments: Mapping[str, Experiment], seen_ms: int) -> TraceRecord:
    """Convert a trace to a TraceRecord. ``experiments``: by id. Raises ValueError if its id cannot be stored
    or its start is invalid.

    A duration, usage or cost that cannot be parsed is treated as missing: the trace is still counted.
    """
    found.trace_id.encode()  # raises if it cannot be stored
    metadata, tags = found.trace_metadata or {}, found.tags or {}
    experiment_id = found.trace_location.mlflow_experiment.experiment_id
    experiment = experiments.get(experiment_id)
    return TraceRecord(
        trace_id=found.trace_id,
        experiment_id=experiment_id,
        experiment=experiment.unique_name if experiment else experiment_id,
        state=_state(found.state, ended=found.execution_duration is not None),
        start_ms=found.start_ms,
        seen_ms=seen_ms,
        duration_ms=_duration_ms(found.execution_duration),
        finalized=metadata.get("mlflow.trace.infoFinalized") == "true",
        name=tags.get("mlflow.traceName"),
        user=metadata.get("mlflow.trace.user"),
        session=metadata.get("mlflow.trace.session"),
        usage=usage_of(object_in(metadata.get("mlflow.trace.tokenUsage"))),
        cost=cost_of(object_in(metadata.get("mlflow.trace.cost"))),
        tags=tags,
        metadata=metadata,
        experiment_tags=experiment.tags if experiment else {},
        workspace=experiment.workspace if experiment else None,
        assessments=assessments_of(found.assessments) if found.assessments else (),
    )


def _state(state: object, ended: bool) -> State:
    """MLflow treats STATE_UNSPECIFIED (no state, or an unknown one) as an end state. So such a trace is in progress
    only while it has no duration."""
    known = _STATES.get(state) if isinstance(state, str) else None
    if known is not None:
        return known
    return State.OK if ended else State.IN_PROGRESS


_STATES = {state.value: state for state in State}


_DURATION = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?s", re.ASCII)


def _duration_ms(text: object) -> int | None:
    """Convert a Protocol Buffers duration to ms, rounded down; None if it is invalid. Examples: 0.051s is 51.
    1780000000s (a start in 1970) and -1.500s are invalid."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    duration_ms = int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0")[:3])
    return duration_ms if duration_ms <= MAX_AMOUNT else None
