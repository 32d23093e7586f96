"""Rewrites a text with a regular expression, as Prometheus does when it relabels. Pure.

The regular expressions are those of RE2, which are also those of Prometheus. RE2 takes time in proportion to the length
of the text for any expression. Python's own engine can take hours for a short text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from mlflow_trace_exporter.shown import is_fit, shown

MAX_REGEX = 500
"""The most characters of a regular expression."""

MAX_TEXT = 1_000
"""How many characters of a text are looked at. Longer texts are truncated."""

MAX_MEMORY = 256 * 1024
"""The most bytes that RE2 uses for an expression. It refuses expressions that need more, such as ``\\pL{0,1000}``."""

FIRST_GROUP = "$1"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that must match a whole text, and what replaces the text: ``value``, in which ``$1``,
    ``${1}`` and ``${name}`` stand for groups, and ``$$`` for a dollar sign.

    Raises ValueError if the expression is invalid or ``value`` refers to a group that it does not have.
    """

    regex: str
    value: str = FIRST_GROUP

    def __post_init__(self) -> None:
        compiled = _compiled(self.regex)
        known = {*map(str, range(compiled.groups + 1)), *compiled.groupindex}
        for name in _groups_in(self.value):
            if name not in known:
                raise ValueError(_no_group(self.value, name, known))

    def replace(self, text: str) -> str | None:
        """The replacement for a text; None if the expression does not match. Control characters and lone surrogates of
        the text are ``shown`` first."""
        return _replaced(self, shown(text[:MAX_TEXT]))


@lru_cache(maxsize=10_000)
def _replaced(pattern: Pattern, text: str) -> str | None:
    found = _compiled(pattern.regex).fullmatch(text)
    if found is None:
        return None
    return _REFERENCE.sub(lambda each: "$" if each[0] == "$$" else _group(found, each[1] or each[2]), pattern.value)


_REFERENCE = re.compile(r"\$\$|\$(\w+)|\$\{(\w+)\}", re.ASCII)


def _groups_in(value: str) -> Iterator[str]:
    return (found[1] or found[2] for found in _REFERENCE.finditer(value) if found[0] != "$$")


def _group(found: Any, name: str) -> str:
    return found[int(name) if name.isdigit() else name] or ""


def _no_group(value: str, name: str, known: set[str]) -> str:
    digits = re.match(r"\d+", name)
    if digits and digits[0] != name and digits[0] in known:
        return f"value {value!r}: there is no group {name}; write ${{{digits[0]}}} before a letter, digit or underscore"
    groups = ", ".join(f"${{{each}}}" for each in sorted(known - {"0"}))
    remedy = f"it has {groups}" if groups else "put parentheses around the part of the text that is meant"
    return f"value {value!r}: regex has no group {name}; {remedy}"


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    return options


@lru_cache(maxsize=1_000)
def _compiled(regex: str) -> Any:
    """The compiled expression. Raises ValueError with the position of the mistake."""
    if len(regex) > MAX_REGEX:
        raise ValueError(f"regex has {len(regex):,} characters; at most {MAX_REGEX} are supported")
    if not is_fit(regex):
        raise ValueError(f"regex {shown(regex)!r} contains a control character or half a surrogate pair; remove it")
    try:
        return re2.compile(regex, _options())
    except re2.error as error:
        raise ValueError(_complaint(regex, _message_of(error))) from None


def _message_of(error: Exception) -> str:
    """RE2's message, which is in bytes."""
    (message,) = error.args
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)


def _complaint(regex: str, message: str) -> str:
    """A message with the position, which RE2 does not tell. It quotes the wrong part, or the whole expression."""
    if "too large" in message:
        return f"regex {regex!r} is too complex; use fewer or smaller repetitions such as {{1,100}}"
    what, _, part = message.partition(": ")
    at = regex.find(part) if part != regex else _position(regex)
    foreign = what in ("invalid perl operator", "invalid escape sequence")
    remedy = "; look-around and backreferences are not supported" if foreign else ""
    return f"regex {regex!r} is invalid at character {at + 1}: {what}{remedy}"


def _position(regex: str) -> int:
    """Where Python's engine finds the mistake, such as the parenthesis that is not closed."""
    try:
        re.compile(regex)
    except re.error as error:
        return error.pos or 0
    return 0
