"""Totals as rows for people: one for each environment and version."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.samples import Sample

from exporter.metrics import histogram_quantile


@dataclass(frozen=True)
class Row:
    """What was counted for a version in an environment. Quantiles are in seconds and estimated from the histogram."""

    environment: str
    version: str
    traces: int
    errors: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    tokens: int
    cost_usd: float


def rows(samples: Iterable[Sample]) -> list[Row]:
    """One row for each environment and version, from the samples of the metrics over traces."""
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if "version" in sample.labels and "environment" in sample.labels:
            found[sample.labels["environment"], sample.labels["version"]].append(sample)
    return [_row(environment, version, found[environment, version]) for environment, version in sorted(found)]


def _row(environment: str, version: str, samples: Iterable[Sample]) -> Row:
    sums: dict[str, float] = defaultdict(float)
    buckets: dict[float, float] = defaultdict(float)
    for sample in samples:
        sums[sample.name] += sample.value
        if sample.name == "mlflow_trace_duration_seconds_bucket":
            buckets[float(sample.labels["le"])] += sample.value
    durations = sorted(buckets.items())
    return Row(
        environment=environment,
        version=version,
        traces=int(sums["mlflow_traces_total"]),
        errors=int(sums["mlflow_trace_errors_total"]),
        p50_s=histogram_quantile(0.5, durations),
        p95_s=histogram_quantile(0.95, durations),
        p99_s=histogram_quantile(0.99, durations),
        tokens=int(_both(sums, "mlflow_trace_{}_tokens_total")),
        cost_usd=_both(sums, "mlflow_trace_{}_cost_usd_total"),
    )


def _both(sums: Mapping[str, float], name: str) -> float:
    return sum(sums.get(name.format(direction), 0) for direction in ("input", "output"))
