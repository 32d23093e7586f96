"""Compares MLflow's own count of traces with the ledger, and reads again what the ledger lacks. See audit.py."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from time import monotonic

from mlflow_trace_exporter.counting.audit import Span, closed_span, missing, open_span
from mlflow_trace_exporter.counting.ledger import Ledger
from mlflow_trace_exporter.counting.origins import Origins
from mlflow_trace_exporter.counting.tally import Tally
from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.horizon import Limits
from mlflow_trace_exporter.tracking.source import Source

log = logging.getLogger(__name__)


class Scope(Enum):
    """Which start times an audit compares."""

    OPEN = "open"
    CLOSED = "closed"


_EVERY_MS = {Scope.OPEN: 60_000, Scope.CLOSED: 600_000}


@dataclass(frozen=True, slots=True)
class _Counts:
    """What MLflow counted, by step, and how far start times were closed and retired then."""

    scope: Scope
    asked_ms: int
    marks: tuple[int, int]
    span: Span
    there: Mapping[int, int]


class Auditor:
    """Audits in two steps: asks MLflow for its counts, and compares them after the next fresh pass, because until then
    new traces would seem to be missing. ``go_on`` is asked after each page that is stored: False ends the audit."""

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
        """When MLflow was asked for the counts of open start times that were compared last, all of them (Unix ms)."""

    @property
    def unaccounted(self) -> int | None:
        """How many traces MLflow counts and cannot be read; None before the first audit."""
        return sum(sum(found.values()) for found in self._unaccounted.values()) if self._unaccounted else None

    def forget_unaccounted(self) -> None:
        """Start times are opened again, so some of what was unaccounted can be read now."""
        self._unaccounted.clear()

    def is_due(self, scope: Scope, now: Clocks) -> bool:
        """Whether it is time to ask MLflow for its counts again."""
        last_ms = self._asked_ms.get(scope)
        return last_ms is None or not 0 <= now.earliest_ms - last_ms < _EVERY_MS[scope]

    def ask(self, scope: Scope, now: Clocks, experiment_ids: Iterable[str]) -> None:
        """Ask MLflow for its counts of the traces of these experiments."""
        self._asked_ms[scope] = now.earliest_ms
        horizon = self._tally.horizon
        span = open_span(horizon, now.latest_ms) if scope is Scope.OPEN else closed_span(horizon, self._limits)
        there = self._count_there(span, experiment_ids)
        self._asked = _Counts(scope, now.earliest_ms, self._marks(), span, there)

    def compare(self, deadline_s: float) -> None:
        """Compare what MLflow counted at the last tick, unless the marks that it was asked by have moved."""
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
            log.warning("MLflow counts traces that cannot be read, or not any more", extra={"traces": more})

    def _marks(self) -> tuple[int, int]:
        return self._tally.horizon.closed_ms, self._tally.horizon.retired_ms

    def _count_there(self, span: Span, experiment_ids: Iterable[str]) -> Mapping[int, int]:
        """What MLflow counts by step, from where each experiment begins."""
        groups: dict[int, list[str]] = {}  # by where they begin, mostly all at the same
        for experiment_id in experiment_ids:
            groups.setdefault(max(span.window.lo_ms, self._origins.of(experiment_id)), []).append(experiment_id)
        there: dict[int, int] = {}
        for lo_ms, ids in groups.items():
            window = replace(span.window, lo_ms=lo_ms)
            if window.lo_ms < window.hi_ms:
                for at_ms, count in self._source.counts(window, span.step_ms, ids).items():
                    there[at_ms] = there.get(at_ms, 0) + count
        return there

    def _count_here(self, span: Span) -> Mapping[int, int]:
        """What the ledger knows by step; of what is retired, what it knew."""
        retired_ms = self._tally.horizon.retired_ms
        held = replace(span.window, hi_ms=min(span.window.hi_ms, retired_ms))
        kept = replace(span.window, lo_ms=max(span.window.lo_ms, retired_ms))
        return {**self._ledger.retired_counts(held), **self._ledger.counts(kept, span.step_ms)}

    def _read_again(self, span: Span, at_ms: int, deadline_s: float) -> bool:
        """Whether one step was read to its end. What is retired cannot be: its ids are forgotten."""
        step = span.step(at_ms)
        if step.hi_ms <= self._tally.horizon.retired_ms:
            return True
        if monotonic() > deadline_s:
            return False
        for page in self._source.scan(step):
            self._tally.store([record for record in page.records if self._origins.count(record)], self._tally.horizon)
            if not self._go_on():
                return False
        return True
