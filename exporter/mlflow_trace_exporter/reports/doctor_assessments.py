"""The part of `doctor` about assessments: who says what about traces, and the series that they make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlflow_trace_exporter.domain.assessed import assessed
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.listed import few
from mlflow_trace_exporter.metrics.meter import Meter


@dataclass(frozen=True, slots=True)
class AssessmentSample:
    """``traces``: the number of finished traces. ``assessed``: how many have an assessment. ``sources``: those of each
    assessment, by its name. ``failed``: how many assessments have a scorer that failed. ``series``: the number of
    series that they add to those about the traces."""

    traces: int
    assessed: int
    sources: dict[str, list[str]]
    failed: int
    series: int


def sample(records: Sequence[TraceRecord], meter: Meter) -> AssessmentSample:
    """Measure finished traces with their assessments. ``meter`` must measure assessments."""
    pairs = sorted({(each.name, each.source) for record in records for each in record.valid_assessments})
    sources: dict[str, list[str]] = {}
    for name, source in pairs:
        sources.setdefault(name, []).append(source)
    return AssessmentSample(
        traces=len(records),
        assessed=sum(bool(record.valid_assessments) for record in records),
        sources=sources,
        failed=sum(each.failed for record in records for each in record.valid_assessments),
        series=_series(records, meter, True) - _series(records, meter, False),
    )


def _series(records: Sequence[TraceRecord], meter: Meter, with_assessments: bool) -> int:
    admission = meter.admission(())
    found = filter(None, (assessed(record, {}) for record in records)) if with_assessments else ()
    meter.measure(Batch(counted=tuple(records), assessed=tuple(found)), admission)
    return admission.series


def findings(found: AssessmentSample, enabled: bool) -> Iterator[str]:
    """The facts, one per line."""
    if not found.sources:
        yield "assessments  none of these traces has any"
        return
    names = (f"{name} ({', '.join(sources)})" for name, sources in found.sources.items())
    failed = f"; failed: {found.failed:,}" if found.failed else ""
    yield f"assessments  {found.assessed:,} of {found.traces:,} traces have some: {few(names)}{failed}"
    state = "assessments.enabled adds" if enabled else "assessments.enabled: true would add"
    yield f"assessments  {state} {found.series:,} series for this sample"


def advice(found: AssessmentSample, enabled: bool) -> Iterator[str]:
    """What to change: one or two sentences per item."""
    if found.assessed and not enabled:
        yield (
            f"{found.assessed:,} of the traces have assessments, which are not counted. Set assessments.enabled to true"
            " to count them."
        )
