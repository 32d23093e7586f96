"""Selects the experiments to read. Pure."""

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.shown import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment of the server. ``created_ms`` (Unix ms) distinguishes it from one with the same id on another
    server."""

    experiment_id: str
    name: str
    created_ms: int
    tags: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected experiments. ``chosen``: by id. ``unmatched``: selectors that match no experiment. ``active``: the names
    of all active experiments."""

    chosen: Mapping[str, Experiment]
    unmatched: tuple[str, ...]
    active: tuple[str, ...]

    @property
    def names(self) -> dict[str, str]:
        """The names of the selected experiments by id."""
        return {each.experiment_id: each.name for each in self.chosen.values()}

    def complaint(self, uri: str) -> str:
        """The error message if no experiment is selected."""
        meant = did_you_mean(self.unmatched[0], self.active) if self.unmatched else ""
        return shown(
            f"mlflow.experiments: {few(self.unmatched) or 'all'} selects none of the {len(self.active):,} active"
            f" experiments at {uri}: {few(self.active)}{meant}"
        )

    def log(self) -> None:
        """Log which experiments are read from now on."""
        names = few(sorted(self.names.values()))
        log.info("experiments selected", extra={"count": len(self.chosen), "experiments": names})
        if self.unmatched or not self.chosen:
            log.warning("no experiment matches yet", extra={"selectors": few(self.unmatched)})


def select(active: Sequence[Experiment], selectors: Sequence[str]) -> Selection:
    """Select experiments by ids, names or globs of names. Without selectors all are selected."""
    found = {selector: [each for each in active if _selects(selector, each)] for selector in selectors}
    chosen = [each for matches in found.values() for each in matches] if selectors else active
    return Selection(
        {each.experiment_id: each for each in chosen},
        tuple(selector for selector, matches in found.items() if not matches),
        tuple(sorted(each.name for each in active)),
    )


def created_s(experiments: Iterable[Experiment], shown_labels: Container[str]) -> dict[str, float]:
    """When the experiments with these labels were created (Unix seconds), if MLflow knows. If several experiments have
    the same label the oldest one is used."""
    found = [(clean(each.name), each.created_ms) for each in experiments if each.created_ms]
    return {label: created_ms / 1000 for label, created_ms in sorted(found, reverse=True) if label in shown_labels}


def _selects(selector: str, experiment: Experiment) -> bool:
    return selector in (experiment.experiment_id, experiment.name) or fnmatchcase(experiment.name, selector)
