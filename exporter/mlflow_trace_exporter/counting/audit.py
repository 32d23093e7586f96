"""Which start times MLflow counts more traces at than the ledger knows. Pure.

Counts are compared in steps of start time: by the minute where start times are open, by the bucket where they are
closed, and in what was retired of late, where nothing can be counted any more but what is missing can be told. Where
MLflow has more, that step is read again. A difference that is still there after that (traces that MLflow counts and
does not show, say) is remembered, or it would be read for ever, and published as unaccounted.

Fewer there than here is no reason to read: traces were deleted. As many deleted as added is not noticed here; that is
why the closing and the retiring pass read everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_trace_exporter.domain.horizon import AHEAD_MS, BUCKET_MS, Horizon, Limits, Window

OPEN_STEP_MS = 60_000


@dataclass(frozen=True, slots=True)
class Span:
    """A range of start times that is compared in steps of ``step_ms``."""

    window: Window
    step_ms: int

    def step(self, at_ms: int) -> Window:
        """The step that begins at ``at_ms``, as far as it lies in the span."""
        return Window(max(at_ms, self.window.lo_ms), min(at_ms + self.step_ms, self.window.hi_ms))


def open_span(horizon: Horizon, latest_ms: int) -> Span:
    """The start times that are not closed. ``latest_ms``: what no clock is past."""
    return Span(Window(horizon.closed_ms, latest_ms + AHEAD_MS), OPEN_STEP_MS)


def closed_span(horizon: Horizon, limits: Limits) -> Span:
    """The start times that are closed, and as many more that were retired."""
    lo_ms = max(horizon.origin_ms, horizon.retired_ms - limits.audit_horizon_ms)
    return Span(Window(lo_ms, horizon.closed_ms), BUCKET_MS)


def missing(there: Mapping[int, int], here: Mapping[int, int]) -> dict[int, int]:
    """By how much MLflow has more traces than the ledger, by step; only steps where it has."""
    return {at_ms: count - here.get(at_ms, 0) for at_ms, count in there.items() if count > here.get(at_ms, 0)}
