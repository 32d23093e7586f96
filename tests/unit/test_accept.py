"""Which format and coding a scrape gets, by its headers."""

import pytest

from mlflow_trace_exporter.accept import qualities
from mlflow_trace_exporter.metrics.exposition import Format

OPENMETRICS = [
    # Prometheus 2.37 and 2.53
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    # Prometheus 3, and with native histograms
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
    "application/openmetrics-text",
    "application/openmetrics-text, */*",
    "*/*, application/openmetrics-text",
    "application/openmetrics-text, text/plain",
    "Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.2, TEXT/PLAIN ; q=0.1",
    "application/openmetrics-text;q=0.001, text/plain;q=0",
    "text/plain;q=0, application/openmetrics-text;q=0.1, */*",
    "application/openmetrics-text;version=2.0.0;q=0, application/openmetrics-text;version=1.0.0;q=0.5",
    "application/openmetrics-text;q=0.5, text/*;q=0.4, */*;q=0.9",
    "application/openmetrics-text;q=abc",
]

TEXT = [
    "",
    "*/*",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "application/json",
    "application/openmetrics-text;q=0",
    "application/openmetrics-text;version=1.0.0;q=0.000",
    "application/openmetrics-text ; q = 0, */*",
    "application/openmetrics-text; q=0, */*",
    "application/openmetrics-text;q=0, text/plain;q=0",
    "application/openmetrics-text;q=0.3, text/plain;q=0.5",
    "application/openmetrics-text;q=0.3, text/*;q=0.5",
    "application/openmetrics-text;q=0.3, */*",
    "text/plain, application/openmetrics-text",
    "text/plain;version=0.0.4;q=0.5, */*",
    "application/*",
    "application/openmetrics-textual",
    'text/plain;about="a, application/openmetrics-text;q=1, b"',
    ",;q=,;;=,q",
]


@pytest.mark.parametrize("header", OPENMETRICS)
def test_openmetrics(header: str) -> None:
    assert Format.accepted(header) is Format.OPENMETRICS


@pytest.mark.parametrize("header", TEXT)
def test_text(header: str) -> None:
    assert Format.accepted(header) is Format.TEXT


@pytest.mark.parametrize("quality", ["nan", "inf", "-1", "2", "1e9", "0x0", "", "\u0660"])
def test_a_quality_that_is_none(quality: str) -> None:
    assert qualities(f"gzip;q={quality}") == {"gzip": 1.0}
