"""`serve`: assembles poller, ledger and web server into one process."""

import logging
import platform
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from urllib.parse import urlsplit

from mlflow_trace_exporter import __version__
from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.counting.poller import Clock, Poller
from mlflow_trace_exporter.domain.labels import (
    ASSESSMENT_SOURCE_LABELS,
    ASSESSMENT_VALUE_LABELS,
    INSIDE_LABELS,
    INSIDE_NAMES,
)
from mlflow_trace_exporter.errors import PollError, UserError
from mlflow_trace_exporter.ledger.connection import LedgerDamagedError
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.metrics.exposition import Exposition
from mlflow_trace_exporter.metrics.status import Build, Reload, Snapshot, Status
from mlflow_trace_exporter.settings import config
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.settings.web_config import WebConfigFile
from mlflow_trace_exporter.tracking.client import CLIENT_VERSION
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.query import assessment_term
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.tracking.span_source import with_inside
from mlflow_trace_exporter.web import server, trace_list, trace_page
from mlflow_trace_exporter.web.routes import Site, application
from mlflow_trace_exporter.web.trace_search import Newest, understands
from mlflow_trace_exporter.wiring import (
    label_rules,
    mlflow_pages,
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


BUILD = Build(__version__, platform.python_version(), CLIENT_VERSION)


@dataclass(frozen=True, slots=True)
class Web:
    """The flags of the web server."""

    listen_address: str
    telemetry_path: str
    config_file: Path | None


class Service:
    """Polls in a thread of its own, and reloads the configuration on request."""

    def __init__(self, config_file: Path | None, settings: Config, failed: Callable[[], None]) -> None:
        """``failed`` is called if polling ends without ``stop``. Raises UserError if the ledger is unavailable."""
        self.exposition = Exposition()
        self._config_file = config_file
        self._settings = settings
        self._failed = failed
        self._ledger = open_ledger(settings.ledger.path)
        self._reload = Reload(successful=True, success_s=now_ms() / 1000)
        self._reload_error = ""
        self._reloading, self._changing, self._publishing = Lock(), Lock(), Lock()
        self._source = open_source(settings)
        self._poller = self._open_poller(settings, self._source, Status.begin(BUILD))
        self._next: _Change | None = None
        self._stopped = False
        self._thread = Thread(name="poller", target=self._poll, daemon=True)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling. Safe to call in signal handlers."""
        self._stopped = True
        self._poller.stop()

    def close(self) -> None:
        """Wait up to STOP_S for polling to end, and close the ledger."""
        self.stop()
        self._thread.join(STOP_S)
        if not self._thread.is_alive():
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
                _log_warnings(self._settings)

    def mlflow_url(self) -> str:
        """The URL at which people open MLflow."""
        return mlflow_pages(self._settings).home

    def trace_url(self, trace_id: str) -> str | None:
        """The page of a trace in MLflow; None if there is no such trace. Raises PollError if MLflow is unavailable."""
        record = self._source.find(trace_id)
        return None if record is None else mlflow_pages(self._settings).trace(record)

    def traces_page(self, query: Iterable[tuple[str, str]]) -> bytes:
        """The page with the latest traces for a query. Raises ValueError for an invalid query, and PollError if MLflow
        is unavailable."""
        settings, source = self._settings, self._source
        rules, objectives = label_rules(settings), settings.all_objectives
        inside_names = INSIDE_NAMES if settings.spans.enabled else ()
        question = trace_list.Question.parse(query, rules.all_names, now_ms(), inside_names)
        has = source.features()
        like = has.get(Feature.LIKE, False)
        term = assessment_term(question.assessed) if like else None
        more = [term] if term is not None and understands(source, term) else []
        searches = question.searches(rules, objectives, like, more)
        steps = trace_list.steps(question, searches, has.get(Feature.END_TIME_FILTER, False))
        newest = Newest(source, steps, question.experiment)
        look_inside = partial(with_inside, source.spans)
        records = trace_list.answer(question, newest, rules, objectives, settings.mlflow.traffic, look_inside)
        found = trace_page.Found(records, newest.ended_early)
        of_assessments = (ASSESSMENT_VALUE_LABELS, ASSESSMENT_SOURCE_LABELS) if settings.assessments.enabled else ()
        label_sets = (*(INSIDE_LABELS if inside_names else ()), *of_assessments, rules.names)
        known = trace_page.values_of(label_sets, self.exposition.snapshot.active_ms)
        return trace_page.write(question, found, rules, mlflow_pages(settings), known)

    def _use(self, settings: Config) -> bool:
        """Apply new settings. Returns whether the settings changed."""
        if settings == self._settings:
            return False
        if settings.ledger.path != self._settings.ledger.path:
            raise UserError("ledger.path: cannot be changed by a reload; restart the exporter")
        if settings.web.external_url != self._settings.web.external_url:
            raise UserError("web.external_url: cannot be changed by a reload; restart the exporter")
        change = _Change(settings)
        with self._changing:
            if self._stopped:
                raise UserError("the exporter is stopping")
            self._next = change
        self._poller.stop()  # it stops between two pages, at the latest when MLflow has answered
        change.done.result()
        return True

    def _run(self) -> None:
        """Poll. After a change of the configuration or the ledger, continue with a new poller."""
        self._poller.run()
        while not self._stopped:
            if self._next is not None:
                self._make(self._next)
            elif self._poller.damage is not None:
                self._begin_again(self._poller.damage)
            else:
                return
            if not self._stopped:
                self._poller.run()

    def _poll(self) -> None:
        try:
            self._run()
        except UserError as error:
            log.error("cannot create a new ledger; exiting", extra={"error": str(error)})
        except Exception:
            log.exception("the poller failed; exiting")
        finally:
            with self._changing:
                stopped, self._stopped = self._stopped, True
                if self._next is not None:
                    self._next.done.set_exception(UserError("the exporter is stopping"))
            if not stopped:
                self._failed()

    def _begin_again(self, damage: LedgerDamagedError) -> None:
        """Replace a damaged ledger with a new one."""
        self._ledger.begin_again(damage)
        self._poller = self._open_poller(self._settings, self._source, self._poller.status)

    def _make(self, change: "_Change") -> None:
        """Replace the stopped poller with one for the new settings. If that fails, resume the old one."""
        self._next = None
        try:
            source = open_source(change.settings)
            self._poller = self._open_poller(change.settings, source, self._poller.status)
        except Exception as error:
            change.done.set_exception(error)
            if not isinstance(error, UserError):
                raise
            open_source(self._settings)  # restores the settings that all requests to MLflow share
            with suppress(UserError):  # the ledger may have adopted other families, so the old poller's data is stale
                self._poller = self._open_poller(self._settings, self._source, self._poller.status)
            self._poller.resume()
        else:
            self._source, self._settings = source, change.settings
            change.done.set_result(None)

    def _open_poller(self, settings: Config, source: MlflowSource, status: Status) -> Poller:
        meter = open_meter(settings)
        try:
            for name in self._ledger.totals.adopt(meter.families):
                log.warning("labels or buckets have changed: the metric restarts at zero", extra={"metric": name})
            return Poller(source, self._ledger, meter, self._publish, poll_settings(settings), status, Clock(now_ms))
        except PollError as error:
            raise UserError(f"{settings.ledger.path}: {error}; free disk space, or set another ledger.path") from None

    def _publish(self, snapshot: Snapshot) -> None:
        with self._publishing:
            self.exposition.publish(replace(snapshot, status=replace(snapshot.status, reload=self._reload)))

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
            snapshot = self.exposition.snapshot
            self.exposition.publish(replace(snapshot, status=replace(snapshot.status, reload=reload)))


def _log_warnings(settings: Config) -> None:
    for warning in warnings_about(settings):
        log.warning("the configuration has a mistake", extra={"warning": warning})


class _Change:
    """New settings, for use from the next poll."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.done: Future[None] = Future()


def run(config_file: Path | None, settings: Config, web: Web) -> int:
    """Poll and serve until SIGINT or SIGTERM. Returns the exit code, at most STOP_S and a second after the signal.

    Raises UserError if the address or the ledger is unavailable, or the web configuration is invalid.
    """
    web_settings = WebConfigFile(web.config_file)
    listener = server.listen(web.listen_address)
    failures: list[None] = []

    def end() -> None:
        failures.append(None)
        http.should_exit = True  # without a poller the metrics would become stale

    service = Service(config_file, settings, end)
    site = Site(
        exposition=service.exposition,
        telemetry_path=web.telemetry_path,
        prefix=urlsplit(settings.web.external_url or "").path,
        mlflow_url=service.mlflow_url,
        trace_url=service.trace_url,
        traces_page=service.traces_page,
        reload=service.reload,
    )
    http = server.web_server(application(site), web_settings.settings, open_paths=site.open_paths)
    # uvicorn stops on these signals, and then raises them again for the previous handlers
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.stop())
    reload_at_each_sighup(service)
    log.info(
        "started",
        extra={
            "version": __version__,
            "address": server.address(listener, "https" if web_settings.settings().tls else "http"),
            "mlflow": without_credentials(settings.mlflow.tracking_uri),
            "ledger": settings.ledger.path,
        },
    )
    _log_warnings(settings)
    server.answer_promptly()
    service.start()
    http.run(sockets=[listener])
    service.close()
    log.info("stopped")
    return int(bool(failures))


def reload_at_each_sighup(service: Service) -> None:
    """Reload the configuration on SIGHUP, one reload at a time. Signals that arrive while one is waiting are merged
    with it."""
    asked: SimpleQueue[None] = SimpleQueue()  # the only kind of queue that a signal handler may use

    def reload() -> None:
        while True:
            asked.get()
            with suppress(UserError):  # logged, and visible in the metric
                service.reload()

    signal.signal(signal.SIGHUP, lambda *_: asked.put(None) if asked.empty() else None)
    Thread(target=reload, name="reload", daemon=True).start()
