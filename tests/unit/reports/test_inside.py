"""What `doctor` says about what is inside traces."""

from mlflow_trace_exporter.domain.calls import inside
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.metrics.inside import inside_families
from mlflow_trace_exporter.reports.inside import advice, findings, sample
from tests.support.builders import FAMILIES_WITH_SPANS, METER_WITH_SPANS, record, span, step

CALL_SERIES = sum(family.series_per_group for family in FAMILIES_WITH_SPANS if "model" in family.labels[-1:])


def said(*records: TraceRecord) -> str:
    return "\n".join(findings(sample(records, METER_WITH_SPANS), enabled=False))


def advised(*records: TraceRecord) -> list[str]:
    return [*advice(sample(records, METER_WITH_SPANS))]


def test_the_series_of_a_sample_are_told_before_they_exist() -> None:
    text = said(record(inside=inside([span(1), span(2)])), record(trace_id="tr-2"))
    assert f"spans.enabled: true would add {CALL_SERIES} series" in text
    assert "2 calls of models and 0 other spans in 1 traces; 1 traces without spans" in text
    assert "gpt-4o of provider openai: 2 calls, 0 failed" in text
    assert "spans        spans.enabled adds" in [*findings(sample([], METER_WITH_SPANS), enabled=True)][1]


def test_steps_make_series_only_if_their_type_is_chosen() -> None:
    chosen, other = (said(record(inside=inside([step(1, span_type=kind)]))) for kind in ("TOOL", "CHAIN"))
    durations = inside_families((1.0,) * 14, (1.0,))[-1]
    assert f"would add {durations.series_per_group} series" in chosen
    assert "would add 0 series" in other


def test_traces_that_do_not_add_up_are_named_with_the_usual_cause() -> None:
    usual = {"usage": TokenUsage(input=100, output=20), "cost": Cost(input_usd=0.25, output_usd=0.5)}
    right = record(trace_id="tr-right", inside=inside([span(1)]), **usual)
    assert not advised(right)
    without = record(trace_id="tr-stream", inside=inside([span(1, usage=None)]), **usual)
    (line,) = advised(right, without)
    assert "In 1 traces, such as tr-stream, the calls of models do not add up to the tokens" in line
    assert "include_usage" in line
    (line,) = advised(record(inside=inside([span(1, cost=None)]), **usual))
    assert "knows no price" in line


def test_unknown_providers_are_told() -> None:
    unknown = inside([span(1, provider=None), span(2, usage=None, cost=None)])
    assert any(
        line.startswith("The provider of 50% of the calls is unknown") for line in advised(record(inside=unknown))
    )
