"""Reads the spans of traces, a limited amount at a time.

MLflow returns whole traces, with all prompts: 2 MB for 100 typical traces, and 64 MB is the most that is read of any
response. So the traces of a request are chosen by the sizes that MLflow's SDKs recorded, and not more than IN_FLIGHT
responses are in memory at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from mlflow_trace_exporter.domain.calls import inside
from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.domain.trace import PLAIN_ID, TraceRecord
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.tracking.amounts import amount
from mlflow_trace_exporter.tracking.bounded import MAX_BYTES
from mlflow_trace_exporter.tracking.client import Client
from mlflow_trace_exporter.tracking.json_text import object_in
from mlflow_trace_exporter.tracking.pending import PendingAnswer, answers

MAX_TRACES = 100
"""The maximum number of traces of a request. Its address, which has their ids, then has at most 6 kB for MLflow's own
ids."""

MAX_LETTERS = 6_000
"""The maximum length of the ids of a request together. Proxies limit the length of an address, often to 8 kB."""

BATCH_BYTES = 8 * 1024 * 1024
"""The size of the traces of a request, unless it is a single one."""

TRACE_BYTES = MAX_BYTES // 2
"""The size up to which a trace is read. A response can be twice as large as the SDK recorded."""

UNKNOWN_BYTES = 40_000
"""The assumed size of a trace without a recorded one, as those that arrived over OTLP."""

AT_ONCE = 2 * MAX_TRACES
"""How many traces ``with_inside`` takes at a time."""

SHRINKING = 8
"""By how much requests are smaller after one that was not answered: the third is for one trace. Each took a whole
timeout."""

READABLE = ("TRACKING_STORE", "ARCHIVE_REPO")
"""Where MLflow reads spans from. It refuses a whole request if one of its traces keeps them elsewhere."""

DENIED = (Reason.CREDENTIALS, Reason.CONFIGURATION)
_UNANSWERED = (Reason.TIMEOUT, Reason.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class SpanAnswer:
    """The spans of some traces by trace id. A trace may be missing: it was deleted, or not all of its spans have
    arrived. ``final``: whether another request could find it. ``error``: why MLflow refused."""

    asked: tuple[TraceRecord, ...]
    found: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    final: bool = False
    error: PollError | None = None


class SpanSource:
    """Reads the spans of traces from a tracking server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._max_traces = MAX_TRACES

    def read(self, records: Sequence[TraceRecord]) -> Iterator[SpanAnswer]:
        """The spans of these traces, in parts. The next part is requested while the caller processes one. Raises
        PollError if MLflow cannot be read. An error that concerns a single trace is in its answer: whether MLflow can
        be read otherwise is for the caller to find out."""
        askable = [record for record in records if _is_askable(record)]
        if len(askable) < len(records):
            yield SpanAnswer(tuple(record for record in records if not _is_askable(record)), final=True)
        for found in answers(map(self._begin, _batches(askable, self._max_traces))):
            yield from found

    def _begin(self, batch: tuple[TraceRecord, ...]) -> PendingAnswer[Iterable[SpanAnswer]]:
        pending = self._client.begin_spans([record.trace_id for record in batch], batch[0].workspace)

        def answer() -> Iterable[SpanAnswer]:
            try:
                found = pending.answer()
            except PollError as error:
                return self._after(error, batch)
            self._max_traces = min(MAX_TRACES, 2 * self._max_traces)
            return [SpanAnswer(batch, found)]

        return PendingAnswer(answer, pending.drop)

    def _after(self, error: PollError, batch: tuple[TraceRecord, ...]) -> Iterable[SpanAnswer]:
        """What to answer after an error: which trace causes it.

        A request that was not answered took long, so its parts are not requested now, but the next requests are
        smaller. It can be one trace all the same, which is too large for a proxy or crashes a process of the server.
        """
        if error.reason is Reason.THROTTLED:
            raise error
        if len(batch) == 1:
            return [SpanAnswer(batch, error=error)]
        if error.reason in _UNANSWERED:
            self._max_traces = max(1, len(batch) // SHRINKING)
            raise error
        half = len(batch) // 2
        return (each for part in (batch[:half], batch[half:]) for each in self._begin(part).answer())


def with_inside(
    read: Callable[[Sequence[TraceRecord]], Iterator[SpanAnswer]], records: Iterable[TraceRecord]
) -> Iterator[TraceRecord]:
    """The same traces in the same order, with what is inside them if MLflow returns it. ``read``: see
    ``SpanSource.read``. Not more than AT_ONCE of them are in memory."""
    unread = iter(records)
    while part := list(islice(unread, AT_ONCE)):
        found = dict(item for answer in read(part) for item in answer.found.items())
        yield from (with_spans(record, found.get(record.trace_id)) for record in part)


def with_spans(record: TraceRecord, spans: Sequence[Span] | None) -> TraceRecord:
    """The trace with what its spans show, unless they are unknown."""
    return record if spans is None else replace(record, inside=inside(spans))


def _is_askable(record: TraceRecord) -> bool:
    is_plain = PLAIN_ID.fullmatch(record.trace_id) is not None
    return is_plain and record.tags.get("mlflow.trace.spansLocation") in READABLE and _size(record) <= TRACE_BYTES


def _size(record: TraceRecord) -> int:
    """The size of a trace in bytes, as its SDK recorded it."""
    size = amount(object_in(record.metadata.get("mlflow.trace.sizeStats")).get("total_size_bytes"))
    return UNKNOWN_BYTES if size is None else int(size)


def _batches(records: Iterable[TraceRecord], max_traces: int) -> Iterator[tuple[TraceRecord, ...]]:
    """The traces in parts that are small enough for a request. Each has traces of one workspace only."""
    batch: list[TraceRecord] = []
    size, letters = 0, 0
    for record in sorted(records, key=lambda each: each.workspace or ""):
        size, letters = size + _size(record), letters + len(record.trace_id)
        fits = size <= BATCH_BYTES and letters <= MAX_LETTERS and len(batch) < max_traces
        if batch and not (fits and record.workspace == batch[0].workspace):
            yield tuple(batch)
            batch, size, letters = [], _size(record), len(record.trace_id)
        batch.append(record)
    if batch:
        yield tuple(batch)
