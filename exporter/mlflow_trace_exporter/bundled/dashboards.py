"""`dashboards`: writes the dashboards that ship with the exporter, as files for Grafana."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlflow_trace_exporter.bundled import packaged
from mlflow_trace_exporter.bundled.rules import Links
from mlflow_trace_exporter.domain.labels import TRACE_LABELS
from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.metrics.families import trace_families

Json = dict[str, Any]

_COUNTED = "|".join(family.name for family in trace_families((1.0,), (1.0,)) if family.labels == TRACE_LABELS)
_SELECTED = re.compile(rf"\b((?:{_COUNTED})(?:_bucket|_count|_sum)?\{{)")
"""The start of a selector for series that have the labels of `labels.extra`."""


def write(folder: Path, links: Links, extra: Sequence[str] = ()) -> Iterator[Path]:
    """Write all dashboards, with a variable for each of the ``extra`` labels. Yields the path of each file that was
    written. Raises UserError if writing fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(packaged.grafana("dashboards").glob("*.json")):
            made = folder / file.name
            board = _with_filters(json.loads(file.read_text(encoding="utf-8")), extra)
            made.write_text(links.put_into(as_text(board)), encoding="utf-8")
            yield made
    except OSError as error:
        raise UserError(f"--output: cannot write {folder}: {what_failed(error)}; choose another folder") from None


def as_text(board: object, encoder: type[json.JSONEncoder] | None = None) -> str:
    """A dashboard as JSON, formatted as in its file."""
    return json.dumps(board, cls=encoder, indent=1, ensure_ascii=False) + "\n"


def label_of(variable: str) -> str:
    """The name of a variable as shown on a dashboard."""
    return variable.replace("_", " ").capitalize()


def not_filtered_by(variables: Sequence[str]) -> str:
    """The note on a panel that these variables do not filter."""
    *others, last = map(label_of, variables)
    return f"Not filtered by {', '.join(others)} or {last}." if others else f"Not filtered by {last}."


def _with_filters(board: Json, labels: Sequence[str]) -> Json:
    """Add a variable for each of these labels, which filters the series that have them.

    Objectives and recorded series do not have these labels. A dashboard that queries nothing else stays unchanged.
    """
    variables: list[Json] = board["templating"]["list"]
    panels = [panel for panel in board["panels"] if _asks_for_traces(panel)]
    taken = {each["name"] for each in variables}
    names = {label: f"label_{label}" if label in taken else label for label in labels if panels}
    for panel in board["panels"]:
        if panel in panels:
            for target in panel["targets"]:
                target["expr"] = _narrowed(target["expr"], names)
        elif names:
            panel["description"] += f" {not_filtered_by(list(names.values()))}"
    like = [each for each in variables if each["name"] in ("job", "instance", *TRACE_LABELS)]
    at = variables.index(like[-1]) + 1
    matchers = [f'{each["name"]}{"=~" if each["multi"] else "="}"${each["name"]}"' for each in like]
    for label, name in names.items():
        query = f"label_values(mlflow_traces_total{{{', '.join(matchers)}}}, {label})"
        variables.insert(at, _variable(like[-1], name, label, query))
        matchers, at = [*matchers, f'{label}=~"${name}"'], at + 1
    return board


def _asks_for_traces(panel: Json) -> bool:
    return any(_SELECTED.search(target["expr"]) for target in panel["targets"])


def _narrowed(expr: str, names: dict[str, str]) -> str:
    matchers = "".join(f'{label}=~"${name}", ' for label, name in names.items())
    return _SELECTED.sub(lambda found: found[1] + matchers, expr)


def _variable(like: Json, name: str, label: str, query: str) -> Json:
    """A copy of the variable ``like`` for another label. `All` also matches series from before the label existed."""
    return {
        **like,
        "name": name,
        "label": label_of(name),
        "description": f"The label {label}, of labels.extra in the exporter's configuration.",
        "query": {"query": query, "refId": f"variable-{name}"},
        "definition": query,
        "allValue": ".*",
    }
