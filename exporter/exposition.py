"""Snapshots as text that Prometheus reads."""

import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import accumulate
from threading import Lock

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import generate_latest as encode_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics
from prometheus_client.registry import Collector

from exporter.metrics import SUM, Cell, TraceFamily
from exporter.status import STATUS_FAMILIES, Snapshot, Status, StatusFamily


class Format(Enum):
    """The two text formats that Prometheus knows. The value is the content type."""

    TEXT = CONTENT_TYPE_PLAIN_0_0_4
    OPENMETRICS = CONTENT_TYPE_OPENMETRICS

    @classmethod
    def accepted(cls, accept_header: str) -> "Format":
        """The best format that an Accept header admits. Its version and escaping parameters do not matter here: all our
        names are valid in every version."""
        return cls.OPENMETRICS if "application/openmetrics-text" in accept_header else cls.TEXT


class Exposition:
    """The latest snapshot as text. ``publish`` and ``render`` may be called from different threads."""

    def __init__(self, families: Sequence[TraceFamily]) -> None:
        self._families = tuple(families)
        self._render: Callable[[Format, bool], bytes] | None = None
        self._rendering = Lock()

    def publish(self, snapshot: Snapshot) -> None:
        """Serve this snapshot from now on; each format of it is rendered once, when it is first asked for."""
        metrics = _Metrics(self._families, snapshot)

        @cache
        def render(fmt: Format, compress: bool) -> bytes:
            if compress:  # level 9 takes nine times as long for a tenth less
                return gzip.compress(render(fmt, False), compresslevel=1)
            return encode_text(metrics) if fmt is Format.TEXT else encode_openmetrics(metrics)

        self._render = render

    def render(self, fmt: Format, compress: bool) -> bytes:
        """The latest snapshot in a format, gzipped on demand. Who asks while it is being rendered waits for that."""
        with self._rendering:
            assert self._render is not None, "the poller publishes before anything is served"
            return self._render(fmt, compress)


_PROCESS = ProcessCollector(registry=None)


@dataclass(frozen=True)
class _Metrics(Collector):
    """A snapshot in the form that prometheus_client encodes."""

    families: Sequence[TraceFamily]
    snapshot: Snapshot

    def collect(self) -> Iterable[Metric]:
        yield from trace_metrics(self.families, self.snapshot.totals)
        yield from (_status_metric(family, self.snapshot.status) for family in STATUS_FAMILIES)
        yield from _PROCESS.collect()


def trace_metrics(families: Sequence[TraceFamily], totals: Mapping[Cell, float]) -> Iterator[Metric]:
    """The totals over traces as metrics; the order of ``totals`` is kept within each."""
    series: dict[str, dict[tuple[str, ...], dict[str, float]]] = {family.name: {} for family in families}
    for cell, value in totals.items():
        if cell.family in series:
            series[cell.family].setdefault(cell.labels, {})[cell.part] = value
    for family in families:
        yield (_histogram(family, series[family.name]) if family.edges else _counter(family, series[family.name]))


def _counter(family: TraceFamily, series: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.label_names)
    for labels, parts in series.items():
        metric.add_metric(labels, parts[""])
    return metric


def _histogram(family: TraceFamily, series: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
    for labels, parts in series.items():
        cumulative = accumulate(parts[edge] for edge in family.buckets)
        metric.add_metric(labels, list(zip(family.buckets, cumulative, strict=True)), parts[SUM])
    return metric


def _status_metric(family: StatusFamily, status: Status) -> Metric:
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.label_names)
    for labels, value in family.read(status):
        metric.add_metric(labels, value)
    return metric
