"""Write the dashboards: python -m grafana [FOLDER]."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import cost, exporter, models, objectives, overview, quality, versions
from grafana.panels import dashboard
from mlflow_trace_exporter.bundled.dashboards import as_text

BOARDS = (overview.BOARD, objectives.BOARD, versions.BOARD, cost.BOARD, models.BOARD, quality.BOARD, exporter.BOARD)


def texts() -> dict[str, str]:
    """Each dashboard as JSON, by the name of its file."""
    return {f"{board.uid}.json": as_text(dashboard(board).build(), JSONEncoder) for board in BOARDS}


def write(folder: Path) -> None:
    """Write all of them."""
    for name, text in texts().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("dashboards"))
