"""Selects the experiments to read. Pure."""

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_trace_exporter.domain.globs import matches
from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.domain.shards import THE_WHOLE, Shard
from mlflow_trace_exporter.domain.workspaces import SEPARATOR, qualified
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.shown import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment of the server. ``created_ms`` (Unix ms) distinguishes it from one with the same id on another
    server. ``workspace``: None if the server has none."""

    experiment_id: str
    name: str
    created_ms: int
    tags: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    workspace: str | None = None

    @property
    def unique_name(self) -> str:
        """The name that no other experiment of the server has, and its label: with the workspace, if it has one."""
        return qualified(self.workspace, self.name)


@dataclass(frozen=True, slots=True)
class Workspaces:
    """Selected workspaces. ``readable``: whether each may be read, by name; empty if the server has no workspaces.
    ``unmatched``: selectors that match no workspace. ``shown``: all names that the server shows. ``default_only``: it
    shows none, so the default one is read."""

    readable: Mapping[str, bool] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    default_only: bool = False

    def complaint(self, uri: str) -> str:
        """The error message if no workspace is selected, "" if one is or the server has none."""
        if self.default_only:
            return (
                f"MLflow at {uri} shows this user no workspaces; name some in mlflow.workspaces, or give the"
                " user a role in them"
            )
        if self.readable or not self.unmatched:
            return ""
        names, meant = few(self.shown), did_you_mean(self.unmatched[0], self.shown)
        return shown(
            f"mlflow.workspaces: {few(self.unmatched)} selects none of the {len(self.shown):,} workspaces that MLflow"
            f" at {uri} shows this user{': ' if names else ''}{names}{meant}"
        )


NO_WORKSPACES = Workspaces()


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected experiments. ``chosen``: by id. ``unmatched``: selectors that match no experiment. ``active``: the names
    of all active experiments in ``workspaces``. ``in_others``: how many are selected, but in other shards."""

    chosen: Mapping[str, Experiment]
    unmatched: tuple[str, ...]
    active: tuple[str, ...]
    workspaces: Workspaces = NO_WORKSPACES
    shard: Shard = THE_WHOLE
    in_others: int = 0

    @property
    def names(self) -> dict[str, str]:
        """The unique names of the selected experiments by id."""
        return {each.experiment_id: each.unique_name for each in self.chosen.values()}

    def complaint(self, uri: str) -> str:
        """The error message if no experiment is selected."""
        if self.in_others:
            return (
                f"--shard: none of the {self.in_others:,} selected experiments at {uri} is in shard {self.shard} yet;"
                " it waits for new ones"
            )
        if not self.active and (problem := self.workspaces.complaint(uri)):
            return problem
        if not self.active and self.workspaces.readable:
            return f"MLflow at {uri} shows this user no experiments in the workspaces {few(self.workspaces.readable)}"
        meant = did_you_mean(self.unmatched[0], self.active) if self.unmatched else ""
        return shown(
            f"mlflow.experiments: {few(self.unmatched) or 'all'} selects none of the {len(self.active):,} active"
            f" experiments at {uri}: {few(self.active)}{meant}"
        )

    def log(self) -> None:
        """Log which experiments are read from now on."""
        names = few(sorted(self.names.values()))
        log.info("experiments selected", extra={"count": len(self.chosen), "experiments": names})
        if self.workspaces.unmatched:
            log.warning("no workspace matches yet", extra={"selectors": few(self.workspaces.unmatched)})
        if self.in_others and not self.chosen:
            log.info("no experiment is in this shard yet", extra={"shard": self.shard, "in_others": self.in_others})
        elif self.unmatched or not self.chosen:
            log.warning("no experiment matches yet", extra={"selectors": few(self.unmatched)})


def select(
    active: Sequence[Experiment],
    selectors: Sequence[str],
    workspaces: Workspaces = NO_WORKSPACES,
    shard: Shard = THE_WHOLE,
) -> Selection:
    """Select experiments by ids, names or globs of names, and of those the ones of a shard. Without selectors all are
    selected. A selector with a slash, such as ``team-a/*``, is also compared with unique names."""
    found = {selector: [each for each in active if _selects(selector, each)] for selector in selectors}
    chosen = [each for matches in found.values() for each in matches] if selectors else active
    by_id = {each.experiment_id: each for each in chosen}
    of_shard = {experiment_id: each for experiment_id, each in by_id.items() if shard.has(experiment_id)}
    return Selection(
        of_shard,
        tuple(selector for selector, selected in found.items() if not selected),
        tuple(sorted(each.unique_name for each in active)),
        workspaces,
        shard,
        len(by_id) - len(of_shard),
    )


def created_s(experiments: Iterable[Experiment], shown_labels: Container[str]) -> dict[str, float]:
    """When the experiments with these labels were created (Unix seconds), if MLflow knows. If several experiments have
    the same label the oldest one is used."""
    found = [(clean(each.unique_name), each.created_ms) for each in experiments if each.created_ms]
    return {label: created_ms / 1000 for label, created_ms in sorted(found, reverse=True) if label in shown_labels}


def _selects(selector: str, experiment: Experiment) -> bool:
    names = (experiment.name, *([experiment.unique_name] if SEPARATOR in selector else []))
    return selector == experiment.experiment_id or any(matches(selector, name) for name in names)
