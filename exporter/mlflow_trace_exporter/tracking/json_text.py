"""Reads JSON texts as MLflow stores them. Pure."""

import json
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Json(Generic[T]):
    """Reads JSON texts as values of a type.

    msgspec is fast, but it rejects some texts that MLflow can return, such as NaN and escapes of lone surrogates.
    Python's own parser reads those.
    """

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def read(self, text: str) -> T:
        """The value in a JSON text. Raises ValueError or RecursionError if the text is not JSON or not of the type."""
        try:
            return self._decode(text)
        except (ValueError, RecursionError):
            return msgspec.convert(json.loads(text), self._kind)


ANYTHING: Json[Any] = Json(object)
"""Reads any JSON text."""


def object_in(text: str | None) -> dict[str, Any]:
    """The JSON object in a text, {} if there is none."""
    try:
        found = ANYTHING.read(text) if text else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
