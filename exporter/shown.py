"""What somebody else wrote, made fit to be shown on a page, in a terminal or in a message. Pure."""

import re

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates: Unicode's categories Cc and Cs."""


def shown(text: str) -> str:
    """The text with a sign in place of each character that could move a cursor, end a line or break an encoding."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def shown_lines(text: str) -> str:
    """Likewise, of a text of several lines that are ours."""
    return "\n".join(map(shown, text.split("\n")))
