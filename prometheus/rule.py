"""Rules, groups and files, and their YAML.

Comments are wrapped here; an empty line in one begins a paragraph. An expression of several lines becomes a literal
block (``|``), an annotation of several lines a folded one (``>-``).
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from textwrap import wrap
from typing import Literal

import yaml

WIDTH = 120

GENERATED = "Written by `python -m prometheus`, from the code in prometheus/ of mlflow-trace-exporter."

Severity = Literal["critical", "warning", "info", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A recording rule."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""

    def lines(self) -> Iterator[str]:
        """The rule as an item of a list."""
        yield from _item({"record": self.record, "expr": self.expr, "labels": self.labels})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert rule. ``traces`` marks an alert that needs fresh data: MlflowTracesStale inhibits it."""

    alert: str
    expr: str
    severity: Severity
    annotations: Mapping[str, str]
    hold: str = ""
    """`for`: how long the expression must be true."""
    keep: str = ""
    """`keep_firing_for`"""
    objective: str = ""
    traces: bool = False
    comment: str = ""

    def lines(self) -> Iterator[str]:
        """The rule as an item of a list."""
        labels = {"severity": self.severity, "objective": self.objective, "data": "traces" if self.traces else ""}
        yield from _item(
            {
                "alert": self.alert,
                "expr": self.expr,
                "for": self.hold,
                "keep_firing_for": self.keep,
                "labels": {name: value for name, value in labels.items() if value},
                "annotations": self.annotations,
            }
        )


Rule = Record | Alert


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates in order."""

    name: str
    rules: tuple[Rule, ...]
    interval: str = ""
    comment: str = ""

    def lines(self) -> Iterator[str]:
        """The group as an item of a list, with an empty line above each alert and each comment."""
        yield from _comment(self.comment, "  ")
        yield f"  - name: {self.name}"
        if self.interval:
            yield f"    interval: {self.interval}"
        yield "    rules:"
        for rule in self.rules:
            if rule is not self.rules[0] and (rule.comment or isinstance(rule, Alert)):
                yield ""
            yield from _comment(rule.comment, " " * 6)
            yield from (f"      {line}" if line else line for line in rule.lines())


@dataclass(frozen=True, slots=True)
class File:
    """A file for ``rule_files``."""

    name: str
    head: str
    groups: tuple[Group, ...]

    def text(self) -> str:
        """The file as YAML."""
        head = "".join(f"{line}\n" for line in _comment(f"{self.head}\n\n{GENERATED}", ""))
        groups = ("".join(f"{line}\n" for line in group.lines()) for group in self.groups)
        return f"{head}groups:\n" + "\n".join(groups)


def commented(comment: str, rules: Iterable[Record]) -> Iterator[Record]:
    """The rules, with the comment at the first one."""
    first, *others = rules
    yield replace(first, comment=comment)
    yield from others


def _comment(text: str, indent: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n") if text else ()):
        if number:
            yield f"{indent}#"
        lines = wrap(paragraph, WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False)
        yield from (f"{indent}# {line}" for line in lines)


def _item(rule: Mapping[str, str | Mapping[str, str]]) -> Iterator[str]:
    """The keys of a rule that have a value, as an item of a list."""
    start = "- "
    for key, value in rule.items():
        if isinstance(value, str):
            lines = _pair(key, value) if value else []
        else:
            below = [f"  {line}" for name, text in value.items() for line in _pair(name, text)]
            lines = [f"{key}:", *below] if below else []
        for line in lines:
            yield start + line
            start = "  "


def _pair(key: str, text: str) -> list[str]:
    """A key and its text."""
    first, *others = text.splitlines()
    if others:
        style = "|" if key == "expr" else ">-"
        return [f"{key}: {style}", *(f"  {line}" for line in (first, *others))]
    return [yaml.safe_dump({key: text}, width=sys.maxsize, allow_unicode=True).rstrip()]
