"""mlflow-trace-exporter: Prometheus metrics from the traces that MLflow stores.

For notebooks, Airflow and scripts: ``from mlflow_trace_exporter import make_report, check_health``; see
``mlflow_trace_exporter.reports.api``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_trace_exporter.errors import PollError, UserError
    from mlflow_trace_exporter.reports.api import check_health, make_report
    from mlflow_trace_exporter.reports.health import Health, Verdict
    from mlflow_trace_exporter.reports.report import Report
    from mlflow_trace_exporter.reports.rows import Row

__version__ = "0.1.0"

__all__ = ["Health", "PollError", "Report", "Row", "UserError", "Verdict", "check_health", "make_report"]

_HOMES = {
    "reports.api": ("check_health", "make_report"),
    "errors": ("PollError", "UserError"),
    "reports.health": ("Health", "Verdict"),
    "reports.report": ("Report",),
    "reports.rows": ("Row",),
}


def __getattr__(name: str) -> Any:
    """Import a name on first use, because importing mlflow takes a second."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"mlflow_trace_exporter.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
