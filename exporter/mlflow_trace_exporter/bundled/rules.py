"""`rules`: the recording and alerting rules that ship with the exporter, for Prometheus or for its Operator."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from mlflow_trace_exporter.bundled import packaged

NAME = "mlflow-trace-exporter"
EXPORTER_URL = "http://127.0.0.1:10500"
GRAFANA_URL = "http://127.0.0.1:3000"
_HEAD = "groups:\n"

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_NAME = re.compile(rf"([a-z0-9.-]{{1,253}}/)?{_LABEL_VALUE.pattern}")


@dataclass(frozen=True, slots=True)
class Links:
    """Base URLs of links: the exporter (its trace pages and the runbook) and Grafana."""

    exporter: str = EXPORTER_URL
    grafana: str = GRAFANA_URL

    def put_into(self, text: str) -> str:
        """Replace the default URLs in rules or a dashboard with these."""
        links = {EXPORTER_URL: self.exporter, GRAFANA_URL: self.grafana}
        return re.sub("|".join(map(re.escape, links)), lambda found: links[found[0]], text)


def for_prometheus(links: Links) -> str:
    """All rules as one file for ``rule_files``, with their comments."""
    parts = [_split(file.read_text(encoding="utf-8")) for file in sorted(packaged.prometheus("rules").glob("*.yml"))]
    heads, groups = zip(*parts, strict=True)
    return links.put_into("#\n".join(heads) + _HEAD + "\n".join(groups))


def for_operator(links: Links, labels: Mapping[str, str]) -> str:
    """All rules as a PrometheusRule object. ``labels`` are the ones by which a Prometheus selects its rules."""
    metadata = {"name": NAME, "labels": {"app.kubernetes.io/name": NAME, **labels}}
    return yaml.dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": metadata,
            "spec": yaml.safe_load(for_prometheus(links)),
        },
        Dumper=_Plain,
        sort_keys=False,
        width=120,
    )


def alerts_with(metric: str) -> list[str]:
    """The alerts that use a metric in their expression, or a series that is recorded from it."""
    rules = _rules()
    names, before = {metric, *(f"{metric}_{each}" for each in ("bucket", "count", "sum"))}, 0
    while len(names) > before:
        before = len(names)
        names |= {rule["record"] for rule in rules if "record" in rule and _series_in(rule["expr"]) & names}
    return sorted({rule["alert"] for rule in rules if "alert" in rule and _series_in(rule["expr"]) & names})


@cache
def _rules() -> list[dict[str, Any]]:
    """All rules, which take some time to parse."""
    return [rule for group in yaml.safe_load(for_prometheus(Links()))["groups"] for rule in group["rules"]]


def _series_in(expr: str) -> set[str]:
    """The names in an expression outside matchers: those of series, and of functions and labels."""
    return set(re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r"\{[^}]*\}", "", expr)))


def labels_of(texts: Iterable[str]) -> dict[str, str]:
    """Parse labels written as NAME=VALUE. Raises ValueError for anything else."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not equals or not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(
                f"{name + equals + value!r} is not a label; write NAME=VALUE, such as release=kube-prometheus-stack"
            )
    return {name: value for name, _, value in pairs}


def _split(rules: str) -> tuple[str, str]:
    """Split a rule file into its leading comment and its groups."""
    head, _, groups = rules.partition(_HEAD)
    return head, groups


class _Plain(yaml.SafeDumper):
    """Writes repeated values in full, without aliases, and multi-line text as block scalars."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)
