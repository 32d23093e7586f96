"""Files for other programs that come with this one.

They stand at the top of the project, where people look for them; a wheel has a copy of them in the package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def prometheus(name: str) -> Path:
    """A file or folder of prometheus/: ``rules``, ``runbook.md``, ``prometheus.yml`` or ``alertmanager.yml``."""
    return _of("prometheus") / name


def grafana(name: str) -> Path:
    """A file or folder of grafana/: ``dashboards``."""
    return _of("grafana") / name


def _of(folder: str) -> Path:
    installed = _PACKAGE / folder
    return installed if installed.is_dir() else _PACKAGE.parents[2] / folder
