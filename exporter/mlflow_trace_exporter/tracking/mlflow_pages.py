"""Builds the addresses of pages in MLflow's user interface. Pure."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from mlflow_trace_exporter.domain.moments import utc


@dataclass(frozen=True, slots=True)
class MlflowPages:
    """MLflow's user interface. ``url`` has no trailing slash. ``workspace`` is the workspace that is read, None if the
    server decides. MLflow's pages show the workspace in their address, or else the one that was opened last."""

    url: str
    workspace: str | None = None

    @property
    def home(self) -> str:
        """The start page."""
        return self._page("", {}) if self.workspace else self.url

    def trace(self, experiment_id: str, trace_id: str) -> str:
        """The page of a trace."""
        return self._page(f"experiments/{quote(experiment_id, safe='')}/traces/{quote(trace_id, safe='')}", {})

    def traces(self, experiment_id: str, lo_ms: int, hi_ms: int) -> str:
        """The list of the traces of an experiment that started in [lo_ms, hi_ms) (Unix ms)."""
        times = {"startTimeLabel": "CUSTOM", "startTime": _text(lo_ms), "endTime": _text(hi_ms)}
        return self._page(f"experiments/{quote(experiment_id, safe='')}/traces", times)

    def _page(self, path: str, query: dict[str, str]) -> str:
        named = {**query, **({"workspace": self.workspace} if self.workspace else {})}
        return f"{self.url}/#/{path}{'?' if named else ''}{urlencode(named)}"


def _text(ms: int) -> str:
    return utc(ms).isoformat().replace("+00:00", "Z")
