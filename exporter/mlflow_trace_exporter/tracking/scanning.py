"""Scans: all traces of a window in order of start, with up to two requests in flight."""

from collections import deque
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mlflow_trace_exporter.domain.horizon import Window
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError
from mlflow_trace_exporter.tracking.pending import IN_FLIGHT, PendingAnswer
from mlflow_trace_exporter.tracking.slices import Extent, Known, Slice, next_width_ms, split, to_count, unread

MAX_PAGES = 10_000
"""The maximum number of pages that are read for one millisecond: five million traces."""

Tokens = Mapping[str | None, str]
"""The token of the next page by workspace (None: the server has none); without those that have no further page."""


@dataclass(frozen=True, slots=True)
class Page:
    """Traces in order of start. After they are stored, reading can continue at ``next_lo_ms``."""

    records: tuple[TraceRecord, ...]
    next_lo_ms: int


@dataclass(frozen=True, slots=True)
class Found:
    """A search result, and the tokens of the next page, if there is one. ``records`` converts and checks its traces,
    without duplicates. It raises PollError."""

    extent: Extent
    records: Callable[[], tuple[TraceRecord, ...]]
    tokens: Tokens = field(default_factory=dict)


class Search(Protocol):
    """Begins a search for the traces of a window, except those with ``excluded`` ids, ordered by start. The result is
    the first page, or the page of ``tokens``."""

    def __call__(
        self, window: Window, excluded: frozenset[str] = ..., tokens: Tokens | None = ...
    ) -> PendingAnswer[Found]:
        """Send the request."""
        ...


@dataclass(slots=True)
class Scan:
    """Reads all traces of a window, each once, ordered by start.

    The first request is for the whole window. If its page is full, the rest is requested in slices of start times,
    about a page each. So MLflow works on the next two slices while a page is converted and processed. A slice with more
    than one page is read to its end before the next one.

    If a millisecond has more rows than can be excluded, page tokens are used. ``known`` traces are excluded where
    possible. ``max_excluded`` is how many ids a search can exclude; 0 if the server does not support it. If more than a
    page of traces is known, ``counts`` (by steps of STEP_MS; None if the server does not support it) shows where all
    traces are known, because a count costs MLflow far less than excluding each id.
    """

    search: Search
    bad_answer: Callable[[str], PollError]
    page_size: int
    max_excluded: int
    known: Known = ()
    counts: Callable[[Window], Mapping[int, int]] | None = None
    _asked: deque[tuple[Slice, PendingAnswer[Found]]] = field(default_factory=deque)
    _unasked: deque[Slice] = field(default_factory=deque)
    """What is not requested yet. It starts after everything that has been requested."""
    _width_ms: int | None = None

    def pages(self, window: Window) -> Generator[Page, None, None]:
        """The pages, each with at least one trace. If a request fails, PollError is raised when its page is due."""
        self._unasked.extend(Slice(each) for each in self._windows(window))
        try:
            while self._ask_ahead():
                yield from self._next_pages()
        finally:
            for _, pending in self._asked:
                pending.drop()

    def _windows(self, window: Window) -> Sequence[Window]:
        """The parts of the window that may contain traces that are not known."""
        if self.counts is None or len(self.known) <= self.page_size:
            return (window,)
        counted = to_count(window, self.known)
        return unread(window, self.known, counted, self.counts(counted))

    def _ask_ahead(self) -> bool:
        """Send as many requests as may be in flight. Returns whether there are any."""
        while self._unasked and len(self._asked) < IN_FLIGHT:
            first, rest = split(self._unasked.popleft(), self._width_ms, self.known, self.max_excluded)
            if rest is not None:
                self._unasked.appendleft(rest)
            self._asked.append((first, self._ask(first)))
        return bool(self._asked)

    def _ask(self, part: Slice) -> PendingAnswer[Found]:
        return self.search(part.window, part.excluded(self.known, self.max_excluded))

    def _next_pages(self) -> Iterator[Page]:
        part, pending = self._asked.popleft()
        found = pending.answer()
        extent = found.extent
        self._width_ms = next_width_ms(self._width_ms, part, extent, self.page_size)
        rest = part.after(extent) if extent.more and extent.count else None
        if rest is not None and extent.first_ms == extent.last_ms and len(rest.read) > self.max_excluded:
            yield from self._new(found, part.read)
            yield from self._rest_of_millisecond(rest)
            rest = rest.after_millisecond()
            if rest.window.lo_ms < rest.window.hi_ms:
                self._continue_with(rest)
            return
        if rest is not None:
            self._continue_with(rest)
        self._ask_ahead()
        yield from self._new(found, part.read)

    def _new(self, found: Found, read: Container[str]) -> list[Page]:
        """The new traces as a page, or no page."""
        page = _page(found.records(), read)
        if found.extent.more and not page:
            raise self.bad_answer("there are more traces, but the page contains no new ones")
        return page

    def _continue_with(self, rest: Slice) -> None:
        """Request the rest of a slice before everything else. The rest of the last slice is split again instead."""
        if self._asked or self._unasked:
            self._asked.appendleft((rest, self._ask(rest)))
        else:
            self._unasked.append(rest)

    def _rest_of_millisecond(self, rest: Slice) -> Iterator[Page]:
        """The unread traces of the first millisecond of a slice, by MLflow's page tokens. If one of these traces is
        deleted between two pages, another one is skipped. The audit finds it, and so does the pass that closes its
        start time."""
        at_ms = replace(rest.window, hi_ms=rest.window.lo_ms + 1)
        seen: set[str] = set()
        tokens: Tokens | None = None
        for _ in range(MAX_PAGES):
            found = self.search(at_ms, tokens=tokens).answer()
            records = found.records()
            yield from _page([record for record in records if record.trace_id not in rest.read], seen)
            before, tokens = len(seen), found.tokens
            seen.update(record.trace_id for record in records)
            if not tokens:
                return
            if len(seen) == before:
                break
        raise self.bad_answer(f"the pages of traces that start at {at_ms.lo_ms} ms do not end")


def _page(found: Sequence[TraceRecord], read: Container[str]) -> list[Page]:
    """The new traces as a page, or no page."""
    new = tuple(record for record in found if record.trace_id not in read)
    return [Page(new, new[-1].start_ms)] if new else []
