"""Spans as OTLP applications send them to MLflow's own endpoint."""

from collections.abc import Mapping
from types import MappingProxyType

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.waiting import HANG_S

Attributes = Mapping[str, str | int]

MISTRAL: Attributes = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "mistral_ai",
    "gen_ai.request.model": "mistral-large",
    "gen_ai.usage.input_tokens": 40,
    "gen_ai.usage.output_tokens": 4,
}
"""A call of a model."""


def otlp_span(
    ids: tuple[int, int, int | None],
    name: str,
    start_ms: int,
    duration_ms: int = 500,
    failed: bool = False,
    attributes: Attributes = MappingProxyType({}),
) -> Span:
    """A span. ``ids``: those of its trace, its own, and its parent's."""
    trace, number, parent = ids
    values = {
        key: AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
        for key, value in attributes.items()
    }
    return Span(
        trace_id=trace.to_bytes(16),
        span_id=number.to_bytes(8),
        parent_span_id=b"" if parent is None else parent.to_bytes(8),
        name=name,
        start_time_unix_nano=start_ms * 10**6,
        end_time_unix_nano=(start_ms + duration_ms) * 10**6,
        attributes=[KeyValue(key=key, value=value) for key, value in values.items()],
        status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_OK),
    )


def send(uri: str, experiment_id: str, *spans: Span) -> None:
    """Send spans, of any traces, in one request."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    headers = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": experiment_id}
    answer = requests.post(f"{uri}/v1/traces", data=request.SerializeToString(), headers=headers, timeout=HANG_S)
    answer.raise_for_status()
