"""Is every protection tested? Takes each out in a copy of the project and runs the test that must fail then.

    make breakages                  all of them, some minutes
    make breakages ARGS="audit"     those with a word in their name

Exit code 1 if a test stays green without the protection, or if the code has changed so that a breakage no longer fits.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import PROJECT

PACKAGE = Path("exporter", "mlflow_trace_exporter")


@dataclass(frozen=True)
class Breakage:
    """Replace ``old`` by ``new`` in ``file``, of the package or the project; then one of ``tests`` (as pytest selects
    them) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    @property
    def path(self) -> Path:
        """The file, from the top of the project on."""
        return next(each for each in (PACKAGE / self.file, Path(self.file)) if (PROJECT / each).exists())

    def fits(self) -> bool:
        """Whether there is one place to break."""
        return (PROJECT / self.path).read_text(encoding="utf-8").count(self.old) == 1


ACTIVE = "tests/unit/counting/test_active.py"
FAULTS = "tests/unit/counting/test_faults.py"
MANY = "tests/unit/bundled/test_many_applications.py"
HORIZON = "tests/unit/domain/test_horizon.py"
ADMISSION = "tests/unit/domain/test_admission.py"
INVARIANTS = "tests/unit/counting/test_invariants.py"
LEDGER = "tests/unit/counting/test_ledger.py"
POLLER = "tests/unit/counting/test_poller.py"
RECENT = "tests/unit/counting/test_recent.py"
GROWTH = "tests/unit/domain/test_growth.py"
RELEASE = "tests/unit/counting/test_release.py"
WEB = "tests/integration/test_web.py"
HISTORY = "tests/unit/reports/test_history.py"
REPORT = "tests/integration/test_report.py"
PAGE = "tests/unit/reports/test_html_report.py"
TIMELINE = "tests/unit/reports/test_timeline.py"
HEALTH = "tests/integration/test_health.py"
CLI = "tests/integration/test_cli.py"
API = "tests/unit/reports/test_api.py"
TRIAGE = "tests/unit/domain/test_triage.py"
LABELS = "tests/unit/domain/test_labels.py"
NAMES = "tests/integration/test_names.py"
PATTERNS = "tests/unit/domain/test_patterns.py"
QUERY = "tests/unit/tracking/test_query.py"
SOURCE = "tests/integration/test_source.py"
RECORDS = "tests/unit/tracking/test_parsing.py"
CALLS = "tests/unit/domain/test_calls.py"
SPANS = "tests/unit/tracking/test_span_parsing.py"
SPAN_SOURCE = "tests/unit/tracking/test_span_source.py"
INSIDE = "tests/unit/counting/test_spans.py"
LATE_INSIDE = "tests/unit/counting/test_late_spans.py"
LATE_SPANS = "tests/unit/domain/test_late_spans.py"
ASSESSED = "tests/unit/domain/test_assessed.py"
ASSESSED_PAGE = "tests/unit/web/test_assessed.py"
OPINIONS = "tests/unit/reports/test_opinions.py"
COMMANDS = "tests/integration/test_assessment_commands.py"
LATE_ASSESSMENTS = "tests/unit/counting/test_assessments.py"
ANSWERS = "tests/unit/tracking/test_source.py"
SCANNING = "tests/unit/tracking/test_scanning.py"
SLICES = "tests/unit/tracking/test_slices.py"
BOUNDED = "tests/unit/tracking/test_bounded.py"
SHOWN = "tests/unit/test_shown.py"
AUTH = "tests/unit/web/test_auth.py"
STARTUP = "tests/integration/test_startup.py"
SERVE = "tests/integration/test_serve.py"
REAL_FAULTS = "tests/integration/test_faults.py"
RULES = "tests/unit/bundled/test_rules.py"
ALERTS = "tests/e2e/test_alerts.py"
RECORDING = "prometheus/rules/mlflow-recording.yml"
ON_TRACES = "prometheus/rules/mlflow-alerts.yml"
ON_QUALITY = "prometheus/rules/mlflow-quality.yml"
ON_EXPORTER = "prometheus/rules/mlflow-exporter-alerts.yml"

OFFSET_PAGING = """\
        tokens = None
        while True:
            found = self._begin_search(window, terms, tokens=tokens).answer()
            if records := found.records():
                yield Page(records, records[-1].start_ms)
            tokens = found.tokens
            if not tokens:
                return
"""

