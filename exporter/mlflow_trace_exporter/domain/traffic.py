"""What a trace comes from: the application itself, or what is done around it. Pure."""

from enum import Enum

from mlflow_trace_exporter.domain.trace import TraceRecord


class Traffic(Enum):
    """The kinds of traces in an experiment, as MLflow marks them (``mlflow.tracing.constant``)."""

    APPLICATION = "application"
    EVALUATION = "evaluation"
    SCORER = "scorer"
    GATEWAY = "gateway"


def traffic_of(record: TraceRecord) -> Traffic:
    """Which kind a trace is of. A scorer's trace is one, whatever it was started by."""
    if "mlflow.trace.sourceScorer" in record.tags:
        return Traffic.SCORER
    if "mlflow.eval.requestId" in record.tags:
        return Traffic.EVALUATION
    if any(key.startswith("mlflow.gateway.") for key in record.metadata):
        return Traffic.GATEWAY
    return Traffic.APPLICATION
