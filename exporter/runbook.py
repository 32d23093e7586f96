"""The runbook as a page: alerts link to its headings."""

from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markupsafe import Markup

from exporter import packaged, templating

_write = templating.page("runbook.html")


@cache
def page() -> bytes:
    """The runbook as HTML in UTF-8. The heading of an alert has its name in lower case as id."""
    markdown = MarkdownIt("commonmark")
    tokens = markdown.parse(packaged.prometheus("runbook.md").read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", inline.content.lower().replace(" ", "-"))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return _write(body=Markup(body))  # noqa: S704 - it is our own file that is not escaped
