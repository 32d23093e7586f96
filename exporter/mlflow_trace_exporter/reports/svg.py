"""matplotlib figures as SVG inside an HTML page."""

import re
import warnings
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from mlflow_trace_exporter.reports.palette import VARIABLES

if TYPE_CHECKING:  # it is optional
    from matplotlib.figure import Figure

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_HREF = "{http://www.w3.org/1999/xlink}href"


def inline(figure: "Figure", name: str, title: str, tip: str) -> str:
    """The figure as an ``svg`` element, which readers of the page are told the ``title`` of.

    Text stays text, in the font of the page. Colours that are marks, see ``palette``, become CSS variables. Ids that
    begin with ``tip`` become tooltips. ``name`` is unique in the page, and makes the remaining ids unique.
    """
    root = ElementTree.fromstring(_drawn(figure, name))  # noqa: S314 - matplotlib wrote it
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # HTML has no namespaces
        _adapt(element, tip)
    _, _, width, height = root.attrib["viewBox"].split()
    look = "stroke-linejoin: round; stroke-linecap: butt"
    root.attrib = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": title, "style": look}
    for style in [each for each in root if each.find("style") is not None]:
        root.remove(style)  # it would apply to the whole page; ``look`` has what it says
    return ElementTree.tostring(root, encoding="unicode")


def _drawn(figure: "Figure", name: str) -> bytes:
    import matplotlib as mpl

    file = BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        warnings.simplefilter("ignore")  # matplotlib's font lacks a character; the browser's need not
        figure.savefig(file, format="svg", metadata=_NO_METADATA)
    return file.getvalue()


def _adapt(element: ElementTree.Element, tip: str) -> None:
    if (href := element.attrib.pop(_HREF, None)) is not None:
        element.set("href", href)
    if "style" in element.attrib:
        element.set("style", _style(element.attrib["style"]))
    if element.tag != "g":
        return
    name = element.attrib.pop("id", "")  # not unique in the page
    if name.startswith(tip):
        title = ElementTree.Element("title")
        title.text = name.removeprefix(tip)
        element.insert(0, title)


def _style(text: str) -> str:
    parts = (part for part in text.split("; ") if not part.startswith("font-family"))
    return re.sub("#[0-9a-f]{6}", lambda found: VARIABLES.get(found[0], found[0]), "; ".join(parts))
