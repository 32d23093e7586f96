"""The colours of charts and pages, on light and on dark paper."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour with a name, as #rrggbb for light and for dark paper."""

    name: str
    light: str
    dark: str


COLOURS = (
    Colour("paper", "#ffffff", "#14171c"),
    Colour("ground", "#f5f7fa", "#1d2128"),
    Colour("ink", "#1d2939", "#e6e9ef"),
    Colour("soft", "#5d6b82", "#9aa5b8"),
    Colour("line", "#d9dee7", "#333a45"),
    Colour("link", "#1d5fc4", "#8ab4f8"),
    Colour("ok", "#6a9fe8", "#4f83cc"),
    Colour("bad", "#d92d20", "#ff7a6e"),
    Colour("p50", "#2a78c6", "#6fb0f2"),
    Colour("p95", "#c77700", "#f5b041"),
    Colour("p99", "#a3278f", "#f08bdc"),
    Colour("input", "#6a9fe8", "#4f83cc"),
    Colour("output", "#2f5fa8", "#9cc3f7"),
    Colour("cost", "#15947f", "#4ecbb4"),
)

Paint = Callable[[str], str]
"""Returns the colour with a name as #rrggbb."""

_LIGHT = {each.name: each.light for each in COLOURS}


def light(name: str) -> str:
    """The colour on light paper."""
    return _LIGHT[name]


_MARKS = {each.name: f"#a5c3{number:02x}" for number, each in enumerate(COLOURS)}

VARIABLES = {mark: f"var(--{name})" for name, mark in _MARKS.items()}
"""By mark: the CSS variable that takes its place."""


def mark(name: str) -> str:
    """A colour that stands for the CSS variable with the same name, because matplotlib knows no variables."""
    return _MARKS[name]
