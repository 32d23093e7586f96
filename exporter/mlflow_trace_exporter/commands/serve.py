"""`serve`: assembles poller, ledger and web server into one process."""

import logging
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from mlflow_trace_exporter import __version__
from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.commands.service import Service, log_warnings
from mlflow_trace_exporter.domain.shards import THE_WHOLE, Shard
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.settings.web_config import WebConfigFile
from mlflow_trace_exporter.web import server
from mlflow_trace_exporter.web.routes import Site, application
from mlflow_trace_exporter.wiring import ledger_place

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Web:
    """The flags of the web server."""

    listen_address: str
    telemetry_path: str
    config_file: Path | None


def run(config_file: Path | None, settings: Config, web: Web, shard: Shard = THE_WHOLE) -> int:
    """Poll and serve until SIGINT or SIGTERM. Returns the exit code, at most STOP_S and a second after the signal.

    Raises UserError if the address or the ledger is unavailable, or the web configuration is invalid.
    """
    web_settings = WebConfigFile(web.config_file)
    listener = server.listen(web.listen_address)
    failures: list[None] = []

    def end() -> None:
        failures.append(None)
        http.should_exit = True  # without a poller the metrics would become stale

    service = Service(config_file, settings, end, shard)
    site = Site(
        exposition=lambda: service.exposition,
        telemetry_path=web.telemetry_path,
        prefix=urlsplit(settings.web.external_url or "").path,
        mlflow_url=lambda: service.pages().mlflow_url(),
        trace_url=lambda trace_id: service.pages().trace_url(trace_id),
        traces_page=lambda query: service.pages().traces(query, service.exposition.snapshot),
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
            "ledger": ledger_place(settings, shard),
        },
    )
    log_warnings(settings)
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
