"""The README's tables are what the code says."""

import re
from pathlib import Path

import yaml

from mlflow_trace_exporter.metrics.status import STATUS_FAMILIES
from mlflow_trace_exporter.settings import config
from tests.support import PROJECT
from tests.support.builders import FAMILIES
from tests.support.panels import DASHBOARDS
from tests.unit.bundled.test_rules import ALERTS

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    below = README.split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert rows is not None, heading
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_metric_table() -> None:
    documented = {name: (row[1], names(row[2])) for row in table("## Metrics") for name in names(row[0])}
    trace = {family.name: ("histogram" if family.edges else "counter", list(family.label_names)) for family in FAMILIES}
    status = {family.name: (family.type, list(family.label_names)) for family in STATUS_FAMILIES}
    assert documented == {**trace, **status}


def test_configuration_table() -> None:
    documented = [name for row in table("## Configuration") for name in names(row[0])]
    assert documented == list(config.keys())


def test_the_configuration_that_is_shown_is_valid(tmp_path: Path) -> None:
    shown = "".join(re.findall(r"```yaml\n# exporter.yml\n(.*?)```", README, re.DOTALL))
    file = tmp_path / "exporter.yml"
    file.write_text(shown, encoding="utf-8")
    config.load(file)


def test_alert_table() -> None:
    documented = {names(row[0])[0]: row[1].split(", ") for row in table("## Alerts")}
    severities: dict[str, list[str]] = {}
    for rule in ALERTS:
        found = severities.setdefault(rule["alert"], [])
        found += [each for each in [rule["labels"]["severity"]] if each not in found]
    assert documented == severities


def test_dashboard_table() -> None:
    assert sorted(row[0] for row in table("## Dashboards")) == sorted(board["title"] for board in DASHBOARDS.values())


def test_the_configuration_of_the_compose_file_is_valid() -> None:
    found = config.load(PROJECT / "exporter.yml")
    assert str(found.ledger.path) == "/var/lib/mlflow-trace-exporter/ledger.db"


def test_what_is_shown_for_kubernetes_fits_together(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(apiVersion: v1\nkind: ConfigMap.*?)```", README, re.DOTALL)
    objects = {each["kind"]: each for each in yaml.safe_load_all(shown)}
    file = tmp_path / "exporter.yml"
    file.write_text(objects["ConfigMap"]["data"]["exporter.yml"])
    ledger = config.load(file).ledger.path
    deployment = objects["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounts[str(ledger.parent)]]["persistentVolumeClaim"]["claimName"] == "mlflow-trace-exporter"
    assert set(mounts.values()) == set(volumes)
    assert objects["PersistentVolumeClaim"]["metadata"]["name"] == "mlflow-trace-exporter"
    (port,) = objects["Service"]["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == objects["Service"]["spec"]["selector"]
    monitor = objects["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"] == objects["Service"]["metadata"]["labels"]
    assert (monitor["endpoints"][0]["port"], monitor["endpoints"][0]["honorLabels"]) == (port["name"], True)


def test_the_image_has_the_user_that_volumes_belong_to() -> None:
    users = {
        *re.findall(r"--uid (\d+)", (PROJECT / "Dockerfile").read_text()),
        *re.findall(r'user: "(\d+)"\n    command: \[serve', (PROJECT / "docker-compose.yml").read_text()),
        *re.findall(r"runAsUser: (\d+)", README),
    }
    assert users == {"10500"}
