"""Write the rules: python -m prometheus [FOLDER]."""

import sys
from pathlib import Path

from prometheus import exporter, objectives, recording, traces, versions
from prometheus.rule import File

FILES = (
    recording.FILE,
    File("mlflow-alerts.yml", objectives.HEAD, (objectives.GROUP, versions.GROUP, traces.GROUP)),
    exporter.FILE,
)


def texts() -> dict[str, str]:
    """The YAML of each file, by its name."""
    return {file.name: file.text() for file in FILES}


def write(folder: Path) -> None:
    """Write all of them."""
    for name, text in texts().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("rules"))
