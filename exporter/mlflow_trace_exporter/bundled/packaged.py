"""Paths of the files for other programs that ship with the exporter.

In the repository they are in top-level directories, where people look for them. A wheel has a copy in the package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def prometheus(name: str) -> Path:
    """A path in prometheus/: ``rules``, ``runbook.md``, ``prometheus.yml`` or ``alertmanager.yml``."""
    return _of("prometheus") / name


def grafana(name: str) -> Path:
    """A path in grafana/: ``dashboards``."""
    return _of("grafana") / name


def _of(folder: str) -> Path:
    installed = _PACKAGE / folder
    return installed if installed.is_dir() else _PACKAGE.parents[2] / folder
