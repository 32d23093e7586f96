"""/metrics as rows of a table: what a dashboard would show, without a Prometheus."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from exporter.metrics import histogram_quantile

COLUMNS = ("environment", "version", "traces", "errors", "p50", "p95", "p99", "tokens", "cost")


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

    def texts(self) -> tuple[str, ...]:
        """The row as it is shown, in the order of COLUMNS."""
        quantiles = ("-" if value is None else f"{value:.2f}s" for value in (self.p50_s, self.p95_s, self.p99_s))
        share = f"{self.errors / self.traces:.1%}" if self.traces else "-"
        return (
            *(self.environment, self.version, f"{self.traces}", share),
            *quantiles,
            *(f"{self.tokens:,}", f"${self.cost_usd:.4f}"),
        )


def rows(exposition: str) -> list[Row]:
    """One row for each environment and version, from the text of /metrics."""
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if "version" in sample.labels and "environment" in sample.labels:
                samples[sample.labels["environment"], sample.labels["version"]].append(sample)
    return [_row(environment, version, samples[environment, version]) for environment, version in sorted(samples)]


def value(exposition: str, name: str) -> float | None:
    """The value of a metric that has one series only; None if it is not there."""
    found = (
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == name
    )
    return next(found, None)


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
