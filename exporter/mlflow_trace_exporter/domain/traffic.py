"""Classifies traces by their origin: the application itself, an evaluation, a scorer or a gateway. Pure."""

from enum import Enum

from mlflow_trace_exporter.domain.trace import TraceRecord


class Traffic(Enum):
    """The origins of traces, as MLflow marks them (``mlflow.tracing.constant``)."""

    APPLICATION = "application"
    EVALUATION = "evaluation"
    SCORER = "scorer"
    GATEWAY = "gateway"


def traffic_of(record: TraceRecord) -> Traffic:
    """Classify a trace. The trace of a scorer is ``SCORER`` whatever started the scorer."""
    if "mlflow.trace.sourceScorer" in record.tags:
        return Traffic.SCORER
    if "mlflow.eval.requestId" in record.tags:
        return Traffic.EVALUATION
    for key in record.metadata:
        if key.startswith("mlflow.gateway."):
            return Traffic.GATEWAY
    return Traffic.APPLICATION
