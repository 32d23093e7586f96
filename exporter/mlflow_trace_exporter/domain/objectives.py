"""Service level objectives by application and environment. Pure.

An application is an MLflow experiment. The objectives are exposed as metrics, and rules and dashboards join on them. So
a threshold is set in the configuration and nowhere else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

from mlflow_trace_exporter.domain.globs import ANY, is_name, matches
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.labels import LabelValues, clean
from mlflow_trace_exporter.shown import shown

MAX_CACHED = 10_000
"""For how many applications and environments the objective is remembered, because each trace needs it."""


def pattern(text: str) -> str:
    """Convert a name, or a glob of names, to the form that is compared with labels. Both are cleaned like a label, but
    a glob is not truncated, because it can be longer than what it matches. Raises ValueError if blank."""
    if not text.strip():
        raise ValueError("is empty; write a name, or a glob of names")
    return clean(text) if is_name(text) else shown(text.strip())


def _covers(pattern: str, other: str) -> bool:
    """Whether a pattern certainly matches every name that another one matches."""
    return pattern in (ANY, other) or (is_name(other) and matches(pattern, other))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The objective for the assessments of one name (``assessment``, a label value): at least ``ratio`` of them must be
    good. A word is good if it is one of ``good``, in any case, a score if it is ``at_least``; None: no score is."""

    assessment: str
    ratio: float
    good: frozenset[str] = frozenset()
    at_least: float | None = None

    def is_met_by(self, value: str | float) -> bool:
        """Whether an assessment with this value is good."""
        if isinstance(value, str):
            return value.casefold() in self.good
        return self.at_least is not None and value >= self.at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The objective of the applications ``experiment`` in the environments ``environment``, both a label value or a
    glob of them (see ``pattern``), and the ``team`` that owns them ("": unknown).

    At most ``error_ratio`` of their traces may fail. At least ``latency_ratio`` of them must take no longer than
    ``latency_s``. Of their streamed calls of models, 95 % must have their first chunk within ``first_chunk_s``. A day
    may cost ``cost_usd_per_day``. None: no threshold. A ratio over fewer than ``min_traces`` is not significant.
    ``quality``: what their assessments must say.
    """

    experiment: str = ANY
    environment: str = ANY
    team: str = ""
    error_ratio: float | None = None
    latency_s: float | None = None
    latency_ratio: float | None = None
    first_chunk_s: float | None = None
    cost_usd_per_day: float | None = None
    min_traces: int = 20
    quality: tuple[Quality, ...] = ()

    @property
    def has_threshold(self) -> bool:
        """Whether it limits anything. If not, it only names a team."""
        limits = (self.error_ratio, self.latency_s, self.first_chunk_s, self.cost_usd_per_day)
        return any(each is not None for each in limits) or bool(self.quality)

    @property
    def has_name(self) -> bool:
        """Whether it names an application or an environment without a glob."""
        return is_name(self.experiment) or is_name(self.environment)

    def matches(self, experiment: str, environment: str) -> bool:
        """Whether it is about this application in this environment."""
        return matches(self.experiment, experiment) and matches(self.environment, environment)

    def covers(self, other: "Objective") -> bool:
        """Whether it certainly matches whatever another one matches."""
        return _covers(self.experiment, other.experiment) and _covers(self.environment, other.environment)


NONE = Objective()
"""The objective of what no objective matches. It limits nothing."""


def _first(all_of_them: tuple[Objective, ...], experiment: str, environment: str) -> Objective:
    return next((each for each in all_of_them if each.matches(experiment, environment)), NONE)


@dataclass(frozen=True, slots=True)
class Objectives:
    """The objectives of the configuration. The first match wins."""

    all: tuple[Objective, ...] = ()
    _of: Callable[[str, str], Objective] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_of", lru_cache(MAX_CACHED)(partial(_first, self.all)))

    def of(self, experiment: str, environment: str) -> Objective:
        """The objective of an application in an environment, NONE if it has none."""
        return self._of(experiment, environment)

    def latency_s(self, experiment: str, environment: str) -> float | None:
        """A trace of this application and environment that takes longer than this is slow; None if no trace is."""
        return self.of(experiment, environment).latency_s

    def quality(self, experiment: str, environment: str, assessment: str) -> Quality | None:
        """The objective for assessments of this name, None if there is none."""
        found = self.of(experiment, environment).quality
        return next((each for each in found if each.assessment == assessment), None)

    @property
    def latencies_s(self) -> list[float]:
        """All latency objectives."""
        return [each.latency_s for each in self.all if each.latency_s is not None]

    def by_place(self, groups: Iterable[Group]) -> Mapping[LabelValues, Objective]:
        """The objectives of these groups by PLACE_LABELS, and of each application and environment that the
        configuration names without a glob: they have an objective before they have traces."""
        places = {group.place.values for group in groups}
        named = {(each.experiment, each.environment) for each in self.all}
        places |= {place for place in named if all(map(is_name, place))}
        return {place: self.of(*place) for place in sorted(places)}

    def with_edges(self, edges_s: Iterable[float]) -> tuple[float, ...]:
        """Bucket edges of a duration histogram plus each latency objective, so that slow traces are counted exactly."""
        return tuple(sorted({*edges_s, *self.latencies_s}))

    def with_first_chunk_edges(self, edges_s: Iterable[float]) -> tuple[float, ...]:
        """The same for a histogram of times to the first chunk, with the objectives of these."""
        first_chunks_s = (each.first_chunk_s for each in self.all if each.first_chunk_s is not None)
        return tuple(sorted({*edges_s, *first_chunks_s}))

    def never_used(self) -> Iterator[tuple[int, int]]:
        """The positions of objectives that can certainly never be used, each with the position of an earlier one that
        matches whatever it matches."""
        for at, each in enumerate(self.all):
            before = next((first for first, earlier in enumerate(self.all[:at]) if earlier.covers(each)), None)
            if before is not None:
                yield at, before

    def narrowed(self, experiment: str | None, environment: str | None) -> "Objectives":
        """The objectives that can be used for this application and environment (None: any), with these names in place
        of their patterns."""
        found = Objectives(
            tuple(
                replace(each, experiment=experiment or each.experiment, environment=environment or each.environment)
                for each in self.all
                if each.matches(experiment or each.experiment, environment or each.environment)
            )
        )
        unused = {at for at, _ in found.never_used()}
        return Objectives(tuple(each for at, each in enumerate(found.all) if at not in unused))
