"""mlflow-trace-exporter: Prometheus metrics from the traces that MLflow stores.

For notebooks, Airflow and scripts: ``from exporter import make_report, check_health``, see ``exporter.api``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporter.api import check_health, make_report
    from exporter.errors import PollError, UserError
    from exporter.health import Health, Verdict
    from exporter.report import Report, Row

__version__ = "0.1.0"

__all__ = ["Health", "PollError", "Report", "Row", "UserError", "Verdict", "check_health", "make_report"]

_HOMES = {
    "api": ("check_health", "make_report"),
    "errors": ("PollError", "UserError"),
    "health": ("Health", "Verdict"),
    "report": ("Report", "Row"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: with it comes mlflow, which takes a second."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"exporter.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
