"""Our sample lines are the same as those of prometheus_client."""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest as encode_text
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ExemplarSample

from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.metrics.model import Exemplar, TraceFamily
from mlflow_trace_exporter.metrics.sample_lines import SampleLines
from mlflow_trace_exporter.metrics.series import Exemplars, Numbers
from tests.support.builders import FAMILIES

TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('\\\n"{},=')))
AMOUNTS = st.one_of(
    st.integers(0, 2**70), st.floats(0, allow_nan=False), st.sampled_from([0, 0.1, 1e5, 1e6, 999_999.5, 1e16, 1e-7])
)
EXEMPLARS = st.builds(Exemplar, TEXTS, AMOUNTS, st.floats(0, 1e10))
MORE = [replace(FAMILIES[0], labels=(*FAMILIES[0].labels, *names)) for names in [("le1", "Team"), ("_", "zone")]]


class Single(Collector):
    """One metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


def expected(
    family: TraceFamily,
    labels: LabelValues,
    numbers: Numbers,
    exemplars: Exemplars,
    encode: Callable[[Collector], bytes],
) -> bytes:
    """What prometheus_client writes, without comments."""
    metric: Metric
    if family.edges:
        *counts, total = numbers
        buckets = [
            (bucket, count, _sample(exemplars[bucket])) if number and bucket in exemplars else (bucket, count)
            for bucket, number, count in zip(family.buckets, counts, accumulate(counts), strict=True)
        ]
        metric = histogram = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
        histogram.add_metric(labels, buckets, total)
    else:
        metric = counter = CounterMetricFamily(family.name, family.help, labels=family.label_names)
        counter.add_metric(labels, numbers[0])
    registry = CollectorRegistry()
    registry.register(Single(metric))
    lines = encode(registry).split(b"\n")
    return b"".join(line + b"\n" for line in lines if line and not line.startswith(b"#"))


def _sample(exemplar: Exemplar) -> ExemplarSample:
    return ExemplarSample({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.timestamp_s)


@pytest.mark.parametrize("family", [*FAMILIES, *MORE], ids=lambda family: "+".join(family.label_names) + family.name)
@given(data=st.data())
def test_the_lines_are_those_of_prometheus_client(family: TraceFamily, data: st.DataObject) -> None:
    labels = data.draw(st.tuples(*(TEXTS for _ in family.label_names)))
    numbers = data.draw(st.tuples(*(AMOUNTS for _ in family.parts)))
    exemplars = data.draw(st.dictionaries(st.sampled_from(family.buckets), EXEMPLARS)) if family.edges else {}
    lines = SampleLines(family.name, family.label_names, family.buckets)
    assert lines.write(labels, numbers, {}) == expected(family, labels, numbers, {}, encode_text)
    assert lines.write(labels, numbers, exemplars) == expected(family, labels, numbers, exemplars, encode_openmetrics)


def test_a_bucket_that_shows_no_trace_has_no_exemplar() -> None:
    """Its group is held at 0."""
    family = next(each for each in FAMILIES if each.has_exemplars)
    lines = SampleLines(family.name, family.label_names, family.buckets)
    exemplars = {family.buckets[0]: Exemplar("tr-1", 0.01, 1.0)}
    assert b"tr-1" not in lines.write(family.label_names, (0,) * len(family.parts), exemplars)
    assert b"tr-1" in lines.write(family.label_names, (1,) * len(family.parts), exemplars)
