"""`serve`: the parts put together as one process."""

import logging
import platform
import signal
import threading
import time
from datetime import timedelta
from typing import Literal

import uvicorn

from exporter import __version__, server
from exporter.admission import Caps
from exporter.client import CLIENT_VERSION, Client, prepare_client
from exporter.config import Config
from exporter.errors import PollError, UserError
from exporter.exposition import Exposition
from exporter.failures import without_credentials
from exporter.families import trace_families
from exporter.horizon import Limits
from exporter.labels import LabelRules
from exporter.ledger import Ledger
from exporter.metrics import Meter
from exporter.poller import Clock, Poller
from exporter.reader import PollSettings
from exporter.release import SeriesSettings
from exporter.source import MlflowSource
from exporter.status import Build

log = logging.getLogger(__name__)

STOP_S = 3.0
"""How long a stop waits for the poll under way. What that waits for is MLflow, never a transaction of ours, so nothing
is lost if it is left behind."""


def now_ms() -> int:
    """The wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def open_source(settings: Config) -> MlflowSource:
    """The source that the configuration describes. Asks nothing of MLflow yet."""
    timeout = settings.mlflow.timeout
    prepare_client(timeout.total_seconds() if timeout else None)
    client = Client(settings.mlflow.tracking_uri)
    return MlflowSource(client, now_ms, settings.mlflow.experiments, settings.mlflow.filter)


def open_meter(settings: Config) -> Meter:
    """What the configuration makes of traces."""
    rules = LabelRules(settings.labels.environment, settings.labels.version, settings.labels.extra)
    return Meter(
        trace_families(settings.buckets.duration_seconds, settings.buckets.tokens, rules.names),
        rules,
        Caps(settings.labels.max_values, settings.series.limit),
        settings.mlflow.traffic,
    )


def run(settings: Config, listen_address: str, telemetry_path: str) -> int:
    """Poll and serve until SIGINT or SIGTERM; returns the exit code, within STOP_S and a second of it.

    Raises UserError where the address or the ledger cannot be had.
    """
    listener = server.listen(listen_address)
    meter = open_meter(settings)
    exposition = Exposition(meter.families)
    ledger = Ledger(settings.ledger.path)
    poller = _poller(settings, meter, ledger, exposition)
    web = server.web_server(server.application(exposition, telemetry_path))
    polling = _PollingThread(poller, web)
    # uvicorn stops by itself on these and then raises them once more for whoever had them before
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: poller.stop())
    log.info(
        "started",
        extra={
            "version": __version__,
            "address": server.address(listener),
            "mlflow": without_credentials(settings.mlflow.tracking_uri),
            "ledger": settings.ledger.path,
        },
    )
    polling.start()
    web.run(sockets=[listener])
    poller.stop()
    polling.join(STOP_S)
    if not polling.is_alive():
        ledger.close()
    log.info("stopped")
    return int(polling.failed)


class _PollingThread(threading.Thread):
    """Polls until told to stop. If that fails the web server ends too: what it serves would only grow old."""

    def __init__(self, poller: Poller, web: uvicorn.Server) -> None:
        super().__init__(name="poller", daemon=True)
        self.failed = False
        self._poller = poller
        self._web = web

    def run(self) -> None:
        try:
            self._poller.run()
        except Exception:
            self.failed = True
            log.exception("the poller has failed; the process ends")
        finally:
            self._web.should_exit = True


def _poller(settings: Config, meter: Meter, ledger: Ledger, exposition: Exposition) -> Poller:
    poll = PollSettings(
        interval_s=settings.poll.interval.total_seconds(),
        limits=Limits(
            lateness_ms=_ms(settings.poll.lateness),
            audit_horizon_ms=_ms(settings.poll.audit_horizon),
            margin_ms=_ms(settings.poll.margin),
            overlap_ms=_ms(settings.poll.overlap),
        ),
        origin_ms=_origin_ms(settings.poll.start),
        series=SeriesSettings(settings.series.zero_hold.total_seconds(), _ms(settings.series.ttl)),
    )
    build = Build(__version__, platform.python_version(), CLIENT_VERSION)
    try:
        for name in ledger.adopt(meter.families):
            log.warning("its labels or buckets have changed: a metric begins again at zero", extra={"metric": name})
        return Poller(
            open_source(settings),
            ledger,
            meter,
            exposition.publish,
            poll,
            build,
            Clock(now_ms),
        )
    except PollError as error:
        raise UserError(f"{settings.ledger.path}: {error}; make room, or set another ledger.path") from None


def _origin_ms(start: timedelta | Literal["now", "earliest"]) -> int:
    if start == "earliest":
        return 0
    return now_ms() if start == "now" else now_ms() - _ms(start)


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
