from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mlflow_trace_exporter.domain.growth import Amounts, Counted, change_of
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Horizon, Kind, Pass, Window
from mlflow_trace_exporter.domain.labels import LabelRules, LabelSource
from mlflow_trace_exporter.domain.objectives import Objective, Objectives
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.domain.triage import Batch, Known, Pending
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.ledger.awake import Stage
from mlflow_trace_exporter.ledger.ledger import Ledger, Origin
from mlflow_trace_exporter.ledger.opening import open_ledger
from mlflow_trace_exporter.ledger.place import Place
from mlflow_trace_exporter.metrics.families import LEDGER_RESETS, trace_families
from mlflow_trace_exporter.metrics.model import Cell
from mlflow_trace_exporter.metrics.series import series_totals
from mlflow_trace_exporter.settings.config import Buckets
from tests.support.builders import FAMILIES, METER, increments, record
from tests.support.ledgers import totals

HORIZON = Horizon(1, 2, 3, 0, {Kind.FRESH: Pass(4, 5, Window(6, 7, 8))})
TRACES = Cell("mlflow_traces_total", ("chatbot", "production", 'na"me\\', "日本"))


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    with closing(open_ledger(place)) as opened:
        yield opened


def test_what_is_committed_is_there_after_a_restart(place: Place) -> None:
    trace = record()
    with closing(open_ledger(place)) as ledger:
        assert ledger.horizon() is None
        ledger.commit(HORIZON, Batch(counted=(trace,)), {TRACES: 1})
        ledger.commit(HORIZON, Batch(counted=(record(trace_id="tr-2"),)), {TRACES: 2, Cell("a", ()): 0.5})

    with closing(open_ledger(place)) as again:
        assert again.horizon() == HORIZON
        assert totals(again) == {TRACES: 3, Cell("a", ()): 0.5}
        assert again.known(["tr-1", "tr-3"]) == Known({"tr-1": Counted(trace.start_ms)}, {})


@pytest.mark.parametrize(
    "horizon",
    [
        Horizon.at(1),
        Horizon(1, 2, 3, 4),
        Horizon(1, None, 3, 4, {Kind.CLOSING: Pass(3, 4, Window(4, 5)), Kind.RETIRING: Pass(5, 6, Window(7, 8))}),
    ],
)
def test_every_kind_of_horizon_is_kept(ledger: Ledger, horizon: Horizon) -> None:
    ledger.commit(horizon)
    assert ledger.horizon() == horizon


def test_a_commit_that_fails_leaves_nothing_of_itself(ledger: Ledger) -> None:
    ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 1})
    with pytest.raises(PollError) as caught:
        ledger.commit(replace(HORIZON, fresh_ms=99), Batch(counted=(record(trace_id="tr-2"), record())), {TRACES: 2})
    assert caught.value.reason is Reason.LEDGER
    assert totals(ledger) == {TRACES: 1}
    assert ledger.horizon() == HORIZON
    assert not ledger.known(["tr-2"]).done, "an id must not be stored without its amounts"


def fail_at(table: str, ledger: Ledger, patch: pytest.MonkeyPatch) -> None:
    """Let inserts into a table fail."""
    for name in ("execute", "each"):
        patch.setattr(ledger._db, name, partial(_fail_at, table, getattr(ledger._db, name)))


def _fail_at(table: str, run: Callable[..., None], statement: str, *more: Any) -> None:
    if f"INTO {table} " in statement:
        raise PollError(Reason.LEDGER, "the disk is full")
    run(statement, *more)


