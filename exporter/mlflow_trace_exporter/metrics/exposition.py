"""Renders snapshots as text for Prometheus.

Each snapshot is rendered before it is served, in the formats that were requested recently. What has not changed since
the previous snapshot is reused. A scrape returns bytes that are ready.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, chain
from threading import Lock
from time import monotonic
from typing import Any

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import generate_latest as encode_text
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics
from prometheus_client.registry import Collector
from zlib_ng import zlib_ng

from mlflow_trace_exporter.accept import qualities
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.domain.workspaces import WorkspaceLabel
from mlflow_trace_exporter.metrics.model import TraceFamily
from mlflow_trace_exporter.metrics.sample_lines import SampleLines
from mlflow_trace_exporter.metrics.series import Exemplars, Numbers, SeriesExemplars, SeriesTotals
from mlflow_trace_exporter.metrics.status import STATUS_FAMILIES, Samples, Snapshot, Status, StatusFamily


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


_Pieces = tuple[bytes, ...]
"""A text in pieces. They are joined when they are needed, because the whole would take as much memory again."""


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
        if variant not in rendered.texts:
            fmt, compress = variant
            rendered.texts[variant] = self._renderers[fmt].render(rendered.snapshot, compress)


_PROCESS = ProcessCollector(registry=None)
_EOF = b"# EOF\n"


class _Renderer:
    """Renders snapshots in one format.

    The families about groups come first. They have nearly all series, and change only if there are new traces.
    Everything else is about the exporter and changes with each poll. So after a poll without new traces, only the small
    second part is rendered.
    """

    def __init__(self, fmt: Format) -> None:
        self._encode = encode_text if fmt is Format.TEXT else encode_openmetrics
        self._has_exemplars = fmt is Format.OPENMETRICS
        self._families: tuple[TraceFamily, ...] | None = None
        self._workspaces: frozenset[str] = frozenset()
        self._of_groups: list[_FamilyText] = []
        self._others: list[_FamilyText] = []
        self._status: list[tuple[StatusFamily, bytes, SampleLines]] = []
        self._rendered: tuple[Snapshot, list[_Pieces], bytes] | None = None
        self._gzip = _Gzip()

    def render(self, snapshot: Snapshot, compress: bool) -> bytes:
        """The complete text, compressed with gzip or not."""
        if self._rendered is None or self._rendered[0] is not snapshot:
            self._rendered = (snapshot, *self._parts(snapshot))
        _, groups, rest = self._rendered
        return self._gzip.compress(groups, rest) if compress else b"".join((*chain(*groups), rest))

    def _parts(self, snapshot: Snapshot) -> tuple[list[_Pieces], bytes]:
        """The texts of the families about groups, and the text of everything else."""
        if self._families != (exposed := snapshot.exposed) or self._workspaces != snapshot.workspaces:
            self._begin(exposed, snapshot.workspaces)
        exemplars = snapshot.exemplars if self._has_exemplars else {}
        groups = [text.render(snapshot.totals, exemplars) for text in self._of_groups]
        others = [text.render(snapshot.totals, exemplars) for text in self._others]
        process = self._encode(_Metrics([*_PROCESS.collect()]))
        return groups, b"".join((*chain(*others), *self._status_texts(snapshot.status), process))

    def _begin(self, families: tuple[TraceFamily, ...], workspaces: frozenset[str]) -> None:
        """Discard what was rendered, and render these families with these workspaces from now on."""
        self._families, self._workspaces = families, workspaces
        texts = [(family, _FamilyText(family, workspaces, self._head(_metric(family, {})))) for family in families]
        self._of_groups = [text for family, text in texts if family.is_of_groups]
        self._others = [text for family, text in texts if not family.is_of_groups]
        self._status = [
            (
                family,
                self._head(_status_metric(family, ())),
                SampleLines(family.name, family.label_names, workspaces=workspaces),
            )
            for family in STATUS_FAMILIES
        ]

    def _status_texts(self, status: Status) -> Iterator[bytes]:
        for family, head, lines in self._status:
            yield head
            yield from (lines.write(labels, (value,), _NOTHING) for labels, value in family.read(status))

    def _head(self, metric: Metric) -> bytes:
        """The comments before the samples of a metric."""
        text: bytes = self._encode(_Metrics([metric]))
        return text.removesuffix(_EOF)


class _FamilyText:
    """Renders one family. Keeps the lines of each series until its numbers or exemplars change."""

    def __init__(self, family: TraceFamily, workspaces: frozenset[str], head: bytes) -> None:
        self._name = family.name
        self._head = head
        self._lines = SampleLines(family.name, family.label_names, family.buckets, workspaces)
        self._rendered: tuple[object, object, _Pieces] = (None, None, ())
        self._kept: dict[LabelValues, tuple[Numbers, Exemplars, bytes]] = {}

    def render(self, totals: SeriesTotals, exemplars: SeriesExemplars) -> _Pieces:
        """The whole text: the same object if nothing has changed."""
        series, found = totals.get(self._name, _NOTHING), exemplars.get(self._name, _NOTHING)
        if self._rendered[0] is not series or self._rendered[1] is not found:
            self._kept = {labels: self._series(labels, numbers, found) for labels, numbers in series.items()}
            self._rendered = (series, found, (self._head, *(lines for _, _, lines in self._kept.values())))
        return self._rendered[2]

    def _series(
        self, labels: LabelValues, numbers: Numbers, found: Mapping[LabelValues, Exemplars]
    ) -> tuple[Numbers, Exemplars, bytes]:
        exemplars = found.get(labels, _NOTHING)
        kept = self._kept.get(labels)
        if kept and kept[0] is numbers and kept[1] is exemplars:
            return kept
        return numbers, exemplars, self._lines.write(labels, numbers, exemplars)


_NOTHING: Mapping[Any, Any] = {}


class _Gzip:
    """Compresses texts whose first part rarely changes. While it stays the same, it is not compressed again."""

    def __init__(self) -> None:
        self._before: list[_Pieces] | None = None
        self._compressed = b""
        self._compressor = _compressor()

    def compress(self, first: list[_Pieces], rest: bytes) -> bytes:
        """The whole text as one gzip member. ``first``: the part that rarely changes."""
        if first != self._before:
            self._before, self._compressor = first, _compressor()
            self._compressed = b"".join(self._compressor.compress(b"".join(pieces)) for pieces in first)
        compressor = self._compressor.copy()  # type: ignore[attr-defined]  # missing in its stubs
        return b"".join((self._compressed, compressor.compress(rest), compressor.flush()))


def _compressor() -> "zlib_ng._Compress":
    return zlib_ng.compressobj(level=2, wbits=31)  # higher levels save little; 31 is gzip


@dataclass(frozen=True)
class _Metrics(Collector):
    """Metrics in the form that prometheus_client encodes."""

    metrics: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


def status_metrics(
    families: Iterable[StatusFamily], status: Status, workspaces: Collection[str] = ()
) -> Iterator[Metric]:
    """The metrics about the exporter itself."""
    for family in families:
        yield _status_metric(family, family.read(status), workspaces)


def lines(metrics: Iterable[Metric]) -> tuple[list[str], list[str]]:
    """Metrics in OpenMetrics: the metadata lines, and the sample lines, without the final EOF."""
    text: bytes = encode_openmetrics(_Metrics(list(metrics)))
    found = text.removesuffix(_EOF).decode().rstrip("\n").split("\n")  # labels can contain other line breaks
    return [line for line in found if line.startswith("#")], [line for line in found if not line.startswith("#")]


def trace_metrics(
    families: Iterable[TraceFamily], totals: SeriesTotals, workspaces: Collection[str] = ()
) -> Iterator[Metric]:
    """The totals over traces as metrics. ``workspaces``: see ``WorkspaceLabel``."""
    for family in families:
        yield _metric(family, totals.get(family.name, {}), workspaces)


def _metric(
    family: TraceFamily, series: Mapping[LabelValues, Numbers], workspaces: Collection[str] = ()
) -> CounterMetricFamily | HistogramMetricFamily:
    workspace = WorkspaceLabel(family.label_names, workspaces)
    if not family.edges:
        counter = CounterMetricFamily(family.name, family.help, labels=workspace.names)
        for labels, numbers in series.items():
            counter.add_metric(workspace.values(labels), numbers[0])
        return counter
    histogram = HistogramMetricFamily(family.name, family.help, labels=workspace.names)
    for labels, (*counts, total) in series.items():
        histogram.add_metric(
            workspace.values(labels), list(zip(family.buckets, accumulate(counts), strict=True)), total
        )
    return histogram


def _status_metric(family: StatusFamily, samples: Samples, workspaces: Collection[str] = ()) -> Metric:
    workspace = WorkspaceLabel(family.label_names, workspaces)
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=workspace.names)
    for labels, value in samples:
        metric.add_metric(workspace.values(labels), value)
    return metric
