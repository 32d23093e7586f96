"""Finds start times for which MLflow counts more traces than the ledger. Pure.

Counts are compared in steps of start time: per minute for open start times, and per bucket for closed and recently
retired ones. Traces of retired start times can no longer be counted, but missing ones can be reported. If MLflow has
more traces in a step, the step is read again. A remaining difference (for example, traces that MLflow counts but does
not return) is published as unaccounted. It is also remembered, so that the step is not read again and again.

If MLflow has fewer traces than the ledger, some were deleted, and there is nothing to read. The audit does not notice
if as many traces were deleted as added. That is why the closing and retiring passes read everything.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow_trace_exporter.domain.horizon import AHEAD_MS, BUCKET_MS, Horizon, Limits, Window

OPEN_STEP_MS = 60_000


@dataclass(frozen=True, slots=True)
class Span:
    """A range of start times that is compared in steps of ``step_ms``."""

    window: Window
    step_ms: int

    def step(self, at_ms: int) -> Window:
        """The part inside the span of the step that begins at ``at_ms``."""
        return Window(max(at_ms, self.window.lo_ms), min(at_ms + self.step_ms, self.window.hi_ms))


def open_span(horizon: Horizon, latest_ms: int) -> Span:
    """The open start times. No clock has passed ``latest_ms``."""
    return Span(Window(horizon.closed_ms, latest_ms + AHEAD_MS), OPEN_STEP_MS)


def closed_span(horizon: Horizon, limits: Limits) -> Span:
    """The closed start times, and one audit horizon of retired ones before them."""
    lo_ms = max(horizon.origin_ms, horizon.retired_ms - limits.audit_horizon_ms)
    return Span(Window(lo_ms, horizon.closed_ms), BUCKET_MS)


def missing(there: Mapping[int, int], here: Mapping[int, int]) -> dict[int, int]:
    """How many more traces MLflow has than the ledger, by step. Only steps where it has more."""
    return {at_ms: count - here.get(at_ms, 0) for at_ms, count in there.items() if count > here.get(at_ms, 0)}


def is_time(last_ms: int | None, every_ms: int, now_ms: int) -> bool:
    """Whether it is time for periodic work that was last done at ``last_ms``, if ever. It is if the clock has gone back
    since, because then nobody knows how long ago that was."""
    return last_ms is None or not 0 <= now_ms - last_ms < every_ms


PARTS = 16
"""Into how many parts a range is split."""


def split(window: Window, step_ms: int) -> Iterator[Window]:
    """The parts of a window, each of whole steps since 1970. There are PARTS, or as many as the window has steps."""
    first, last = window.lo_ms // step_ms, -(-window.hi_ms // step_ms)
    size_ms = -(-(last - first) // PARTS) * step_ms
    for lo_ms in range(first * step_ms, window.hi_ms, size_ms or step_ms):
        yield Window(max(lo_ms, window.lo_ms), min(lo_ms + size_ms, window.hi_ms))
