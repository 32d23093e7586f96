"""What the user of the demo chose, and what follows from it."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mlflow_trace_exporter.demo.monitoring import Stack
from mlflow_trace_exporter.demo.processes import HOST

INTERVAL_S = 2
INCIDENT_AFTER_S = 60.0
INCIDENT_FOR_S = 240.0


@dataclass(frozen=True)
class Options:
    """The flags of the command. ``rate`` is in questions per second. A ``duration`` of None lasts until Ctrl-C."""

    duration: timedelta | None
    rate: float
    incident: bool
    data_dir: Path
    exporter_port: int
    mlflow_port: int
    prometheus_port: int
    alertmanager_port: int

    @property
    def data(self) -> Path:
        """The absolute path of the directory for all data."""
        return self.data_dir.resolve()

    @property
    def mlflow(self) -> str:
        """The address of the MLflow server."""
        return f"http://{HOST}:{self.mlflow_port}"

    @property
    def metrics(self) -> str:
        """The address of the metrics."""
        return f"http://{HOST}:{self.exporter_port}/metrics"

    def stack(self, receiver_port: int) -> Stack:
        """The ports of the monitoring stack."""
        return Stack(self.exporter_port, self.prometheus_port, self.alertmanager_port, receiver_port, INTERVAL_S)

    @property
    def incident_after_s(self) -> float | None:
        """When the bad version is rolled out: after a minute, or after a third of a duration below three minutes."""
        if not self.incident:
            return None
        return min(INCIDENT_AFTER_S, self.duration.total_seconds() / 3) if self.duration else INCIDENT_AFTER_S
