from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_trace_exporter.domain.growth import MAX_NANO, Amounts, Counted, change_of
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.metrics.families import CHANGED, CORRECTED, events
from mlflow_trace_exporter.metrics.model import SUM
from tests.support.builders import METER, group, increments, record

GROUP = group("chatbot", "production", "1.4.0", "support")


def counted(trace: TraceRecord) -> Counted:
    return Counted(trace.start_ms, GROUP, Amounts.of(trace))


def added(before: Counted, *reads: TraceRecord) -> dict[tuple[str, ...], float]:
    """What reading a counted trace again adds, by family and own label, over several reads."""
    total: dict[tuple[str, ...], float] = {}
    for read in reads:
        change = change_of(read, before)
        if change is None:
            continue
        before = change.after
        batch = Batch(changed=(change,))
        made = METER.measure(batch, METER.admission(()), [GROUP, GROUP.place])
        for cell, amount in {**made.amounts, **events(batch, made)}.items():
            if amount and cell.part in ("", SUM):
                key = (cell.family.removeprefix("mlflow_"), *cell.labels[4:])
                total[key] = total.get(key, 0) + amount
    return total


LESS: dict[str, Any] = {"usage": TokenUsage(input=100, output=10), "cost": Cost(0.25, 0.5)}
CORRECTED_ONCE: dict[tuple[str, ...], float] = {(CORRECTED.removeprefix("mlflow_"),): 1}
CHANGED_ONCE: dict[tuple[str, ...], float] = {(CHANGED.removeprefix("mlflow_"),): 1}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"usage": TokenUsage(input=130, output=10)}, {("trace_input_tokens_total",): 30, **CORRECTED_ONCE}),
        ({"usage": TokenUsage(100, 10, 5, 6)}, {
            ("trace_cache_read_input_tokens_total",): 5,
            ("trace_cache_creation_input_tokens_total",): 6,
            **CORRECTED_ONCE,
        }),
        ({"cost": Cost(0.25, 0.75)}, {("trace_output_cost_usd_total",): 0.25, **CORRECTED_ONCE}),
        ({"state": State.ERROR}, {("trace_errors_total",): 1, **CORRECTED_ONCE}),
        ({"usage": TokenUsage(input=90, output=10)}, CHANGED_ONCE),
        ({"usage": None}, CHANGED_ONCE),
        ({"duration_ms": 9_000}, CHANGED_ONCE),
        ({"start_ms": 500}, CHANGED_ONCE),
        ({"usage": TokenUsage(input=60, output=50)}, CHANGED_ONCE),
        ({"cost": Cost(0.5, 0.25)}, CHANGED_ONCE),
        (
            {"usage": TokenUsage(input=130, output=5), "state": State.ERROR},
            {("trace_errors_total",): 1, **CHANGED_ONCE},
        ),
        ({"tags": {}, "name": "other", "seen_ms": 9}, {}),
    ],
)  # fmt: skip
def test_what_a_counted_trace_adds_when_it_is_read_again(
    now: dict[str, Any], expected: dict[tuple[str, ...], float]
) -> None:
    before = record(**LESS)
    assert added(counted(before), record(**{**LESS, **now})) == expected


def test_a_change_is_added_and_reported_once() -> None:
    before, more = record(**LESS), record(**{**LESS, "cost": Cost(0.25, 0.1), "state": State.ERROR})
    assert added(counted(before), *3 * [more]) == {("trace_errors_total",): 1, **CHANGED_ONCE}


def test_an_error_that_became_ok_is_only_reported() -> None:
    assert added(counted(record(state=State.ERROR)), record()) == CHANGED_ONCE


def test_amounts_that_were_unknown_are_observed_when_they_come() -> None:
    before = record(usage=None, cost=None, duration_ms=None)
    expected: dict[tuple[str, ...], float] = {
        ("trace_input_tokens_total",): 100,
        ("trace_output_tokens_total",): 20,
        ("tokens_per_trace", "input"): 100,
        ("tokens_per_trace", "output"): 20,
        ("trace_input_cost_usd_total",): 0.25,
        ("trace_output_cost_usd_total",): 0.5,
        ("trace_duration_seconds", "ok"): 7,
        ("trace_slow_total",): 1,
        **CORRECTED_ONCE,
    }
    assert added(counted(before), record(duration_ms=7_000)) == expected


def test_a_known_duration_stays_in_its_bucket_and_the_slow_counter_agrees_with_it() -> None:
    assert added(counted(record(duration_ms=100)), record(duration_ms=60_000, state=State.ERROR)) == {
        ("trace_errors_total",): 1,
        **CHANGED_ONCE,
    }


def test_tokens_of_the_other_kind_that_come_later_are_observed() -> None:
    found = added(counted(record(usage=TokenUsage(output=20))), record(usage=TokenUsage(input=7, output=20)))
    assert found == {("trace_input_tokens_total",): 7, ("tokens_per_trace", "input"): 7, **CORRECTED_ONCE}


def test_what_was_not_counted_cannot_grow() -> None:
    """Traces that were given up, and other kinds of traffic."""
    assert change_of(record(), Counted(1_000)) is None
    moved = change_of(record(start_ms=7), Counted(1_000))
    assert moved is not None
    assert (moved.after, moved.grew, moved.is_beyond_correction) == (Counted(7), False, False)


def test_the_series_that_counted_a_trace_get_what_it_grew_by() -> None:
    """Its tags may have changed since."""
    before, more = record(**LESS), record(tags={"environment": "staging"}, **{**LESS, "cost": Cost(0.25, 1.0)})
    change = change_of(more, counted(before))
    assert change is not None
    made = METER.measure(Batch(changed=(change,)), METER.admission(()))
    assert made.groups == (GROUP, GROUP.place)


def test_without_those_series_the_labels_of_now_are_used() -> None:
    """The labels were configured differently then."""
    before = Counted(1_000, None, Amounts.of(record(**LESS)))
    change = change_of(record(tags={"environment": "staging"}), before)
    assert change is not None
    made = METER.measure(Batch(changed=(change,)), METER.admission(()))
    assert made.groups[0] == group("chatbot", "staging", "unknown", "support")


TOKENS = st.none() | st.integers(0, 10**12)
COSTS = st.none() | st.floats(0, 10**12)
RECORDS = st.builds(
    record,
    state=st.sampled_from(State),
    duration_ms=st.none() | st.integers(0, 10**12),
    usage=st.none() | st.builds(TokenUsage, TOKENS, TOKENS, TOKENS, TOKENS),
    cost=st.none() | st.builds(Cost, COSTS, COSTS),
)


@given(st.lists(RECORDS, min_size=2, max_size=5))
def test_reads_in_any_order_add_what_the_largest_amounts_are(reads: list[TraceRecord]) -> None:
    first, *more = reads
    before, largest = counted(first), Amounts.of(first)
    for read in more:
        largest = largest.grown_to(Amounts.of(read))
        change = change_of(read, before)
        before = change.after if change else before
        assert change_of(read, before) is None, "each change once"
    assert before.amounts == largest
    assert max(each or 0 for each in largest[6:]) <= MAX_NANO < 2**63, "SQLite can store it"


def test_a_trace_that_was_counted_and_grew_has_the_totals_of_one_that_was_complete() -> None:
    before = record(usage=None, cost=None)
    grown = added(counted(before), record(**LESS), record())
    complete = increments(record())
    for name in ("input_tokens", "output_tokens", "input_cost_usd", "output_cost_usd"):
        total = sum(each for cell, each in complete.amounts.items() if cell.family == f"mlflow_trace_{name}_total")
        assert grown[f"trace_{name}_total",] == total
