"""Lists of names in messages, shortened, and suggestions for a misspelt name. Pure."""

import difflib
from collections.abc import Iterable, Sequence

MOST = 10


def few(names: Iterable[str], most: int = MOST) -> str:
    """The first names of a list, and the number of those left out."""
    found = list(names)
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: the most similar known name, or nothing."""
    close = closest(name, known)
    return f"; did you mean {close}?" if close is not None else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar, None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)
