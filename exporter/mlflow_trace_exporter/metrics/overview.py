"""Summarizes the totals: one row per version of an experiment in an environment."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.samples import Sample

from mlflow_trace_exporter.domain.labels import VERSION_LABELS
from mlflow_trace_exporter.metrics.families import MISSING
from mlflow_trace_exporter.metrics.model import histogram_quantile


@dataclass(frozen=True)
class Row:
    """The totals of a version of an experiment in an environment. Quantiles are in seconds and estimated from the
    histogram. Tokens and cost are None if no trace has them."""

    experiment: str
    environment: str
    version: str
    traces: int
    errors: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    tokens: int | None
    cost_usd: float | None


def rows(samples: Iterable[Sample]) -> list[Row]:
    """One row per experiment, environment and version, from the samples of the metrics over traces."""
    found: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.labels.keys() >= {*VERSION_LABELS}:
            found[tuple(sample.labels[name] for name in VERSION_LABELS)].append(sample)
    return [_row(names, found[names]) for names in sorted(found)]


def _row(names: tuple[str, ...], samples: Iterable[Sample]) -> Row:
    experiment, environment, version = names
    sums: dict[str, float] = defaultdict(float)
    buckets: dict[float, float] = defaultdict(float)
    without: dict[str, float] = defaultdict(float)
    for sample in samples:
        sums[sample.name] += sample.value
        if sample.name == "mlflow_trace_duration_seconds_bucket":
            buckets[float(sample.labels["le"])] += sample.value
        elif sample.name == MISSING:
            without[sample.labels["field"]] += sample.value
    traces = sums["mlflow_traces_total"]
    durations = sorted(buckets.items())
    return Row(
        experiment=experiment,
        environment=environment,
        version=version,
        traces=int(traces),
        errors=int(sums["mlflow_trace_errors_total"]),
        p50_s=histogram_quantile(0.5, durations),
        p95_s=histogram_quantile(0.95, durations),
        p99_s=histogram_quantile(0.99, durations),
        tokens=int(_both(sums, "mlflow_trace_{}_tokens_total")) if traces > without["token_usage"] else None,
        cost_usd=_both(sums, "mlflow_trace_{}_cost_usd_total") if traces > without["cost"] else None,
    )


def _both(sums: Mapping[str, float], name: str) -> float:
    return sum(sums.get(name.format(direction), 0) for direction in ("input", "output"))
