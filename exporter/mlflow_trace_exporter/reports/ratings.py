"""The share of good assessments, as `health` checks it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from mlflow_trace_exporter.domain.objectives import Quality
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.errors import ArgumentError

GOOD_WORDS = frozenset({"yes", "true", "good", "correct"})
"""The words that are good where no objective says which are."""

MAX_NAMES = 100
"""How many names of assessments are remembered, to correct a misspelled one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualQuality(Quality):
    """What is good where no objective says it: GOOD_WORDS. Nothing is known about scores."""

    good: frozenset[str] = GOOD_WORDS

    def is_met_by(self, value: str | float) -> bool:
        """Whether a word is good. Raises ArgumentError for a score."""
        if isinstance(value, str):
            return value.casefold() in self.good
        problem = (
            f"{self.assessment!r} has scores, and nothing says which are good; set at_least in a quality objective for"
            " it in the configuration"
        )
        raise ArgumentError("good", problem)


def quality_for(assessment: str, ratio: float, configured: Iterable[Quality]) -> Quality:
    """The objective that this share of the assessments is good. Which ones are is taken from the one that is
    ``configured`` for them."""
    found = next((each for each in configured if each.assessment == assessment), None)
    if found is None:
        return UsualQuality(assessment=assessment, ratio=ratio)
    return Quality(assessment=assessment, ratio=ratio, good=found.good, at_least=found.at_least)


@dataclass(slots=True)
class Rated:
    """How many of ``all`` assessments of one name with a value are good, and how many traces they are about."""

    all: int = 0
    good: int = 0
    traces: int = 0

    @property
    def ratio(self) -> float | None:
        """The share of good ones; None if there are none."""
        return self.good / self.all if self.all else None


@dataclass(slots=True)
class Ratings:
    """Running totals of good assessments, by name. ``names``: those of all assessments."""

    by_name: dict[str, Rated] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def add(self, record: TraceRecord, qualities: Iterable[Quality]) -> None:
        """Add the assessments of a trace."""
        if len(self.names) < MAX_NAMES:
            self.names.update(each.name for each in record.valid_assessments)
        for quality in qualities:
            values = [
                each.value
                for each in record.valid_assessments
                if each.name == quality.assessment and each.value is not None
            ]
            rated = self.of(quality)
            rated.all += len(values)
            rated.good += sum(map(quality.is_met_by, values))
            rated.traces += bool(values)

    def of(self, quality: Quality) -> Rated:
        """The totals for an objective."""
        return self.by_name.setdefault(quality.assessment, Rated())
