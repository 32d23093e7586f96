"""The parts of the program as the configuration describes them."""

import time
from datetime import timedelta
from typing import Literal

from exporter.admission import Caps
from exporter.client import Client, prepare_client
from exporter.config import Config
from exporter.families import trace_families
from exporter.horizon import Limits
from exporter.labels import LabelRules
from exporter.metrics import Meter
from exporter.objectives import Objectives
from exporter.reader import PollSettings
from exporter.release import SeriesSettings
from exporter.source import MlflowSource


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
    rules, objectives = label_rules(settings), objectives_of(settings)
    return Meter(
        trace_families(settings.buckets.duration_seconds, settings.buckets.tokens, rules.names, objectives),
        rules,
        Caps(settings.labels.max_values, settings.series.limit),
        settings.mlflow.traffic,
        objectives,
    )


def label_rules(settings: Config) -> LabelRules:
    """Where the labels come from."""
    return LabelRules(settings.labels.environment, settings.labels.version, settings.labels.extra)


def objectives_of(settings: Config) -> Objectives:
    """What is good enough."""
    return Objectives(tuple(each.as_objective() for each in settings.objectives))


def poll_settings(settings: Config) -> PollSettings:
    """How to poll; ``poll.start`` is worked out from now."""
    return PollSettings(
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


def _origin_ms(start: timedelta | Literal["now", "earliest"]) -> int:
    if start == "earliest":
        return 0
    return now_ms() if start == "now" else now_ms() - _ms(start)


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
