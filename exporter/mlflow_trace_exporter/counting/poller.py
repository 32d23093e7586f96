"""The poller: reads new traces, has them counted, and publishes the totals."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic

from mlflow_trace_exporter.counting.reader import PollSettings, Reader
from mlflow_trace_exporter.counting.release import Gate
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.ledger.connection import LedgerDamagedError, LedgerLostError
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.series import SeriesExemplars, SeriesTotals, with_exemplars
from mlflow_trace_exporter.metrics.status import Failure, Snapshot, Status
from mlflow_trace_exporter.tracking.source import Source

log = logging.getLogger(__name__)

SHORTEST_WAIT_S = 1.0
"""The minimum wait before something that becomes due between two polls."""

MAX_WAIT_S = 60.0
"""The longest wait between attempts while polls fail, unless the interval is longer."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Our own clocks: the wall clock in Unix milliseconds, and the monotonic clock in seconds."""

    wall_ms: Callable[[], int]
    monotonic_s: Callable[[], float] = monotonic


class Poller:
    """The work of the polling thread. Each tick moves traces from the source through the ledger to ``publish``.

    ``publish`` gets the first snapshot at once, from the ledger, and only committed totals.
    ``status`` is the initial status: that of the previous poller if this one replaces it.
    Raises PollError if the ledger cannot be read.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        meter: Meter,
        publish: Callable[[Snapshot], None],
        settings: PollSettings,
        status: Status,
        clock: Clock,
    ) -> None:
        self._reader = Reader(source, ledger, meter, settings, self._after_page, clock.monotonic_s)
        self._publish = publish
        self._families, self._excluded = meter.families, meter.excluded
        self._interval_s = settings.interval_s
        self._ledger = ledger
        self._gate = Gate(ledger.totals, settings.series, clock.monotonic_s)
        self._clock = clock
        self._stopping = threading.Event()
        self.status = status
        self.ended_by: LedgerDamagedError | LedgerLostError | None = None
        """The reason if ``run`` returned by itself: the ledger is damaged or lost."""
        self._totals: SeriesTotals = {}
        self._exemplars: SeriesExemplars = {}
        self._active_ms: Mapping[Group, int] = {}
        self._workspaces: frozenset[str] = frozenset()
        self._look_at_ledger()
        self._expose()

    def run(self) -> None:
        """Tick until ``stop`` is called, or the ledger is damaged or lost. The wait grows with each failure."""
        failures = 0
        while not self._stopping.is_set():
            began = monotonic()
            failures = 0 if self.tick() else failures + 1
            self._pause(wait_s(self._interval_s, failures, monotonic() - began))

    def stop(self) -> None:
        """Make ``run`` return after the current page is stored. Can be called by any thread."""
        self._stopping.set()

    def resume(self) -> None:
        """Allow another call of ``run`` after ``stop``."""
        self._stopping.clear()

    def tick(self) -> bool:
        """Read new traces, count them and publish. Returns whether this succeeded. Never raises."""
        began = monotonic()
        errors = [self._error_of(step) for step in (self._reader.tick, self._look_at_ledger)]
        error = next(filter(None, errors), None)
        self.status = after_poll(self.status, error, monotonic() - began, self._clock.wall_ms() / 1000)
        self._expose()
        if error is not None:
            log.warning(str(error), extra={"reason": error.reason.value})
        return error is None

    def _pause(self, seconds: float) -> None:
        """Wait for the next poll. In the meantime, check pending traces when they are due, and publish groups when they
        are released. An error does not count as a failed poll: if it persists, the next poll encounters it again."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            next_s = min(self._reader.next_check_s(), self._gate.next_release_s())
            if self._stopping.wait(min(left, max(SHORTEST_WAIT_S, next_s))):
                return
            self.between_polls()

    def between_polls(self) -> None:
        """Do what is due before the next poll. Never raises."""
        is_check_due = self._reader.next_check_s() <= 0
        if is_check_due and (error := self._error_of(self._reader.check_pending)) is not None:
            log.info("a check between two polls failed", extra={"reason": error.reason.value, "error": str(error)})
            return
        if (is_check_due or self._gate.next_release_s() <= 0) and self._error_of(self._look_at_ledger) is None:
            self._expose()

    def _look_at_ledger(self) -> None:
        """Load the committed state of the ledger. Nothing else may be exposed."""
        self._gate.look(self._reader.tally.now_ms)
        self._totals = self._ledger.totals.shown()
        self._active_ms = {group: state.active_ms for group, state in self._ledger.totals.groups().items()}
        self._workspaces = self._ledger.workspaces()
        self._exemplars = with_exemplars(self._exemplars, self._reader.tally.take_exemplars(), self._totals)
        self.status = replace(self.status, reading=self._reader.reading())

    def _after_page(self) -> bool:
        """Publish intermediate results of a long catch-up. Returns whether to continue."""
        if monotonic() - self._exposed_at > self._interval_s:
            self.status = _with_mlflow(self.status, True, self._clock.wall_ms() / 1000)
            self._look_at_ledger()
            self._expose()
        return not self._stopping.is_set()

    def _expose(self) -> None:
        self._exposed_at = monotonic()
        self._publish(
            Snapshot(
                self._families,
                self._totals,
                self.status,
                self._exemplars,
                self._active_ms,
                self._excluded,
                self._workspaces,
            )
        )

    def _error_of(self, step: Callable[[], None]) -> PollError | None:
        try:
            step()
        except (LedgerDamagedError, LedgerLostError) as error:
            self.ended_by = error
            self._stopping.set()
            return error
        except PollError as error:
            return error
        except Exception as error:  # a bug must not end polling; it is counted and logged
            log.debug("unexpected error", exc_info=True)
            return PollError(Reason.INTERNAL, f"unexpected {type(error).__name__}: {error}")
        return None


_OURS = (Reason.LEDGER, Reason.CLOCK, Reason.INTERNAL)
"""Reasons that do not show whether MLflow answers."""


def after_poll(status: Status, error: PollError | None, duration_s: float, now_s: float) -> Status:
    """The status after a poll. An error that is not MLflow's does not change ``mlflow_up``."""
    status = replace(status, polls=status.polls + 1, poll_duration_s=duration_s)
    if error is None:
        return replace(_with_mlflow(status, True, now_s), last_success_s=now_s)
    status = with_failure(status, error, now_s)
    return status if error.reason in _OURS else _with_mlflow(status, False, now_s)


def with_failure(status: Status, error: PollError, now_s: float) -> Status:
    """The status after an error, which is counted."""
    errors = {**status.poll_errors, error.reason.value: status.poll_errors[error.reason.value] + 1}
    return replace(status, poll_errors=errors, failure=Failure(str(error), now_s))


def _with_mlflow(status: Status, up: bool, now_s: float) -> Status:
    return status if status.mlflow_up is up else replace(status, mlflow_up=up, mlflow_since_s=now_s)


def wait_s(interval_s: float, failures: int, elapsed_s: float) -> float:
    """How long to wait for the next poll: the rest of the interval, which doubles with each failure after the first.

    Example: with an interval of 15 s, the third failure in a row, which took 1 s, leads to 60 - 1 = 59 s.
    """
    if failures:
        interval_s = max(interval_s, min(interval_s * 2 ** min(failures - 1, 10), MAX_WAIT_S))
    return max(0.0, interval_s - elapsed_s)
