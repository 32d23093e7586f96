"""Summarizes the totals: one row per version of an experiment in an environment, and one per assessment of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.samples import Sample

from mlflow_trace_exporter.domain.labels import ASSESSMENT_LABELS, VERSION_LABELS
from mlflow_trace_exporter.metrics.assessments import ASSESSED, RATINGS, SCORES
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


@dataclass(frozen=True)
class AssessmentRow:
    """What was said about the traces of a version of an experiment in an environment, by name of the assessment.

    ``assessed``: how many of its ``traces`` have one. ``mean``: of the scores; None if there are none. ``good``: the
    share of good ones; None without a quality objective or a value.
    """

    experiment: str
    environment: str
    version: str
    assessment: str
    traces: int
    assessed: int
    mean: float | None
    good: float | None


def assessment_rows(samples: Iterable[Sample]) -> list[AssessmentRow]:
    """One row per version and assessment that any trace has, from the samples of the metrics over traces."""
    sums: dict[tuple[str, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    traces: dict[tuple[str, ...], float] = defaultdict(float)
    for sample in samples:
        if sample.name == "mlflow_traces_total":
            traces[tuple(sample.labels[name] for name in VERSION_LABELS)] += sample.value
        elif sample.name in _OF_ASSESSMENTS:
            key = tuple(sample.labels[name] for name in ASSESSMENT_LABELS)
            sums[key][sample.name + sample.labels.get("rating", "")] += sample.value
    rows = (_assessment_row(key, traces[key[:-1]], found) for key, found in sorted(sums.items()))
    return [row for row in rows if row.assessed]


_OF_ASSESSMENTS = (ASSESSED, f"{SCORES}_count", f"{SCORES}_sum", RATINGS)


def _assessment_row(key: tuple[str, ...], traces: float, sums: Mapping[str, float]) -> AssessmentRow:
    experiment, environment, version, assessment = key
    scores, rated = sums[f"{SCORES}_count"], sums[f"{RATINGS}good"] + sums[f"{RATINGS}bad"]
    return AssessmentRow(
        experiment=experiment,
        environment=environment,
        version=version,
        assessment=assessment,
        traces=int(traces),
        assessed=int(sums[ASSESSED]),
        mean=sums[f"{SCORES}_sum"] / scores if scores else None,
        good=sums[f"{RATINGS}good"] / rated if rated else None,
    )
