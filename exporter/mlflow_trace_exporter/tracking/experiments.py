"""Which experiments are read. Pure."""

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.listed import did_you_mean, few
from mlflow_trace_exporter.shown import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment of the server; ``created_ms`` (Unix ms) tells it from one of the same id on another server."""

    experiment_id: str
    name: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Selection:
    """``chosen``: by id. ``unmatched``: selectors that choose none. ``active``: the names of all there are."""

    chosen: Mapping[str, Experiment]
    unmatched: tuple[str, ...]
    active: tuple[str, ...]

    @property
    def names(self) -> dict[str, str]:
        """The names of those that are chosen, by id."""
        return {each.experiment_id: each.name for each in self.chosen.values()}

    def complaint(self, uri: str) -> str:
        """What to say where none is chosen."""
        meant = did_you_mean(self.unmatched[0], self.active) if self.unmatched else ""
        return shown(
            f"mlflow.experiments: {few(self.unmatched) or 'all'} selects none of the {len(self.active):,} active"
            f" experiments at {uri}: {few(self.active)}{meant}"
        )

    def log(self) -> None:
        """Say what is read from now on."""
        names = few(sorted(self.names.values()))
        log.info("experiments selected", extra={"count": len(self.chosen), "experiments": names})
        if self.unmatched or not self.chosen:
            log.warning("no experiment matches yet", extra={"selectors": few(self.unmatched)})


def select(active: Sequence[Experiment], selectors: Sequence[str]) -> Selection:
    """Choose by ids, names or globs of names; no selector chooses all."""
    found = {selector: [each for each in active if _selects(selector, each)] for selector in selectors}
    chosen = [each for matches in found.values() for each in matches] if selectors else active
    return Selection(
        {each.experiment_id: each for each in chosen},
        tuple(selector for selector, matches in found.items() if not matches),
        tuple(sorted(each.name for each in active)),
    )


def created_s(experiments: Iterable[Experiment], shown_labels: Container[str]) -> dict[str, float]:
    """When the experiments with these labels were created (Unix seconds), as far as MLflow knows; of several with one
    label the oldest."""
    found = [(clean(each.name), each.created_ms) for each in experiments if each.created_ms]
    return {label: created_ms / 1000 for label, created_ms in sorted(found, reverse=True) if label in shown_labels}


def _selects(selector: str, experiment: Experiment) -> bool:
    return selector in (experiment.experiment_id, experiment.name) or fnmatchcase(experiment.name, selector)
