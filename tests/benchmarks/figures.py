"""Figures: measured values, and their goals."""

import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A bound for the value of a figure, or for its ratio."""

    bound: float
    at_least: bool = False
    of_ratio: bool = False

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {number(self.bound)}{' x' if self.of_ratio else ''}"


@dataclass(frozen=True)
class Figure:
    """A measured value. ``ratio``: the value divided by that of the baseline that ``beside`` names."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    beside: str = ""
    goal: Goal | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the figure meets its goal; None if it has no goal."""
        if self.goal is None:
            return None
        found = self.ratio if self.goal.of_ratio else self.value
        assert found is not None, f"{self.name} has a goal for a ratio, and no ratio"
        return found >= self.goal.bound if self.goal.at_least else found <= self.goal.bound


@dataclass(frozen=True)
class Setting:
    """How to measure: the number of traces of large stores, and an empty directory."""

    traces: int
    directory: Path

    def folder(self, name: str) -> Path:
        """A new folder in the directory."""
        made = self.directory / name
        made.mkdir()
        return made


def at_most(bound: float) -> Goal:
    return Goal(bound)


def at_least(bound: float) -> Goal:
    return Goal(bound, at_least=True)


def ratio_at_least(bound: float) -> Goal:
    return Goal(bound, at_least=True, of_ratio=True)


def number(value: float) -> str:
    """Format a number with three digits or more."""
    decimals = next((digits for digits, least in ((0, 100), (1, 10), (2, 1)) if abs(value) >= least), 3)
    return f"{value:,.{decimals}f}" if value else "0"


def quantile(values: Iterable[float], level: float) -> float:
    """The smallest value such that at least this share of all values is not above it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(level * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(found: Sequence[tuple[str, Figure]]) -> str:
    """A table with one line per figure."""
    rows: list[tuple[str, ...]] = [("subject", "what", "value", "unit", "ratio", "beside", "goal", "reached")]
    rows += [_row(subject, figure) for subject, figure in found]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    right = (False, False, True, False, True, False, True, False)
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _row(subject: str, figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else f"{number(figure.ratio)} x"
    reached = {None: "", True: "yes", False: "NO"}[figure.reached]
    goal = "" if figure.goal is None else str(figure.goal)
    return (subject, figure.name, number(figure.value), figure.unit, ratio, figure.beside, goal, reached)


def as_json(subject: str, figure: Figure) -> dict[str, Any]:
    """A figure for a JSON file."""
    goal = None if figure.goal is None else str(figure.goal)
    return {"subject": subject, **asdict(figure), "goal": goal, "reached": figure.reached}


def say(text: str) -> None:
    """Print a line about the progress, without buffering."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
