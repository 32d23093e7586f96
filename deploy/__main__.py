"""Put the rules and dashboards into the chart, and render the plain manifests with Helm: python -m deploy."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlflow_trace_exporter.bundled import packaged

CHART = Path(__file__).parent / "helm" / "mlflow-trace-exporter"
MANIFESTS = Path(__file__).parent / "kubernetes"
OLDEST_KUBERNETES = "1.27"
"""As in Chart.yaml. A Helm that `go install` built would render for 1.20."""
RELEASE = "mlflow-trace-exporter"
Values = Mapping[str, Any]
VARIANTS: Mapping[str, tuple[str, Values]] = MappingProxyType(
    {
        "sqlite.yaml": (
            """\
# The exporter, with its ledger in a file on a volume:
#
#   kubectl apply -f sqlite.yaml
""",
            {},
        ),
        "postgresql.yaml": (
            """\
# Two exporters with one ledger in PostgreSQL: one leads, and the other takes over if it fails. Only the leader is
# ready.
#
#   kubectl create secret generic mlflow-trace-exporter --from-literal=PGPASSWORD=...
#   kubectl apply -f postgresql.yaml
""",
            {
                "config": {"ledger": {"url": "postgresql://exporter@postgresql/exporter"}},
                "existingSecret": "mlflow-trace-exporter",
            },
        ),
    }
)
_REST = """\
#
# First set `image`, and `tracking_uri` in the ConfigMap. After a change of the ConfigMap, restart the pods with
# `kubectl rollout restart`. Written by `python -m deploy` from the chart in deploy/helm, which has more options.
"""
_OF_HELM = re.compile(
    r"^(# Source: .*| *helm\.sh/chart: .*| *app\.kubernetes\.io/managed-by: .*"
    r"| *annotations:\n *checksum/config: .*)\n",
    re.MULTILINE,
)


def files() -> dict[Path, str]:
    """What the chart contains a copy of, by its path."""
    copied = {
        "rules": packaged.prometheus("rules").glob("*.yml"),
        "dashboards": packaged.grafana("dashboards").glob("*.json"),
    }
    return {
        CHART / "files" / folder / file.name: file.read_text(encoding="utf-8")
        for folder, found in copied.items()
        for file in found
    }


def manifests(helm: str = "helm") -> dict[Path, str]:
    """The plain manifests, by their paths. ``helm`` is the program. Raises CalledProcessError if it fails."""
    return {MANIFESTS / name: head + _REST + _plain(helm, values) for name, (head, values) in VARIANTS.items()}


def _plain(helm: str, values: Values) -> str:
    """What Helm renders, without what only Helm uses."""
    command = [helm, "template", RELEASE, str(CHART), "--values=-", f"--kube-version={OLDEST_KUBERNETES}"]
    done = subprocess.run(command, input=json.dumps(values), stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - it is what was asked for
    return _OF_HELM.sub("", done.stdout)


def write(texts: Mapping[Path, str]) -> None:
    """Write these files, and remove others from their folders."""
    for folder in {path.parent for path in texts}:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in set(folder.iterdir()) - texts.keys():
            stale.unlink()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(files())
    write(manifests())
