"""The runbook as a page: alerts link to its headings."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from mlflow_trace_exporter.bundled import packaged
from mlflow_trace_exporter.web import templating

_write = templating.page("runbook.html")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the runbook, and those below it."""

    name: str
    parts: list["Heading"] = field(default_factory=list)

    @property
    def id(self) -> str:
        """What a link to it ends with: its name in lower case."""
        return self.name.lower().replace(" ", "-")


@cache
def page() -> bytes:
    """The runbook as HTML in UTF-8, with its contents after the title. The heading of an alert has its name in lower
    case as id."""
    markdown = MarkdownIt("commonmark")
    tokens = markdown.parse(packaged.prometheus("runbook.md").read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", Heading(inline.content).id)
    title = next(at for at, token in enumerate(tokens) if token.type == "heading_close") + 1
    above, below = (markdown.renderer.render(some, markdown.options, {}) for some in (tokens[:title], tokens[title:]))
    return _write(
        title=Markup(above),  # noqa: S704 - it is our own file that is not escaped
        body=Markup(below),  # noqa: S704 - likewise
        sections=_sections(tokens),
    )


def _sections(tokens: Iterable[Token]) -> list[Heading]:
    """The headings of the second level with those of the third below them."""
    sections: list[Heading] = []
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        if opening.tag == "h2":
            sections.append(Heading(inline.content))
        elif opening.tag == "h3" and sections:
            sections[-1].parts.append(Heading(inline.content))
    return sections
