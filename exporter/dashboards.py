"""`dashboards`: the dashboards that come with the exporter, as files for Grafana."""

from collections.abc import Iterator
from pathlib import Path

from exporter import packaged
from exporter.errors import UserError, what_failed
from exporter.rules import Links


def write(folder: Path, links: Links) -> Iterator[Path]:
    """Write them, and name each as it is written. Raises UserError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(packaged.grafana("dashboards").glob("*.json")):
            made = folder / file.name
            made.write_text(links.put_into(file.read_text(encoding="utf-8")), encoding="utf-8")
            yield made
    except OSError as error:
        raise UserError(f"--output: cannot write {folder}: {what_failed(error)}; choose another folder") from None
