"""Validation of the arguments of the Python API, which may be called without a type checker. Pure.

All functions raise ArgumentError, a UserError, for an invalid value.
"""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from mlflow_trace_exporter.domain.labels import UNKNOWN, clean
from mlflow_trace_exporter.errors import ArgumentError
from mlflow_trace_exporter.listed import did_you_mean
from mlflow_trace_exporter.tracking.amounts import MAX_AMOUNT

MAX_SECONDS = MAX_AMOUNT // 1000
"""Longer durations are treated as missing, see parsing.py."""


def number(name: str, value: Any) -> float:
    """A number. NaN is accepted here, but is in no range."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(name, f"{value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise ArgumentError(name, f"{value!r} is too large") from None


def seconds(name: str, value: Any, least: float) -> float:
    """A duration of a trace in seconds, at least ``least``."""
    found = number(name, value)
    if not least <= found <= MAX_SECONDS:
        raise ArgumentError(name, f"{value!r} is not a number of seconds from {least:g} to {MAX_SECONDS:,}")
    return found


def count(name: str, value: Any, least: int) -> int:
    """A whole number, at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ArgumentError(name, f"{value!r} is not a whole number of at least {least}")
    return int(value)


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ArgumentError(name, f"{value!r} is not a string")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """One string, or several."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise ArgumentError(name, f"{value!r} is neither a string nor a list of strings")
    return tuple(text(name, each) for each in value)


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """One of the known names."""
    if value not in known:
        like = did_you_mean(value, known) if isinstance(value, str) else ""
        raise ArgumentError(name, f"{value!r} is not one of {', '.join(known)}{like}")
    return str(value)


def label(name: str, value: Any) -> str:
    """The value of a label. A blank value, such as that of an unset variable, would be taken for `unknown`."""
    if not text(name, value).strip():
        raise ArgumentError(name, f"is empty; use {UNKNOWN!r} for traces without a value")
    return clean(value)
