"""What comes late inside a trace that is counted is added once, or the difference is told."""

from collections.abc import Callable

import pytest

from mlflow_trace_exporter.counting import span_reader
from mlflow_trace_exporter.counting.recent import GROWING_AGAIN_MS
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.metrics.families import DIFFERING
from mlflow_trace_exporter.metrics.inside import STEP_DURATION
from mlflow_trace_exporter.tracking.features import Feature
from tests.support.builders import METER_WITH_SPANS, span, step
from tests.support.rig import DAY_MS, HOUR_MS, MINUTE_MS, Rig
from tests.support.simulated import SPANS_AT_ONCE, SimulatedMlflow
from tests.unit.counting.test_spans import INPUT, add, calls

OF_TRACES = "mlflow_trace_input_tokens_total"
ONCE, TWICE = TokenUsage(input=100, output=20), TokenUsage(input=200, output=40)


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(mlflow, meter=METER_WITH_SPANS)


def test_spans_that_come_late_are_added_once(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """As for a trace over OTLP, which is never marked as complete."""
    trace = add(mlflow, span(1), step(2), finalized=False, usage=TokenUsage(input=100, output=20))
    rig.settle()
    assert (rig.traces, calls(rig), rig.total(INPUT)) == (1, 1, 100)
    mlflow.spans_of[trace.trace_id] = (span(1), step(2), span(3), step(4, name="late"))
    mlflow.change(trace, usage=TokenUsage(input=200, output=40))
    for _ in range(2):
        rig.settle()
        rig.restart()
    rig.settle()
    assert (rig.traces, calls(rig), rig.total(INPUT)) == (1, 2, 200)
    assert {labels[4] for labels in rig.labels(STEP_DURATION)} == {"search", "late"}


def test_a_late_span_can_be_the_call_that_its_parent_was_counted_as(mlflow: SimulatedMlflow, rig: Rig) -> None:
    agent = span(1, span_type="AGENT", provider=None, model=None, cost=None)
    trace = add(mlflow, agent, finalized=False, duration_ms=500)
    rig.settle()
    assert (calls(rig), rig.total(INPUT)) == (1, 100)
    mlflow.spans_of[trace.trace_id] = (agent, span(2, parent=1))
    mlflow.change(trace, usage=TokenUsage(input=100, output=21))
    rig.settle()
    assert (calls(rig), rig.total(INPUT)) == (1, 100)


def test_late_spans_that_cannot_be_read_are_added_by_a_later_read(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow, span(1), finalized=False, usage=TokenUsage(input=100, output=20))
    rig.settle()
    mlflow.change(trace, usage=TokenUsage(input=200, output=40))
    del mlflow.spans_of[trace.trace_id]
    rig.tick()
    assert rig.total("mlflow_trace_input_tokens_total") == 100, "stored together, or not at all"
    mlflow.spans_of[trace.trace_id] = (span(1), span(2))
    rig.settle()
    assert (rig.total("mlflow_trace_input_tokens_total"), rig.total(INPUT)) == (200, 200)


def test_new_traces_do_not_wait_for_late_spans(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = [add(mlflow, span(1), finalized=False, usage=ONCE, cost=None) for _ in range(3 * SPANS_AT_ONCE)]
    rig.settle()
    for trace in traces:
        mlflow.spans_of[trace.trace_id] = (span(1), span(2))
        mlflow.change(trace, usage=TWICE)
    monkeypatch.setattr(span_reader, "monotonic", lambda: float("inf"))  # each pass has time for one request
    mlflow.clock_ms += GROWING_AGAIN_MS
    rig.tick()
    assert (calls(rig), rig.total(OF_TRACES)) == (4 * SPANS_AT_ONCE, 400 * SPANS_AT_ONCE)
    monkeypatch.undo()
    rig.run(3 * HOUR_MS, 10 * MINUTE_MS)  # a closing pass reads them again
    assert (calls(rig), rig.total(INPUT)) == (6 * SPANS_AT_ONCE, 600 * SPANS_AT_ONCE)
    assert not rig.total(DIFFERING)


def test_two_late_calls_of_which_a_span_above_had_the_sum(mlflow: SimulatedMlflow, rig: Rig) -> None:
    agent = span(1, span_type="AGENT", provider=None, model=None, usage=TWICE, cost=None)
    trace = add(mlflow, agent, finalized=False, usage=TWICE, cost=None)
    rig.settle()
    mlflow.spans_of[trace.trace_id] = (agent, *(span(number, parent=1, cost=None) for number in (2, 3)))
    mlflow.change(trace, usage=TokenUsage(input=200, output=41))
    rig.settle()
    assert (calls(rig), rig.total(INPUT)) == (2, 200)


@pytest.mark.parametrize("finalized", [False, True])
def test_growth_that_no_span_explains_is_told(mlflow: SimulatedMlflow, rig: Rig, finalized: bool) -> None:
    """MLflow marked the trace as complete, or the spans do not say more."""
    trace = add(mlflow, span(1), finalized=finalized, usage=ONCE, cost=None)
    rig.settle()
    mlflow.change(trace, usage=TWICE)
    rig.settle()
    rig.run(3 * HOUR_MS, 10 * MINUTE_MS)  # a closing pass reads it again
    assert (rig.total(OF_TRACES), rig.total(INPUT)) == (200, 100)
    assert rig.labels(DIFFERING) == {("tokens",)}


def test_growth_without_a_server_that_returns_spans_is_told(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow, span(1), finalized=False, usage=ONCE, cost=None)
    rig.settle()
    mlflow.lacks.add(Feature.SPANS)
    mlflow.spans_of[trace.trace_id] = (span(1), span(2))
    mlflow.change(trace, usage=TWICE)
    rig.settle()
    assert (rig.total(OF_TRACES), rig.total(INPUT)) == (200, 100)
    assert rig.labels(DIFFERING) == {("tokens",)}


def test_growth_is_counted_in_the_end_if_the_spans_are_never_found(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow, span(1), finalized=False, usage=ONCE, cost=None)
    rig.settle()
    mlflow.change(trace, usage=TWICE)
    del mlflow.spans_of[trace.trace_id]
    rig.run(3 * HOUR_MS, 10 * MINUTE_MS)
    assert rig.total(OF_TRACES) == 100, "it is tried again"
    rig.run(DAY_MS, 10 * MINUTE_MS)
    assert (rig.total(OF_TRACES), rig.total(INPUT)) == (200, 100)
    assert rig.labels(DIFFERING) == {("tokens",)}
