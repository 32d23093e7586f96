"""Compares MLflow's own trace counts with the ledger, and reads missing traces again. See audit.py."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from time import monotonic

from mlflow_trace_exporter.counting.audit import Span, closed_span, is_time, missing, open_span
from mlflow_trace_exporter.counting.origins import Origins
from mlflow_trace_exporter.counting.tally import Tally
from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.horizon import Limits
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.tracking.source import Source

log = logging.getLogger(__name__)


class Scope(Enum):
    """Which start times an audit compares."""

    OPEN = "open"
    CLOSED = "closed"


_EVERY_MS = {Scope.OPEN: 60_000, Scope.CLOSED: 600_000}


@dataclass(frozen=True, slots=True)
class _Counts:
    """MLflow's counts by step, and how far start times were closed and retired at that time."""

    scope: Scope
    asked_ms: int
    marks: tuple[int, int]
    span: Span
    there: Mapping[int, int]


class Auditor:
    """Audits in two steps: requests MLflow's counts, and compares them after the next fresh pass, because until then
    new traces would seem to be missing. ``go_on`` is called after each stored page. If it returns False the audit
    ends."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        tally: Tally,
        origins: Origins,
        limits: Limits,
        go_on: Callable[[], bool],
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._tally = tally
        self._origins = origins
        self._limits = limits
        self._go_on = go_on
        self._asked: _Counts | None = None
        self._asked_ms: dict[Scope, int] = {}
        self._unaccounted: dict[Scope, Mapping[int, int]] = {}
        self.audited_ms: int | None = None
        """When the counts of the last complete audit of open start times were requested (Unix ms)."""

    @property
    def unaccounted(self) -> int | None:
        """How many traces MLflow counts that cannot be read; None before the first audit."""
        return sum(sum(found.values()) for found in self._unaccounted.values()) if self._unaccounted else None

    def forget_unaccounted(self) -> None:
        """Forget unaccounted traces after start times were reopened, because some can be read now."""
        self._unaccounted.clear()

    def is_due(self, scope: Scope, now: Clocks) -> bool:
        """Whether it is time to request MLflow's counts again."""
        return is_time(self._asked_ms.get(scope), _EVERY_MS[scope], now.earliest_ms)

    def ask(self, scope: Scope, now: Clocks, experiment_ids: Iterable[str]) -> None:
        """Request MLflow's counts of the traces of these experiments."""
        self._asked_ms[scope] = now.earliest_ms
        horizon = self._tally.horizon
        span = open_span(horizon, now.latest_ms) if scope is Scope.OPEN else closed_span(horizon, self._limits)
        there = self._count_there(span, experiment_ids)
        self._asked = _Counts(scope, now.earliest_ms, self._marks(), span, there)

    def compare(self, deadline_s: float) -> None:
        """Compare the counts of the last tick, unless the closed or retired mark has moved since."""
        asked, self._asked = self._asked, None
        if asked is None or asked.marks != self._marks():
            return
        explained = self._unaccounted.get(asked.scope, {})
        before = missing(asked.there, self._count_here(asked.span))
        suspects = [at_ms for at_ms, count in before.items() if explained.get(at_ms) != count]
        unread = {at_ms for at_ms in suspects if not self._read_again(asked.span, at_ms, deadline_s)}
        after = missing(asked.there, self._count_here(asked.span)) if suspects else before
        self._unaccounted[asked.scope] = {at_ms: count for at_ms, count in after.items() if at_ms not in unread}
        if asked.scope is Scope.OPEN and not unread:
            self.audited_ms = asked.asked_ms
        more = sum(self._unaccounted[asked.scope].values()) - sum(explained.values())
        if more > 0:
            log.warning("MLflow counts traces that cannot be read", extra={"traces": more})

    def _marks(self) -> tuple[int, int]:
        return self._tally.horizon.closed_ms, self._tally.horizon.retired_ms

    def _count_there(self, span: Span, experiment_ids: Iterable[str]) -> Mapping[int, int]:
        """MLflow's counts by step, from the origin of each experiment on."""
        there: dict[int, int] = {}
        for window, ids in self._origins.since(span.window, experiment_ids):
            for at_ms, count in self._source.counts(window, span.step_ms, ids).items():
                there[at_ms] = there.get(at_ms, 0) + count
        return there

    def _count_here(self, span: Span) -> Mapping[int, int]:
        """The ledger's counts by step. For retired start times they are from the time of retirement."""
        retired_ms = self._tally.horizon.retired_ms
        held = replace(span.window, hi_ms=min(span.window.hi_ms, retired_ms))
        kept = replace(span.window, lo_ms=max(span.window.lo_ms, retired_ms))
        return {**self._ledger.retired_counts(held), **self._ledger.counts(kept, span.step_ms)}

    def _read_again(self, span: Span, at_ms: int, deadline_s: float) -> bool:
        """Read one step again. Returns whether it is done. Retired steps are not read, because their ids may be
        forgotten."""
        step = span.step(at_ms)
        if step.hi_ms <= self._tally.horizon.retired_ms:
            return True
        if monotonic() > deadline_s:
            return False
        for page in self._source.scan(step):
            self._tally.store(self._origins.counted(page.records), self._tally.horizon)
            if not self._go_on():
                return False
        return True
