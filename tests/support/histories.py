"""The invariants, over random histories: the real poller and the real ledger on a simulated MLflow.

A step is something that happens: traces appear, end, change, move, disappear; they are assessed, and the opinions
change; MLflow fails or is away; clocks are wrong, by days and back; the configuration is read again with other
objectives, caps and limits; the ledger is damaged; the process is killed; time passes and a poll is made. After every
step all invariants are checked, and at the end of a history that nothing is lost which the guarantee covers.
"""

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlflow_trace_exporter.counting.release import SeriesSettings
from mlflow_trace_exporter.domain.activity import WINDOWS, Active, Activity, Who
from mlflow_trace_exporter.domain.admission import Caps
from mlflow_trace_exporter.domain.calls import differs, inside
from mlflow_trace_exporter.domain.growth import Amounts
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Horizon, Limits
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.domain.late_spans import differences
from mlflow_trace_exporter.domain.objectives import Objective, Objectives
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.triage import Batch
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.ledger.ledger import Ledger
from mlflow_trace_exporter.ledger.opening import connect, open_ledger
from mlflow_trace_exporter.ledger.place import Place
from mlflow_trace_exporter.metrics.assessments import ASSESSMENT_ERRORS, ASSESSMENTS, SCORES
from mlflow_trace_exporter.metrics.families import ABANDONED, LATE, REOPENED, trace_families
from mlflow_trace_exporter.metrics.meter import Meter
from mlflow_trace_exporter.metrics.model import SUM, Cell
from mlflow_trace_exporter.metrics.status import Snapshot
from mlflow_trace_exporter.settings.config import Buckets
from mlflow_trace_exporter.tracking.features import Feature
from tests.support.builders import CAPS, METER_WITH_ALL, OBJECTIVES, span, step
from tests.support.ledgers import totals_in
from tests.support.rig import DAY_MS, HOUR_MS, IN_MEMORY, INTERVAL_MS, MINUTE_MS, TRACES, Rig, cells
from tests.support.simulated import EPOCH_MS, SimulatedMlflow, unreachable

LIMITS = Limits(
    lateness_ms=30 * MINUTE_MS, audit_horizon_ms=90 * MINUTE_MS, margin_ms=5 * MINUTE_MS, overlap_ms=2 * MINUTE_MS
)
SERIES = SeriesSettings(zero_hold_s=40, ttl_ms=20 * MINUTE_MS)
ORIGIN_MS = EPOCH_MS - HOUR_MS
LONGER = replace(LIMITS, lateness_ms=HOUR_MS, audit_horizon_ms=3 * HOUR_MS)
OBJECTIVES_OF = [
    OBJECTIVES,
    Objectives(),
    Objectives(
        (Objective(environment="*", latency_s=1.0, latency_ratio=0.95),)
    ),  # an edge of the buckets, so that none begin again
]
METER = replace(METER_WITH_ALL, with_active=True)
CAPS_OF = [CAPS, Caps(values=1, series=100_000), Caps(values=200, series=150)]
DAMAGE = ["UPDATE totals SET value = -1", "DROP TABLE done", "UPDATE shapes SET shape = '['"]


def a_meter(objectives: Objectives, caps: Caps) -> Meter:
    """What another configuration makes of traces."""
    edges = Buckets()
    families = trace_families(
        edges.duration_seconds, edges.tokens, objectives=objectives, with_spans=True, score_edges=edges.score
    )
    return replace(METER, families=families, caps=caps, objectives=objectives)


SESSIONS = 7
INPUT_TOKENS = "mlflow_trace_input_tokens_total"
OPINIONS = (ASSESSMENTS, SCORES, ASSESSMENT_ERRORS)
CALL_TOKENS = "mlflow_llm_input_tokens_total"


class Crash(BaseException):
    """A kill -9."""


