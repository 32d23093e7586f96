from dataclasses import replace
from typing import Any

import pytest

from mlflow_trace_exporter.domain.growth import Amounts, Counted, change_of
from mlflow_trace_exporter.domain.trace import ORPHAN_MS, State, TraceRecord
from mlflow_trace_exporter.domain.triage import (
    FILL_MS,
    GIVE_UP_MS,
    LONGEST_BACKOFF_MS,
    LOOKED_AT_MS,
    RETRY_MS,
    SETTLE_MS,
    Batch,
    Known,
    Pending,
    triage,
    unseen,
)
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from tests.support.builders import METER, group, record

END_MS = 2_500
MINUTE_MS = 60_000
NOTHING = Known({}, {})


def after(records: list[TraceRecord], known: Known = NOTHING, closed_ms: int = 0) -> Batch:
    return triage(records, known, closed_ms, lambda each: METER.place(each, METER.admission(())))


def seen(ms: int, **fields: Any) -> TraceRecord:
    """The trace as it was read this long after its end."""
    return record(seen_ms=END_MS + ms, **fields)


def pending(first: TraceRecord) -> Known:
    (waiting,) = after([first]).pending
    return Known({}, {waiting.trace_id: waiting})


def test_a_trace_that_cannot_be_counted_yet_is_due_since_it_was_final() -> None:
    """Passes that read it again do not postpone it, or it could be due at no tick."""
    known = pending(seen(0))
    for ms in (FILL_MS, FILL_MS + 1, FILL_MS + MINUTE_MS):
        batch = triage([seen(ms)], known, 0, lambda each: METER.place(each, METER.admission(())), counts=False)
        (waiting,) = batch.pending
        assert (waiting.next_ms, batch.counted) == (END_MS + FILL_MS, ())
        known = Known({}, {waiting.trace_id: waiting})


@pytest.mark.parametrize(
    ("fields", "settle_ms"),
    [
        ({}, FILL_MS),
        ({"state": State.ERROR}, FILL_MS),
        ({"usage": None, "cost": None}, FILL_MS),
        ({"cost": None}, SETTLE_MS),
        ({"finalized": False}, SETTLE_MS),
        ({"finalized": False, "state": State.ERROR}, SETTLE_MS),
        ({"finalized": False, "duration_ms": None}, SETTLE_MS),
    ],
)
def test_a_trace_is_counted_when_it_has_stopped_changing(fields: dict[str, Any], settle_ms: int) -> None:
    known = pending(seen(100, **fields))
    assert not after([seen(99 + settle_ms, **fields)], known).counted
    (counted,) = after([seen(100 + settle_ms, **fields)], known).counted
    assert counted.seen_ms == END_MS + 100, "the delay is until it was first seen"


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": TokenUsage(input=99, output=20)},
        {"cost": Cost(input_usd=0.1, output_usd=0.5)},
        {"tags": {}},
        {"name": None},
        {"metadata": {"mlflow.trace.session": "s"}},
        {"duration_ms": 1},
        {"finalized": False},
    ],
)
def test_every_change_makes_it_wait_again(fields: dict[str, Any]) -> None:
    before, now = seen(0, **fields), seen(SETTLE_MS)
    (waiting,) = after([now], pending(before)).pending
    assert (waiting.first_ms, waiting.changed_ms) == (END_MS, END_MS + SETTLE_MS)
    assert after([seen(SETTLE_MS + FILL_MS)], Known({}, {waiting.trace_id: waiting})).counted


def test_an_old_trace_with_the_mark_is_counted_at_first_sight() -> None:
    assert not after([seen(RETRY_MS - 1)]).counted
    assert after([seen(RETRY_MS)]).counted
    assert after([seen(RETRY_MS, cost=None)]).counted
    assert not after([seen(RETRY_MS, finalized=False)]).counted, "spans can come over OTLP at any time"


def test_running_traces_are_checked_less_and_less_often_and_given_up_after_a_week() -> None:
    running = record(state=State.IN_PROGRESS, duration_ms=None, seen_ms=0)
    known, looks = pending(running), 0
    while True:
        (waiting,) = known.pending.values()
        now = replace(running, seen_ms=waiting.next_ms)
        batch = after([now], known)
        looks += 1
        if batch.abandoned:
            break
        assert FILL_MS <= batch.pending[0].next_ms - now.seen_ms <= LONGEST_BACKOFF_MS
        known = Known({}, {running.trace_id: batch.pending[0]})
    assert now.seen_ms - GIVE_UP_MS in range(LONGEST_BACKOFF_MS + 1)
    assert looks < 1_100
    assert batch.gone == (running.trace_id,)
    assert not batch.counted


