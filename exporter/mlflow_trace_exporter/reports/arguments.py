"""What is passed to a function of the Python API, which no type checker may have seen. Pure.

Everything here raises ArgumentError, a UserError, for what cannot be used.
"""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from mlflow_trace_exporter.domain.labels import UNKNOWN, clean
from mlflow_trace_exporter.errors import ArgumentError
from mlflow_trace_exporter.listed import did_you_mean
from mlflow_trace_exporter.tracking.parsing import MAX_AMOUNT

MAX_SECONDS = MAX_AMOUNT // 1000
"""A trace that takes longer has no duration, see records.py."""


def number(name: str, value: Any) -> float:
    """A number; NaN is one, and in no range."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(name, f"{value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise ArgumentError(name, f"{value!r} is too large") from None


def seconds(name: str, value: Any, least: float) -> float:
    """A duration of a trace, ``least`` or more."""
    found = number(name, value)
    if not least <= found <= MAX_SECONDS:
        raise ArgumentError(name, f"{value!r} is not a number of seconds from {least:g} to {MAX_SECONDS:,}")
    return found


def count(name: str, value: Any, least: int) -> int:
    """A whole number, ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ArgumentError(name, f"{value!r} is not a whole number of at least {least}")
    return int(value)


def text(name: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ArgumentError(name, f"{value!r} is not a text")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """One text, or several."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise ArgumentError(name, f"{value!r} is neither a text nor a list of texts")
    return tuple(text(name, each) for each in value)


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """One of the names that are known."""
    if value not in known:
        like = did_you_mean(value, known) if isinstance(value, str) else ""
        raise ArgumentError(name, f"{value!r} is none of {', '.join(known)}{like}")
    return str(value)


def label(name: str, value: Any) -> str:
    """The value of a label. A blank one, such as that of a variable which is not set, would be taken for `unknown`."""
    if not text(name, value).strip():
        raise ArgumentError(name, f"it is empty; traces that have none are those of {UNKNOWN!r}")
    return clean(value)
