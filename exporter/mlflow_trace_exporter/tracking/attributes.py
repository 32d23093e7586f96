"""Reads the attributes of spans and of their events. Pure.

MLflow's REST API gives them as OTLP does, ``[{"key": "tokens", "value": {"int_value": 12}}]``. In files that MLflow
stores they are plain JSON, ``{"tokens": "12"}``, and often JSON in a string.

Attributes are also where prompts and responses are, with megabytes. So values are ``Raw``, which is undecoded, until
one is asked for. Each can be odd, because applications write what they like: an odd value is treated as missing.
"""

import re
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from mlflow_trace_exporter.domain.labels import MAX_VALUE_LENGTH, clean
from mlflow_trace_exporter.tracking.json_text import object_in

T = TypeVar("T")


class Attributes:
    """The attributes of one span or event."""

    def __init__(self, raw: Raw) -> None:
        self._values = attempt(_VALUES, raw) or {each.key: each.value for each in _ATTRIBUTES.read(raw)}

    def text(self, *keys: str) -> str | None:
        """The first of some attributes that is a text and not blank, as a label value."""
        for key in keys:
            if (found := label(_plain(self._value(key)))) is not None:
                return found
        return None

    def number(self, *keys: str) -> object:
        """The first of some attributes that is there; converted to int if it is a whole number in a text."""
        for key in keys:
            if (found := _plain(self._value(key))) is not None:
                return whole(found)
        return None

    def members(self, key: str) -> dict[str, object]:
        """The members of an attribute that is an object, {} if it is none."""
        value = self._value(key)
        if isinstance(value, dict) and "kvlist_value" in value:
            return _pairs(value["kvlist_value"])
        plain = _plain(value)
        return object_in(plain) if isinstance(plain, str) else plain if isinstance(plain, dict) else {}

    def _value(self, key: str) -> object:
        return value_in(self._values[key]) if key in self._values else None


def label(value: object) -> str | None:
    """A text as a label value; None if it is none, or is blank. Quotation marks around JSON are removed."""
    if isinstance(value, str) and value[:1] == value[-1:] == '"' and (quoted := attempt(_TEXT, value)) is not None:
        value = quoted
    text = value.lstrip()[:MAX_VALUE_LENGTH] if isinstance(value, str) else ""
    return clean(text) if text else None


def whole(value: object) -> object:
    """An int for a text that is one, as OTLP's JSON writes 64-bit integers. Everything else as it is."""
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


_WHOLE = re.compile(r"\d{1,19}", re.ASCII)


def _plain(value: object) -> object:
    """The value in one of OTLP's, or the value itself if it is plain JSON."""
    if not isinstance(value, dict):
        return value
    for kind in ("string_value", "double_value", "bool_value"):
        if kind in value:
            return value[kind]
    return whole(value["int_value"]) if "int_value" in value else value


def _pairs(kvlist: object) -> dict[str, object]:
    pairs = kvlist.get("values") if isinstance(kvlist, dict) else None
    if not isinstance(pairs, list):
        return {}
    return {
        key: _plain(pair.get("value"))
        for pair in pairs
        if isinstance(pair, dict) and isinstance(key := pair.get("key"), str)
    }


class Pieces(Generic[T]):
    """Reads the elements of a JSON array that are of a type, and leaves out the others."""

    def __init__(self, kind: type[T]) -> None:
        self._all = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]  # the type is a value here
        self._one = msgspec.json.Decoder(kind).decode

    def read(self, raw: Raw) -> list[T]:
        """The elements, [] if there is no array."""
        found = attempt(self._all, raw)
        if found is not None:
            return found
        pieces = attempt(_PIECES, raw) or []
        return [each for piece in pieces if (each := attempt(self._one, piece)) is not None]


def value_in(raw: Raw) -> object:
    """The value of undecoded JSON, None if there is none."""
    return attempt(_VALUE, raw)


def attempt(decode: Callable[[str | bytes | Raw], T], raw: str | bytes | Raw) -> T | None:
    """What a decoder makes of JSON, None if it rejects it."""
    try:
        return decode(raw)
    except (ValueError, RecursionError):
        return None


class _Attribute(msgspec.Struct, gc=False):
    key: str
    value: Raw = Raw()


_ATTRIBUTES = Pieces(_Attribute)
_PIECES = msgspec.json.Decoder(list[Raw]).decode
_TEXT = msgspec.json.Decoder(str).decode
_VALUE = msgspec.json.Decoder().decode
_VALUES = msgspec.json.Decoder(dict[str, Raw]).decode
