"""The runbook page. Alerts link to its headings."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from mlflow_trace_exporter import templating
from mlflow_trace_exporter.bundled import packaged

_write = templating.page("mlflow_trace_exporter.web", "runbook.html")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the runbook and its subheadings."""

    name: str
    parts: list["Heading"] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The anchor of the heading: its name in lower case, with hyphens."""
        return self.name.lower().replace(" ", "-")


@cache
def page() -> bytes:
    """The runbook as HTML in UTF-8, with a table of contents after the title. Each heading has its name in lower case
    as id, so the runbook link of an alert leads to its section."""
    markdown = MarkdownIt("commonmark")
    tokens = markdown.parse(packaged.prometheus("runbook.md").read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", Heading(inline.content).id)
    title = next(at for at, token in enumerate(tokens) if token.type == "heading_close") + 1
    above, below = (markdown.renderer.render(some, markdown.options, {}) for some in (tokens[:title], tokens[title:]))
    return _write(
        title=Markup(above),  # noqa: S704 - our own file, not user input
        body=Markup(below),  # noqa: S704 - our own file, not user input
        sections=_sections(tokens),
    )


def _sections(tokens: Iterable[Token]) -> list[Heading]:
    """The second-level headings, each with its third-level headings."""
    sections: list[Heading] = []
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        if opening.tag == "h2":
            sections.append(Heading(inline.content))
        elif opening.tag == "h3" and sections:
            sections[-1].parts.append(Heading(inline.content))
    return sections
