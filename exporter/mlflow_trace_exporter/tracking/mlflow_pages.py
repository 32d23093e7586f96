"""Builds the addresses of pages in MLflow's user interface. Pure."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from mlflow_trace_exporter.domain.moments import utc
from mlflow_trace_exporter.domain.trace import TraceRecord


@dataclass(frozen=True, slots=True)
class MlflowPages:
    """MLflow's user interface. ``url`` has no trailing slash. ``workspace`` is the only workspace that is read, None if
    there are several or none. MLflow's pages show the workspace in their address, or else the one that was opened
    last."""

    url: str
    workspace: str | None = None

    @property
    def home(self) -> str:
        """The start page."""
        return self._page("", {}, self.workspace) if self.workspace else self.url

    def trace(self, record: TraceRecord) -> str:
        """The page of a trace."""
        return self._page(f"{_traces_of(record)}/{quote(record.trace_id, safe='')}", {}, record.workspace)

    def traces(self, record: TraceRecord, lo_ms: int, hi_ms: int) -> str:
        """The list of the traces that are in the same experiment and started in [lo_ms, hi_ms) (Unix ms)."""
        times = {"startTimeLabel": "CUSTOM", "startTime": _text(lo_ms), "endTime": _text(hi_ms)}
        return self._page(_traces_of(record), times, record.workspace)

    def _page(self, path: str, query: dict[str, str], workspace: str | None) -> str:
        named = {**query, **({"workspace": workspace} if workspace else {})}
        return f"{self.url}/#/{path}{'?' if named else ''}{urlencode(named)}"


def _traces_of(record: TraceRecord) -> str:
    return f"experiments/{quote(record.experiment_id, safe='')}/traces"


def _text(ms: int) -> str:
    return utc(ms).isoformat().replace("+00:00", "Z")
