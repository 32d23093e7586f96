"""Which workspaces are read, and the experiments in them."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mlflow_trace_exporter.domain.globs import is_name, matches
from mlflow_trace_exporter.errors import PollError, Reason
from mlflow_trace_exporter.tracking import filters
from mlflow_trace_exporter.tracking.client import Client
from mlflow_trace_exporter.tracking.experiments import NO_WORKSPACES, Experiment, Workspaces

log = logging.getLogger(__name__)

SERVER_AGE_MS = 600_000
"""How long a server without workspaces is not asked again whether it has them, because servers are reconfigured."""

_NOT_ANSWERED = (Reason.UNREACHABLE, Reason.TIMEOUT, Reason.THROTTLED, Reason.SERVER_ERROR)


class WorkspaceReader:
    """Reads the experiments of all selected workspaces.

    ``selectors`` are names, or globs of names. Without selectors all workspaces that the server shows are read. A
    server without workspaces is read as a whole.

    A workspace that MLflow denies access to, or to its traces, is left out, so that it does not stop the others. It is
    tried again each time. If MLflow denies access to all, that is an error.
    """

    def __init__(self, client: Client, selectors: Sequence[str], now_ms: Callable[[], int]) -> None:
        self._client = client
        self._selectors = tuple(selectors)
        self._now_ms = now_ms
        self._without_ms: int | None = None
        """When the server last had no workspaces (Unix ms)."""
        self._had_workspaces = False
        self._denied: set[str] = set()
        self.selected = NO_WORKSPACES
        """The workspaces of the last call of ``experiments``."""

    def experiments(self) -> list[Experiment]:
        """All active experiments of the selected workspaces. Raises PollError."""
        if not self._has_workspaces():
            return self._without_workspaces()
        listed = self._client.workspaces()
        names, unmatched = choose(listed, self._selectors)
        if not names and not unmatched:
            return self._of_default()
        asked = {name: self._ask(name, name in listed) for name in names}
        found = {name: answer for name, answer in asked.items() if isinstance(answer, list)}
        denials = {name: answer for name, answer in asked.items() if isinstance(answer, PollError)}
        self._note_denials(found, denials)
        self.selected = Workspaces(
            {name: name in found for name in (*found, *denials)},
            (*unmatched, *(name for name, answer in asked.items() if answer is None)),
            listed,
        )
        if denials and not found:
            raise next(iter(denials.values()))
        return [each for experiments in found.values() for each in experiments]

    def _has_workspaces(self) -> bool:
        """Whether the server has workspaces. A server has none if it refuses the question, because it is older than
        workspaces. But if it had some, a refusal comes from something else, such as a proxy, and is an error."""
        if self._without_ms is not None and 0 <= self._now_ms() - self._without_ms < SERVER_AGE_MS:
            return False
        try:
            self._had_workspaces = self._client.has_workspaces()
        except PollError as error:
            if self._had_workspaces or error.reason in _NOT_ANSWERED:
                raise
        return self._had_workspaces

    def _without_workspaces(self) -> list[Experiment]:
        if self._selectors:
            raise PollError(
                Reason.CONFIGURATION,
                "mlflow.workspaces (by default MLFLOW_WORKSPACE) selects workspaces, but MLflow at"
                f" {self._client.tracking_uri} has none; remove it, or start MLflow with --enable-workspaces",
            )
        found = [replace(each, workspace=None) for each in self._client.experiments()]
        self._without_ms = self._now_ms()  # not earlier: a refusal of everything says nothing about workspaces
        self.selected = NO_WORKSPACES
        return found

    def _ask(self, name: str, is_listed: bool) -> list[Experiment] | PollError | None:
        """The experiments of a workspace, or why it cannot be read; None if it does not exist. Raises PollError if
        MLflow does not answer."""
        try:
            return self._readable(name)
        except PollError as error:
            if error.reason is Reason.CREDENTIALS:
                return error
            if error.reason is Reason.CONFIGURATION and not is_listed:
                return None
            raise

    def _readable(self, name: str) -> list[Experiment]:
        """The experiments of a workspace. Raises PollError also if their traces may not be read: MLflow has permissions
        on experiments, and on the traces of a workspace."""
        found = [replace(each, workspace=name) for each in self._client.experiments(name)]
        for each in found[:1]:
            self._client.search([each.experiment_id], filters.NOTHING, workspace=name)
        return found

    def _of_default(self) -> list[Experiment]:
        """The experiments of the server's default workspace. A user who may read some of its experiments, but has no
        role in it, is shown no workspaces."""
        found = self._client.experiments()
        self.selected = Workspaces({each.workspace: True for each in found if each.workspace}, default_only=True)
        return found

    def _note_denials(self, found: Iterable[str], denials: Mapping[str, PollError]) -> None:
        for name, error in denials.items():
            if name not in self._denied:
                log.warning("a workspace cannot be read", extra={"workspace": name, "error": str(error)})
        for name in sorted(self._denied & {*found}):
            log.info("a workspace can be read again", extra={"workspace": name})
        self._denied = {*denials}


def choose(listed: Sequence[str], selectors: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Select workspaces by names or globs of names; without selectors all that are listed. A name that is not listed is
    selected, too: MLflow does not list a workspace to a user who may only read some of its experiments. Returns the
    names, and the globs that match none. Pure."""
    if not selectors:
        return tuple(listed), ()
    found = {selector: _selected(listed, selector) for selector in selectors}
    names = dict.fromkeys(name for selected in found.values() for name in selected)
    return tuple(names), tuple(selector for selector, selected in found.items() if not selected)


def _selected(listed: Sequence[str], selector: str) -> list[str]:
    return [selector] if is_name(selector) else [name for name in listed if matches(selector, name)]
