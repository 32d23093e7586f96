"""The thread that polls, the ledger that it polls into, and the reload of the configuration."""

import logging
import platform
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

from mlflow_trace_exporter import __version__
from mlflow_trace_exporter.commands.pages import Pages
from mlflow_trace_exporter.counting.poller import Clock, Poller, with_failure
from mlflow_trace_exporter.domain.shards import THE_WHOLE, Shard
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.ledger.connection import HeldError, LedgerDamagedError
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.opening import candidate
from mlflow_trace_exporter.metrics.exposition import Exposition
from mlflow_trace_exporter.metrics.series import SeriesTotals, at_least
from mlflow_trace_exporter.metrics.status import Build, Leader, Reload, Snapshot, Status
from mlflow_trace_exporter.settings import config
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.tracking.client import CLIENT_VERSION
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.wiring import (
    ledger_place,
    now_ms,
    open_meter,
    open_source,
    poll_settings,
    warnings_about,
)

log = logging.getLogger(__name__)

STOP_S = 3.0
"""How long a shutdown waits for the current poll. A poll that takes longer waits for MLflow, never for one of our own
transactions, so nothing is lost if it is abandoned."""

TRY_S = 1.0
"""How often a process that does not lead tries to."""

BUILD = Build(__version__, platform.python_version(), CLIENT_VERSION)


