"""Names in a message: a few of many, and the one that was probably meant. Pure."""

import difflib
from collections.abc import Iterable, Sequence

MOST = 10


def few(names: Iterable[str], most: int = MOST) -> str:
    """The first of the names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a message about a name that is not known: the one that is most like it, if any is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
