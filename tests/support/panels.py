"""The dashboards as tests see them: their panels, and what those ask with the variables filled in."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_trace_exporter.bundled import packaged

DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted(packaged.grafana("dashboards").glob("*.json"))}
"""By uid."""


@dataclass(frozen=True)
class Panel:
    """A panel and the dashboard that it is on."""

    uid: str
    content: Mapping[str, Any]

    @property
    def title(self) -> str:
        return str(self.content["title"])

    @property
    def queries(self) -> dict[str, str]:
        """By refId."""
        return {target["refId"]: target["expr"] for target in self.content["targets"]}

    def __str__(self) -> str:
        return f"{self.uid}-{self.title}"


def panels() -> Iterator[Panel]:
    for uid, board in DASHBOARDS.items():
        for content in board["panels"]:
            yield Panel(uid, content)


PANELS = list(panels())


def column(uid: str, title: str, name: str) -> str:
    """The query of a column of a table."""
    (panel,) = [each for each in PANELS if (each.uid, each.title) == (uid, title)]
    organize = panel.content["transformations"][1]["options"]
    (value,) = [value for value, shown in organize["renameByName"].items() if shown == name]
    return panel.queries[value.removeprefix("Value #")]


NATURAL = 7
"""How Grafana sorts the values of a variable: as people sort versions."""


def naturally(text: str) -> list[tuple[int, str]]:
    """The key of that order."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def query_variables(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The variables whose values Grafana asks Prometheus for."""
    return [each for each in board["templating"]["list"] if each["type"] == "query"]


ALL_OF_IT = {
    **dict.fromkeys(
        ("job", "instance", "experiment", "environment", "version", "provider", "model", "assessment"), ".+"
    ),
    **dict.fromkeys(("team", "trace_name"), ".*"),  # an application may have no team, and series no trace_name
}


def filled(expr: str, variables: Mapping[str, str] | None = None, range_s: int = 60, rate: str = "20s") -> str:
    """A query as Grafana sends it; without ``variables`` all is selected."""
    built_in = {"__range_s": str(range_s), "__range": f"{range_s}s", "__rate_interval": rate}
    values = {**built_in, **ALL_OF_IT, **(variables or {})}
    expr = re.sub(r"\$\{(\w+):regex\}", lambda found: re.escape(values[found[1]]), expr)
    for name, value in sorted(values.items(), key=lambda pair: -len(pair[0])):
        expr = expr.replace(f"${name}", value)
    assert "$" not in expr, expr
    return expr
