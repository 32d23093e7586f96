"""The charts of a report as matplotlib figures. matplotlib is the extra ``plots``, and is imported on first use."""

from typing import TYPE_CHECKING

from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.reports.charts import Charts
from mlflow_trace_exporter.reports.palette import Paint, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIP = "tip:"
"""The beginning of the id of a part of a figure that has a tooltip, which is the rest of the id."""

REMEDY = "pip install 'mlflow-trace-exporter[plots]'"


def require() -> None:
    """Raise UserError if matplotlib cannot be imported. The message says how to install it."""
    try:
        import matplotlib.figure  # noqa: F401 - whether it can be
    except ImportError as error:
        raise UserError(f"charts need matplotlib, which is not installed ({error}); install it with {REMEDY}") from None


def are_possible() -> bool:
    """Whether matplotlib can be imported."""
    try:
        require()
    except UserError:
        return False
    return True


def figures(charts: Charts, paint: Paint = light) -> dict[str, "Figure"]:
    """All charts that have numbers, by name. Raises UserError if matplotlib is not installed."""
    require()
    from mlflow_trace_exporter.reports import drawing

    return dict(drawing.figures(charts, paint))
