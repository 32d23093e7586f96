"""What the pages for people have in common. Templates escape all that they are given."""

from collections.abc import Callable
from datetime import UTC, datetime

import jinja2

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("exporter"), autoescape=True, undefined=jinja2.StrictUndefined
)


def page(template: str) -> Callable[..., bytes]:
    """What writes a page, as HTML in UTF-8, from the values that the template names."""
    found = _TEMPLATES.get_template(template)

    def write(**values: object) -> bytes:
        return found.render(**values).encode("utf-8", "replace")

    return write


def time_text(at_s: float | None) -> str:
    """A moment in Unix seconds as people read it."""
    return "-" if at_s is None else f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
