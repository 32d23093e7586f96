"""Turns /metrics into rows of a table, like a dashboard but without Prometheus."""

from prometheus_client.parser import text_string_to_metric_families

from mlflow_trace_exporter.metrics import overview
from mlflow_trace_exporter.metrics.overview import Row

COLUMNS = ("environment", "version", "traces", "errors", "p50", "p95", "p99", "tokens", "cost")


def texts(row: Row) -> tuple[str, ...]:
    """The cells of a row, in the order of COLUMNS."""
    quantiles = ("-" if value is None else f"{value:.2f}s" for value in (row.p50_s, row.p95_s, row.p99_s))
    share = f"{row.errors / row.traces:.1%}" if row.traces else "-"
    return (
        *(row.environment, row.version, f"{row.traces}", share),
        *quantiles,
        "-" if row.tokens is None else f"{row.tokens:,}",
        "-" if row.cost_usd is None else f"${row.cost_usd:.4f}",
    )


def rows(exposition: str) -> list[Row]:
    """One row for each experiment, environment and version, from the text of /metrics."""
    families = text_string_to_metric_families(exposition)
    return overview.rows(sample for family in families for sample in family.samples)


def value(exposition: str, name: str) -> float | None:
    """The value of a metric with a single series; None if it is missing."""
    found = (
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == name
    )
    return next(found, None)