@pytest.mark.parametrize("table", ["totals", "groups", "versions", "horizon"])
def test_what_is_in_memory_after_a_commit_that_failed_is_what_the_ledger_has(
    ledger: Ledger, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.totals.adopt(FAMILIES)

    def count(*records: TraceRecord) -> None:
        made = increments(*records)
        active_ms = dict.fromkeys(made.groups, len(records))
        ledger.commit(HORIZON, Batch(counted=records), made.amounts, active_ms, made.first_ms)
        ledger.totals.stage([each for each, at in ledger.totals.groups().items() if at.stage is Stage.HELD], [])

    def in_memory() -> object:
        return ledger.totals.shown(), ledger.totals.groups(), ledger.totals.first_seen()

    count(record())
    before = in_memory()
    more = [record(trace_id="tr-2", start_ms=1), record(trace_id="tr-3", tags={})]
    with monkeypatch.context() as patch:
        fail_at(table, ledger, patch)
        with pytest.raises(PollError):
            count(*more)
    assert in_memory() == before
    count(*more)
    after = in_memory()
    assert after != before
    ledger.totals.adopt(FAMILIES)
    assert in_memory() == after, "so does the ledger"


def test_a_family_with_other_buckets_restarts_and_the_others_continue(ledger: Ledger) -> None:
    assert ledger.totals.adopt(FAMILIES) == []
    duration = Cell("mlflow_trace_duration_seconds", ("chatbot",), "0.05")
    ledger.commit(HORIZON, Batch(counted=(record(),)), {TRACES: 1, duration: 1})
    assert ledger.totals.adopt(FAMILIES) == []
    other = [replace(each, edges=(1.0, 2.0)) if each.name == duration.family else each for each in FAMILIES]
    assert ledger.totals.adopt(other) == [duration.family]
    assert totals(ledger) == {TRACES: 1}


def test_no_series_decreases_when_a_label_is_dropped_and_added_again(place: Place) -> None:
    """The series without the label begin at 0. Those with it return with a new trace, at the values that they had."""
    edges, without = Buckets(), LabelRules(trace_name=False)
    nameless = replace(METER, families=trace_families(edges.duration_seconds, edges.tokens, without), rules=without)
    restarted, shown = [], []
    for number, meter in enumerate((METER, nameless) * 2):
        with closing(open_ledger(place)) as ledger:
            restarted.append(len(ledger.totals.adopt(meter.families)))
            batch = Batch(counted=(record(trace_id=f"tr-{number}"),))
            made = meter.measure(batch, meter.admission(ledger.totals.groups()), ledger.totals.groups())
            active = dict.fromkeys(made.groups, number)
            ledger.commit(HORIZON, batch, made.amounts, active, made.first_ms, made.group_of)
            shown.append(ledger.totals.shown()[TRACES.family])
            held = [group for group, state in ledger.totals.groups().items() if state.stage is Stage.HELD]
            ledger.totals.stage(held, [])
            shown.append(ledger.totals.shown()[TRACES.family])
    named, unnamed = ("chatbot", "production", "1.4.0", "support"), ("chatbot", "production", "1.4.0")
    assert shown == [
        *({named: (0,)}, {named: (1,)}, {unnamed: (0,)}, {unnamed: (1,)}),
        *({named: (1,)}, {named: (2,)}, {unnamed: (1,)}, {unnamed: (2,)}),
    ]
    assert restarted == [0, 12, 0, 0], "only what is told to restart does"


def test_a_family_that_begins_inside_a_group_is_shown_at_0_first(ledger: Ledger) -> None:
    ledger.totals.adopt(FAMILIES[1:])
    made = increments(record())
    before = {cell: amount for cell, amount in made.amounts.items() if cell.family != FAMILIES[0].name}
    ledger.commit(HORIZON, Batch(counted=(record(),)), before, dict.fromkeys(made.groups, 1))
    ledger.totals.stage(made.groups, [])
    assert ledger.totals.adopt(FAMILIES) == []
    version, place = made.groups
    assert {each: state.stage for each, state in ledger.totals.groups().items()} == {
        version: Stage.HELD,
        place: Stage.RELEASED,
    }
    shown = {name: series for name, series in ledger.totals.shown().items() if name != LEDGER_RESETS}
    assert shown == {**series_totals(FAMILIES, before), FAMILIES[0].name: {version.values: (0,)}}, (
        "others stay as they are"
    )
    assert totals(ledger)[Cell(FAMILIES[0].name, made.groups[0].values)] == 0


def test_a_counter_that_applies_to_more_groups_than_before_is_there_at_0(ledger: Ledger) -> None:
    """It must exist before the first event, or its first increments would not be seen."""
    ledger.totals.adopt(FAMILIES)
    made = increments(record(tags={"environment": "staging", "app_version": "1"}))
    ledger.commit(HORIZON, Batch(counted=(record(),)), made.amounts, dict.fromkeys(made.groups, 1))
    slow = Cell("mlflow_trace_slow_total", made.groups[0].values)
    assert slow not in ledger.totals.all()
    edges = Buckets()
    everywhere = Objectives((Objective(environment="*", latency_s=5.0),))
    ledger.totals.adopt(trace_families(edges.duration_seconds, edges.tokens, objectives=everywhere))
    assert ledger.totals.all()[slow] == 0


def test_a_version_is_first_seen_at_its_earliest_start(ledger: Ledger) -> None:
    for starts_ms in ((500,), (700, 300, 600), (400,)):
        traces = [record(trace_id=f"tr-{start_ms}", start_ms=start_ms) for start_ms in starts_ms]
        made = increments(*traces)
        ledger.commit(HORIZON, Batch(counted=tuple(traces)), made.amounts, {}, made.first_ms)
    assert ledger.totals.first_seen() == {("chatbot", "production", "1.4.0"): 300}


def test_groups_of_other_labels_are_forgotten(ledger: Ledger) -> None:
    ledger.totals.adopt(FAMILIES)
    made = increments(record())
    ledger.commit(HORIZON, Batch(counted=(record(),)), made.amounts, dict.fromkeys(made.groups, 1))
    with_team = trace_families((1.0,), (1.0,), LabelRules(extra=(("team", (LabelSource("tag", "team"),)),)))
    assert FAMILIES[0].name in ledger.totals.adopt(with_team)
    assert list(ledger.totals.groups()) == [each for each in made.groups if each.is_place]


WAITING = Pending("tr-9", 700_000, "1", "chatbot", "production", True, 1, 2, 3, 4)


def test_pending_traces_are_kept_until_they_are_done_with(place: Place) -> None:
    with closing(open_ledger(place)) as ledger:
        ledger.commit(HORIZON, Batch(pending=(WAITING,)))
        ledger.commit(HORIZON, Batch(pending=(replace(WAITING, next_ms=30),)))
    with closing(open_ledger(place)) as again:
        assert (again.running(), again.pending()) == ({("chatbot", "production"): 1}, 1)
        assert again.known(["tr-9", "tr-1"]) == Known({}, {"tr-9": replace(WAITING, next_ms=30)})
        assert (again.due(29), again.due(30)) == ([], [replace(WAITING, next_ms=30)])
        again.commit(HORIZON, Batch(counted=(record(trace_id="tr-9"),), gone=("tr-9",)))
        assert (again.running(), again.pending()) == ({}, 0)


def test_traces_that_were_given_up_are_known_and_not_counted(ledger: Ledger) -> None:
    ledger.commit(HORIZON, Batch(abandoned=(WAITING,), gone=("tr-9",)))
    assert ledger.known(["tr-9"]).done == {"tr-9": Counted(WAITING.start_ms)}
    assert not totals(ledger)


def test_a_change_after_the_count_is_remembered(ledger: Ledger) -> None:
    before, after = record(), record(start_ms=5_000_000, usage=TokenUsage(input=7, output=90, cache_read_input=5))
    made = increments(before)
    active_ms = dict.fromkeys(made.groups, 1)
    ledger.commit(HORIZON, Batch(counted=(before,)), made.amounts, active_ms, groups=made.group_of)
    counted = Counted(before.start_ms, made.groups[0], Amounts.of(before))
    assert ledger.known(["tr-1"]).done == {"tr-1": counted}
    change = change_of(after, counted)
    assert change is not None
    ledger.commit(HORIZON, Batch(changed=(change,)))
    assert ledger.known(["tr-1"]).done == {"tr-1": change.after}
    assert change.after.seen is not None, "there are fewer input tokens than were counted"
    assert change_of(after, change.after) is None, "it is reported once"
    assert ledger.counts(Window(0, 10_000_000), BUCKET_MS) == {4_800_000: 1}


def test_known_traces_are_counted_by_their_start(ledger: Ledger) -> None:
    made = [record(trace_id=f"tr-{start_ms}", start_ms=start_ms) for start_ms in (0, 59_999, 60_000, 600_000)]
    ledger.commit(HORIZON, Batch(counted=tuple(made), pending=(WAITING,)))
    assert ledger.counts(Window(0, 800_000), 60_000) == {0: 2, 60_000: 1, 600_000: 1, 660_000: 1}
    assert ledger.counts(Window(60_000, 700_000), BUCKET_MS) == {0: 1, 600_000: 1}


def test_ids_are_forgotten_as_far_as_the_horizon_says_and_not_before(ledger: Ledger) -> None:
    made = [record(trace_id=f"tr-{start_ms}", start_ms=start_ms) for start_ms in (5, 599_999, 600_000)]
    running = replace(WAITING, start_ms=6)
    at = Horizon(0, 10**12, 10**11, 0)
    ledger.commit(at, Batch(counted=tuple(made), pending=(running,)))
    assert set(ledger.known([each.trace_id for each in made]).done) == {"tr-5", "tr-599999", "tr-600000"}
    retired = replace(at, retired_ms=1_200_000)
    ledger.commit(retired)
    assert len(ledger.known([each.trace_id for each in made]).done) == 3, "retired traces are known for a while"
    forgotten = replace(retired, forgotten_ms=600_000)
    ledger.commit(forgotten)
    assert set(ledger.known([each.trace_id for each in made]).done) == {"tr-600000"}
    assert ledger.known(["tr-9"]).pending == {"tr-9": running}, "running traces remain pending"
    assert ledger.retired_counts(Window(0, BUCKET_MS)) == {0: 3}
    ledger.commit(forgotten, Batch(counted=(record(trace_id="tr-9", start_ms=6),), gone=("tr-9",)))
    assert not ledger.known(["tr-9"]).done, "it is not needed again"
    assert ledger.retired_counts(Window(1, 1_200_000)) == {0: 3, 600_000: 1}
    assert ledger.newest_ms() == 600_000


@pytest.mark.parametrize("odd", ["tr-a\0b", "it's", '"', "日本", "x" * 5_000, ""])
def test_unusual_ids_are_supported(ledger: Ledger, odd: str) -> None:
    ledger.commit(HORIZON, Batch(counted=(record(trace_id=odd),)))
    assert ledger.known([odd, "tr-a"]).done.keys() == {odd}


def test_origins_of_experiments_are_kept(ledger: Ledger) -> None:
    ledger.add_origins({"1": Origin(5, 0), "2": Origin(6, 7)})
    assert ledger.origins() == {"1": Origin(5, 0), "2": Origin(6, 7)}