class Service:
    """Polls in a thread of its own while it leads, and reloads the configuration on request."""

    def __init__(
        self, config_file: Path | None, settings: Config, failed: Callable[[], None], shard: Shard = THE_WHOLE
    ) -> None:
        """``failed`` is called if polling ends without ``stop``. Raises UserError if the ledger is unavailable."""
        self._config_file = config_file
        self._settings = settings
        self._failed = failed
        self._shard = shard
        self._place = ledger_place(settings, shard)
        self._reload = Reload(successful=True, success_s=now_ms() / 1000)
        self._reload_error = ""
        self._reloading, self._changing, self._publishing = Lock(), Lock(), Lock()
        self._waking = Event()
        self._next: _Change | None = None
        self._stopped = False
        self._of_traces, self._alone = Exposition(), Exposition()
        self._exposed: Ledger | None = None
        """The ledger whose totals ``_of_traces`` shows."""
        self._floor: SeriesTotals | None = None
        """What was exposed before PostgreSQL lost some of it. It is read again, and until then nothing decreases."""
        self._source = open_source(settings, shard=shard)
        self._status = Status.begin(BUILD)
        self._candidate = candidate(self._place, self._wake)
        self._ledger: Ledger | None = None
        self._poller: Poller | None = None
        self._why_not = ""
        self._try_to_lead()
        self._thread = Thread(name="poller", target=self._poll, daemon=True)

    @property
    def exposition(self) -> Exposition:
        """What may be exposed now: the totals, or only what is about this process."""
        exposed = self._exposed
        return self._of_traces if exposed is not None and exposed.may_expose() else self._alone

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling. Safe to call in signal handlers."""
        self._stopped = True
        self._wake()

    def _wake(self) -> None:
        """Let the thread look at what has changed, after the current page."""
        self._waking.set()
        if (poller := self._poller) is not None:
            poller.stop()

    def close(self) -> None:
        """Wait up to STOP_S for polling to end, and let another process lead."""
        self.stop()
        self._thread.join(STOP_S)
        if not self._thread.is_alive():
            self._candidate.withdraw()
            if self._ledger is not None:
                self._ledger.close()

    def reload(self) -> None:
        """Reload the configuration file. If any of it is invalid, raises UserError and keeps the previous settings."""
        with self._reloading:
            try:
                changed = self._use(config.load(self._config_file))
            except UserError as error:
                self._note(replace(self._reload, successful=False), str(error))
                raise
            self._note(Reload(successful=True, success_s=now_ms() / 1000), "", changed)
            if changed:
                log_warnings(self._settings)

    def pages(self) -> Pages:
        """What pages can ask MLflow for, with the current settings."""
        return Pages(self._settings, self._source)

    def _use(self, settings: Config) -> bool:
        """Apply new settings. Returns whether the settings changed."""
        if settings == self._settings:
            return False
        if ledger_place(settings, self._shard) != self._place:
            key = "ledger.path" if isinstance(self._place, Path) else "ledger"
            raise UserError(f"{key}: cannot be changed by a reload; restart the exporter")
        if settings.web.external_url != self._settings.web.external_url:
            raise UserError("web.external_url: cannot be changed by a reload; restart the exporter")
        change = _Change(settings)
        with self._changing:
            if self._stopped:
                raise UserError("the exporter is stopping")
            self._next = change
        self._wake()  # it stops between two pages, at the latest when MLflow has answered
        change.done.result()
        return True

    def _run(self) -> None:
        """Poll. After a change of the configuration or the ledger, continue with a new poller."""
        while True:
            self._waking.clear()
            if self._poller is not None:
                self._poller.resume()
            if self._stopped:  # looked at after the lines above: what changes from now on stops the poller again
                return
            if self._next is not None:
                self._make(self._next)
            elif self._poller is None:
                self._waking.wait(TRY_S)
                self._try_to_lead()
            elif isinstance(self._poller.ended_by, LedgerDamagedError):
                self._begin_again(self._poller.ended_by)
            elif self._poller.ended_by is not None or not self._candidate.leads():
                self._resign()
            else:
                self._poller.run()

    def _poll(self) -> None:
        try:
            self._run()
        except UserError as error:
            log.error("cannot use the ledger; exiting", extra={"error": str(error)})
        except Exception:
            log.exception("the poller failed; exiting")
        finally:
            with self._changing:
                stopped, self._stopped = self._stopped, True
                if self._next is not None:
                    self._next.done.set_exception(UserError("the exporter is stopping"))
            if not stopped:
                self._failed()

    def _try_to_lead(self) -> None:
        """Open the ledger, and a poller for it. Otherwise stand by. Raises UserError if trying again is useless."""
        try:
            self._lead()
        except HeldError as held:
            since_s = held.since_ms / 1000 or None
            self._stand_by(Leader(held.holder, since_s), "another process leads", {"leader": held.holder})
        except PollError as error:
            if isinstance(self._place, Path):
                raise UserError(f"{self._place}: {error}; free disk space, or set another ledger.path") from None
            self._status = with_failure(self._status, error, now_ms() / 1000)
            self._stand_by(Leader(), "cannot lead", {"error": str(error)})

    def _stand_by(self, leader: Leader, why: str, details: dict[str, str]) -> None:
        if self._why_not != str(details):
            self._why_not = str(details)
            log.info(why, extra=details)
        with self._publishing:
            self._publish_alone(self._status, leader)

    def _lead(self) -> None:
        self._ledger = Ledger(self._candidate.lead())
        if self._ledger.gone_back and self._exposed is not None:
            self._floor = self._of_traces.snapshot.totals
            log.error(
                "PostgreSQL has lost transactions that it had committed; their traces are read again",
                extra={"ledger": self._place, "transactions": self._ledger.gone_back},
            )
        try:
            self._poller = self._open_poller(self._settings, self._source, self._status, self._ledger)
        except BaseException:
            self._ledger.close()
            self._ledger = None
            raise
        self._why_not = ""

    def _resign(self) -> None:
        """Give up the ledger, and try to lead again at once."""
        if self._poller is not None and self._ledger is not None:
            self._status = self._poller.status
            self._ledger.close()
        self._poller = self._ledger = None
        log.warning("not leading any more", extra={"ledger": self._place})

    def _begin_again(self, damage: LedgerDamagedError) -> None:
        """Replace a damaged ledger with a new one."""
        if self._poller is not None and self._ledger is not None:
            self._ledger.begin_again(damage)
            self._poller = self._replaced(self._poller, self._settings, self._source)

    def _make(self, change: "_Change") -> None:
        """Use new settings: replace the stopped poller, if there is one. If that fails, resume the old one."""
        self._next = None
        try:
            source = open_source(change.settings, shard=self._shard)
            if self._poller is not None:
                self._poller = self._replaced(self._poller, change.settings, source)
            else:
                open_meter(change.settings)
        except Exception as error:
            change.done.set_exception(error)
            if not isinstance(error, UserError):
                raise
            open_source(self._settings)  # restores the settings that all requests to MLflow share
            if self._poller is not None:
                with suppress(UserError):  # the ledger may have adopted other families: the old poller's data is stale
                    self._poller = self._replaced(self._poller, self._settings, self._source)
                self._poller.resume()
        else:
            self._source, self._settings = source, change.settings
            change.done.set_result(None)

    def _replaced(self, poller: Poller, settings: Config, source: MlflowSource) -> Poller:
        """Another poller for the same ledger. Raises UserError if the ledger cannot be read."""
        assert self._ledger is not None, "it leads"
        try:
            return self._open_poller(settings, source, poller.status, self._ledger)
        except PollError as error:
            raise UserError(f"{self._place}: {error}") from None

    def _open_poller(self, settings: Config, source: MlflowSource, status: Status, ledger: Ledger) -> Poller:
        meter = open_meter(settings)
        for name in ledger.totals.adopt(meter.families):
            log.warning("labels or buckets have changed: the metric restarts at zero", extra={"metric": name})
        publish = partial(self._publish, ledger)
        polling = poll_settings(settings, self._shard)
        return Poller(source, ledger, meter, publish, polling, status, Clock(now_ms))

    def _publish(self, ledger: Ledger, snapshot: Snapshot) -> None:
        """Expose the totals of a ledger from now on, for as long as this process leads."""
        with self._publishing:
            self._publish_alone(snapshot.status, Leader())
            self._of_traces.publish(
                replace(
                    snapshot,
                    totals=self._raised(snapshot.totals),
                    status=replace(snapshot.status, reload=self._reload),
                )
            )
            self._exposed = ledger

    def _raised(self, totals: SeriesTotals) -> SeriesTotals:
        if self._floor is None:
            return totals
        raised = at_least(totals, self._floor)
        if raised is totals:
            self._floor = None
        return raised

    def _publish_alone(self, status: Status, leader: Leader) -> None:
        status = replace(status, reload=self._reload).standing_by(leader)
        self._alone.publish(Snapshot((), {}, status))

    def _note(self, reload: Reload, error: str, changed: bool = False) -> None:
        """Log and publish the result of a reload, but only if it is news: clients may request many reloads."""
        is_news = changed or error != self._reload_error
        self._reload_error = error
        if not is_news:
            self._reload = reload
            log.debug("configuration reloaded without changes")
            return
        if error:
            log.error("the configuration is invalid; keeping the previous one", extra={"error": error})
        else:
            log.info("configuration reloaded")
        with self._publishing:  # otherwise an older snapshot could be published again
            self._reload = reload
            for exposition in (self._alone, self._of_traces) if self._exposed else (self._alone,):
                snapshot = exposition.snapshot
                exposition.publish(replace(snapshot, status=replace(snapshot.status, reload=reload)))


def log_warnings(settings: Config) -> None:
    """Log what is valid in the configuration, but cannot be meant."""
    for warning in warnings_about(settings):
        log.warning("the configuration has a mistake", extra={"warning": warning})


class _Change:
    """New settings, for use from the next poll."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.done: Future[None] = Future()
