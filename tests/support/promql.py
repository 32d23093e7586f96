"""Which labels a PromQL expression has: a type check over the syntax tree that a real Prometheus parses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import ProcessCollector

from mlflow_trace_exporter.metrics.status import STATUS_FAMILIES
from tests.support.builders import FAMILIES_WITH_ALL

Node = Mapping[str, Any]
Labels = frozenset[str]
Catalogue = Mapping[str, Labels]
"""The labels of each series that there is, by its name."""

TARGET = frozenset({"job", "instance", "shard"})
"""The labels of a target. `shard` is that of the scrape configuration, for users who have several shards."""

PROCESS = [sample.name for family in ProcessCollector(registry=None).collect() for sample in family.samples]
MAY_BE_MISSING = frozenset({"pod"})
"""Labels that some users' targets have: to aggregate them away is right for all."""


def exported() -> dict[str, Labels]:
    """What a Prometheus has of an exporter that it scrapes."""
    catalogue: dict[str, Labels] = dict.fromkeys(("up", *PROCESS), TARGET)
    for family in FAMILIES_WITH_ALL:
        labels = TARGET | set(family.label_names)
        if family.edges:
            catalogue |= {f"{family.name}_sum": labels, f"{family.name}_count": labels}
            catalogue[f"{family.name}_bucket"] = labels | {"le"}
        else:
            catalogue[family.name] = labels
    return catalogue | {each.name: TARGET | set(each.label_names) for each in STATUS_FAMILIES}


class UnknownNameError(Exception):
    """A metric or a label that there is not, and where."""


@dataclass(frozen=True)
class Checker:
    """Knows which series there are."""

    catalogue: Catalogue

    def labels(self, node: Node) -> Labels:
        """The labels of what an expression gives. Raises UnknownNameError."""
        match node["type"]:
            case "vectorSelector" | "matrixSelector":
                return self._selector(node)
            case "parenExpr" | "unaryExpr" | "subquery":
                return self.labels(node["expr"])
            case "call":
                return self._call(node)
            case "aggregation":
                return self._aggregation(node)
            case "binaryExpr":
                return self._binary(node)
        return frozenset()  # a number or a text

    def _need(self, needed: set[str], there: Labels, where: object) -> None:
        if missing := needed - there:
            raise UnknownNameError(f"{sorted(missing)} in {where}, which has {sorted(there)}")

    def _selector(self, node: Node) -> Labels:
        name = node["name"]
        if name not in self.catalogue:
            raise UnknownNameError(name)
        self._need({each["name"] for each in node["matchers"]} - {"__name__"}, self.catalogue[name], name)
        return self.catalogue[name]

    def _call(self, node: Node) -> Labels:
        arguments = [self.labels(each) for each in node["args"]]
        match node["func"]["name"]:
            case "absent_over_time" | "time" | "vector":
                return frozenset()
            case "histogram_quantile":
                self._need({"le"}, arguments[1], "histogram_quantile")
                return arguments[1] - {"le"}
        return next((each for each in arguments if each), frozenset())

    def _aggregation(self, node: Node) -> Labels:
        there, grouping = self.labels(node["expr"]), set(node["grouping"])
        if node["without"]:
            self._need(grouping - MAY_BE_MISSING, there, f"{node['op']} without")
            return there - grouping
        if node["op"] in ("topk", "bottomk"):
            return there
        self._need(grouping, there, f"{node['op']} by")
        return frozenset(grouping)

    def _binary(self, node: Node) -> Labels:
        left, right, matching = self.labels(node["lhs"]), self.labels(node["rhs"]), node["matching"]
        if matching is None:  # one side is a number
            return left or right
        on = set(matching["labels"])
        for side in (left, right) if matching["on"] else ():
            self._need(on, side, f"{node['op']} on")
        if node["op"] == "or":
            return left & right if not matching["on"] else left
        if not matching["on"] and node["op"] not in ("and", "unless") and left - on != right - on:
            raise UnknownNameError(f"{node['op']} never matches {sorted(left)} with {sorted(right)}")
        if matching["card"] == "one-to-many":
            return right | set(matching["include"])
        if matching["card"] == "one-to-one" and matching["on"]:
            return frozenset(on)
        return left | set(matching["include"])
