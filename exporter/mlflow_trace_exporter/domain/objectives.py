"""What is good enough, by environment. Pure.

The objectives are published as metrics, and rules and dashboards join on them: a threshold stands in the configuration
and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.shown import shown

WILDCARDS = frozenset("*?[")


def pattern(environment: str) -> str:
    """An objective's environment as it is compared with labels: a name is cleaned like a label, and so is a glob, which
    is not cut, because it can be longer than what it matches. Raises ValueError for one that is blank."""
    if not environment.strip():
        raise ValueError("name an environment, or a glob of their names")
    return shown(environment.strip()) if WILDCARDS & set(environment) else clean(environment)


@dataclass(frozen=True, slots=True)
class Objective:
    """``environment`` is a label's value, or a glob of such values, see ``pattern``. At most ``error_ratio`` of its
    traces may fail, and at least ``latency_ratio`` of them must take no longer than ``latency_s``; a day may cost
    ``cost_usd_per_day``. None: no objective. Fewer than ``min_traces`` say nothing about a ratio."""

    environment: str
    error_ratio: float | None = None
    latency_s: float | None = None
    latency_ratio: float | None = None
    cost_usd_per_day: float | None = None
    min_traces: int = 20


@dataclass(frozen=True, slots=True)
class Objectives:
    """Those of the configuration; of two that match the first one counts."""

    all: tuple[Objective, ...] = ()

    def of(self, environment: str) -> Objective | None:
        """The one for an environment, None if there is none."""
        return next((each for each in self.all if fnmatchcase(environment, each.environment)), None)

    def latency_s(self, environment: str) -> float | None:
        """Above how many seconds a trace is slow there; None where nothing is."""
        found = self.of(environment)
        return found.latency_s if found else None

    @property
    def least_latency_s(self) -> float | None:
        """No trace that is faster is slow anywhere; None if none is."""
        return min((each.latency_s for each in self.all if each.latency_s is not None), default=None)

    def by_environment(self, environments: Iterable[str]) -> Mapping[str, Objective]:
        """The objective for each of these environments, and for those that are named: they have one before they have
        traces."""
        named = (each.environment for each in self.all if not WILDCARDS & set(each.environment))
        found = {environment: self.of(environment) for environment in sorted({*environments, *named})}
        return {environment: each for environment, each in found.items() if each is not None}

    def with_edges(self, edges_s: Iterable[float]) -> tuple[float, ...]:
        """Edges of a histogram of durations, and each latency as one more: so that it tells exactly what is slow."""
        latencies = (each.latency_s for each in self.all if each.latency_s is not None)
        return tuple(sorted({*edges_s, *latencies}))
