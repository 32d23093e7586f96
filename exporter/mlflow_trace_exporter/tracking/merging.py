"""Merges pages of several workspaces into one page. Pure.

MLflow answers a search for one workspace only, but a scan has one position: a start time before which everything is
read. So a scan searches the same window in each workspace, and the pages are merged by start.

A full page says nothing about what starts after its last row. So the merged page ends where the first of the full pages
ends, and rows of other workspaces that start later are dropped. As after any full page, the scan continues in the
millisecond of the last row and excludes what is read of it, so it gets these rows again. Example: workspace A has a
full page that ends at 7 ms, and B has rows at 3, 7 and 9 ms. The merged page has A's rows and those at 3 and 7 ms. The
next search begins at 7 ms.

If one of the searches fails, so does the merged one: its rows are not stored and the position does not move. So no
workspace can fall behind the position, and whatever is read again afterwards is known by its id.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from mlflow_trace_exporter.tracking.client import FoundTraces
from mlflow_trace_exporter.tracking.parsing import TraceInfo
from mlflow_trace_exporter.tracking.scanning import Tokens


@dataclass(frozen=True, slots=True)
class MergedPage:
    """Traces in order of start. ``more``: there may be more. ``tokens`` lead to the next pages if nothing was dropped,
    as in a search for one millisecond. ``arrived_s`` is when the first response began, by the monotonic clock."""

    traces: Sequence[TraceInfo]
    more: bool
    tokens: Tokens
    arrived_s: float


def merged(pages: Mapping[str | None, FoundTraces], newest_first: bool = False) -> MergedPage:
    """Merge the pages of at least one workspace, each in order of start."""
    tokens = {workspace: page.next_page_token for workspace, page in pages.items() if page.next_page_token is not None}
    more, arrived_s = any(page.more for page in pages.values()), min(page.arrived_s for page in pages.values())
    return MergedPage(_rows([*pages.values()], newest_first), more, tokens, arrived_s)


def _rows(pages: Sequence[FoundTraces], newest_first: bool) -> Sequence[TraceInfo]:
    if len(pages) == 1:
        return pages[0].traces
    full = [page for page in pages if page.more]
    if not all(page.traces for page in full):  # invalid: there is more, but nothing in the page
        return ()
    rows = heapq.merge(*(page.traces for page in pages), key=lambda row: row.start_ms, reverse=newest_first)
    ends_ms = [page.traces[-1].start_ms for page in full]
    if not ends_ms:
        return tuple(rows)
    if newest_first:
        return tuple(takewhile(lambda row: row.start_ms >= max(ends_ms), rows))
    return tuple(takewhile(lambda row: row.start_ms <= min(ends_ms), rows))