class Witness:
    """What really was committed and published, over all processes of a history."""

    def __init__(self, mlflow: SimulatedMlflow, place: Place) -> None:
        self.crash_in: tuple[int, bool] | None = None
        self.broken: list[str] = []
        """What did not hold. An exception would be a failed poll to the poller, which continues."""
        self._mlflow = mlflow
        self._place = place
        self.begin()

    def begin(self) -> None:
        """Begin with a ledger that is new."""
        self.counted: Counter[str] = Counter()
        self.starts: dict[str, int] = {}
        self.amounts: dict[str, Amounts] = {}
        self.abandoned: set[str] = set()
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often each call was counted, by trace and span."""
        self.call_tokens: Counter[str] = Counter()
        """Input tokens of calls by trace."""
        self.inside: set[str] = set()
        """Traces whose spans were read."""
        self.opinions: Counter[str] = Counter()
        """How often each assessment was counted, by its id."""
        self.forms: dict[str, int | None] = {}
        """The form in which it was last read."""
        self.told: set[str] = set()
        """Traces that were reported as differing from the sum of their calls."""
        self.active: dict[Activity, set[int]] = {}
        """The sessions and users that were counted, by their hashes."""
        self.exposed: dict[Cell, float] = {}
        self.closed_ms = ORIGIN_MS

    def about_to_commit(self) -> None:
        self._crash(after=False)

    def committed(self, horizon: Horizon, batch: Batch, active: Active) -> None:
        for activity, hashes in active.items():
            self.active.setdefault(activity, set()).update(hashes)
        self.counted.update(record.trace_id for record in batch.counted)
        self.starts.update({record.trace_id: record.start_ms for record in batch.counted})
        self.starts.update({each.record.trace_id: each.after.start_ms for each in batch.changed})
        self.amounts.update({record.trace_id: Amounts.of(record) for record in batch.counted})
        self.amounts.update({each.record.trace_id: each.after.amounts for each in batch.changed if each.after.amounts})
        self.abandoned.update(each.trace_id for each in batch.abandoned)
        self._look_inside(batch)
        for each in batch.assessed:
            self.opinions.update(added.assessment.assessment_id for added in each.added if added.assessment.valid)
            self.forms.update(each.forms)
        if horizon.closed_ms > self.closed_ms and self._mlflow.clocks().earliest_ms <= self._mlflow.clock_ms:
            edge_ms = self._mlflow.clock_ms - LIMITS.lateness_ms
            self._require(horizon.closed_ms <= edge_ms, "invariant 7: closed before its end + L")
        nothing_is_read = horizon == Horizon.at(horizon.origin_ms)
        is_open_as_told = horizon.closed_ms >= self.closed_ms or batch.reopened or nothing_is_read
        self._require(bool(is_open_as_told), "invariant 7: opened again, and not told")
        self.closed_ms = horizon.closed_ms
        self._crash(after=True)

    def _look_inside(self, batch: Batch) -> None:
        parts = [(record, record.inside) for record in batch.counted if record.inside is not None]
        parts += [(each.record, each.late) for each in batch.changed if each.late is not None]
        for record, found in parts:
            self.calls.update((record.trace_id, call.span_id) for call in found.calls if call.duration_s is not None)
            self.call_tokens[record.trace_id] += sum(call.usage.input or 0 for call in found.calls if call.usage)
        self.told.update(
            record.trace_id
            for record in batch.counted
            if record.inside is not None and "tokens" in differs(record.usage, record.cost, record.inside.calls)
        )
        self.told.update(each.record.trace_id for each in batch.changed if "tokens" in differences(each))
        self.inside.update(record.trace_id for record, _ in parts)

    def published(self, snapshot: Snapshot) -> None:
        committed = totals_in(self._place)
        exposed = cells(snapshot)
        for cell, value in exposed.items():
            key = (cell.family, _dumped(cell.labels), cell.part)
            self._require(value <= committed[key], "invariant 5: exposed and not committed")
            self._require(value >= self.exposed.get(cell, 0), "invariant 4: decreased")
        self.exposed.update(exposed)  # what sleeps comes back with no less

    def _require(self, holds: bool, invariant: str) -> None:
        if not holds:
            self.broken.append(invariant)

    def _crash(self, after: bool) -> None:
        if self.crash_in is None:
            return
        commits, crash_after = self.crash_in
        if commits == 0 and after == crash_after:
            self.crash_in = None
            raise Crash
        if after:
            self.crash_in = (max(0, commits - 1), crash_after)


def _dumped(labels: tuple[str, ...]) -> str:
    return "[" + ",".join(f'"{label}"' for label in labels) + "]"


class WitnessedLedger(Ledger):
    """A ledger that lets a witness look on."""

    def __init__(self, place: Place, witness: Witness) -> None:
        super().__init__(connect(place))
        self._witness = witness

    def commit(self, horizon: Horizon, batch: Batch | None = None, *more: Any) -> None:
        self._witness.about_to_commit()
        super().commit(horizon, batch, *more)
        *_, active = more or ({},)
        self._witness.committed(horizon, batch or Batch(), active)


class WitnessedRig(Rig):
    """A rig that lets a witness look on."""

    def __init__(self, mlflow: SimulatedMlflow, place: Place) -> None:
        self.witness = Witness(mlflow, place)
        super().__init__(mlflow, place, origin_ms=ORIGIN_MS, limits=LIMITS, series=SERIES, meter=METER)

    def start(self, _: Callable[[Place], Ledger] = open_ledger) -> None:
        super().start(lambda place: WitnessedLedger(place, self.witness))

    def publish(self, snapshot: Snapshot) -> None:
        self.witness.published(snapshot)
        super().publish(snapshot)


AGES_MS = st.integers(0, 20 * MINUTE_MS)
SHORT_MS = st.integers(0, 5 * MINUTE_MS)
DELAYS_MS = st.one_of(
    st.just(0),
    SHORT_MS,
    st.integers(0, LIMITS.lateness_ms),
    st.integers(LIMITS.lateness_ms, LIMITS.audit_horizon_ms),
    st.integers(LIMITS.audit_horizon_ms, 3 * LIMITS.audit_horizon_ms),
)
ERRORS_MS = st.sampled_from([0, 0, 7 * DAY_MS, DAY_MS, HOUR_MS, 3 * MINUTE_MS, -3 * MINUTE_MS, -HOUR_MS, -3 * DAY_MS])
TIMES_MS = st.sampled_from([1, 1_000, INTERVAL_MS, INTERVAL_MS, MINUTE_MS, 3 * MINUTE_MS, 11 * MINUTE_MS, HOUR_MS])


class History(RuleBasedStateMachine):
    """See the module."""

    steps: ClassVar[int] = 0
    found: ClassVar[Counter[str]] = Counter()
    """What the histories held, to see that they are not all the same."""

    traces: Bundle[str] = Bundle("traces")

    def new_place(self, directory: Path) -> Place:
        """Where the ledger of a history is."""
        return directory / "ledger.db"

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.place = self.new_place(Path(self._directory.name))
        self.mlflow = SimulatedMlflow(page_size=3)
        self.mlflow.before_request = self._before_request
        self.rig = WitnessedRig(self.mlflow, self.place)
        self.down = False
        self.races: list[Callable[[], object]] = []
        self.stirred: set[int] = set()
        """Buckets in which traces were deleted or moved: there the audit's counts do not say which."""
        self.moved_ms: dict[str, int] = {}
        self.grown_ms: dict[str, int] = {}
        self.doubtful = False
        """Whether what is closed may lack what became visible while both clocks were ahead: the latest start that is
        counted does not tell when that was, because an application's clock was ahead, too."""
        self.overtaken = False
        """Whether start times may have been retired too early, and nobody can know: both clocks were ahead, and the
        next poll came when that time had really come. What is closed is doubtful then, too."""
        self.damaged = False
        self.by_page_number = False
        """Whether a full millisecond was perhaps read by page number: one of its traces is then read late if another is
        deleted or moved at that time, see Feature.NOT_IN."""
        self.edits: Counter[str] = Counter()
        """How often each assessment was edited."""
        self.passed_ms = 0
        """The latest time that both the clocks and a counted start have reached: what was in no window then is
        forgotten."""
        self.fewer: set[int] = set()
        """The forms of which there were fewer at some time: MLflow's counts do not show one that comes elsewhere."""

    def _before_request(self, _: int) -> None:
        if self.down:
            raise unreachable()
        if self.races:
            self.races.pop()()

    @rule(
        target=traces,
        ago_ms=AGES_MS,
        ran_ms=SHORT_MS,
        delay_ms=DELAYS_MS,
        error=st.booleans(),
        environment=st.sampled_from(["production", "staging", "canary"]),
        odd=st.sampled_from(["", "", "it's", "a\0b", "日本 "]),
    )
    def a_trace_that_has_ended(
        self, ago_ms: int, ran_ms: int, delay_ms: int, error: bool, environment: str, odd: str
    ) -> str:
        state = State.ERROR if error else State.OK
        more = {"environment": environment, "odd": odd}
        return self._trace(ago_ms + ran_ms, ran_ms, state, delay_ms, finalized=True, **more)

    @rule(target=traces, ago_ms=SHORT_MS, ran_ms=SHORT_MS)
    def a_trace_whose_root_has_a_parent_elsewhere(self, ago_ms: int, ran_ms: int) -> str:
        return self._trace(ago_ms + ran_ms, ran_ms, State.IN_PROGRESS, 0, finalized=False)

    @rule(target=traces, ago_ms=SHORT_MS, delay_ms=DELAYS_MS)
    def a_trace_over_otlp(self, ago_ms: int, delay_ms: int) -> str:
        return self._trace(ago_ms, 1_000, State.OK, delay_ms, finalized=False)

    @rule(target=traces, ago_ms=SHORT_MS)
    def a_trace_that_runs(self, ago_ms: int) -> str:
        return self._trace(ago_ms, None, State.IN_PROGRESS, 0, finalized=False)

    @rule(target=traces, ahead_ms=st.sampled_from([1, MINUTE_MS, HOUR_MS, DAY_MS]))
    def a_trace_of_a_clock_that_is_ahead(self, ahead_ms: int) -> str:
        return self._trace(-ahead_ms, 1_000, State.OK, 0, finalized=True)

    @rule(target=traces, count=st.integers(2, 10), ago_ms=SHORT_MS)
    def traces_in_one_millisecond(self, count: int, ago_ms: int) -> Any:
        return multiple(*(self._trace(ago_ms, 0, State.OK, 0, finalized=True) for _ in range(count)))

    @rule(trace=traces, ran_ms=SHORT_MS, error=st.booleans())
    def one_ends_or_ends_otherwise(self, trace: str, ran_ms: int, error: bool) -> None:
        if trace in self.mlflow.traces:
            record = self.mlflow.traces[trace]
            state = State.ERROR if error else State.OK
            self.mlflow.change(record, state=state, duration_ms=max(self.mlflow.clock_ms - record.start_ms, ran_ms))

    @rule(trace=traces, tokens=st.integers(0, 1_000), finalized=st.booleans())
    def one_changes(self, trace: str, tokens: int, finalized: bool) -> None:
        if trace in self.mlflow.traces:
            usage = TokenUsage(input=tokens, output=1)
            self.mlflow.change(self.mlflow.traces[trace], usage=usage, finalized=finalized)
            self.grown_ms[trace] = self.mlflow.clock_ms

    @rule(trace=traces, calls=st.integers(0, 3), of_agent=st.booleans(), told=st.booleans())
    def spans_arrive(self, trace: str, calls: int, of_agent: bool, told: bool) -> None:
        """Calls below the first span, or below an agent whose sum may be theirs. If ``told``, the trace has its sum."""
        if trace not in self.mlflow.traces:
            return
        before = self.mlflow.spans_of.get(trace, ())
        first = 10 + len(before)
        agent = step(1, span_type="AGENT", usage=TokenUsage(input=first, output=1)) if of_agent and not before else None
        more = [span(first + at, 1, usage=TokenUsage(first, int(not (before or at))), cost=None) for at in range(calls)]
        self.mlflow.spans_of[trace] = (*before, *filter(None, [agent]), *more, step(first + calls))
        if told:
            found = inside(self.mlflow.spans_of[trace]).calls
            self.one_changes(trace, sum(call.usage.input or 0 for call in found if call.usage), False)

    @rule(trace=traces)
    def spans_are_lost(self, trace: str) -> None:
        self.mlflow.spans_of.pop(trace, None)

    @rule(trace=traces, name=st.sampled_from("abc"), value=st.sampled_from(["yes", "no", 0.5, 0.75, None]))
    def one_is_assessed(self, trace: str, name: str, value: str | float | None) -> None:
        if trace in self.mlflow.traces:
            self.mlflow.assess(self.mlflow.traces[trace], name, value, failed=value is None)

    @rule(trace=traces, value=st.sampled_from(["yes", "no", 0.5]), how=st.sampled_from(["edit", "override", "delete"]))
    def an_opinion_changes(self, trace: str, value: str | float, how: str) -> None:
        record = self.mlflow.traces.get(trace)
        if record is None or not record.assessments or not record.assessments[-1].valid:
            return
        *others, last = record.assessments
        self.fewer.add(last.form)
        if how == "edit":
            self.edits[last.assessment_id] += 1
            self.mlflow.assess(record, last.name, value, assessment_id=last.assessment_id)
        elif how == "override":
            self.mlflow.override(record, last.assessment_id, value)
        else:
            self.mlflow.change(record, assessments=tuple(others))

    @rule(trace=traces, by_ms=st.integers(-4 * MINUTE_MS, 4 * MINUTE_MS))
    def one_moves(self, trace: str, by_ms: int) -> None:
        self._move(trace, by_ms)

    @rule(trace=consumes(traces))
    def one_is_deleted(self, trace: str) -> None:
        self._delete(trace)

    @rule(trace=consumes(traces))
    def one_is_deleted_between_two_pages(self, trace: str) -> None:
        self.races.append(lambda: self._delete(trace))

    @rule(trace=traces, by_ms=st.integers(-4 * MINUTE_MS, 4 * MINUTE_MS))
    def one_moves_between_two_pages(self, trace: str, by_ms: int) -> None:
        self.races.append(lambda: self._move(trace, by_ms))

    @rule(ago_ms=AGES_MS)
    def one_appears_between_two_pages(self, ago_ms: int) -> None:
        self.races.append(lambda: self._trace(ago_ms, 0, State.OK, 0, finalized=True))

    @rule(requests=st.integers(1, 4), internal=st.booleans())
    def a_request_fails(self, requests: int, internal: bool) -> None:
        error = ZeroDivisionError() if internal else PollError(Reason.BAD_ANSWER, "garbage")
        self.mlflow.fail_at_request[self.mlflow.requests + requests] = error

    @rule()
    def mlflow_goes_away_or_comes_back(self) -> None:
        self.down = not self.down

    @rule(error_ms=ERRORS_MS)
    def our_clock_is_wrong_or_right(self, error_ms: int) -> None:
        if self.mlflow.server_error_ms == 0:
            self.mlflow.own_error_ms = error_ms

    @rule(error_ms=ERRORS_MS)
    def mlflow_s_clock_is_wrong_or_right(self, error_ms: int) -> None:
        if self.mlflow.own_error_ms == 0:
            self.mlflow.server_error_ms = error_ms

    @rule(error_ms=ERRORS_MS, polls=st.integers(1, 4), every_ms=st.sampled_from([1_000, INTERVAL_MS, MINUTE_MS]))
    def both_clocks_are_wrong_for_some_polls(self, error_ms: int, polls: int, every_ms: int) -> None:
        before = self.mlflow.own_error_ms, self.mlflow.server_error_ms
        self.mlflow.own_error_ms = self.mlflow.server_error_ms = error_ms
        for _ in range(polls):
            self._tick(every_ms)
        self.mlflow.own_error_ms, self.mlflow.server_error_ms = before
        self.doubtful |= any(record.start_ms > self.mlflow.clock_ms for record in self.mlflow.traces.values())

    @rule(
        objectives=st.sampled_from(OBJECTIVES_OF),
        caps=st.sampled_from(CAPS_OF),
        limits=st.sampled_from([LIMITS, LONGER]),
        ttl_ms=st.sampled_from([20 * MINUTE_MS, DAY_MS]),
        restarts=st.booleans(),
    )
    def the_configuration_is_read_again(
        self, objectives: Objectives, caps: Caps, limits: Limits, ttl_ms: int, restarts: bool
    ) -> None:
        if restarts:
            self.rig.restart()
        self.rig.reload(a_meter(objectives, caps), limits=limits, series=replace(SERIES, ttl_ms=ttl_ms))

    @precondition(lambda self: not self.damaged and isinstance(self.place, Path))  # a database is not set aside
    @rule(damage=st.sampled_from(DAMAGE))
    def the_ledger_is_damaged(self, damage: str) -> None:
        self.damaged, self.rig.witness.crash_in = True, None
        self.rig.ledger.close()
        with closing(sqlite3.connect(self.rig.path)) as db, db:
            db.execute(damage)
        self.rig.witness.begin()
        self.rig.start()

    @rule(lacks=st.sets(st.sampled_from(Feature)))
    def mlflow_is_replaced_by_another_version(self, lacks: set[Feature]) -> None:
        self.mlflow.lacks = lacks
        self.by_page_number |= Feature.NOT_IN in lacks

    @rule(commits=st.integers(0, 5), after=st.booleans())
    def a_kill_is_to_come(self, commits: int, after: bool) -> None:
        self.rig.witness.crash_in = (commits, after)

    @rule()
    def a_restart(self) -> None:
        before, sessions = self.rig.published[-1], self._sessions()
        self.rig.restart()
        after = self.rig.published[-1]
        assert cells(after) == cells(before), "what was in memory was not what the ledger has"
        assert after.active_ms == before.active_ms
        assert self._first_seen_s(after) == self._first_seen_s(before)
        assert self._sessions() == sessions

    @rule(after_ms=TIMES_MS)
    def a_poll(self, after_ms: int) -> None:
        self._tick(after_ms)

    @rule(count=st.integers(2, 8), every_ms=TIMES_MS)
    def some_polls(self, count: int, every_ms: int) -> None:
        for _ in range(count):
            self._tick(every_ms)

    @rule(after_ms=TIMES_MS)
    def some_time_without_a_poll(self, after_ms: int) -> None:
        self._after(after_ms, self.rig.wait)

    def _first_seen_s(self, snapshot: Snapshot) -> Any:
        return snapshot.status.reading and snapshot.status.reading.first_seen_s

    def _tick(self, after_ms: int) -> None:
        self._after(after_ms, self.rig.tick)

    def _after(self, after_ms: int, happens: Callable[[int], object]) -> None:
        horizon, now_ms, then_ms = self._horizon(), self.mlflow.clock_ms, self.mlflow.clock_ms + after_ms
        self.doubtful |= now_ms < horizon.closed_ms + LIMITS.lateness_ms <= then_ms
        self.overtaken |= now_ms < horizon.retired_ms + LIMITS.audit_horizon_ms <= then_ms
        try:
            happens(after_ms)
        except Crash:
            self.found["killed"] += 1
            self.rig.restart()
        newest_ms = max(self.rig.witness.starts.values(), default=0)
        self.passed_ms = max(self.passed_ms, min(self.mlflow.clocks().earliest_ms, newest_ms))

    def _trace(self, ago_ms: int, ran_ms: int | None, state: State, delay_ms: int, finalized: bool, **more: str) -> str:
        start_ms = self.mlflow.clock_ms - EPOCH_MS - ago_ms
        trace = self.mlflow.trace(start_ms, ran_ms, state, finalized, delay_ms, **more)
        self.mlflow.change(trace, session=f"session {len(self.mlflow.traces) % SESSIONS}")
        if len(self.mlflow.traces) % 3:  # the spans of the others come later, or never
            self.mlflow.spans_of[trace.trace_id] = (span(1, usage=trace.usage, cost=trace.cost),)
        return trace.trace_id

    def _move(self, trace: str, by_ms: int) -> None:
        record = self.mlflow.traces.get(trace)
        if record is None:
            return
        self.stirred.update({_bucket(record.start_ms), _bucket(record.start_ms + by_ms)})
        self.fewer.update(each.form for each in record.assessments)
        self.mlflow.change(record, start_ms=record.start_ms + by_ms)
        self.moved_ms[trace] = self.mlflow.clock_ms

    def _delete(self, trace: str) -> None:
        record = self.mlflow.traces.pop(trace, None)
        if record is not None:
            self.stirred.add(_bucket(record.start_ms))
            self.fewer.update(each.form for each in record.assessments)

    def _covered(self, record: TraceRecord, within_ms: int) -> bool:
        """Whether a trace keeps the conditions of the guarantee: there to see, at its place, in time."""
        there_ms = max(self.mlflow.visible_ms[record.trace_id], self.moved_ms.get(record.trace_id, 0))
        return record.start_ms >= ORIGIN_MS and there_ms <= min(record.start_ms + within_ms, self.mlflow.clock_ms)

    @invariant()
    def one_and_two_every_id_contributes_once(self) -> None:
        type(self).steps += 1
        witness = self.rig.witness
        assert all(count == 1 for count in witness.counted.values()), "invariant 2"
        committed = self.rig.ledger.totals.all()
        total = sum(value for cell, value in committed.items() if cell.family == TRACES)
        assert total == len(witness.counted), "invariant 1"
        tokens = sum(value for cell, value in committed.items() if cell.family == INPUT_TOKENS)
        assert tokens == sum(amounts.input or 0 for amounts in witness.amounts.values()), "growth is added once"

    @invariant()
    def nine_calls_add_up_or_it_is_told(self) -> None:
        witness, committed = self.rig.witness, self.rig.ledger.totals.all()
        assert all(count == 1 for count in witness.calls.values()), "a call is counted twice"
        tokens = sum(value for cell, value in committed.items() if cell.family == CALL_TOKENS)
        assert tokens == sum(witness.call_tokens.values())
        for trace_id in witness.inside - witness.told:
            input_tokens = witness.amounts[trace_id].input
            assert input_tokens in (None, witness.call_tokens[trace_id]), "invariant 9"

    @invariant()
    def ten_every_assessment_contributes_once(self) -> None:
        witness, committed = self.rig.witness, self.rig.ledger.totals.all()
        assert all(number <= 1 + self.edits[each] for each, number in witness.opinions.items()), "invariant 10"
        counted = [cell for cell in committed if cell.family in OPINIONS and cell.part != SUM]
        assert sum(committed[cell] for cell in counted) == witness.opinions.total(), "invariant 10: the sum"

    @invariant()
    def eleven_every_session_counts_once_in_a_window(self) -> None:
        """Few enough to be counted exactly."""
        found, active = self._sessions(), self.rig.witness.active
        for (*place, name), number in found.items():
            (window,) = [each for each in WINDOWS if each.name == name]
            starts, kept_ms = window.starts(self.mlflow.clock_ms), window.starts(self.passed_ms)[0]
            counted: dict[int, set[int]] = {}
            for activity, hashes in active.items():
                at_ms = window.period(activity.hour_ms)
                if (activity.who, activity.place) == (Who.SESSION, tuple(place)) and at_ms in starts:
                    counted.setdefault(at_ms, set()).update(hashes)
            least = set().union(*(hashes for at_ms, hashes in counted.items() if at_ms >= kept_ms))
            assert len(least) <= number <= len(set().union(*counted.values())), "invariant 11"

    def _sessions(self) -> Mapping[LabelValues, int]:
        """How many sessions are active in each place that ever had one, and in each window."""
        places = {activity.place for activity in self.rig.witness.active}
        return self.rig.ledger.active.counts(Who.SESSION, places, self.mlflow.clock_ms)

    @invariant()
    def three_what_is_closed_is_known(self) -> None:
        horizon = self._horizon()
        if horizon.closed_ms > self.mlflow.clock_ms - LIMITS.lateness_ms:
            return  # both clocks were ahead, and no poll has noticed yet that they are right
        pending = self.rig.ledger.known(list(self.mlflow.traces)).pending.keys()
        known = self.rig.witness.counted.keys() | pending | self.rig.witness.abandoned
        for record in self.mlflow.traces.values():
            if self.by_page_number and _bucket(record.start_ms) in self.stirred:
                continue
            if record.start_ms < horizon.closed_ms and self._covered(record, LIMITS.lateness_ms) and not self.doubtful:
                assert record.trace_id in known, "invariant 3: closed, and not known"
            if (
                record.start_ms < horizon.retired_ms
                and self._covered(record, LIMITS.audit_horizon_ms)
                and not self.overtaken
            ):
                assert record.trace_id in known, "invariant 3: retired, and not known"

    @invariant()
    def six_nothing_is_pruned_that_could_be_read_again(self) -> None:
        horizon, witness = self._horizon(), self.rig.witness
        assert horizon.retired_ms <= horizon.closed_ms
        assert all(each.window.lo_ms >= horizon.retired_ms for each in horizon.under_way.values())
        kept = [trace_id for trace_id in witness.counted if witness.starts[trace_id] >= horizon.retired_ms]
        assert set(kept) <= self.rig.ledger.known(kept).done.keys(), "invariant 6"

    @invariant()
    def four_five_and_seven_held_at_each_commit(self) -> None:
        assert self.rig.witness.broken == []

    @invariant()
    def eight_buckets_agree_with_the_counter(self) -> None:
        family = "mlflow_trace_duration_seconds"
        shown = cells(self.rig.published[-1])
        observed = sum(value for cell, value in shown.items() if cell.family == family and cell.part != SUM)
        assert observed == self.rig.traces

    def _horizon(self) -> Horizon:
        return self.rig.ledger.horizon() or Horizon.at(ORIGIN_MS)

    def teardown(self) -> None:
        """Let everything come right, and see that what the guarantee covers is counted, and what is lost is told."""
        try:
            self.rig.witness.crash_in, self.down, self.races = None, False, []
            self.mlflow.own_error_ms = self.mlflow.server_error_ms = 0
            self.mlflow.lacks -= {Feature.TRACE_METRICS, Feature.ASSESSMENT_METRICS}
            self.mlflow.fail_at_request.clear()
            self.rig.reload(limits=LIMITS)  # so that all of this is retired in the end
            for every_ms in 30 * [5 * MINUTE_MS] + 15 * [MINUTE_MS]:  # the last for every kind of audit
                self._tick(every_ms)
                self.three_what_is_closed_is_known()
            self.one_and_two_every_id_contributes_once()
            self.four_five_and_seven_held_at_each_commit()
            self._nothing_is_lost()
            self._no_assessment_is_lost()
        finally:
            self.rig.ledger.close()
            self._directory.cleanup()

    def _nothing_is_lost(self) -> None:
        counted, amounts, horizon = self.rig.witness.counted, self.rig.witness.amounts, self._horizon()
        for record in self.mlflow.visible():
            ended = record.state is not State.IN_PROGRESS
            covered = self._covered(record, LIMITS.audit_horizon_ms) and not self.overtaken
            if ended and covered and record.start_ms < horizon.closed_ms:
                assert record.trace_id in counted, "lost"
            in_time = self.grown_ms.get(record.trace_id, 0) <= record.start_ms + LIMITS.audit_horizon_ms
            if covered and in_time and record.start_ms < horizon.retired_ms and record.trace_id in amounts:
                assert (amounts[record.trace_id].input or 0) >= (Amounts.of(record).input or 0), "growth is lost"
        lost = [
            record
            for record in self.mlflow.visible()
            if record.trace_id not in counted
            and ORIGIN_MS <= record.start_ms < horizon.retired_ms
            and record.state is not State.IN_PROGRESS
        ]
        watched_ms = horizon.retired_ms - LIMITS.audit_horizon_ms + BUCKET_MS
        audited_ms = self.mlflow.clock_ms - 12 * MINUTE_MS
        watched = [
            each
            for each in lost
            if each.start_ms >= watched_ms
            and _bucket(each.start_ms) not in self.stirred
            and self.mlflow.visible_ms[each.trace_id] < audited_ms
        ]
        if watched:
            assert (self.rig.reading.unaccounted or 0) > 0, "invariant 8: lost, and not told"
        self.found.update(
            {
                "histories": 1,
                "counted": len(counted),
                "late": int(self.rig.total(LATE)),
                "lost beyond D, and told": len(watched),
                "abandoned": int(self.rig.total(ABANDONED)),
                "opened again": int(self.rig.total(REOPENED)),
                "damaged": int(self.damaged),
                "with spans": len(self.rig.witness.inside),
                "differing": len(self.rig.witness.told),
            }
        )

    def _no_assessment_is_lost(self) -> None:
        witness, horizon = self.rig.witness, self._horizon()
        for record in self.mlflow.visible():
            is_covered = record.start_ms >= max(ORIGIN_MS, horizon.assessed_ms) and record.trace_id in witness.counted
            for each in record.assessments if is_covered else ():
                if each.valid and each.form not in self.fewer:
                    assert witness.forms.get(each.assessment_id) == each.form, "an assessment is lost"
        self.found["assessments"] += witness.opinions.total()


def _bucket(ms: int) -> int:
    return ms // BUCKET_MS * BUCKET_MS


def explore(histories: int, steps: int, seed: int | None = None, machine: type[History] = History) -> None:
    """Try so many random histories of at most so many steps; fails with the shortest one that breaks an invariant.

    The same modules and the same ``seed`` make the same histories; with None they are others each time.
    """
    run_state_machine_as_test(
        machine if seed is None else hypothesis.seed(seed)(machine),
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
