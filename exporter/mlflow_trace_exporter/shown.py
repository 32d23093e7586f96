"""Makes text from elsewhere safe for an exposition, a page, a terminal or a message. Pure."""

import math
import re

import yaml

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Unicode's categories Cc (control characters) and Cs (surrogates). No future version of Unicode will add to them."""


def is_fit(text: str) -> bool:
    """Whether a text is free of control characters and lone surrogates."""
    return _UNFIT.search(text) is None


def shown(text: str) -> str:
    """Replace each control character and lone surrogate with U+FFFD.

    One lone surrogate makes a whole exposition impossible to encode. A control character can end a line or move the
    cursor. Everything else is kept because people write with it: no-break and ideographic spaces, the joiners of
    emoji and of Indic and Arabic scripts, private use characters.
    """
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def shown_lines(text: str) -> str:
    """The same as ``shown``, but line breaks are kept."""
    return "\n".join(map(shown, text.split("\n")))


def as_written(value: object) -> str:
    """A value as it would look in a YAML file, on one line, cut to 80 characters. Example: 2026-11-20 for a date."""
    if isinstance(value, str):
        return f"{value!r:.80}"
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    except yaml.YAMLError:  # a value from Python can be anything
        text = repr(value)
    return f"{text.removesuffix(chr(10)).removesuffix('...').strip():.80}"
