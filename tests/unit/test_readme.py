"""The README's tables are what the code says."""

import re
from pathlib import Path

from exporter import config
from exporter.status import STATUS_FAMILIES
from tests.builders import FAMILIES
from tests.unit.test_rules import ALERTS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


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
