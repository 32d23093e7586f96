"""Decides which range of start times a scan requests next. Pure."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import PLAIN_ID

FILL = 0.9
"""The share of a page that a slice should fill, so that most slices fit into one page."""

SPARSE = 0.5
"""If a slice fills a smaller share of a page than this, the prediction was wrong."""

MAX_EXCLUDED_LENGTH = 64
"""Known traces with longer ids are not excluded from a search, because the filter would become too long."""

COUNTED_MS = 900_000
"""How much of the known traces' range of starts is compared by counts: the latest part. It fits into one response."""

STEP_MS = 1_000
"""The step in which counts are compared: the shortest that MLflow supports."""

Known = Sequence[tuple[int, str]]
"""Start (Unix ms) and id of traces, ordered by start."""


class Row(Protocol):
    """A trace of a page."""

    @property
    def trace_id(self) -> str:
        """Its id."""
        ...

    @property
    def start_ms(self) -> int:
        """Its start in Unix ms."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """How many rows a page has, and their first and last start (Unix ms). ``at_last`` are the ids of the rows in the
    last millisecond. ``more``: there may be more rows than these."""

    count: int
    first_ms: int
    last_ms: int
    at_last: frozenset[str]
    more: bool

    @staticmethod
    def of(rows: Sequence[Row], more: bool) -> "Extent":
        """The extent of rows in order of start."""
        if not rows:
            return Extent(0, 0, 0, frozenset(), more)
        last_ms = rows[-1].start_ms
        at_last = takewhile(lambda row: row.start_ms == last_ms, reversed(rows))
        return Extent(len(rows), rows[0].start_ms, last_ms, frozenset(row.trace_id for row in at_last), more)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a scan: the traces of a window, except those with the ids in ``read``, which start in its first
    millisecond and were already read. ``is_rest``: it is what remains of a slice after a full page."""

    window: Window
    read: frozenset[str] = frozenset()
    is_rest: bool = False

    def after(self, page: Extent) -> "Slice":
        """What remains after a page that is not empty. Page tokens are avoided, because they are offsets:
        deleting a row shifts the following rows by one.

        The remainder begins in the millisecond of the last row and excludes what is read of it. Example: a page ends
        with traces a at 5 ms, b and c at 7 ms. The remainder has the traces from 7 ms on, except b and c.
        """
        before = self.read if page.last_ms == self.window.lo_ms else frozenset()
        return Slice(replace(self.window, lo_ms=page.last_ms), before | page.at_last, is_rest=True)

    def after_millisecond(self) -> "Slice":
        """What remains after all traces of its first millisecond."""
        return Slice(replace(self.window, lo_ms=self.window.lo_ms + 1), is_rest=True)

    def excluded(self, known: Known, at_most: int) -> frozenset[str]:
        """The ids to exclude from a search for this slice: those that are read, and as many of the known ones in its
        window as possible. None at all if more than ``at_most`` are read."""
        if len(self.read) > at_most:
            return frozenset()
        begin, end = _range(known, self.window)
        ids = (trace_id for _, trace_id in known[begin : min(end, begin + at_most - len(self.read))])
        return self.read.union(each for each in ids if len(each) <= MAX_EXCLUDED_LENGTH and PLAIN_ID.fullmatch(each))


def to_count(window: Window, known: Known) -> Window:
    """The part of a window in which MLflow should count the traces, to compare them with the known ones."""
    hi_ms = min(window.hi_ms, known[-1][0] + 1)
    return Window(max(window.lo_ms, known[0][0], hi_ms - COUNTED_MS), hi_ms)


def unread(window: Window, known: Known, counted: Window, counts: Mapping[int, int]) -> list[Window]:
    """What remains of a window without the steps in which MLflow has as many traces as are known: if none of these was
    deleted, there are no others. ``counts`` are the numbers of traces in ``counted``, by steps of STEP_MS.

    Example: if all traces that started from 3 s to 9 s are known, [0 s, 20 s) becomes [0 s, 3 s) and [9 s, 20 s).
    """
    begin, end = _range(known, counted)
    here = Counter(start_ms // STEP_MS * STEP_MS for start_ms, _ in known[begin:end])
    remain: list[Window] = []
    lo_ms = window.lo_ms
    for at_ms in range(counted.lo_ms // STEP_MS * STEP_MS, counted.hi_ms, STEP_MS):
        if here[at_ms] == counts.get(at_ms, 0):
            remain.append(replace(window, lo_ms=lo_ms, hi_ms=max(at_ms, counted.lo_ms)))
            lo_ms = min(at_ms + STEP_MS, counted.hi_ms)
    remain.append(replace(window, lo_ms=lo_ms))
    return [each for each in remain if each.lo_ms < each.hi_ms]


def split(rest: Slice, width_ms: int | None, known: Known, at_most: int) -> tuple[Slice, Slice | None]:
    """The first slice of ``rest``, and what remains (None: nothing). The slice is at most ``width_ms`` long, and so
    short that at most ``at_most`` ids have to be excluded, unless more of them start in its first millisecond."""
    window = rest.window
    hi_ms = window.hi_ms if width_ms is None else min(window.hi_ms, window.lo_ms + width_ms)
    begin, end = _range(known, replace(window, hi_ms=hi_ms))
    room = max(0, at_most - len(rest.read))
    if end - begin > room:
        hi_ms = max(window.lo_ms + 1, known[begin + room][0])
    first = replace(rest, window=replace(window, hi_ms=hi_ms), is_rest=False)
    return first, None if hi_ms >= window.hi_ms else Slice(replace(window, lo_ms=hi_ms))


def next_width_ms(width_ms: int | None, asked: Slice, page: Extent, page_size: int) -> int | None:
    """The length of the next slices, given the first page of the slice ``asked`` and the previous length ``width_ms``.
    None means that the density of traces is unknown, so that the next search should be for everything that remains.
    This skips gaps, such as nights.

    Example: 500 rows in 10 s make slices of 9 s.
    """
    if page.more:
        span_ms = page.last_ms - page.first_ms
    elif asked.is_rest:
        return width_ms
    else:
        span_ms = asked.window.hi_ms - asked.window.lo_ms if page.count >= SPARSE * page_size else 0
    return max(1, int(FILL * page_size * span_ms / page.count)) if span_ms else None


def _range(known: Known, window: Window) -> tuple[int, int]:
    """The range of indexes of the known traces that start in the window."""
    return bisect_left(known, (window.lo_ms,)), bisect_left(known, (window.hi_ms,))
