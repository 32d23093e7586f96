"""Renders snapshots as text for Prometheus.

prometheus_client writes the text, which takes two seconds for 100,000 series. So each snapshot is rendered before it is
served, in the formats that were requested recently. Series that have not changed since the previous snapshot are
reused. A scrape returns bytes that are ready.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from threading import Lock
from time import monotonic
from typing import TypeVar

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import generate_latest as encode_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ExemplarSample

from mlflow_trace_exporter.accept import qualities
from mlflow_trace_exporter.metrics.meter import SUM, Cell, Exemplar, TraceFamily
from mlflow_trace_exporter.metrics.status import STATUS_FAMILIES, Snapshot, Status, StatusFamily


class Format(Enum):
    """The two text formats of Prometheus. The value is the content type."""

    TEXT = CONTENT_TYPE_PLAIN_0_0_4
    OPENMETRICS = CONTENT_TYPE_OPENMETRICS

    @classmethod
    def accepted(cls, accept_header: str) -> "Format":
        """The format that an Accept header prefers. OpenMetrics must be named. Everything else gets TEXT, even if
        neither format is accepted: Prometheus falls back to it, too.

        Versions and escaping do not matter here, because all our names are valid in every version.
        """
        liked = qualities(accept_header)
        openmetrics = liked.get("application/openmetrics-text", 0.0)
        named = [each for each in liked if each in ("application/openmetrics-text", "text/plain")]
        text = next((liked[each] for each in ("text/plain", "text/*", "*/*") if each in liked), 0.0)
        first = named[:1] == ["application/openmetrics-text"]  # decides if both are equally preferred
        return cls.OPENMETRICS if openmetrics > text or (openmetrics == text > 0 and first) else cls.TEXT


Variant = tuple[Format, bool]
"""A format, and whether it is compressed with gzip."""

PROMETHEUS = (Format.OPENMETRICS, True)
"""The variant that Prometheus requests."""

WANTED_S = 300.0
"""How long a variant is rendered after the last request for it. Scrape intervals are shorter: samples become stale
after this time."""


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A snapshot and its rendered variants; more are added when they are requested."""

    snapshot: Snapshot
    texts: dict[Variant, bytes]


