"""Rendering of HTML pages. Templates escape all values and replace control characters."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

import jinja2
from markupsafe import Markup

from mlflow_trace_exporter.shown import shown


def _fit(value: object) -> object:
    """Replace control characters in a value. Markup is our own and stays as it is."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _templates(package: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_fit,
    )


def page(package: str, template: str) -> Callable[..., bytes]:
    """Load a template of a package. Returns a function that renders it as HTML in UTF-8 from the values that the
    template names."""
    found = _templates(package).get_template(template)

    def write(**values: object) -> bytes:
        return found.render(**values).encode("utf-8", "replace")

    return write


def time_text(at_s: float | None) -> str:
    """Format a time in Unix seconds; - for None."""
    return "-" if at_s is None else f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def usd_text(usd: float | None) -> str:
    """Format an amount in USD; - for None."""
    if usd is None:
        return "-"
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"
