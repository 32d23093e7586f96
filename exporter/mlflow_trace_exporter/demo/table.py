"""Turns /metrics into rows of tables, like a dashboard but without Prometheus."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from mlflow_trace_exporter.metrics import overview
from mlflow_trace_exporter.metrics.assessments import ASSESSMENTS, SCORES
from mlflow_trace_exporter.metrics.inside import CALL_DURATION
from mlflow_trace_exporter.metrics.model import histogram_quantile
from mlflow_trace_exporter.metrics.overview import Row

COLUMNS = ("environment", "version", "traces", "errors", "p50", "p95", "p99", "tokens", "cost")
OPINION_COLUMNS = ("environment", "version", "assessment", "source", "number", "value")
MODEL_COLUMNS = ("provider", "model", "calls", "errors", "p50", "p95", "tokens", "cost")


def texts(row: Row) -> tuple[str, ...]:
    """The cells of a row, in the order of COLUMNS."""
    return (
        *(row.environment, row.version, f"{row.traces}", _share(row.errors, row.traces)),
        *(_seconds(value) for value in (row.p50_s, row.p95_s, row.p99_s)),
        "-" if row.tokens is None else f"{row.tokens:,}",
        "-" if row.cost_usd is None else f"${row.cost_usd:.4f}",
    )


def rows(exposition: str) -> list[Row]:
    """One row for each experiment, environment and version, from the text of /metrics."""
    return overview.rows(_samples(exposition))


def models(exposition: str) -> list[tuple[str, ...]]:
    """The cells of one row for each provider and model, in the order of MODEL_COLUMNS. All applications together. Empty
    if spans are not counted."""
    sums: defaultdict[tuple[str, str], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    buckets: defaultdict[tuple[str, str], defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for sample in _samples(exposition):
        if sample.name.startswith("mlflow_llm_"):
            key = sample.labels["provider"], sample.labels["model"]
            sums[key][sample.name + sample.labels.get("status", "")] += sample.value
            if sample.name == f"{CALL_DURATION}_bucket":
                buckets[key][float(sample.labels["le"])] += sample.value
    return [_model(key, sums[key], buckets[key]) for key in sorted(sums)]


def opinions(exposition: str) -> list[tuple[str, ...]]:
    """The cells of one row for each assessment of a version, in the order of OPINION_COLUMNS: the share of the most
    frequent value, or the mean of scores. All applications together. Empty if nothing is assessed."""
    words: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    scores: defaultdict[tuple[str, ...], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for sample in _samples(exposition):
        key = tuple(sample.labels.get(name, "") for name in OPINION_COLUMNS[:4])
        if sample.name == ASSESSMENTS:
            words[key][sample.labels["value"]] += int(sample.value)
        elif sample.name in (f"{SCORES}_sum", f"{SCORES}_count"):
            scores[key][sample.name.removeprefix(SCORES)] += sample.value
    shown = {key: (counts.total(), _most(counts)) for key, counts in words.items()}
    shown |= {key: (int(each["_count"]), _mean(each["_sum"], each["_count"])) for key, each in scores.items()}
    return [(*key, f"{number}", value) for key, (number, value) in sorted(shown.items()) if number]


def _most(counts: Counter[str]) -> str:
    value, number = counts.most_common(1)[0]
    return f"{_share(number, counts.total())} {value}"


def _mean(total: float, number: float) -> str:
    return f"{total / number:.2f}" if number else "-"


def _model(key: tuple[str, str], sums: defaultdict[str, float], buckets: dict[float, float]) -> tuple[str, ...]:
    failed = int(sums[f"{CALL_DURATION}_counterror"])
    calls = int(sums[f"{CALL_DURATION}_countok"]) + failed
    quantiles = (histogram_quantile(each, sorted(buckets.items())) for each in (0.5, 0.95))
    tokens, cost_usd = (
        sum(sums[f"mlflow_llm_{direction}_{what}_total"] for direction in ("input", "output"))
        for what in ("tokens", "cost_usd")
    )
    return (*key, f"{calls}", _share(failed, calls), *map(_seconds, quantiles), f"{int(tokens):,}", f"${cost_usd:.4f}")


def value(exposition: str, name: str) -> float | None:
    """The value of a metric with a single series; None if it is missing."""
    return next((sample.value for sample in _samples(exposition) if sample.name == name), None)


def _samples(exposition: str) -> Iterator[Sample]:
    return (sample for family in text_string_to_metric_families(exposition) for sample in family.samples)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}s"
