"""The start time from which the traces of each experiment are counted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from mlflow_trace_exporter.domain.clocks import Clocks
from mlflow_trace_exporter.domain.horizon import BUCKET_MS, Horizon, Window
from mlflow_trace_exporter.domain.moments import LATEST_MS
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.ledger.ledger import Ledger, Origin
from mlflow_trace_exporter.tracking.experiments import Experiment


class Origins:
    """The origins of experiments in the ledger, and their workspaces. A new experiment is counted from its creation. An
    existing one that is selected later is counted from that time. All are counted up to ``until_ms``."""

    def __init__(self, ledger: Ledger, until_ms: int | None = None) -> None:
        self._ledger = ledger
        self._until_ms = LATEST_MS if until_ms is None else until_ms
        self._known: Mapping[str, Origin] = {}

    def of(self, experiment_id: str) -> int:
        """The start time from which the traces of an experiment are counted (Unix ms); 0 for an unknown experiment."""
        origin = self._known.get(experiment_id)
        return 0 if origin is None else origin.origin_ms

    def counted(self, records: Iterable[TraceRecord]) -> list[TraceRecord]:
        """Those traces that started late enough, and early enough, to be counted."""
        return [each for each in records if self.of(each.experiment_id) <= each.start_ms < self._until_ms]

    def part(self, window: Window) -> Window | None:
        """The part of a window in which traces are counted at all; None if there is none."""
        hi_ms = min(window.hi_ms, self._until_ms)
        return replace(window, hi_ms=hi_ms) if window.lo_ms < hi_ms else None

    def since(self, window: Window, experiment_ids: Iterable[str]) -> Iterator[tuple[Window, list[str]]]:
        """The window in which the traces of each experiment are counted, with the experiments that have it."""
        hi_ms = min(window.hi_ms, self._until_ms)
        groups: dict[int, list[str]] = {}  # most experiments have the same origin
        for experiment_id in experiment_ids:
            groups.setdefault(max(window.lo_ms, self.of(experiment_id)), []).append(experiment_id)
        for lo_ms, ids in groups.items():
            if lo_ms < hi_ms:
                yield replace(window, lo_ms=lo_ms, hi_ms=hi_ms), ids

    def learn(self, experiments: Mapping[str, Experiment], now: Clocks, horizon: Horizon, overlap_ms: int) -> None:
        """Store the origins and workspaces of new experiments, before their traces are counted. Raises PollError if the
        ledger belongs to another MLflow server."""
        self._known = self._known or self._ledger.origins()
        ahead = {key: each for key, each in self._known.items() if each.origin_ms > now.latest_ms + BUCKET_MS}
        if ahead:  # a clock was ahead
            self._add({key: replace(each, origin_ms=now.latest_ms) for key, each in ahead.items()})
        workspaces = {each.workspace for each in experiments.values() if each.workspace is not None}
        if not workspaces <= self._ledger.workspaces():
            self._ledger.add_workspaces(workspaces)
        new = [each for each in experiments.values() if not self._is_known(each)]
        missed = {each for each in new if _was_there(each, horizon, overlap_ms)}
        for each in missed:
            if each.experiment_id in self._known:
                raise PollError(
                    Reason.LEDGER,
                    f"the ledger belongs to another MLflow server: experiment {each.experiment_id} of that server is"
                    f" not {each.name!r} of this one; set another ledger.path, or move the ledger away",
                )
        if new:
            begun = {each: now.earliest_ms if each in missed else 0 for each in new}
            self._add({each.experiment_id: Origin(each.created_ms, begun[each]) for each in new})

    def _add(self, origins: Mapping[str, Origin]) -> None:
        self._ledger.add_origins(origins)
        self._known = self._ledger.origins()

    def _is_known(self, experiment: Experiment) -> bool:
        known = self._known.get(experiment.experiment_id)
        return known is not None and known.created_ms == experiment.created_ms


def _was_there(experiment: Experiment, horizon: Horizon, overlap_ms: int) -> bool:
    """Whether an experiment existed at the last fresh pass but was not selected, so that its traces were skipped on
    purpose."""
    return horizon.fresh_ms is not None and experiment.created_ms < horizon.fresh_ms - overlap_ms
