"""What is inside traces is counted once, with its trace (faults 31 and 32)."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from mlflow_trace_exporter.counting import span_reader
from mlflow_trace_exporter.counting.span_reader import PATIENCE_MS
from mlflow_trace_exporter.domain.spans import Span
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.metrics.families import DIFFERING, MISSING
from mlflow_trace_exporter.metrics.inside import CALL_DURATION, STEP_DURATION
from mlflow_trace_exporter.tracking.features import Feature
from mlflow_trace_exporter.tracking.span_source import SpanAnswer
from tests.support.builders import METER, METER_WITH_SPANS, record, span, step
from tests.support.rig import DAY_MS, HOUR_MS, INTERVAL_MS, Rig
from tests.support.simulated import SimulatedMlflow, unreachable

NUMBERS = count()
INPUT, COST = "mlflow_llm_input_tokens_total", "mlflow_llm_input_cost_usd_total"


@pytest.fixture
def rig(mlflow: SimulatedMlflow, make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(mlflow, meter=METER_WITH_SPANS)


def add(mlflow: SimulatedMlflow, *spans: Span, age_ms: int = 0, **fields: Any) -> TraceRecord:
    """Add a trace that ended so long ago, with these spans; none: they are not there (yet)."""
    given = {"start_ms": mlflow.clock_ms - age_ms, "duration_ms": 0, **fields}
    trace = mlflow.add(record(trace_id=f"tr-{next(NUMBERS)}", **given))
    if spans:
        mlflow.spans_of[trace.trace_id] = spans
    return trace


def calls(rig: Rig) -> float:
    """How many calls are counted."""
    return sum(sum(numbers[:-1]) for numbers in rig.published[-1].totals.get(CALL_DURATION, {}).values())


def missing(rig: Rig) -> float:
    """How many traces are reported as missing their spans."""
    series = rig.published[-1].totals.get(MISSING, {})
    return sum(numbers[0] for labels, numbers in series.items() if labels[-1] == "spans")


def test_calls_and_steps_are_counted_with_their_trace(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(
        mlflow,
        span(1),
        span(2, model="claude", provider="anthropic", failed=True, error_type="RateLimitError", usage=None, cost=None),
        step(3),
        step(4, span_type="CHAIN"),
    )
    rig.settle()
    version = ("chatbot", "production", "1.4.0")
    assert rig.labels(CALL_DURATION) == {
        (*version, "openai", "gpt-4o", "ok"),
        (*version, "anthropic", "claude", "error"),
    }
    assert rig.labels("mlflow_llm_call_errors_total") == {(*version, "anthropic", "claude", "RateLimitError")}
    assert rig.labels(STEP_DURATION) == {(*version, "TOOL", "search", "ok")}, "chains have no series by default"
    assert (rig.traces, calls(rig), rig.total(INPUT), rig.total(COST)) == (1, 2, 100, 0.25)
    assert (missing(rig), rig.total(DIFFERING)) == (0, 0)


@pytest.mark.parametrize("age_ms", [0, HOUR_MS])
def test_each_call_is_counted_once_also_after_restarts(mlflow: SimulatedMlflow, rig: Rig, age_ms: int) -> None:
    """An old trace is complete for certain, and could be counted by the pass that finds it."""
    for _ in range(150):
        add(mlflow, span(1), span(2), age_ms=age_ms)
    for _ in range(3):
        rig.settle()
        rig.restart()
    rig.settle()
    assert (rig.traces, calls(rig), rig.total(INPUT)) == (150, 300, 30_000)


def test_the_sum_over_calls_is_compared_with_the_trace(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, span(1), usage=TokenUsage(input=999, output=20), cost=Cost(input_usd=0.25, output_usd=0.5))
    rig.settle()
    assert rig.labels(DIFFERING) == {("tokens",)}


def test_a_trace_waits_for_spans_that_have_not_arrived(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow)
    rig.run(PATIENCE_MS // 2)
    assert rig.traces == 0
    mlflow.spans_of[trace.trace_id] = (span(1),)
    rig.run(2 * INTERVAL_MS)
    assert (rig.traces, calls(rig), missing(rig)) == (1, 1, 0)


def test_it_does_not_wait_for_ever(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow)
    rig.run(PATIENCE_MS + 3 * INTERVAL_MS)
    assert (rig.traces, calls(rig), missing(rig)) == (1, 0, 1)
    before = mlflow.requests
    rig.tick()
    assert mlflow.requests - before <= 2, "nothing is asked again"


def test_a_trace_of_an_application_whose_clock_is_ahead_does_not_wait_until_it_is_right(
    mlflow: SimulatedMlflow, rig: Rig
) -> None:
    add(mlflow, age_ms=-DAY_MS)
    rig.run(PATIENCE_MS + 3 * INTERVAL_MS)
    assert (rig.traces, missing(rig)) == (1, 1)


def test_traces_that_wait_for_their_spans_are_no_backlog(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """Somewhere there is always one."""
    add(mlflow)
    rig.run(PATIENCE_MS // 2)
    assert rig.ledger.pending() == 1
    assert not rig.reading.behind


def test_fault_31_a_trace_that_is_deleted_before_its_spans_are_read(mlflow: SimulatedMlflow, rig: Rig) -> None:
    trace = add(mlflow, span(1))
    rig.run(INTERVAL_MS)
    read_spans = mlflow.spans

    def spans(records: list[TraceRecord]) -> Iterator[SpanAnswer]:
        if trace.trace_id in mlflow.traces:
            mlflow.delete(trace)
        return read_spans(records)

    mlflow.spans = spans  # type: ignore[method-assign,assignment]  # deletes it in between
    rig.settle()
    assert (rig.traces, calls(rig), missing(rig)) == (1, 0, 1)


def test_fault_31_a_server_that_does_not_return_spans(mlflow: SimulatedMlflow, rig: Rig) -> None:
    mlflow.lacks.add(Feature.SPANS)
    add(mlflow, span(1))
    rig.settle()
    assert (rig.traces, calls(rig), missing(rig)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("reason", "waits"), [(Reason.SERVER_ERROR, True), (Reason.BAD_ANSWER, True), (Reason.CREDENTIALS, False)]
)
def test_fault_31_spans_that_are_refused(mlflow: SimulatedMlflow, rig: Rig, reason: Reason, waits: bool) -> None:
    """A denial is final, an error may pass."""
    _, fine, error = add(mlflow), add(mlflow), PollError(reason, "no")

    def spans(records: list[TraceRecord]) -> Iterator[SpanAnswer]:
        for each in records:
            is_fine = each.trace_id == fine.trace_id
            yield SpanAnswer((each,), {each.trace_id: (span(1),)}) if is_fine else SpanAnswer((each,), error=error)

    mlflow.spans = spans  # type: ignore[method-assign,assignment]  # refuses one of them
    rig.run(3 * INTERVAL_MS)
    assert (rig.traces, calls(rig), missing(rig)) == ((1, 1, 0) if waits else (2, 1, 1))
    rig.run(PATIENCE_MS)
    assert (rig.traces, calls(rig), missing(rig)) == (2, 1, 1)


def test_fault_32_mlflow_is_away_between_the_search_and_the_spans(mlflow: SimulatedMlflow, rig: Rig) -> None:
    for _ in range(250):
        add(mlflow, span(1))
    succeeded = []
    for at in range(1, 9):
        mlflow.fail_at_request = {mlflow.requests + at: unreachable()}
        succeeded.append(rig.tick())
        assert calls(rig) == rig.traces
    assert not all(succeeded[1:]), "otherwise nothing was tried"
    mlflow.fail_at_request = {}
    rig.settle()
    assert (rig.traces, calls(rig), missing(rig)) == (250, 250, 0)


def test_what_is_read_before_an_error_is_counted(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """Otherwise one trace for which MLflow does not answer could hold up all others."""
    for number in range(250):
        add(mlflow, span(1), age_ms=HOUR_MS - number)
    first, read_spans = next(iter(mlflow.traces)), mlflow.spans

    def spans(records: list[TraceRecord]) -> Iterator[SpanAnswer]:
        for answer in read_spans(records):
            if any(record.trace_id == first for record in answer.asked):
                raise PollError(Reason.TIMEOUT, "no answer")
            yield answer

    mlflow.spans = spans  # type: ignore[method-assign,assignment]  # does not answer for the oldest of them
    rig.tick()
    assert not rig.tick(), "the error is told"
    assert (rig.traces, calls(rig), missing(rig)) == (200, 200, 0)
    mlflow.spans = read_spans  # type: ignore[method-assign]  # as before
    rig.settle()
    assert (rig.traces, calls(rig), missing(rig)) == (250, 250, 0)


def test_spans_can_be_counted_from_some_day_on_and_not_any_more(mlflow: SimulatedMlflow, rig: Rig) -> None:
    """What is pending when this changes is counted as configured then; no series ends or restarts."""
    for at, meter in enumerate((METER, METER_WITH_SPANS, METER, METER_WITH_SPANS)):
        add(mlflow, span(1))
        rig.run(INTERVAL_MS)
        assert rig.ledger.pending() == 1
        before = rig.ledger.totals.all()
        rig.reload(meter)
        assert all(rig.ledger.totals.all()[cell] >= value for cell, value in before.items())
        rig.settle()
        assert (rig.traces, missing(rig)) == (at + 1, 0)
        assert calls(rig) == {0: 0, 1: 1, 2: 0, 3: 2}[at], "not exposed, but kept, in between"
        rig.restart()


def test_new_traces_do_not_wait_for_the_spans_of_old_ones(
    mlflow: SimulatedMlflow, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(1_000):
        add(mlflow, span(1), age_ms=HOUR_MS)
    monkeypatch.setattr(span_reader, "monotonic", lambda: float("inf"))  # each tick has time for one request
    rig.tick()
    new = add(mlflow, span(1, model="new"))
    rig.run(3 * INTERVAL_MS)
    assert any("new" in labels for labels in rig.labels(INPUT)), new
    assert rig.traces < 1_000
    assert rig.reading.behind
    monkeypatch.undo()
    rig.settle()
    assert (rig.traces, calls(rig), rig.reading.behind) == (1_001, 1_001, False)


def test_traces_of_other_traffic_are_not_asked_for_their_spans(mlflow: SimulatedMlflow, rig: Rig) -> None:
    add(mlflow, span(1), tags={"mlflow.eval.requestId": "1"})
    asked: list[TraceRecord] = []
    read_spans = mlflow.spans
    mlflow.spans = lambda records: read_spans(asked.extend(records) or records)  # type: ignore[method-assign,func-returns-value]  # notes them
    rig.settle()
    assert rig.total("mlflow_trace_exporter_left_out_traces_total") == 1
    assert not asked
