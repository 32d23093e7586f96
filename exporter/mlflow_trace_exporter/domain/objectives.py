"""Service level objectives by environment. Pure.

The objectives are exposed as metrics, and rules and dashboards join on them. So a threshold is set in the configuration
and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.shown import shown

WILDCARDS = frozenset("*?[")


def pattern(environment: str) -> str:
    """Convert an objective's environment to the form that is compared with labels. Names and globs are cleaned like a
    label, but a glob is not truncated, because it can be longer than what it matches. Raises ValueError if blank."""
    if not environment.strip():
        raise ValueError("name an environment, or a glob of environment names")
    return shown(environment.strip()) if WILDCARDS & set(environment) else clean(environment)


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective of an ``environment`` (a label value, or a glob of them, see ``pattern``). At most ``error_ratio``
    of its traces may fail. At least ``latency_ratio`` of them must take no longer than ``latency_s``. A day may cost
    ``cost_usd_per_day``. None: no objective. A ratio over fewer than ``min_traces`` is not significant."""

    environment: str
    error_ratio: float | None = None
    latency_s: float | None = None
    latency_ratio: float | None = None
    cost_usd_per_day: float | None = None
    min_traces: int = 20


@dataclass(frozen=True, slots=True)
class Objectives:
    """The objectives of the configuration. The first match wins."""

    all: tuple[Objective, ...] = ()

    def of(self, environment: str) -> Objective | None:
        """The objective of an environment, None if it has none."""
        return next((each for each in self.all if fnmatchcase(environment, each.environment)), None)

    def latency_s(self, environment: str) -> float | None:
        """A trace of this environment that takes longer than this is slow; None if no trace is."""
        found = self.of(environment)
        return found.latency_s if found else None

    @property
    def least_latency_s(self) -> float | None:
        """The lowest latency objective of all environments; None if there is none."""
        return min((each.latency_s for each in self.all if each.latency_s is not None), default=None)

    def by_environment(self, environments: Iterable[str]) -> Mapping[str, Objective]:
        """The objectives of these environments, and of those that the configuration names without a glob: they have an
        objective before they have traces."""
        named = (each.environment for each in self.all if not WILDCARDS & set(each.environment))
        found = {environment: self.of(environment) for environment in sorted({*environments, *named})}
        return {environment: each for environment, each in found.items() if each is not None}

    def with_edges(self, edges_s: Iterable[float]) -> tuple[float, ...]:
        """Bucket edges of a duration histogram plus each latency objective, so that slow traces are counted exactly."""
        latencies = (each.latency_s for each in self.all if each.latency_s is not None)
        return tuple(sorted({*edges_s, *latencies}))
