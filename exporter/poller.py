"""The poller: reads what is new, has it counted, and publishes what is counted."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from exporter.errors import PollError, Reason
from exporter.horizon import Horizon, after_page, begin_pass, complete_pass
from exporter.ledger import Ledger
from exporter.metrics import Build, Cell, Snapshot, Status
from exporter.source import Page, Source
from exporter.trace import TraceRecord

log = logging.getLogger(__name__)

MAX_WAIT_S = 60.0
"""The longest wait between two tries while polls fail, unless the interval is longer."""

Measure = Callable[[Sequence[TraceRecord]], Mapping[Cell, float]]
"""What traces add to which cells."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How to poll.

    ``lateness_ms``: how long a trace may run and still be found by the fresh pass. ``origin_ms``: traces that started
    earlier are not counted; used where the ledger is new, and kept in it from then on.
    """

    interval_s: float
    lateness_ms: int
    origin_ms: int


class Poller:
    """The work of one thread: tick by tick from the source through the ledger to ``publish``.

    ``publish`` is given a first snapshot at once, from what the ledger holds, and only ever what is committed.
    ``now_ms`` is the wall clock in Unix milliseconds. Raises PollError if the ledger cannot be read.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        measure: Measure,
        publish: Callable[[Snapshot], None],
        settings: PollSettings,
        build: Build,
        now_ms: Callable[[], int],
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._measure = measure
        self._publish = publish
        self._settings = settings
        self._now_ms = now_ms
        self._stopping = threading.Event()
        self._status = Status(build, poll_errors={reason.value: 0 for reason in Reason})
        self._totals: Mapping[Cell, float] = {}
        self._totals_changed = True
        self._read_totals()
        self._expose()

    def run(self) -> None:
        """Tick until ``stop``; after failures wait longer and longer."""
        failures = 0
        while not self._stopping.is_set():
            began = monotonic()
            failures = 0 if self.tick() else failures + 1
            self._stopping.wait(wait_s(self._settings.interval_s, failures, monotonic() - began))

    def stop(self) -> None:
        """Have ``run`` return once the page at hand is stored. For any thread to call."""
        self._stopping.set()

    def tick(self) -> bool:
        """Read what is new, count it, publish. Whether that succeeded; raises nothing."""
        began = monotonic()
        errors = [self._error_of(step) for step in (self._fresh_pass, self._read_totals)]
        error = next(filter(None, errors), None)
        self._status = after_poll(self._status, error, monotonic() - began, self._now_ms() / 1000)
        self._expose()
        if error is not None:
            log.warning(str(error), extra={"reason": error.reason.value})
        return error is None

    def _fresh_pass(self) -> None:
        horizon = self._begin_pass()
        assert horizon.under_way is not None, "begin_pass begins one"
        for page in self._source.scan(horizon.under_way.window):
            horizon = after_page(horizon, page.next_lo_ms)
            self._count(page, horizon)
            if self._stopping.is_set():
                return
            if monotonic() - self._exposed_at > self._settings.interval_s:
                self._expose_progress()
        self._ledger.commit(complete_pass(horizon))

    def _begin_pass(self) -> Horizon:
        stored = self._ledger.horizon()
        horizon = begin_pass(stored or Horizon(self._settings.origin_ms), self._now_ms(), self._settings.lateness_ms)
        if stored is None:  # from here on a restart counts from the same moment
            self._ledger.commit(horizon)
        return horizon

    def _count(self, page: Page, horizon: Horizon) -> None:
        new = self._ledger.not_counted([record for record in page.records if record.final])
        self._ledger.commit(horizon, new, self._measure(new))
        log.debug("page read", extra={"traces": len(page.records), "new": len(new)})
        self._totals_changed |= bool(new)

    def _read_totals(self) -> None:
        """Take from the ledger what is committed: nothing else may be exposed."""
        if self._totals_changed:
            self._totals = self._ledger.totals()
            self._totals_changed = False

    def _expose_progress(self) -> None:
        """Let people watch a long catch-up while it goes on."""
        self._status = replace(self._status, mlflow_up=True)
        self._read_totals()
        self._expose()

    def _expose(self) -> None:
        self._exposed_at = monotonic()
        self._publish(Snapshot(self._totals, self._status))

    def _error_of(self, step: Callable[[], None]) -> PollError | None:
        try:
            step()
        except PollError as error:
            return error
        except Exception as error:  # a mistake of ours must not end the polling; it is counted, and told
            log.debug("unexpected error", exc_info=True)
            return PollError(Reason.INTERNAL, f"unexpected {type(error).__name__}: {error}")
        return None


def after_poll(status: Status, error: PollError | None, duration_s: float, now_s: float) -> Status:
    """The status once a poll has ended. An error that is not MLflow's says nothing about MLflow."""
    status = replace(status, polls=status.polls + 1, poll_duration_s=duration_s)
    if error is None:
        return replace(status, mlflow_up=True, last_success_s=now_s)
    errors = {**status.poll_errors, error.reason.value: status.poll_errors[error.reason.value] + 1}
    up = status.mlflow_up if error.reason in (Reason.LEDGER, Reason.INTERNAL) else False
    return replace(status, mlflow_up=up, poll_errors=errors)


def wait_s(interval_s: float, failures: int, elapsed_s: float) -> float:
    """How long to wait for the next poll: what is left of the interval, which doubles with each failure in a row.

    Example: an interval of 15 s, and the third failure in a row took 1 s: 60 - 1 = 59 s.
    """
    if failures:
        interval_s = max(interval_s, min(interval_s * 2 ** min(failures - 1, 10), MAX_WAIT_S))
    return max(0.0, interval_s - elapsed_s)
