"""The documentation: the README and the pages in docs, and what is written in them."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support import PROJECT

README = PROJECT / "README.md"
PAGES = sorted((PROJECT / "docs").glob("*.md"))
DOCUMENTS = [
    README,
    *PAGES,
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "SECURITY.md",
    PROJECT / "prometheus" / "runbook.md",
    PROJECT / "deploy" / "helm" / "mlflow-trace-exporter" / "README.md",
]
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    """A page of docs, by its name without the ending."""
    return (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def everything() -> str:
    """The README and all pages of docs, one after another."""
    return "\n".join(file.read_text(encoding="utf-8") for file in (README, *PAGES))


def tables(below: str) -> Iterator[list[list[str]]]:
    """The cells of each table in a text, without its head."""
    for rows in re.findall(r"(?:^\|.*\n)+", below, re.MULTILINE):
        yield [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()[2:]]


def table(name: str, heading: str) -> list[list[str]]:
    """The first table below a heading of a page."""
    return next(tables(f"\n{text(name)}".split(f"\n{heading}\n", 1)[1]))


def prose(file: Path) -> str:
    """A document without its code blocks."""
    return _FENCE.sub("", file.read_text(encoding="utf-8"))


def anchors(file: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(file: Path) -> list[str]:
    """Where the links and pictures of a document lead."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(file))
