"""The part of `doctor` about what is inside traces: calls of models, other spans, and the series that they make."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mlflow_trace_exporter.domain.calls import Difference, differs
from mlflow_trace_exporter.domain.labels import UNKNOWN
from mlflow_trace_exporter.domain.spans import Call
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.metrics.meter import Meter

MAX_MODELS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class InsideSample:
    """``records``: finished traces with what is inside them, if MLflow returned it. ``series``: the number of series
    that this adds to those about the traces."""

    records: Sequence[TraceRecord]
    series: int

    @property
    def calls(self) -> list[Call]:
        """All calls of models."""
        return [call for record in self.records if record.inside for call in record.inside.calls]

    @property
    def without(self) -> int:
        """The number of traces without spans."""
        return sum(record.inside is None for record in self.records)

    def differing(self) -> Iterator[tuple[TraceRecord, Difference]]:
        """The traces whose calls do not add up to what MLflow reports for the trace, and in what."""
        for record in self.records:
            if record.inside is not None:
                for each in differs(record.usage, record.cost, record.inside.calls):
                    yield record, each


def sample(records: Sequence[TraceRecord], meter: Meter) -> InsideSample:
    """Measure traces with what is inside them. ``meter`` must measure spans."""
    outside = [replace(record, inside=None) for record in records]
    return InsideSample(records, _series(records, meter) - _series(outside, meter))


def _series(records: Sequence[TraceRecord], meter: Meter) -> int:
    admission = meter.admission(())
    meter.measure(Batch(counted=tuple(records)), admission)
    return admission.series


def findings(found: InsideSample, enabled: bool) -> Iterator[str]:
    """The facts, one per line."""
    calls = found.calls
    steps = sum(len(record.inside.steps) for record in found.records if record.inside)
    yield (
        f"spans        {len(calls):,} calls of models and {steps:,} other spans in"
        f" {len(found.records) - found.without:,} traces; {found.without:,} traces without spans"
    )
    state = "spans.enabled adds" if enabled else "spans.enabled: true would add"
    yield f"spans        {state} {found.series:,} series for this sample"
    models = Counter((call.provider, call.model) for call in calls)
    failed = Counter((call.provider, call.model) for call in calls if call.failed)
    for (provider, model), count in models.most_common(MAX_MODELS_SHOWN):
        yield f"model        {model} of provider {provider}: {count:,} calls, {failed[provider, model]:,} failed"
    if len(models) > MAX_MODELS_SHOWN:
        yield f"and {len(models) - MAX_MODELS_SHOWN:,} more models"


def advice(found: InsideSample) -> Iterator[str]:
    """What to change: one or two sentences per item."""
    for amount, records in _by_amount(found).items():
        yield (
            f"In {len(records):,} traces, such as {records[0].trace_id}, the calls of models do not add up to the"
            f" {amount} that MLflow reports for the trace. {_WHY[amount]}"
        )
    calls = found.calls
    if unknown := sum(call.provider == UNKNOWN for call in calls):
        yield (
            f"The provider of {unknown / len(calls):.0%} of the calls is unknown, because their SDK is used with many"
            " providers. Set the attribute mlflow.llm.provider of their spans in the application."
        )


_WHY: dict[Difference, str] = {
    "tokens": "Usually some calls have no usage, such as OpenAI's streams without include_usage in stream_options.",
    "cost": "Usually MLflow knows no price for the model of some calls.",
}


def _by_amount(found: InsideSample) -> dict[Difference, list[TraceRecord]]:
    by_amount: dict[Difference, list[TraceRecord]] = {}
    for record, amount in found.differing():
        by_amount.setdefault(amount, []).append(record)
    return by_amount
