"""Write the rules and their tests: python -m prometheus [FOLDER]."""

import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from prometheus import exporter, models, objectives, promtool, quality, recording, traces, versions
from prometheus.rule import File

RULES = (
    recording.FILE,
    File("mlflow-alerts.yml", objectives.HEAD, (objectives.GROUP, versions.GROUP, traces.GROUP)),
    models.FILE,
    quality.FILE,
    exporter.FILE,
)


def rules() -> dict[str, str]:
    """The YAML of each file of rules, by its name."""
    return {file.name: file.text() for file in RULES}


def tests() -> dict[str, str]:
    """The YAML of each file of tests, by its name."""
    return {file.name: file.text(_groups(file.rules)) for file in promtool.FILES}


def _groups(files: str) -> list[str]:
    """The names of the groups in these files. Go's globs, which promtool reads, negate with ^ and Python's with !."""
    pattern = files.replace("[^", "[!")
    return [group.name for file in RULES if fnmatch(file.name, pattern) for group in file.groups]


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    write(target / "rules", rules())
    write(target / "tests", tests())
