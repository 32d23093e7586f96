"""What somebody else wrote, made fit for an exposition, a page, a terminal or a message. Pure."""

import math
import re

import yaml

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Unicode's categories Cc (control characters) and Cs (surrogates), which no version of Unicode will add to."""


def is_fit(text: str) -> bool:
    """Whether a text has neither control characters nor lone surrogates in it."""
    return _UNFIT.search(text) is None


def shown(text: str) -> str:
    """The text with U+FFFD in the place of each control character and lone surrogate.

    One lone surrogate makes a whole exposition impossible to encode, and a control character can end a line or move a
    cursor. All else stays, because it is part of how people write: no-break and ideographic spaces, the joiners of
    emoji and of Indic and Arabic scripts, private use.
    """
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def shown_lines(text: str) -> str:
    """Likewise, of a text of several lines that are ours."""
    return "\n".join(map(shown, text.split("\n")))


def as_written(value: object) -> str:
    """A value as it looks in the file, on one line, cut where it is long. Example: 2026-11-20 for a date."""
    if isinstance(value, str):
        return f"{value!r:.80}"
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    except yaml.YAMLError:  # from Python, where it can be anything
        text = repr(value)
    return f"{text.removesuffix(chr(10)).removesuffix('...').strip():.80}"