BREAKAGES = (
    Breakage(
        "close early",
        "domain/horizon.py",
        "done.started_ms - visible_within_ms - limits.margin_ms",
        "done.started_ms",
        f"{HORIZON} {INVARIANTS}",
    ),
    Breakage(
        "close over a gap",
        "domain/horizon.py",
        "if done.from_ms <= closed_ms:",
        "if True:",
        HORIZON,
    ),
    Breakage(
        "close after a pass by end time",
        "domain/horizon.py",
        "if done.window.ended_after_ms is None:",
        "if True:",
        HORIZON,
    ),
    Breakage(
        "take the end of a pass for its start",
        "domain/horizon.py",
        "ended_after_ms is None):\n        return horizon\n",
        "ended_after_ms is None):\n"
        "        return _with(horizon, kind, replace(cut_short, started_ms=now.earliest_ms))\n",
        HORIZON,
    ),
    Breakage(
        "a pass goes on where ids are forgotten",
        "domain/horizon.py",
        "max(window.lo_ms, retired_ms)",
        "window.lo_ms",
        HORIZON,
    ),
    Breakage(
        "forget ids as soon as their start is retired",
        "domain/horizon.py",
        "retired_ms - BUCKET_MS))",
        "retired_ms))",
        HORIZON,
    ),
    Breakage(
        "go on by end time on a server that cannot",
        "domain/horizon.py",
        "if cut_short and (end_filter or cut_short.window.ended_after_ms is None):",
        "if cut_short:",
        HORIZON,
    ),
    Breakage(
        "take nothing selected for nothing there",
        "counting/reader.py",
        "        if not self._experiments:  # like",
        "        if False:  # like",
        f"{FAULTS} -k nothing_selected",
    ),
    Breakage(
        "stop a pass inside of a millisecond",
        "counting/reader.py",
        "(moves_on and deadline_s is not None",
        "(deadline_s is not None",
        f"{FAULTS} -k full_millisecond",
    ),
    Breakage(
        "take what is not selected for deleted",
        "counting/reader.py",
        "return pending.experiment_id in self._experiments and ",
        "return ",
        f"{FAULTS} -k bin",
    ),
    Breakage(
        "quote what cannot be quoted",
        "tracking/filters.py",
        "_ODD.sub(_numbered, trace_id)",
        "trace_id",
        f"{SOURCE} -k any_id",
    ),
    Breakage(
        "count from now by a clock that is ahead",
        "counting/reader.py",
        "if self._horizon == Horizon.at(self._horizon.origin_ms) and self._horizon.origin_ms > now.earliest_ms:",
        "if False:",
        f"{FAULTS} -k counting_from_now",
    ),
    Breakage(
        "count from now again by a clock that is behind",
        "counting/reader.py",
        "if self._horizon == Horizon.at(self._horizon.origin_ms) and ",
        "if ",
        f"{FAULTS} -k was_before",
    ),
    Breakage(
        "read an experiment before it is known",
        "tracking/source.py",
        "        if self._selection is None:\n            self.experiments()\n",
        "        self.experiments()\n",
        f"{SOURCE} -k named",
    ),
    Breakage(
        "no overlap",
        "domain/horizon.py",
        "fresh_ms - limits.overlap_ms)",
        "fresh_ms)",
        HORIZON,
    ),
    Breakage(
        "believe a fresh mark of the future",
        "domain/horizon.py",
        "not 0 <= now.earliest_ms - fresh_ms <=",
        "not now.earliest_ms - fresh_ms <=",
        f"{HORIZON}",
    ),
    Breakage(
        "read by end time after days away",
        "domain/horizon.py",
        "<= limits.lateness_ms:\n        return _every",
        "<= 10**12:\n        return _every",
        HORIZON,
    ),
    Breakage(
        "prune by wall clock",
        "counting/ledger.py",
        'start_ms < ?", horizon.forgotten_ms)',
        "start_ms < ?\", int(__import__('time').time() * 1000) - 86_400_000)",
        f"{INVARIANTS} {LEDGER}",
    ),
    Breakage(
        "prune what is closed",
        "counting/ledger.py",
        '("DELETE FROM done WHERE start_ms < ?", horizon.forgotten_ms)',
        '("DELETE FROM done WHERE start_ms < ?", horizon.closed_ms)',
        f"{LEDGER} {INVARIANTS}",
    ),
    Breakage(
        "amounts outside of the transaction",
        "counting/ledger.py",
        "            self._store(batch, groups or {}, horizon.forgotten_ms)\n",
        "            self._store(batch, groups or {}, horizon.forgotten_ms)\n"
        "            self._db.execute('COMMIT')\n            self._db.execute('BEGIN')\n",
        LEDGER,
    ),
    Breakage(
        "publish before commit",
        "counting/poller.py",
        "self._totals = self._ledger.totals.shown()\n",
        "self._totals = {name: {labels: tuple(each + 1 for each in numbers) for labels, numbers in series.items()}"
        " for name, series in self._ledger.totals.shown().items()}\n",
        INVARIANTS,
    ),
    Breakage(
        "keep totals in memory that are not committed",
        "counting/ledger.py",
        "            totals = self.totals.add(amounts or {}, active_ms or {}, first_ms or {})\n",
        "            totals = self.totals.add(amounts or {}, active_ms or {}, first_ms or {})\n"
        "            self.totals.keep(totals)\n",
        LEDGER,
    ),
    Breakage(
        "keep the totals of a damaged ledger in memory",
        "counting/ledger.py",
        "        self.totals = Totals(self._db)\n        self.active = ActiveInLedger(self._db)\n\n    def close",
        "        self.active = ActiveInLedger(self._db)\n\n    def close",
        LEDGER,
    ),
    Breakage(
        "position before page",
        "counting/reader.py",
        "            self._store(self._origins.counted(",
        "            self.tally.commit(horizon)\n            self._store(self._origins.counted(",
        f"{FAULTS} -k faults_1",
    ),
    Breakage(
        "exclude as many ids after a refusal",
        "tracking/source.py",
        "                self._max_excluded = max(PAGE_SIZE, excluded // 2)\n",
        "",
        f"{ANSWERS} -k refused_for_its_size",
    ),
    Breakage(
        "omit seconds with an unknown trace",
        "tracking/slices.py",
        "if here[at_ms] == counts.get(at_ms, 0):",
        "if here[at_ms] + 1 >= counts.get(at_ms, 0):",
        "tests/unit/tracking/test_slices.py",
    ),
    Breakage(
        "omit nothing",
        "tracking/slices.py",
        "if here[at_ms] == counts.get(at_ms, 0):",
        "if False:",
        "tests/unit/tracking/test_slices.py",
    ),
    Breakage(
        "send one lookup at a time",
        "tracking/pending.py",
        "            sent.extend(islice(unsent, 1))\n            yield answer\n",
        "            yield answer\n            sent.extend(islice(unsent, 1))\n",
        "tests/unit/tracking/test_pending.py",
    ),
    Breakage(
        "offset paging",
        "tracking/source.py",
        "        max_excluded = self._max_excluded if features.get(Feature.NOT_IN, False) else 0\n",
        OFFSET_PAGING,
        f"{SOURCE} -k fault_4",
    ),
    Breakage(
        "exclusive lower bound of the next page",
        "tracking/slices.py",
        "return Slice(replace(self.window, lo_ms=page.last_ms), ",
        "return Slice(replace(self.window, lo_ms=page.last_ms + 1), ",
        SOURCE,
    ),
    Breakage(
        "exclusive lower bound of a window",
        "tracking/filters.py",
        "trace.timestamp_ms >= {",
        "trace.timestamp_ms > {",
        SOURCE,
    ),
    Breakage(
        "stop in a full millisecond",
        "tracking/scanning.py",
        "            yield from self._rest_of_millisecond(rest)\n",
        "",
        SOURCE,
    ),
    Breakage(
        "wait for an answer that does not end",
        "tracking/bounded.py",
        "self._until_s - monotonic())",
        "self._until_s - monotonic() + 9)",
        f"{BOUNDED} -k does_not_end",
    ),
    Breakage(
        "leave a thread behind with each answer that does not end",
        "tracking/bounded.py",
        "                _end(self._thread)\n",
        "                pass\n",
        f"{BOUNDED} -k does_not_end",
    ),
    Breakage(
        "read an answer of any size",
        "tracking/bounded.py",
        "_limited(_pieces(response.raw), limit)",
        "_pieces(response.raw)",
        f"{BOUNDED} -k endless",
    ),
    Breakage(
        "unpack an answer of any size",
        "tracking/bounded.py",
        "_limited(unzipped(pieces), limit)",
        "unzipped(pieces)",
        f"{BOUNDED} -k bomb",
    ),
    Breakage(
        "read the body of a redirection",
        "tracking/transport.py",
        '        hooks={"response": bounded.without_body},\n',
        "",
        f"{BOUNDED} -k redirection",
    ),
    Breakage(
        "read a list of experiments that does not end",
        "tracking/client.py",
        "if token and page.keys() <= found.keys():",
        "if False:",
        f"{BOUNDED} -k experiments_that_does_not_end",
    ),
    Breakage(
        "read the same page again and again",
        "tracking/scanning.py",
        "        if found.extent.more and not page:\n            raise",
        "        if False:\n            raise",
        f"{SCANNING} -k page_of_nothing",
    ),
    Breakage(
        "go on where an answer about another time leads",
        "tracking/source.py",
        "if any(not window.lo_ms <=",
        "if any(False and not window.lo_ms <=",
        f"{ANSWERS} -k another_time",
    ),
    Breakage(
        "take for deleted what an answer to another question does not have",
        "tracking/source.py",
        "if not there <= asked:",
        "if False:",
        f"{ANSWERS} -k another_question",
    ),
    Breakage(
        "count a trace twice that is twice in an answer",
        "tracking/source.py",
        "records = _once(",
        "records = tuple(",
        f"{ANSWERS} -k twice_in_an_answer",
    ),
    Breakage(
        "take a full page for the last where a trace is twice in it",
        "tracking/client.py",
        "len(self.traces) >= PAGE_SIZE",
        "len({each.trace_id for each in self.traces}) >= PAGE_SIZE",
        f"{ANSWERS} -k full_page",
    ),
    Breakage(
        "return the rest of a slice after the next slice",
        "tracking/scanning.py",
        "self._asked.appendleft(",
        "self._asked.append(",
        f"{SCANNING} -k once_and_in_order",
    ),
    Breakage(
        "leave requests behind when a scan is not continued",
        "tracking/scanning.py",
        "                pending.drop()\n",
        "                pass\n",
        f"{SCANNING} -k not_continued",
    ),
    Breakage(
        "read a gap slice by slice",
        "tracking/slices.py",
        "if page.count >= SPARSE * page_size else 0",
        "if page.count else 1",
        f"{SLICES} -k slices_grow",
    ),
    Breakage(
        "exclude more traces than MLflow accepts",
        "tracking/slices.py",
        "if end - begin > room:",
        "if False:",
        SLICES,
    ),
    Breakage(
        "exclude ids that may invalidate a filter",
        "tracking/slices.py",
        " and PLAIN_ID.fullmatch(each))",
        ")",
        f"{SLICES} -k invalid",
    ),
    Breakage(
        "treat a trace as seen only when its page is processed",
        "tracking/source.py",
        "earliest_ms - waited_ms",
        "earliest_ms",
        f"{ANSWERS} -k arrived",
    ),
    Breakage(
        "reject a page with half an emoji",
        "tracking/json_text.py",
        "            return msgspec.convert(json.loads(text), self._kind)\n",
        "            raise\n",
        f"{RECORDS} -k read_alike",
    ),
    Breakage(
        "believe that a thousand counts are all",
        "tracking/client.py",
        "if len(points) >= MAX_COUNTS or _token(answer):\n        raise",
        "if False:\n        raise",
        f"{ANSWERS} -k may_not_be_all",
    ),
    Breakage(
        "lose the tokens of a total that is not split",
        "tracking/amounts.py",
        "    elif rest > 0 and not given:\n        given = rest\n",
        "",
        f"{RECORDS} -k total",
    ),
    Breakage(
        "lose the cost of a total that is not split",
        "tracking/amounts.py",
        "        given = (given or 0.0) + rest\n",
        "        pass\n",
        f"{RECORDS} -k total",
    ),
    Breakage(
        "ask for all counts at once",
        "tracking/source.py",
        "filters.parts(window, step_ms, MAX_COUNTS - 1)",
        "[window]",
        f"{SOURCE} -k more_steps",
    ),
    Breakage(
        "count at first sight",
        "domain/triage.py",
        "    settled = record.seen_ms - at.changed_ms",
        "    settled = True or record.seen_ms - at.changed_ms",
        f"{FAULTS} -k 'fault_14 or fills_in'",
    ),
    Breakage(
        "believe the age of a trace without the mark",
        "domain/triage.py",
        "return record.finalized and record.ended() and ",
        "return record.ended() and ",
        TRIAGE,
    ),
    Breakage(
        "never give up",
        "domain/triage.py",
        "return Verdict.GIVE_UP if waited_long else Verdict.WAIT",
        "return Verdict.WAIT",
        f"{FAULTS} -k fault_10",
    ),
    Breakage(
        "look at running traces at every tick",
        "domain/triage.py",
        "seen_ms + backoff_ms if running",
        "seen_ms if running",
        TRIAGE,
    ),
    Breakage(
        "do not tell what is late",
        "domain/triage.py",
        "late=sum(",
        "late=0 * sum(",
        f"{FAULTS} -k fault_8",
    ),
    Breakage(
        "do not tell what changed",
        "domain/triage.py",
        "changed=tuple(filter(None, changes))",
        "changed=()",
        f"{FAULTS} -k fault_13",
    ),
    Breakage(
        "add the growth of a trace twice",
        "counting/ledger.py",
        "self._db.each(_UPDATE_DONE, [(",
        "self._db.each(_UPDATE_DONE, [] and [(",
        f"{FAULTS} -k fault_14",
    ),
    Breakage(
        "do not add the growth of a trace",
        "metrics/meter.py",
        "            if change.grew:\n",
        "            if False:\n",
        f"{FAULTS} -k fault_14",
    ),
    Breakage(
        "subtract amounts that have shrunk",
        "domain/growth.py",
        "    return before if has_shrunk else now\n",
        "    return now\n",
        GROWTH,
    ),
    Breakage(
        "observe a trace in two buckets",
        "metrics/model.py",
        " if len(now) > len(counted) else ()",
        "",
        GROWTH,
    ),
    Breakage(
        "add growth to the series of the current labels",
        "metrics/meter.py",
        "group = change.before.group or self._admit(change.record).group",
        "group = self._admit(change.record).group",
        GROWTH,
    ),
    Breakage(
        "forget that a change was reported",
        "domain/growth.py",
        "    return None if after == before else",
        "    return None if after == before and after.seen is None else",
        GROWTH,
    ),
    Breakage(
        "read everything in the overlap again",
        "counting/reader.py",
        "        return self._recent.inside(",
        "        return [] and self._recent.inside(",
        f"{POLLER} -k read_twice",
    ),
    Breakage(
        "do not read again what may grow",
        "counting/recent.py",
        "again_ms = inf if _is_complete(record) else",
        "again_ms = inf if True else",
        RECENT,
    ),
    Breakage(
        "remember every trace that was read",
        "counting/recent.py",
        " and end_ms >= since_ms:",
        ":",
        f"{RECENT} -k catch_up",
    ),
    Breakage(
        "remember what cannot be excluded",
        "counting/reader.py",
        "if self._features.get(Feature.END_TIME_FILTER, True) and ",
        "if ",
        f"{RECENT} -k flat",
    ),
    Breakage(
        "leave out what a look-up did not find",
        "counting/reader.py",
        "        self._recent.forget(gone)\n",
        "",
        f"{RECENT} -k look_up",
    ),
    Breakage(
        "remember every label that was not admitted",
        "domain/admission.py",
        "        if not found.overflowed:  # of these there are no more than groups\n",
        "        if True:\n",
        f"{ADMISSION} -k flat",
    ),
    Breakage(
        "leave out running traces",
        "counting/recent.py",
        "if record.state is not State.IN_PROGRESS and end_ms",
        "if end_ms",
        RECENT,
    ),
    Breakage(
        "leave due checks to the next poll",
        "counting/poller.py",
        "is_check_due = self._reader.next_check_s() <= 0",
        "is_check_due = False",
        f"{POLLER} -k as_soon_as",
    ),
    Breakage(
        "check again and again between two polls",
        "counting/reader.py",
        "        self._next_check_s = self._clock_s() + CHECK_AGAIN_S\n",
        "",
        f"{POLLER} -k tried_again",
    ),
    Breakage(
        "hold a new series only once its first trace is final",
        "domain/triage.py",
        "ended=tuple(record for record, at in waiting if _has_labels(record, at)),",
        "",
        f"{RELEASE} -k is_pending",
    ),
    Breakage(
        "begin the series of a trace that has no labels yet",
        "domain/triage.py",
        "    return record.state is not State.IN_PROGRESS and (record.finalized or at.environment != UNKNOWN)\n",
        "    return record.state is not State.IN_PROGRESS\n",
        f"{RELEASE} -k without_labels",
    ),
    Breakage(
        "keep no copy of an earlier ledger",
        "counting/ledger_schema.py",
        '    _copy(db, Path(f"{path}{_COPY}{version}"))\n',
        "",
        f"{LEDGER} -k copy_of_an_earlier",
    ),
    Breakage(
        "never delete the copy of an earlier ledger",
        "counting/ledger.py",
        "        self._db.drop_copies()\n",
        "",
        f"{LEDGER} -k copy_of_an_earlier",
    ),
    Breakage(
        "wait for what was deleted",
        "counting/tally.py",
        "gone=(*batch.gone, *gone)",
        "gone=batch.gone",
        f"{FAULTS} -k fault_11",
    ),
    Breakage(
        "no audit of what is open",
        "counting/reader.py",
        "        return self._features.get(",
        "        return chore is not Scope.OPEN and self._features.get(",
        f"{FAULTS} -k minutes_after_its_end",
    ),
    Breakage(
        "no audit of what is closed",
        "counting/reader.py",
        "        return self._features.get(",
        "        return chore is not Scope.CLOSED and self._features.get(",
        f"{FAULTS} -k fault_8",
    ),
    Breakage(
        "no closing pass",
        "counting/reader.py",
        "        if isinstance(chore, Kind):\n            return due(",
        "        if isinstance(chore, Kind):\n            return chore is Kind.RETIRING and due(",
        f"{FAULTS} -k 'fault_7 or without_the_audit'",
    ),
    Breakage(
        "no retiring pass",
        "counting/reader.py",
        "        if isinstance(chore, Kind):\n            return due(",
        "        if isinstance(chore, Kind):\n            return chore is Kind.CLOSING and due(",
        f"{FAULTS} -k 'without_the_audit or deleted_as_added or as_many'",
    ),
    Breakage(
        "read a difference for ever",
        "counting/auditor.py",
        "if explained.get(at_ms) != count]",
        "]",
        f"{FAULTS} -k for_ever",
    ),
    Breakage(
        "forget what was retired",
        "counting/auditor.py",
        "{**self._ledger.retired_counts(held), **",
        "{**self._ledger.counts(held, span.step_ms), **",
        f"{FAULTS} -k unaccounted",
    ),
    Breakage(
        "count an experiment's past",
        "counting/origins.py",
        "return 0 if origin is None else origin.origin_ms",
        "return 0",
        f"{FAULTS} -k fault_28",
    ),
    Breakage(
        "mix two servers",
        "counting/origins.py",
        "if each.experiment_id in self._known:",
        "if False:",
        f"{FAULTS} -k fault_21",
    ),
    Breakage(
        "ask a server for what it lacks",
        "domain/horizon.py",
        "if kind is Kind.FRESH and not end_filter:",
        "if False:",
        f"{FAULTS} -k without_a_feature",
    ),
    Breakage(
        "believe our own clock alone",
        "tracking/source.py",
        "return Clocks(self._own_ms(), server_ms)",
        "return Clocks(self._own_ms(), None)",
        f"{REAL_FAULTS} -k clock",
    ),
    Breakage(
        "believe a clock that was never set",
        "domain/clocks.py",
        "if each >= PLAUSIBLE_MS)",
        "if True)",
        f"{FAULTS} -k never_set",
    ),
    Breakage(
        "look for what may still come by the earlier clock",
        "domain/horizon.py",
        "Window(lo_ms, now.latest_ms + AHEAD_MS,",
        "Window(lo_ms, now.earliest_ms + AHEAD_MS,",
        f"{FAULTS} -k one_clock",
    ),
    Breakage(
        "trust a mark for good",
        "counting/reader.py",
        "        if after is not before:\n",
        "        if False:\n",
        f"{FAULTS} -k both_clocks_are_ahead",
    ),
    Breakage(
        "take marks back where ids are forgotten",
        "counting/reader.py",
        "        if kept_ms > latest_ms + limits.margin_ms:\n",
        "        if False:\n",
        f"{FAULTS} -k both_clocks_are_behind",
    ),
    Breakage(
        "read before what is forgotten",
        "domain/horizon.py",
        "return max(self.origin_ms, self.forgotten_ms + BUCKET_MS)",
        "return self.origin_ms",
        f"{FAULTS} {HORIZON} -k 'behind or taken_back or longer'",
    ),
    Breakage(
        "forget ids by the clock alone",
        "domain/horizon.py",
        "    retired_ms = min(stood_ms, newest_ms - limits.audit_horizon_ms - limits.margin_ms)\n",
        "    retired_ms = stood_ms\n",
        f"{FAULTS} {HORIZON} -k 'both_clocks_are_ahead or clock_alone'",
    ),
    Breakage(
        "forget ids as soon as a clock says so",
        "counting/reader.py",
        "now_s - self._retired[0][0] >= STAND_S:",
        "True:",
        f"{FAULTS} -k one_machine",
    ),
    Breakage(
        "leave what cannot be read as it was told by a wrong clock",
        "counting/reader.py",
        "            self._auditor.forget_unaccounted()\n",
        "",
        f"{FAULTS} -k both_clocks_are_ahead",
    ),
    Breakage(
        "give up at the first look by a clock that has jumped",
        "domain/triage.py",
        " and 0 <= overdue_ms < LOOKED_AT_MS",
        "",
        f"{FAULTS} -k both_clocks_are_ahead",
    ),
    Breakage(
        "wait for a time that a wrong clock has set",
        "counting/ledger.py",
        "WHERE next_ms <= ? OR next_ms > ? ORDER",
        "WHERE next_ms <= ? AND ? > 0 ORDER",
        f"{FAULTS} -k clocks_are_ahead",
    ),
    Breakage(
        "wait for a root span for good",
        "domain/triage.py",
        "if record.state is State.IN_PROGRESS and not record.ended():",
        "if record.state is State.IN_PROGRESS:",
        f"{FAULTS} -k otlp",
    ),
    Breakage(
        "count a call between two of its spans",
        "domain/triage.py",
        "        return ORPHAN_MS\n",
        "        return SETTLE_MS\n",
        TRIAGE,
    ),
    Breakage(
        "show a new series at its value",
        "counting/release.py",
        "now_s - held_since_s.get(group, now_s) >= zero_hold_s",
        "True",
        RELEASE,
    ),
    Breakage(
        "show before it is stored that it may be shown",
        "counting/release.py",
        "self._totals.stage(released, asleep)",
        "self._totals.keep(self._totals._awake.with_stages(released, asleep))",
        RELEASE,
    ),
    Breakage(
        "come back from sleep at 0",
        "counting/awake.py",
        "[each.labels] = each.slept",
        "[each.labels] = (0,) * len(each.slept)",
        f"{RELEASE} {INVARIANTS}",
    ),
    Breakage(
        "no cap of values",
        "domain/admission.py",
        "len(known) - 2 < self._caps.of(name)",
        "True",
        ADMISSION,
    ),
    Breakage(
        "no limit of series",
        "domain/admission.py",
        "self.series + self._cost(group) > self._caps.series",
        "False",
        ADMISSION,
    ),
    Breakage(
        "values that sleep keep their room",
        "counting/awake.py",
        " for group, state in self.groups.items() if group not in asleep}",
        " for group, state in self.groups.items()}",
        f"{ADMISSION} {RELEASE}",
    ),
    Breakage(
        "places of pending traces are not capped",
        "counting/tally.py",
        "abandoned.append(replace(each, experiment=experiment, environment=environment))",
        "abandoned.append(each)",
        ADMISSION,
    ),
    Breakage(
        "a family that begins inside a group is not held",
        "counting/ledger_totals.py",
        "        self._set_stages(dict.fromkeys(held, Stage.HELD), series)\n",
        "",
        LEDGER,
    ),
    Breakage(
        "put to rest what would be shown now",
        "counting/ledger_totals.py",
        "self._awake.series_of(asleep))",
        "[each for each in self._awake.series_of(asleep) if 'slow' not in each[0]])",
        RELEASE,
    ),
    Breakage(
        "an older snapshot as exemplar",
        "metrics/model.py",
        "one.timestamp_s > other.timestamp_s",
        "True",
        "tests/unit/metrics/test_exposition.py",
    ),
    Breakage(
        "serve the compressed totals of an earlier snapshot",
        "metrics/exposition.py",
        "if first != self._before:",
        "if self._before is None:",
        "tests/unit/metrics/test_exposition.py",
    ),
    Breakage(
        "show the exemplar of a trace that is not shown yet",
        "metrics/sample_lines.py",
        "if not number or bucket not in exemplars:",
        "if bucket not in exemplars:",
        "tests/unit/metrics",
    ),
    Breakage(
        "render at each scrape",
        "metrics/exposition.py",
        "                if now_s - asked_s <= WANTED_S:\n",
        "                if False:\n",
        "tests/unit/metrics/test_exposition.py",
    ),
    Breakage(
        "any number of connections",
        "web/connections.py",
        "if len(self._visits) >= self.limits.connections:",
        "if False:",
        f"{WEB} -k no_more_connections",
    ),
    Breakage(
        "make room at the cost of a scrape",
        "web/connections.py",
        "next(visit for visit in self._visits if visit.address == crowd)",
        "next(iter(self._visits))",
        f"{WEB} -k scrape_under_way",
    ),
    Breakage(
        "no deadline",
        "web/connections.py",
        "call_later(self._keeper.limits.request_s,",
        "call_later(9_999,",
        f"{WEB} -k closed_in_time",
    ),
    Breakage(
        "a certificate of any name",
        "web/connections.py",
        "(names and not set(names) & _names_of(transport))",
        "False",
        f"{WEB} -k right_certificate",
    ),
    Breakage(
        "remember a password for good",
        "web/auth.py",
        'password_hash.encode() + password, "sha256"',
        'password, "sha256"',
        f"{WEB} -k right_password",
    ),
    Breakage(
        "remember a user for good",
        "web/auth.py",
        "if user in users and hmac",
        "if hmac",
        f"{WEB} -k taken_away",
    ),
    Breakage(
        "a thread for each SIGHUP",
        "commands/serve.py",
        "lambda *_: asked.put(None) if asked.empty() else None)",
        "lambda *_: Thread(target=service.reload, daemon=True).start())",
        f"{SERVE} -k does_not_end",
    ),
    Breakage(
        "answer sooner where there is no such user, or a cheaper hash",
        "web/auth.py",
        "for cost in range(_cost(password_hash), most):",
        "for cost in ():",
        AUTH,
    ),
    Breakage(
        "show control characters on a page",
        "templating.py",
        "    finalize=_fit,\n",
        "",
        SHOWN,
    ),
    Breakage(
        "quote control characters of MLflow's answers",
        "tracking/failures.py",
        "return shown(words[:MAX_DETAIL])",
        "return words[:MAX_DETAIL]",
        SHOWN,
    ),
    Breakage(
        "ask health checks for a password",
        "web/auth.py",
        "and not self._is_open(scope)",
        "",
        f"{WEB} -k health_checks",
    ),
    Breakage(
        "answer anything else without a password",
        "web/auth.py",
        'in self._open_paths and scope["method"] in ("GET", "HEAD")',
        "not in self._open_paths",
        f"{WEB} -k asked_for",
    ),
    Breakage(
        "probe through a proxy",
        "commands/probe.py",
        "    try:\n        connection.request(",
        "    __import__('urllib.request').request.urlopen(target.url)\n    try:\n        connection.request(",
        f"{WEB} -k no_proxy",
    ),
    Breakage(
        "let MLflow's client log",
        "commands/flags.py",
        "    logs.quiet_mlflow()\n",
        "",
        f"{SERVE} -k others_write",
    ),
    Breakage(
        "let others write plain lines",
        "logs.py",
        "    sys.stderr = _Lines()\n",
        "",
        "tests/unit/test_logs.py",
    ),
    Breakage(
        "import MLflow's client without a home",
        "home.py",
        'return "/"',
        'return "~"',
        f"{STARTUP} -k demo",
    ),
    Breakage(
        "ignore SIGTERM as process 1",
        "__main__.py",
        "if os.getpid() == 1:",
        "if False:",
        f"{STARTUP} -k container",
    ),
    Breakage(
        "listen by IPv6 alone",
        "web/server.py",
        "dualstack_ipv6=dual",
        "dualstack_ipv6=False",
        "tests/unit/web/test_server.py",
    ),
    Breakage(
        "give OpenMetrics to those who do not want it",
        "metrics/exposition.py",
        "cls.OPENMETRICS if openmetrics > text or",
        'cls.OPENMETRICS if "application/openmetrics-text" in liked or',
        "tests/unit/test_accept.py",
    ),
    Breakage(
        "queue all guesses",
        "web/auth.py",
        "if address in self._guessing:",
        "if False:",
        f"{WEB} -k guesses",
    ),
    Breakage(
        "open the door when the users are gone",
        "settings/web_config.py",
        "bool(before.users) and not settings.users",
        "False",
        "tests/unit/settings/test_web_config.py",
    ),
    Breakage(
        "ask MLflow for any number of traces at once",
        "web/routes.py",
        "CapacityLimiter(2)",
        "CapacityLimiter(40)",
        f"{WEB} -k many_traces",
    ),
    Breakage(
        "two processes on one ledger",
        "counting/ledger_file.py",
        "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        LEDGER,
    ),
    Breakage(
        "go on with a damaged ledger",
        "counting/ledger_file.py",
        "            set_aside(path, error)\n",
        "",
        f"{LEDGER} -k fault_21",
    ),
    Breakage(
        "believe whatever a sound file holds",
        "counting/ledger_file.py",
        "    require_sound(db, SCHEMA)\n",
        "",
        f"{LEDGER} -k 'written or flipped'",
    ),
    Breakage(
        "lock the name of a ledger and not the file",
        "counting/ledger_connection.py",
        "        self._path = resolve(path)\n",
        "        self._path = path\n",
        f"{LEDGER} -k link",
    ),
    Breakage(
        "go on writing to a log that has no name",
        "counting/ledger_connection.py",
        "if self._log_inode is not None and",
        "if False and",
        f"{LEDGER} -k write_ahead",
    ),
    Breakage(
        "begin a ledger in two transactions",
        "counting/ledger_file.py",
        "{SCHEMA} {_resets(path)} COMMIT;",
        "{SCHEMA} COMMIT; {_resets(path)}",
        f"{LEDGER} -k 'complete_one or first_row'",
    ),
    Breakage(
        "leave a ledger half set aside",
        "counting/ledger_file.py",
        "    _finish_setting_aside(path)\n",
        "",
        f"{LEDGER} -k recovered",
    ),
    Breakage(
        "set aside what is not damaged",
        "counting/ledger_file.py",
        "return is_damage(error) and _is_ours(path)",
        "return True",
        LEDGER,
    ),
    Breakage(
        "count a pair of exporters twice",
        RECORDING,
        "(max without (instance, pod) (increase(mlflow_traces_total[30m])))",
        "(increase(mlflow_traces_total[30m]))",
        f"{RULES} -k 'do_what and errors'",
    ),
    Breakage(
        "let a burn rate pass 100 %",
        RECORDING,
        "14.4 * experiment_environment:mlflow_objective_error_ratio:max"
        " < (3 + experiment_environment:mlflow_objective_error_ratio:max) / 4\n"
        "          or (3 + experiment_environment:mlflow_objective_error_ratio:max) / 4",
        "14.4 * experiment_environment:mlflow_objective_error_ratio:max",
        f"{RULES} -k 'do_what and errors'",
    ),
    Breakage(
        "call no traffic a ratio of 0",
        RECORDING,
        " environment:mlflow_trace_errors:increase5m / (environment:mlflow_traces:increase5m > 0)",
        " environment:mlflow_trace_errors:increase5m",
        f"{RULES} -k 'do_what and errors'",
    ),
    Breakage(
        "call one failed trace a burning budget",
        ON_TRACES,
        'clamp_min(experiment_environment:mlflow_objective_error_ratio:burn{burn_rate="1"}'
        " * on (job, experiment, environment) experiment_environment:mlflow_objective_min_traces:max, 2) + 0.5",
        "0",
        f"{RULES} -k 'do_what and little'",
    ),
    Breakage(
        "resolve a page in the dark",
        ON_TRACES,
        "experiment_environment:mlflow_trace_errors:burning5m and on (job, experiment, environment)"
        " (experiment_environment:mlflow_objective_info:max and on (job, shard)"
        ' ALERTS{alertname="MlflowTracesStale"})',
        "experiment_environment:mlflow_trace_errors:burning5m and on (job) (mlflow_up == 2)",
        f"{RULES} -k 'do_what and errors'",
    ),
    Breakage(
        "freeze the pages of all shards while one is in the dark",
        ON_TRACES,
        "experiment_environment:mlflow_trace_errors:burning5m and on (job, experiment, environment)"
        " (experiment_environment:mlflow_objective_info:max and on (job, shard)"
        ' ALERTS{alertname="MlflowTracesStale"})',
        'experiment_environment:mlflow_trace_errors:burning5m and on (job) ALERTS{alertname="MlflowTracesStale"}',
        f"{RULES} -k 'do_what and shards'",
    ),
    Breakage(
        "hide a stale shard behind the others",
        ON_EXPORTER,
        '          group by (job, shard) (max_over_time(up{job=~".*mlflow-trace-exporter.*"}[1d]))\n'
        "          unless on (job, shard) (\n",
        '          group by (job, shard) (max_over_time(up{job=~".*mlflow-trace-exporter.*"}[1d]))\n'
        "          unless on (job) (\n",
        f"{RULES} -k 'do_what and shards'",
    ),
    Breakage(
        "hide a shard without a target behind the others",
        ON_EXPORTER,
        "unless on (job, shard) up{",
        "unless on (job) up{",
        f"{RULES} -k 'do_what and shards'",
    ),
    Breakage(
        "hide a shard without a leader behind the others",
        ON_EXPORTER,
        "max by (job, shard) (mlflow_trace_exporter_leader) == 0",
        "max by (job) (mlflow_trace_exporter_leader) == 0",
        f"{RULES} -k 'do_what and shards'",
    ),
    Breakage(
        "silence the applications of an exporter that does not expose teams",
        RECORDING,
        "            or on (job, experiment, environment)\n            group by (job, experiment, environment) (\n",
        "            unless on (job, experiment, environment)\n            group by (job, experiment, environment) (\n",
        f"{RULES} -k 'do_what and applications'",
    ),
    Breakage(
        "move an application to another team while a pair disagrees",
        RECORDING,
        'experiment_environment:mlflow_objective_info:max{team!=""} and on',
        'experiment_environment:mlflow_objective_info:max{team="none"} and on',
        f"{RULES} -k 'do_what and applications'",
    ),
    Breakage(
        "silence an application of which two teams are recorded",
        ON_TRACES,
        "(experiment_environment:mlflow_trace_errors:burning5m)\n"
        "          * on (job, experiment, environment) group_left (team, shard)\n"
        "          topk by (job, experiment, environment) (1, experiment_environment:mlflow_objective_info:max)",
        "experiment_environment:mlflow_trace_errors:burning5m\n"
        "          * on (job, experiment, environment) group_left (team, shard)\n"
        "          experiment_environment:mlflow_objective_info:max",
        f"{RULES} -k 'do_what and applications'",
    ),
    Breakage(
        "forget the team of an application that has vanished",
        RECORDING,
        "experiment_environment:mlflow_objective_info:max and on (job, experiment, environment) (",
        'experiment_environment:mlflow_objective_info:max{team="none"} and on (job, experiment, environment) (',
        f"{RULES} -k 'do_what and vanished'",
    ),
    Breakage(
        "inhibit the warnings of another application",
        "prometheus/alertmanager.yml",
        "[job, experiment, environment, objective, assessment, cluster]",
        "[job, environment, objective, assessment, cluster]",
        f"{RULES} -k inhibited_by_application",
    ),
    Breakage(
        "inhibit the warnings about another assessment",
        "prometheus/alertmanager.yml",
        "[job, experiment, environment, objective, assessment, cluster]",
        "[job, experiment, environment, objective, cluster]",
        f"{RULES} -k inhibited_by_application",
    ),
    Breakage(
        "take a pause between two batches of ratings for the end of bad ones",
        ON_QUALITY,
        "(experiment_environment_assessment:mlflow_trace_assessment_bad_ratings:ratio_increase30m"
        " or experiment_environment_assessment:mlflow_trace_assessment_bad_ratings:latest30m)",
        "experiment_environment_assessment:mlflow_trace_assessment_bad_ratings:ratio_increase30m",
        f"{RULES} -k 'do_what and quality'",
    ),
    Breakage(
        "call two bad ratings a burning budget",
        ON_QUALITY,
        'clamp_min(experiment_environment_assessment:mlflow_objective_bad_assessment_ratio:burn{burn_rate="1"}'
        " * on (job, experiment, environment) group_left () experiment_environment:mlflow_objective_min_traces:max,"
        " 2) + 0.5",
        'clamp_min(experiment_environment_assessment:mlflow_objective_bad_assessment_ratio:burn{burn_rate="1"}, 1)',
        f"{RULES} -k 'do_what and quality'",
    ),
    Breakage(
        "take exactly the allowed share of bad ratings for more, as 1 - 0.9 is less than 0.1",
        ON_QUALITY,
        "round(1000000 * (1 - min by (job, experiment, environment, assessment) (mlflow_objective_assessment_ratio)))"
        " / 1000000",
        "1 - min by (job, experiment, environment, assessment) (mlflow_objective_assessment_ratio)",
        f"{RULES} -k 'do_what and quality'",
    ),
    Breakage(
        "blame chance on a version that is rated",
        ON_QUALITY,
        "and experiment_environment_version_assessment:mlflow_trace_assessment_bad_ratings:z_increase1d > 3\n",
        "\n",
        f"{RULES} -k 'do_what and rated'",
    ),
    Breakage(
        "compare the ratings of a version with another assessment of the others",
        ON_QUALITY,
        "sum by (job, experiment, environment, assessment)"
        " (experiment_environment_version_assessment:mlflow_trace_assessment_ratings:increase1d)\n"
        "          - on (job, experiment, environment, assessment)",
        "sum by (job, experiment, environment)"
        " (experiment_environment_version_assessment:mlflow_trace_assessment_ratings:increase1d)\n"
        "          - on (job, experiment, environment)",
        f"{RULES} -k 'do_what and rated'",
    ),
    Breakage(
        "leave out a scorer that gives no words",
        ON_QUALITY,
        "(increase(mlflow_trace_assessments_total[1h])))"
        " or 0 * experiment_environment_assessment_source:mlflow_trace_assessment_errors:increase1h)",
        "(increase(mlflow_trace_assessments_total[1h]))))",
        f"{RULES} -k 'do_what and scorers'",
    ),
    Breakage(
        "take people who go on for the judge that has stopped",
        ON_QUALITY,
        "unless on (job, experiment, environment, assessment, source)"
        " experiment_environment_assessment_source:mlflow_trace_assessments:increase6h > 0",
        "unless on (job, experiment, environment, assessment)"
        " experiment_environment_assessment_source:mlflow_trace_assessments:increase6h > 0",
        f"{RULES} -k 'do_what and scorers'",
    ),
    Breakage(
        "blame chance on a version",
        ON_TRACES,
        "          and experiment_environment_version:mlflow_trace_errors:z_increase1h > 3\n",
        "",
        f"{RULES} -k 'do_what and versions'",
    ),
    Breakage(
        "call a pair stale when one is down",
        ON_EXPORTER,
        "unless on (job) (",
        "unless on (job, instance) (",
        f"{RULES} -k 'do_what and exporter'",
    ),
    Breakage(
        "filter what has no such label",
        "bundled/dashboards.py",
        " if family.labels == TRACE_LABELS",
        "",
        "tests/unit/bundled/test_dashboards.py",
    ),
    Breakage(
        "let the chatbot reach PostgreSQL",
        "docker-compose.yml",
        "networks: [tracing, llm]",
        "networks: [tracing, llm, database]",
        "tests/e2e/test_compose.py -k everybody_reaches",
    ),
    Breakage(
        "take two MLflow servers for a pair",
        ON_EXPORTER,
        "!= min without (instance, pod, shard) (mlflow_experiment",
        "!= min without (pod, shard) (mlflow_experiment",
        f"{RULES} -k 'do_what and several'",
    ),
    Breakage(
        "page about what is not known",
        "prometheus/alertmanager.yml",
        '[alertname="MlflowTracesStale"]',
        '[alertname="MlflowTracesFresh"]',
        f"{ALERTS} -k killed",
    ),
    Breakage(
        "warn of what was paged already",
        "prometheus/alertmanager.yml",
        '[severity="warning", objective!=""]',
        '[severity="nothing", objective!=""]',
        f"{ALERTS} -k incident",
    ),
    Breakage(
        "find traces of any state",
        "web/trace_list.py",
        "            return not record.ended()\n",
        "            return True\n",
        "tests/integration/test_trace_list.py tests/unit/web/test_trace_list.py",
    ),
    Breakage(
        "take a trace for one of the time in which it starts",
        "web/trace_list.py",
        "(record.start_ms if record.end_ms is None else record.end_ms) >= since_ms",
        "record.start_ms >= since_ms",
        "tests/integration/test_alert_links.py tests/unit/web/test_trace_list.py",
    ),
    Breakage(
        "look for traces that are stuck in the last hour",
        ON_TRACES,
        '&status=in_progress&start=0&end={{ query "time() - 3600"',
        '&status=in_progress&since={{ query "time() - 3600"',
        "tests/integration/test_alert_links.py",
    ),
    Breakage(
        "show what does not count",
        "web/trace_list.py",
        "traffic_of(record) in traffic",
        "True",
        "tests/unit/web/test_trace_list.py",
    ),
    Breakage(
        "merge pages of workspaces beyond the end of a full one",
        "tracking/merging.py",
        "row.start_ms <= min(ends_ms)",
        "row.start_ms <= max(ends_ms)",
        "tests/unit/tracking/test_workspaces.py -k once",
    ),
    Breakage(
        "take a page of workspaces for the last if one of them has no more",
        "tracking/merging.py",
        "any(page.more for page in pages.values())",
        "all(page.more for page in pages.values())",
        "tests/unit/tracking/test_workspaces.py -k once",
    ),
    Breakage(
        "read the further pages of one workspace in all",
        "tracking/source.py",
        "if tokens is None or part[0] in tokens",
        "if True",
        "tests/unit/tracking/test_workspaces.py -k millisecond",
    ),
    Breakage(
        "let a workspace that is denied stop the others",
        "tracking/workspaces.py",
        "                return error\n",
        "                raise\n",
        "tests/unit/tracking/test_workspaces.py -k denied",
    ),
    Breakage(
        "read only the default workspace",
        "tracking/workspaces.py",
        "if not names and not unmatched:",
        "if not self._selectors:",
        "tests/unit/tracking/test_workspaces.py -k all_workspaces_are_read",
    ),
    Breakage(
        "mix experiments of two workspaces with the same name",
        "domain/workspaces.py",
        "experiment if workspace is None else",
        "experiment if True else",
        "tests/unit/tracking/test_workspaces.py -k all_workspaces_are_read",
    ),
    Breakage(
        "forget the workspaces in a restart",
        "counting/poller.py",
        "self._workspaces = self._ledger.workspaces()",
        "self._workspaces = frozenset(self._reader._source.workspaces())",
        "tests/unit/counting/test_poller.py -k workspaces",
    ),
    Breakage(
        "let known traces of experiments that are not read stand for others",
        "counting/reader.py",
        "if before.keys() - self._experiments.keys():",
        "if False:",
        "tests/unit/counting/test_poller.py -k no_longer_read",
    ),
    Breakage(
        "take the workspaces of a server away when a proxy refuses",
        "tracking/workspaces.py",
        "if self._had_workspaces or error.reason in _NOT_ANSWERED:",
        "if error.reason in _NOT_ANSWERED:",
        "tests/unit/tracking/test_workspaces.py -k refusal",
    ),
    Breakage(
        "look up ids in all workspaces",
        "tracking/source.py",
        "if each.workspace in workspaces",
        "if True",
        "tests/unit/tracking/test_workspaces.py -k looked_up",
    ),
    Breakage(
        "lead to whatever workspace was open last",
        "tracking/mlflow_pages.py",
        '**({"workspace": workspace} if workspace else {})',
        "**{}",
        "tests/unit/web/test_trace_list.py",
    ),
    Breakage(
        "answer programs with a page",
        "web/refusals.py",
        'if not wants_page(request.headers.get("accept", "")):',
        "if False:",
        f"{WEB} -k error_is",
    ),
    Breakage(
        "lose the way to the status page behind a proxy",
        "web/refusals.py",
        'return "../" * (inner.count("/") - 1) or "./"',
        'return "/"',
        f"{WEB} -k error_is",
    ),
    Breakage(
        "leave it to us to look for a state",
        "web/trace_list.py",
        "[[*_TERMS.get(self.kind, ()), *durations,",
        "[[*durations,",
        "tests/unit/web/test_trace_list.py",
    ),
    Breakage(
        "wait a week for a trace whose state MLflow does not know",
        "tracking/parsing.py",
        "return State.OK if ended else State.IN_PROGRESS",
        "return State.IN_PROGRESS",
        RECORDS,
    ),
    Breakage(
        "believe that a trace took 10,000 years",
        "tracking/parsing.py",
        "return duration_ms if duration_ms <= MAX_AMOUNT else None",
        "return duration_ms",
        RECORDS,
    ),
    Breakage(
        "take the last trace of a version for its first",
        "metrics/meter.py",
        "] = min(record",
        "] = max(record",
        LEDGER,
    ),
    Breakage(
        "forget when a version was first seen",
        "counting/ledger_totals.py",
        "= min(first_ms",
        "= max(first_ms",
        LEDGER,
    ),
    Breakage(
        "let containers write to themselves",
        "docker-compose.yml",
        "read_only: true",
        "read_only: false",
        "tests/e2e/test_compose.py -k held",
    ),
    Breakage(
        "let a dashboard ask for what rules do not record",
        "grafana/dashboards/mlflow-cost.json",
        "environment:mlflow_trace_cost_usd:increase1d",
        "environment:mlflow_trace_cost_usd:increase2d",
        "tests/e2e/test_dashboards.py -k what_there_is",
    ),
    Breakage(
        "draw a line for each of many applications",
        "grafana/dashboards/mlflow-overview.json",
        "topk(10, sum by (experiment, environment) (max without (instance, pod) (mlflow_traces_in_progress",
        "topk(1000, sum by (experiment, environment) (max without (instance, pod) (mlflow_traces_in_progress",
        f"{MANY} -k ten_lines",
    ),
    Breakage(
        "let lines come and go",
        "grafana/dashboards/mlflow-overview.json",
        ' @ end())))",',
        ')))",',
        f"{MANY} -k same_at_all_times",
    ),
    Breakage(
        "show the worst application anywhere",
        "grafana/dashboards/mlflow-overview.json",
        '"displayName": "Worst"',
        '"displayName": "Cost/h"',
        f"{MANY} -k comes_first",
    ),
    Breakage(
        "offer the experiments of all teams",
        "grafana/dashboards/mlflow-objectives.json",
        r', team=~\"$team\"}, experiment)",' + '\n     "refId"',
        '}, experiment)",\n     "refId"',
        f"{MANY} -k of_a_team",
    ),
    Breakage(
        "do not wait for the disk",
        "counting/ledger_file.py",
        "synchronous = FULL",
        "synchronous = OFF",
        LEDGER,
    ),
    Breakage(
        "commit to a file that was deleted",
        "counting/ledger_connection.py",
        "            self._require_in_place()\n",
        "",
        LEDGER,
    ),
    Breakage(
        "begin a series of the history at its value",
        "reports/history.py",
        "        yield from (self._samples(lines, self._span.before(at_ms)) for lines in grown.values())\n",
        "",
        HISTORY,
    ),
    Breakage(
        "count a trace of the history at its start",
        "reports/history.py",
        "record.start_ms if record.end_ms is None else record.end_ms",
        "record.start_ms",
        HISTORY,
    ),
    Breakage(
        "leave out what ends after the history",
        "reports/history.py",
        " or at_ms == self._span.last_ms)",
        ")",
        HISTORY,
    ),
    Breakage(
        "never let a series of the history sleep",
        "reports/history.py",
        "        self._let_sleep(at_ms)\n",
        "",
        f"{HISTORY} tests/e2e/test_backfill.py -k sleep",
    ),
    Breakage(
        "backfill what serve counts",
        "reports/backfill.py",
        "if origin_ms is not None and chosen_ms > origin_ms:",
        "if False:",
        HISTORY,
    ),
    Breakage(
        "backfill into what Prometheus has in memory",
        "reports/backfill.py",
        "if chosen_ms > latest_ms:",
        "if False:",
        HISTORY,
    ),
    Breakage(
        "take all that MLflow gives for what was asked for",
        "tracking/query.py",
        "all(labels[name] == value for name, value in self.labels.items())",
        "True",
        REPORT,
    ),
    Breakage(
        "leave it to us to look for an environment",
        "tracking/query.py",
        """    return f"{source.kind}.`{source.key}` LIKE '%{text}%'\"""",
        "    return None",
        f"{REPORT} -k asked_for",
    ),
    Breakage(
        "replace what people write in a label",
        "shown.py",
        'return _UNFIT.sub("\\N{REPLACEMENT CHARACTER}", text)',
        'return "".join(char if char.isprintable() else "\\N{REPLACEMENT CHARACTER}" for char in text)',
        LABELS,
    ),
    Breakage("let a surrogate into a label", "shown.py", "\\ud800-\\udfff]", "]", LABELS),
    Breakage(
        "compare a raw name with labels",
        "reports/arguments.py",
        "return clean(value)",
        "return value",
        NAMES,
    ),
    Breakage(
        "take a blank name for unknown",
        "reports/arguments.py",
        "if not text(name, value).strip():",
        "if False:",
        f"{NAMES} -k nothing",
    ),
    Breakage(
        "publish an objective under its raw name",
        "settings/values.py",
        "NamePattern = Annotated[StrictStr, AfterValidator(pattern)]",
        "NamePattern = Annotated[StrictStr, AfterValidator(str)]",
        "tests/unit/domain/test_objectives.py",
    ),
    Breakage(
        "cut a glob",
        "domain/objectives.py",
        "else shown(text.strip())",
        "else clean(text)",
        "tests/unit/domain/test_objectives.py",
    ),
    Breakage(
        "let an objective apply to all applications",
        "domain/objectives.py",
        "return matches(self.experiment, experiment) and ",
        "return ",
        "tests/unit/domain/test_objectives.py",
    ),
    Breakage(
        "take a name with a bracket for nothing but a glob",
        "domain/globs.py",
        "return pattern in (ANY, name) or fnmatchcase",
        "return fnmatchcase",
        "tests/unit/domain/test_objectives.py",
    ),
    Breakage(
        "expose no team where there is no objective",
        "metrics/status.py",
        "for place, objective in _objectives(status)],\n        (*PLACE_LABELS",
        "for place, objective in _objectives(status) if objective.has_threshold],\n        (*PLACE_LABELS",
        "tests/unit/metrics/test_exposition.py -k whole",
    ),
    Breakage(
        "let a big application hide a small one from `health`",
        "reports/health.py",
        "place = tuple(values[name] for name in PLACE_LABELS)",
        'place = (ANY, values["environment"])',
        f"{HEALTH} -k hidden",
    ),
    Breakage(
        "call names without traces healthy",
        "reports/health.py",
        "if not _is_among(place, found)}",
        "if False}",
        f"{HEALTH} -k not_called_healthy",
    ),
    Breakage(
        "find an experiment by its raw name",
        "tracking/source.py",
        "in (None, clean(each.unique_name))",
        "in (None, each.unique_name)",
        f"{NAMES} -k experiment",
    ),
    Breakage(
        "compare the query of an address raw",
        "web/trace_list.py",
        "{name: clean(value) for",
        "{name: value for",
        "tests/unit/web/test_trace_list.py",
    ),
    Breakage(
        "let MLflow say what has ended",
        "tracking/query.py",
        "\"trace.status != 'ERROR'\"",
        "\"trace.status = 'OK'\"",
        f"{NAMES} -k remote",
    ),
    Breakage(
        "take what may go on for ended",
        "domain/trace.py",
        "self.end_ms is not None and self.seen_ms - self.end_ms >= ORPHAN_MS",
        "self.end_ms is not None",
        QUERY,
    ),
    Breakage(
        "look for a tag that MLflow takes for something else",
        "tracking/query.py",
        "if source.key.lower() in _MLFLOWS_OWN:",
        "if False:",
        f"{NAMES} -k any_name",
    ),
    Breakage(
        "look for what a database compares otherwise",
        "tracking/query.py",
        "_is_plain(text) and",
        "True and",
        QUERY,
    ),
    Breakage(
        "take no time for no duration",
        "metrics/families.py",
        '"duration": record.duration_ms is not None',
        '"duration": bool(record.duration_ms)',
        "tests/unit/metrics/test_meter.py",
    ),
    Breakage(
        "divide cached tokens by an input without them",
        "grafana/dashboards/mlflow-cost.json",
        "[$__rate_interval])) + (max",
        "[$__rate_interval])) + 0 * (max",
        "tests/unit/bundled/test_dashboards.py -k part_of_the_input",
    ),
    Breakage(
        "do not tell where cached tokens exceed the input",
        "reports/doctor.py",
        "(usage.cache_creation_input or 0) > usage.input",
        "(usage.cache_creation_input or 0) < 0",
        "tests/integration/test_doctor.py -k cached",
    ),
    Breakage(
        "call few traces healthy",
        "reports/health.py",
        "return check.traces < self.min_traces",
        "return False",
        HEALTH,
    ),
    Breakage(
        "breached at the threshold",
        "reports/health.py",
        "self.measured > self.threshold",
        "self.measured >= self.threshold",
        HEALTH,
    ),
    Breakage(
        "a mistake of ours is a breach",
        "commands/reports.py",
        "with _no_answer_is_exit_code_2(), flags.of_arguments():",
        "with flags.of_arguments():",
        HEALTH,
    ),
    Breakage(
        "messages: a host that is not allowed is no matter of passwords",
        "tracking/failures.py",
        "return next((special for words, special in remedies.BY_REFUSAL if re.search(words, str(error))), found)\n",
        "return found\n",
        "tests/unit/tracking/test_failures.py -k refusal_says",
    ),
    Breakage(
        "messages: an empty object is not taken for MLflow",
        "tracking/client.py",
        "                if not found:\n",
        "                if False:\n",
        "tests/unit/tracking/test_failures.py -k empty_object",
    ),
    Breakage(
        "messages: a redirection that makes a POST a GET is told",
        "tracking/transport.py",
        "        if response.request.method != method:",
        "        if False:",
        "tests/unit/tracking/test_failures.py -k redirection",
    ),
    Breakage(
        "messages: what MLflow's client raises is not MLflow's answer",
        "tracking/transport.py",
        "        if is_of_network(error):\n",
        "        if error:\n",
        "tests/unit/tracking/test_failures.py -k not_mlflow_s_answer",
    ),
    Breakage(
        "older servers: LIKE is not asked of a server that does not know it",
        "tracking/query.py",
        "self.source.features().get(Feature.LIKE, False)",
        "True",
        "tests/integration/test_older_servers.py -k reports",
    ),
    Breakage(
        "take what is no number for one",
        "reports/arguments.py",
        "if not least <= found <= MAX_SECONDS:",
        "if found < least or found > MAX_SECONDS:",
        API,
    ),
    Breakage(
        "divide by what a subclass makes of it",
        "domain/moments.py",
        "round(moment.total_seconds() * 1000)",
        "moment // timedelta(milliseconds=1)",
        API,
    ),
    Breakage(
        "ask MLflow before looking at an argument",
        "reports/api.py",
        'arguments.text("filter_string", filter_string)',
        "filter_string",
        API,
    ),
    Breakage(
        "lose what cannot be written",
        "commands/output.py",
        "_text(sys.stdout, STDOUT, _raise)",
        "_text(sys.stdout, STDOUT, _ignore)",
        f"{CLI} -k output_that",
    ),
    Breakage(
        "complain where nobody can be told",
        "commands/output.py",
        "_text(sys.stderr, STDERR, _ignore)",
        "_text(sys.stderr, STDERR, _raise)",
        f"{CLI} -k nobody_can_be_told",
    ),
    Breakage(
        "let the environment say how wide a table is",
        "reports/report_format.py",
        "width=WIDE,\n",
        "",
        f"{REPORT} -k cuts",
    ),
    Breakage(
        "let the environment colour a table",
        "reports/report_format.py",
        "color_system=None,\n        force_terminal=False,",
        "",
        f"{REPORT} -k cuts",
    ),
    Breakage(
        "show people what is overridden",
        "domain/trace.py",
        "tuple(each for each in self.assessments if each.valid)",
        "self.assessments",
        f"{OPINIONS} {ASSESSED_PAGE}",
    ),
    Breakage(
        "mix the values of several assessments",
        "reports/opinions.py",
        "values={} if self._has_several_names else",
        "values=",
        OPINIONS,
    ),
    Breakage(
        "guess which scores are good",
        "reports/ratings.py",
        'raise ArgumentError("good", problem)',
        "return True",
        f"{COMMANDS} -k guess",
    ),
    Breakage(
        "call a share breached that is just high enough",
        "reports/health.py",
        "self.measured < self.threshold if",
        "self.measured <= self.threshold if",
        f"{COMMANDS} -k share_of_good",
    ),
    Breakage(
        "let MLflow take the name of an assessment for something else",
        "tracking/query.py",
        " or name.lower() in _MLFLOWS_OWN or not _is_plain(name)",
        " or not _is_plain(name)",
        ASSESSED_PAGE,
    ),
    Breakage(
        "search for assessments where MLflow does not know them",
        "web/trace_search.py",
        "    except NotUnderstoodError:\n        return False",
        "    except NotUnderstoodError:\n        return True",
        ASSESSED_PAGE,
    ),
    Breakage(
        "let a user write a formula",
        "reports/report_format.py",
        "if text.startswith(_FORMULA_SIGNS)",
        "if False",
        f"{REPORT} -k formula",
    ),
    Breakage(
        "let users write markup",
        "templating.py",
        "autoescape=True",
        "autoescape=False",
        f"{PAGE} -k wrote",
    ),
    Breakage(
        "draw a label that XML does not allow",
        "reports/drawing.py",
        '_NO_XML.sub("\\N{REPLACEMENT CHARACTER}", row.label)',
        "row.label",
        f"{PAGE} -k wrote",
    ),
    Breakage(
        "let a notebook's style change a report",
        "reports/drawing.py",
        'style.use("default")',
        "pass",
        f"{PAGE} -k style",
    ),
    Breakage(
        "say what is not installed after MLflow was read",
        "commands/report.py",
        "        plots.require()\n",
        "        pass\n",
        "tests/integration/test_report_html.py -k matplotlib",
    ),
    Breakage(
        "forget what was in short slices when they become longer",
        "reports/timeline.py",
        "setdefault(self._begin(start_ms), _Sum()).merge(each)",
        "setdefault(self._begin(start_ms), each)",
        TIMELINE,
    ),
    Breakage(
        "show no time without traces",
        "reports/timeline.py",
        "first_ms, last_ms = min(first_ms, since_ms), max(last_ms, until_ms - 1)",
        "pass",
        TIMELINE,
    ),
    Breakage(
        "forget the longest duration of what is merged",
        "domain/quantiles.py",
        "self.max = other.max if self.max is None else max(self.max, other.max or 0.0)",
        "pass",
        "tests/unit/domain/test_quantiles.py",
    ),
    Breakage(
        "call a mistyped environment quiet",
        "reports/presence.py",
        "not _is_there(library, {**before, name: value}, now_ms)",
        "False",
        f"{REPORT} -k mistake_and",
    ),
    Breakage(
        "call a quiet environment mistyped",
        "reports/presence.py",
        "not _is_there(library, {**before, name: value}, now_ms)",
        "True",
        f"{REPORT} -k old_traces",
    ),
    Breakage(
        "check without trying to keep a ledger",
        "counting/ledger_look.py",
        "    _try_beside(path)\n",
        "",
        f"{LEDGER} -k check",
    ),
    Breakage(
        "leave a log that belongs to who checked",
        "counting/ledger_look.py",
        '"&immutable=1"',
        '""',
        f"{LEDGER} -k check",
    ),
    Breakage(
        "check what another exporter is about to hold",
        "counting/ledger_look.py",
        "if found and _is_held(path):",
        "if False:",
        f"{CLI} -k beside",
    ),
    Breakage(
        "let libraries tell of their retries",
        "logs.py",
        "level=max(least, logging.WARNING)",
        "level=logging.WARNING",
        f"{HEALTH} -k nothing_but",
    ),
    Breakage(
        "look in the text of a trace only for the value that a map makes of it",
        "domain/labels.py",
        "return (value, *(text for text, mapped in self.maps.get(name, {}).items() if clean(mapped) == value))",
        "return (value,)",
        QUERY,
    ),
    Breakage(
        "look for a default as if traces had it",
        "domain/labels.py",
        'if value in (UNKNOWN, self._value(name, "")):',
        "if value == UNKNOWN:",
        QUERY,
    ),
    Breakage(
        "look for what a pattern makes of a text",
        "tracking/query.py",
        " and source.pattern is None",
        "",
        QUERY,
    ),
    Breakage(
        "search as often as there are sources",
        "tracking/query.py",
        "<= MAX_SEARCHES and all(terms)",
        "<= 1_000 and all(terms)",
        QUERY,
    ),
    Breakage(
        "read a trace once for each search that finds it",
        "tracking/query.py",
        "yield from {record.trace_id: record for record in same_start}.values()",
        "yield from same_start",
        f"{ANSWERS} -k several_searches",
    ),
    Breakage(
        "match a part of a text",
        "domain/patterns.py",
        ".fullmatch(text)",
        ".search(text)",
        PATTERNS,
    ),
    Breakage(
        "match texts with half of a surrogate pair",
        "domain/patterns.py",
        "_replaced(self, shown(text[:MAX_TEXT]))",
        "_replaced(self, text[:MAX_TEXT])",
        PATTERNS,
    ),
    Breakage(
        "take any expression that fits into memory",
        "domain/patterns.py",
        "options.max_mem = MAX_MEMORY",
        "options.max_mem = 1 << 30",
        PATTERNS,
    ),
    Breakage(
        "map a default",
        "domain/labels.py",
        "return clean(self.defaults.get(name))",
        "return clean(self.maps.get(name, {}).get(self.defaults.get(name, ''), self.defaults.get(name)))",
        LABELS,
    ),
    Breakage(
        "count a default as a value of the trace",
        "metrics/families.py",
        "and (name not in rules.defaults or rules.has(name, record))",
        "",
        "tests/unit/metrics/test_meter.py",
    ),
    Breakage(
        "let a map loop",
        "settings/label_keys.py",
        "        if mapped in made:",
        "        if mapped in made and False:",
        "tests/unit/settings/test_config.py",
    ),
    Breakage(
        "forget what was counted with other labels",
        "counting/ledger_totals.py",
        "self._rename(name, _retired(name, before[name]), before[name])",
        'self._db.execute("DELETE FROM totals WHERE family = ?", name)',
        f"{LEDGER} -k dropped_and_added",
    ),
    Breakage(
        "do not count what is not exposed",
        "metrics/meter.py",
        "            observations = family.observe(what, labels)",
        "            observations = () if family.name in self._meter.excluded else family.observe(what, labels)",
        "tests/unit/test_wiring.py",
    ),
    Breakage(
        "count each span of a call",
        "domain/calls.py",
        "    if any(call.span.span_type not in _EMBEDDERS for call in under):\n        return False\n",
        "",
        f"{CALLS} -k nested",
    ),
    Breakage(
        "take an answer for an embedding",
        "domain/calls.py",
        "(generated and call.span.span_type in _EMBEDDERS)",
        "False",
        f"{CALLS} -k embedding",
    ),
    Breakage(
        "lose the spans of a circle",
        "domain/calls.py",
        "(*children[None], *spans.values())",
        "children[None]",
        f"{CALLS} -k circles",
    ),
    Breakage(
        "give the tokens of two models to one",
        "domain/calls.py",
        "    if len({(call.provider, call.model) for call in able}) != 1:\n        return ()\n",
        "",
        f"{CALLS} -k several_models",
    ),
    Breakage(
        "count a sum beside its parts",
        "domain/calls.py",
        "_has_tokens(usage) and not any(_has_tokens(call.usage) for call in under)",
        "_has_tokens(usage)",
        f"{CALLS} -k repeats",
    ),
    Breakage(
        "take the first event that was kept for that of the first chunk",
        "tracking/span_parsing.py",
        "ONCE | EACH if len(events) != KEPT_EVENTS else ONCE",
        "ONCE | EACH",
        f"{SPANS} -k kept",
    ),
    Breakage(
        "lose all attributes for one that is odd",
        "tracking/attributes.py",
        "        pieces = attempt(_PIECES, raw) or []\n",
        "        pieces: list[Raw] = []\n",
        f"{SPANS} -k odd",
    ),
    Breakage(
        "believe that a span took 10,000 years",
        "tracking/span_parsing.py",
        "0 <= found - start_ns <= MAX_AMOUNT * NS_PER_MS",
        "0 <= found - start_ns",
        f"{SPANS} -k without_an_end",
    ),
    Breakage(
        "decode the prompts",
        "tracking/attributes.py",
        "{each.key: each.value for each in _ATTRIBUTES.read(raw)}",
        "{each.key: each.value for each in _ATTRIBUTES.read(raw) if value_in(each.value)}",
        f"{SPANS} -k prompts",
    ),
    Breakage(
        "spans: repeat a request that was not answered as it was",
        "tracking/span_source.py",
        "self._max_traces = max(1, len(batch) // SHRINKING)",
        "pass",
        f"{SPAN_SOURCE} -k smaller",
    ),
    Breakage(
        "spans: let one trace stop all if it breaks the connection",
        "tracking/span_source.py",
        "        if error.reason is Reason.THROTTLED:",
        "        if error.reason in (Reason.THROTTLED, Reason.UNREACHABLE):",
        f"{SPAN_SOURCE} -k smaller",
    ),
    Breakage(
        "spans: ask for traces of which MLflow cannot return any",
        "tracking/span_source.py",
        'record.tags.get("mlflow.trace.spansLocation") in READABLE',
        "True",
        f"{SPAN_SOURCE} -k cannot_return",
    ),
    Breakage(
        "spans: take as many traces as there are, whatever their size",
        "tracking/span_source.py",
        "fits = size <= BATCH_BYTES and",
        "fits =",
        f"{SPAN_SOURCE} -k size",
    ),
    Breakage(
        "spans: lose what was read before an error",
        "counting/span_reader.py",
        "            return Completed(tuple(completed), later, error)",
        "            raise error",
        f"{INSIDE} -k before_an_error",
    ),
    Breakage(
        "spans: do not wait for them",
        "counting/span_reader.py",
        "if now_ms - _ended_ms(record, now_ms) < PATIENCE_MS]",
        "if False]",
        f"{INSIDE} -k waits",
    ),
    Breakage(
        "spans: wait for a trace until the clock of its application is right",
        "counting/span_reader.py",
        "return ended_ms if ended_ms <= now_ms else record.seen_ms",
        "return ended_ms",
        f"{INSIDE} -k ahead",
    ),
    Breakage(
        "spans: take traces that wait for a backlog",
        "counting/tally.py",
        "completed.reached == final",
        "len(completed.records) == final",
        f"{INSIDE} -k backlog",
    ),
    Breakage(
        "spans: let new traces wait for those of old ones",
        "counting/span_reader.py",
        "                if monotonic() > until_s:\n                    break\n",
        "",
        f"{INSIDE} -k new_traces",
    ),
    Breakage(
        "spans: request those of each trace by itself of a server that has none",
        "tracking/source.py",
        "                self._features.pop(Feature.SPANS, None)\n",
        "                pass\n",
        f"{ANSWERS} -k no_longer_returns",
    ),
    Breakage(
        "spans: let new traces wait for late spans",
        "counting/span_reader.py",
        "            if monotonic() > until_s and again.intersection(",
        "            if False and again.intersection(",
        f"{LATE_INSIDE} -k new_traces",
    ),
    Breakage(
        "spans: lose growth if they are never found",
        "counting/span_reader.py",
        " if each.start_ms >= closed_ms}",
        "}",
        f"{LATE_INSIDE} -k never_found",
    ),
    Breakage(
        "spans: count a late call twice",
        "domain/late_spans.py",
        "unknown = own.less(known.get(call.span_id, _NOTHING))",
        "unknown = own",
        f"{LATE_SPANS} {LATE_INSIDE}",
    ),
    Breakage(
        "spans: add what a span above was counted with",
        "domain/late_spans.py",
        "paid = _Sums.over([each.less(sums.get(span_id, _NOTHING)) for span_id, each in known.items()])",
        "paid = _NOTHING",
        f"{LATE_SPANS} {LATE_INSIDE}",
    ),
    Breakage(
        "spans: do not tell growth that no call explains",
        "metrics/meter.py",
        "        self._differing.update(differences(change))\n",
        "",
        f"{LATE_INSIDE} -k told",
    ),
    Breakage(
        "spans: postpone a final trace whenever it is read",
        "domain/triage.py",
        "next_ms=min(at.next_ms, record.seen_ms)",
        "next_ms=record.seen_ms",
        f"{TRIAGE} -k due_since",
    ),
    Breakage(
        "spans: mix series of traces and of calls",
        "settings/config.py",
        '"spans": self.spans.enabled and names in',
        '"spans": False and names in',
        "tests/unit/settings/test_config.py -k labels_of_calls",
    ),
    Breakage(
        "assessments: count what is overridden",
        "domain/assessed.py",
        "return assessment if assessment.valid else replace(assessment, value=None, failed=False)",
        "return assessment",
        f"{ASSESSED} -k overridden",
    ),
    Breakage(
        "assessments: add the cost of an edited one again",
        "domain/assessed.py",
        "return replace(assessment, cost_usd=None) if assessment.valid and was_valid else None",
        "return assessment if assessment.valid and was_valid else None",
        f"{ASSESSED} -k edited",
    ),
    Breakage(
        "assessments: count one that is valid again",
        "domain/assessed.py",
        "if assessment.valid and was_valid else None",
        "if assessment.valid else None",
        f"{ASSESSED} -k valid_again",
    ),
    Breakage(
        "assessments: make a label of free text",
        "tracking/assessment_parsing.py",
        "is_word = len(value) <= MAX_WORD_LENGTH and len(value.split()) <= MAX_WORDS",
        "is_word = True",
        "tests/unit/tracking/test_assessment_parsing.py -k values",
    ),
    Breakage(
        "assessments: tell 4 and 4.0 apart",
        "tracking/assessment_parsing.py",
        "return float(value) if abs(value) <= MAX_AMOUNT else repr(value)",
        "return repr(value)",
        "tests/unit/tracking/test_assessment_parsing.py -k forms",
    ),
    Breakage(
        "assessments: subtract a negative score",
        "tracking/assessment_parsing.py",
        "score = amount(value)",
        "score = value",
        "tests/unit/tracking/test_assessment_parsing.py -k values",
    ),
    Breakage(
        "assessments: read a step again whenever something is new",
        "counting/assessment_auditor.py",
        " + REST_S * len(page.records)",
        "",
        f"{LATE_ASSESSMENTS} -k again_and_again",
    ),
    Breakage(
        "assessments: read the same step first each time",
        "counting/assessment_auditor.py",
        "key=lambda each: (self._read_s.get(each, -math.inf), -each)",
        "key=lambda each: -each",
        f"{LATE_ASSESSMENTS} -k longest_ago",
    ),
    Breakage(
        "assessments: go on counting those that are gone",
        "counting/assessment_auditor.py",
        "        self._ledger.forget_forms(step, there)\n",
        "",
        f"{LATE_ASSESSMENTS} -k deleted_one_is_counted",
    ),
    Breakage(
        "assessments: let those that are counted later hide others",
        "counting/assessment_auditor.py",
        "if self._ledger.assessment_counts(step) == explained.here:",
        "if True:",
        f"{LATE_ASSESSMENTS} -k hides_no_other",
    ),
    Breakage(
        "assessments: believe that a thousand counts are all",
        "tracking/client.py",
        "if len(points) >= MAX_COUNTS or _token(answer):\n        return None",
        "if False:\n        return None",
        "tests/unit/tracking/test_source.py -k assessment",
    ),
    Breakage(
        "assessments: delay polls by an audit of many ranges",
        "counting/assessment_auditor.py",
        "while self._left[late] and monotonic() < deadline_s:",
        "while self._left[late]:",
        f"{LATE_ASSESSMENTS} -k no_time_left",
    ),
    Breakage(
        "assessments: forget ids by a clock alone",
        "counting/reader.py",
        "until_ms = min(now.earliest_ms, newest_ms) - self._settings.assessments_ms",
        "until_ms = now.earliest_ms - self._settings.assessments_ms",
        f"{LATE_ASSESSMENTS} -k clock_that_is_ahead",
    ),
    Breakage(
        "assessments: count those of a trace that is not counted",
        "counting/tally.py",
        "done = [(record, None) for record in batch.counted]",
        "done = [(record, None) for record in records]",
        f"{LATE_ASSESSMENTS} -k wait_for_it",
    ),
    Breakage(
        "assessments: count a week at once after an upgrade",
        "counting/reader.py",
        "        if not self._meter.with_assessments:\n            until_ms",
        "        if False:\n            until_ms",
        f"{LATE_ASSESSMENTS} -k upgrade",
    ),
    Breakage(
        "assessments: rate a score that is just not enough as good",
        "domain/objectives.py",
        "self.at_least is not None and value >= self.at_least",
        "self.at_least is not None and value >= self.at_least - 0.01",
        f"{LATE_ASSESSMENTS} -k ratings",
    ),
    Breakage(
        "assessments: show scores of words",
        "metrics/assessments.py",
        "    elif each.value is not None:\n",
        "    if True:\n",
        f"{LATE_ASSESSMENTS} -k only_scores",
    ),
    Breakage(
        "assessments: try the step that cannot be read first each time",
        "counting/assessment_auditor.py",
        "step, self._read_s[at] = self._suspects[at], self._clock_s()",
        "step = self._suspects[at]",
        f"{LATE_ASSESSMENTS} -k hold_up",
    ),
    Breakage(
        "assessments: lose a range that takes too long to count",
        "counting/assessment_auditor.py",
        "                self._left[late] += split(window, BUCKET_MS)\n            raise",
        "                pass\n            raise",
        f"{LATE_ASSESSMENTS} -k in_time_is_split",
    ),
    Breakage(
        "assessments: forget those of traces that wait to be counted",
        "counting/reader.py",
        "until_ms if first_ms is None else min(until_ms, first_ms)",
        "until_ms",
        f"{LATE_ASSESSMENTS} -k wait_to_be_counted",
    ),
    Breakage(
        "assessments: forget by clocks that are ahead while none are counted",
        "counting/reader.py",
        "until_ms = min(horizon.closed_ms, newest_ms)",
        "until_ms = horizon.closed_ms",
        f"{LATE_ASSESSMENTS} -k while_none",
    ),
    Breakage(
        "active users: forget them because of a clock alone",
        "counting/reader.py",
        "self._ledger.active.forget(min(now.earliest_ms, self._ledger.newest_ms()))",
        "self._ledger.active.forget(now.earliest_ms)",
        f"{ACTIVE} -k a_clock_alone",
    ),
    Breakage(
        "active users: keep what was not committed",
        "counting/ledger_active.py",
        "recent, self._recent = self._recent, {}",
        "recent = self._recent",
        f"{ACTIVE} -k adds_nobody",
    ),
    Breakage(
        "active users: estimate them in another way after a restart",
        "counting/sketches.py",
        "        if not before:\n",
        "        if before is None:\n",
        f"{ACTIVE} -k restart",
    ),
    Breakage(
        "active users: give the library bytes that are damaged",
        "counting/ledger_contents.py",
        "        and is_sound(sketch)\n",
        "",
        f"{LEDGER} -k cannot_have_been_written",
    ),
)


def main(words: list[str]) -> int:
    """Try all breakages that have one of the words in their name; how many tests stayed green."""
    chosen = [each for each in BREAKAGES if not words or any(word in each.name for word in words)]
    if misfits := [each.name for each in chosen if not each.fits()]:
        sys.exit(f"the code has changed, and these do not fit it any more: {', '.join(misfits)}")
    survivors = 0
    for number, breakage in enumerate(chosen, 1):
        caught = _is_caught(breakage)
        survivors += not caught
        print(f"{number:2}/{len(chosen)}  {'caught  ' if caught else 'SURVIVED'}  {breakage.name}", flush=True)  # noqa: T201 - its output
    return min(survivors, 1)


def _is_caught(breakage: Breakage) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "project"
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        file = copy / breakage.path
        file.write_text(file.read_text(encoding="utf-8").replace(breakage.old, breakage.new), encoding="utf-8")
        command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {breakage.tests}"
        run = subprocess.run(
            command,
            shell=True,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": f"{copy / PACKAGE.parent}:{copy}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode not in (0, 1):  # no test was selected, say
            sys.exit(f"{breakage.name}: {run.stdout}{run.stderr}")
        return run.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
