"""Builds the parts of the program from the configuration."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.bundled.rules import alerts_with
from mlflow_trace_exporter.counting.reader import PollSettings
from mlflow_trace_exporter.counting.release import SeriesSettings
from mlflow_trace_exporter.domain.admission import Caps
from mlflow_trace_exporter.domain.clocks import PLAUSIBLE_MS
from mlflow_trace_exporter.domain.globs import is_name, matches
from mlflow_trace_exporter.domain.horizon import Limits
from mlflow_trace_exporter.domain.labels import LabelRules
from mlflow_trace_exporter.domain.moments import text
from mlflow_trace_exporter.domain.shards import THE_WHOLE, Shard
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.ledger import sketches
from mlflow_trace_exporter.ledger.place import Database, Place
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.settings.config import Config
from mlflow_trace_exporter.settings.values import EXCLUDABLE
from mlflow_trace_exporter.tracking.client import Client
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.mlflow_pages import MlflowPages
from mlflow_trace_exporter.tracking.query import Library
from mlflow_trace_exporter.tracking.source import MlflowSource
from mlflow_trace_exporter.tracking.variables import prepare_client


def ledger_place(settings: Config, shard: Shard = THE_WHOLE) -> Place:
    """Where the ledger is. Each shard has one of its own."""
    ledger = settings.ledger
    if ledger.url is not None:
        return Database(ledger.url, ledger.name + shard.suffix("_"))
    return ledger.path.with_name(f"{ledger.path.stem}{shard.suffix('-')}{ledger.path.suffix}")


def now_ms() -> int:
    """The wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def open_source(settings: Config, retries: int = 0, with_spans: bool = False, shard: Shard = THE_WHOLE) -> MlflowSource:
    """Create the source of traces. ``with_spans``: spans will be read, even if they are not counted. Sends no request
    to MLflow yet."""
    timeout = settings.mlflow.timeout
    prepare_client(timeout.total_seconds() if timeout else None, retries)
    client = Client(settings.mlflow.tracking_uri)
    mlflow = settings.mlflow
    optional = {
        Feature.SPANS: with_spans or settings.spans.enabled,
        Feature.ASSESSMENT_METRICS: settings.assessments.enabled,
    }
    return MlflowSource(
        client,
        now_ms,
        mlflow.experiments,
        mlflow.filter,
        mlflow.workspaces,
        [feature for feature, is_needed in optional.items() if is_needed],
        shard,
    )


RETRIES = 2
"""How often a command repeats a request that MLflow did not answer."""


def open_library(settings: Config, with_spans: bool = False) -> Library:
    """Create the library: the traces as commands read them. ``with_spans``: see ``open_source``."""
    source = open_source(settings, RETRIES, with_spans)
    return Library(source, label_rules(settings), settings.mlflow.traffic)


def mlflow_pages(settings: Config) -> MlflowPages:
    """Links to MLflow's pages."""
    url = settings.web.mlflow_ui_url or without_credentials(settings.mlflow.tracking_uri).rstrip("/")
    match settings.mlflow.workspaces:
        case (name,) if is_name(name):
            return MlflowPages(url, name)
    return MlflowPages(url)


def open_meter(settings: Config) -> Meter:
    """Create the meter, which turns traces into metrics."""
    rules, objectives, spans = label_rules(settings), settings.all_objectives, settings.spans
    buckets = settings.buckets
    return Meter(
        trace_families(
            buckets.duration_seconds,
            buckets.tokens,
            rules,
            objectives,
            with_spans=spans.enabled,
            score_edges=buckets.score if settings.assessments.enabled else (),
        ),
        rules,
        Caps(settings.labels.max_values, settings.series.limit, {"span_name": spans.max_names}),
        settings.mlflow.traffic,
        objectives,
        excluded(settings),
        spans.types if spans.enabled else None,
        settings.assessments.enabled,
        settings.active_users.enabled,
    )


def label_rules(settings: Config) -> LabelRules:
    """The sources of each label."""
    labels = settings.labels
    return LabelRules(
        labels.environment,
        labels.version,
        tuple(labels.extra.items()),
        labels.trace_name,
        labels.defaults,
        labels.map,
    )


def excluded(settings: Config) -> frozenset[str]:
    """The names of the metrics that are not exposed."""
    return frozenset(name for name in EXCLUDABLE for each in settings.metrics.exclude if matches(each, name))


def warnings_about(settings: Config) -> Iterator[str]:
    """What is valid, but cannot be meant or does not work, a sentence each."""
    yield from settings.warnings
    for name in sorted(excluded(settings)):
        if alerts := alerts_with(name):
            yield f"metrics.exclude: without {name} these alerts cannot fire: {', '.join(alerts)}"


def poll_settings(settings: Config, shard: Shard = THE_WHOLE) -> PollSettings:
    """The settings of the poller. ``poll.start`` is resolved against the current time. Raises UserError if this
    machine's clock was never set, or if something has to be installed."""
    if settings.active_users.enabled:
        sketches.require()
    return PollSettings(
        interval_s=settings.poll.interval.total_seconds(),
        limits=Limits(
            lateness_ms=ms(settings.poll.lateness),
            audit_horizon_ms=ms(settings.poll.audit_horizon),
            margin_ms=ms(settings.poll.margin),
            overlap_ms=ms(settings.poll.overlap),
        ),
        origin_ms=_origin_ms(settings.poll.start),
        series=SeriesSettings(settings.series.zero_hold.total_seconds(), ms(settings.series.ttl)),
        assessments_ms=ms(settings.assessments.horizon),
        until_ms=int(settings.poll.until.timestamp() * 1000) if settings.poll.until else None,
        origin_is_exact=isinstance(settings.poll.start, datetime),
        is_shard=shard != THE_WHOLE,
    )


def _origin_ms(start: timedelta | datetime | Literal["now", "earliest"]) -> int:
    if start == "earliest":
        return 0
    if isinstance(start, datetime):
        return int(start.timestamp() * 1000)
    at_ms = now_ms()
    if at_ms < PLAUSIBLE_MS:
        raise UserError(f"this machine's clock says {text(at_ms)} UTC: set the clock, then restart the exporter")
    return at_ms if start == "now" else at_ms - ms(start)


def ms(duration: timedelta) -> int:
    """A duration in milliseconds."""
    return duration // timedelta(milliseconds=1)