class Exposition:
    """The latest snapshot as text. All methods may be called from different threads."""

    def __init__(self, clock_s: Callable[[], float] = monotonic) -> None:
        self._rendering = Lock()
        self._clock_s = clock_s
        self._asked_s: dict[Variant, float] = {PROMETHEUS: clock_s()}
        self._latest: _Rendered | None = None
        self._renderers = {fmt: _Renderer(fmt) for fmt in Format}

    def publish(self, snapshot: Snapshot) -> None:
        """Render this snapshot in the recently requested variants, then serve it."""
        with self._rendering:
            now_s, rendered = self._clock_s(), _Rendered(snapshot, {})
            for variant, asked_s in list(self._asked_s.items()):
                if now_s - asked_s <= WANTED_S:
                    self._add(rendered, variant)
            self._latest = rendered

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is served now."""
        assert self._latest is not None, "the poller publishes before anything is served"
        return self._latest.snapshot

    def ready(self, variant: Variant) -> bytes | None:
        """The latest snapshot if this variant is rendered, else None. Never blocks."""
        self._asked_s[variant] = self._clock_s()
        return self._latest.texts.get(variant) if self._latest else None

    def render(self, variant: Variant) -> bytes:
        """The latest snapshot in this variant. The caller waits while it is being rendered."""
        self._asked_s[variant] = self._clock_s()
        with self._rendering:
            assert self._latest is not None, "the poller publishes before anything is served"
            self._add(self._latest, variant)
            return self._latest.texts[variant]

    def _add(self, rendered: _Rendered, variant: Variant) -> None:
        if variant in rendered.texts:
            return
        fmt, compress = variant
        if compress:  # level 9 takes nine times as long and saves only a tenth
            plain = rendered.texts.get((fmt, False)) or self._renderers[fmt].render(rendered.snapshot)
            rendered.texts[variant] = gzip.compress(plain, compresslevel=1)
        else:
            rendered.texts[variant] = self._renderers[fmt].render(rendered.snapshot)


_PROCESS = ProcessCollector(registry=None)
_EOF = b"# EOF\n"

Labels = tuple[str, ...]
Parts = Mapping[str, float]
"""The numbers of one series by ``Cell.part``."""
Exemplars = Mapping[str, Exemplar]
"""The exemplars of one series by bucket."""


class _Renderer:
    """Renders snapshots in one format."""

    def __init__(self, fmt: Format) -> None:
        self._encode = encode_text if fmt is Format.TEXT else encode_openmetrics
        self._exemplars = fmt is Format.OPENMETRICS
        self._families: tuple[TraceFamily, ...] = ()
        self._heads: dict[str, bytes] = {}
        self._before: dict[tuple[str, Labels], tuple[object, bytes]] = {}

    def render(self, snapshot: Snapshot) -> bytes:
        """The complete text."""
        if self._families != snapshot.families:
            self._families, self._before = snapshot.families, {}
            self._heads = {family.name: self._lines([_metric(family, {}, {})]) for family in self._families}
        chunks: list[bytes] = []
        now: dict[tuple[str, Labels], tuple[object, bytes]] = {}
        exemplars = _by_series(snapshot.exemplars) if self._exemplars else {}
        series = _by_series(snapshot.totals)
        for family in self._families:
            chunks.append(self._heads[family.name])
            for labels, parts in series.get(family.name, {}).items():
                content = (parts, exemplars.get(family.name, {}).get(labels, {}))
                key = (family.name, labels)
                before = self._before.get(key)
                now[key] = (
                    before if before and before[0] == content else (content, self._samples(family, labels, *content))
                )
                chunks.append(now[key][1])
        self._before = now
        status = status_metrics(STATUS_FAMILIES, snapshot.status)
        chunks.append(self._encode(_Metrics([*status, *_PROCESS.collect()])))
        return b"".join(chunks)

    def _samples(self, family: TraceFamily, labels: Labels, parts: Parts, exemplars: Exemplars) -> bytes:
        return self._lines([_metric(family, {labels: parts}, {labels: exemplars})]).removeprefix(
            self._heads[family.name]
        )

    def _lines(self, metrics: Sequence[Metric]) -> bytes:
        text: bytes = self._encode(_Metrics(metrics))
        return text.removesuffix(_EOF)


@dataclass(frozen=True)
class _Metrics(Collector):
    """Metrics in the form that prometheus_client encodes."""

    metrics: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


T = TypeVar("T")


def _by_series(cells: Mapping[Cell, T]) -> dict[str, dict[Labels, dict[str, T]]]:
    """Group cells by family, labels and part, in the order of ``cells``."""
    series: dict[str, dict[Labels, dict[str, T]]] = {}
    for cell, value in cells.items():
        series.setdefault(cell.family, {}).setdefault(cell.labels, {})[cell.part] = value
    return series


def status_metrics(families: Iterable[StatusFamily], status: Status) -> Iterator[Metric]:
    """The metrics about the exporter itself."""
    for family in families:
        yield _status_metric(family, status)


def lines(metrics: Iterable[Metric]) -> tuple[list[str], list[str]]:
    """Metrics in OpenMetrics: the metadata lines, and the sample lines, without the final EOF."""
    text: bytes = encode_openmetrics(_Metrics(list(metrics)))
    found = text.removesuffix(_EOF).decode().rstrip("\n").split("\n")  # labels can contain other line breaks
    return [line for line in found if line.startswith("#")], [line for line in found if not line.startswith("#")]


def trace_metrics(families: Iterable[TraceFamily], totals: Mapping[Cell, float]) -> Iterator[Metric]:
    """The totals over traces as metrics."""
    series = _by_series(totals)
    for family in families:
        yield _metric(family, series.get(family.name, {}), {})


def _metric(
    family: TraceFamily, series: Mapping[Labels, Parts], exemplars: Mapping[Labels, Exemplars]
) -> CounterMetricFamily | HistogramMetricFamily:
    if not family.edges:
        counter = CounterMetricFamily(family.name, family.help, labels=family.label_names)
        for labels, parts in series.items():
            counter.add_metric(labels, parts[""])
        return counter
    histogram = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
    for labels, parts in series.items():
        counts = zip(family.buckets, accumulate(parts[edge] for edge in family.buckets), strict=True)
        found = exemplars.get(labels, {})
        buckets = [(edge, count, _exemplar(found[edge])) if edge in found else (edge, count) for edge, count in counts]
        histogram.add_metric(labels, buckets, parts[SUM])
    return histogram


def _exemplar(found: Exemplar) -> ExemplarSample:
    return ExemplarSample({"trace_id": found.trace_id}, found.value, found.timestamp_s)


def _status_metric(family: StatusFamily, status: Status) -> Metric:
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.label_names)
    for labels, value in family.read(status):
        metric.add_metric(labels, value)
    return metric