def test_a_trace_that_keeps_changing_is_counted_in_the_end() -> None:
    (waiting,) = pending(seen(0)).pending.values()
    changing = seen(GIVE_UP_MS, finalized=False, name="changed again")
    looked_at_before = Known({}, {"tr-1": replace(waiting, next_ms=changing.seen_ms - LOOKED_AT_MS + 1)})
    assert after([changing], looked_at_before).counted


def test_a_long_overdue_check_gives_up_nothing_by_the_clock_alone() -> None:
    """The clock may have jumped. The next check is on time."""
    running = record(state=State.IN_PROGRESS, duration_ms=None, seen_ms=0)
    jumped = replace(running, seen_ms=GIVE_UP_MS)
    (waiting,) = after([jumped], pending(running)).pending
    assert not after([jumped], pending(running)).abandoned
    assert not unseen(list(pending(running).pending.values()), GIVE_UP_MS).abandoned
    assert not after([jumped], Known({}, {"tr-1": waiting})).abandoned, "another pass reads it at the same time"
    in_time = replace(running, seen_ms=waiting.next_ms)
    assert after([in_time], Known({}, {"tr-1": waiting})).abandoned
    assert unseen([waiting], waiting.next_ms).abandoned == (waiting,)
    set_right = replace(running, seen_ms=MINUTE_MS)
    (again,) = after([set_right], Known({}, {"tr-1": waiting})).pending
    assert (again.first_ms, again.next_ms) == (0, MINUTE_MS + FILL_MS)


def test_a_trace_first_seen_by_a_clock_that_was_ahead_settles_by_a_correct_one() -> None:
    (waiting,) = after([seen(7 * 24 * 3_600_000)]).pending or (None,)
    assert waiting is None, "it is final at first sight, by that clock"
    (waiting,) = after([seen(7 * 24 * 3_600_000, finalized=False)]).pending
    known = Known({}, {"tr-1": waiting})
    (waiting,) = after([seen(100, finalized=False)], known).pending
    assert (waiting.first_ms, waiting.changed_ms) == (END_MS + 100, END_MS + 100)
    assert after([seen(100 + SETTLE_MS, finalized=False)], Known({}, {"tr-1": waiting})).counted


def test_a_trace_whose_root_has_a_parent_elsewhere_is_counted_once_it_no_longer_changes() -> None:
    orphan = {"state": State.IN_PROGRESS, "finalized": False}
    known = pending(seen(100, **orphan))
    assert not after([seen(99 + ORPHAN_MS, **orphan)], known).counted
    assert after([seen(100 + ORPHAN_MS, **orphan)], known).counted
    assert not after([seen(100 + ORPHAN_MS, **orphan, duration_ms=None)], known).counted, "it is running"
    changed = pending(seen(ORPHAN_MS - MINUTE_MS, **orphan, tags={}))
    assert not after([seen(100 + ORPHAN_MS, **orphan, tags={})], changed).counted, "it changed a minute ago"


def test_a_trace_that_is_done_with_is_a_duplicate_and_reported_if_it_changed() -> None:
    trace = record()
    counted = Counted(trace.start_ms, group("chatbot", "production", "1.4.0", "support"), Amounts.of(trace))
    known = Known({"tr-1": counted}, {})
    assert after([replace(trace, seen_ms=99, tags={}, name="new")], known) == Batch(duplicates=1)
    failed = replace(trace, state=State.ERROR)
    assert after([failed], known) == Batch(duplicates=1, changed=(change_of(failed, counted),))  # type: ignore[arg-type]  # not None


def test_a_trace_first_seen_after_its_start_is_closed_is_late() -> None:
    trace = seen(RETRY_MS)
    assert after([trace], closed_ms=trace.start_ms).late == 0
    assert after([trace], closed_ms=trace.start_ms + 1).late == 1
    young = seen(0)
    assert after([young], closed_ms=young.start_ms + 1).late == 1
    assert after([trace], pending(young), closed_ms=trace.start_ms + 1).late == 0, "it was seen in time"
    assert after([trace], Known({"tr-1": Counted(0)}, {}), closed_ms=trace.start_ms + 1).late == 0


def test_a_trace_that_is_pending_knows_where_it_belongs() -> None:
    (waiting,) = after([record(state=State.IN_PROGRESS)]).pending
    assert isinstance(waiting, Pending)
    assert (waiting.experiment, waiting.environment, waiting.running) == ("chatbot", "production", True)
