"""What the assessments of traces say, added up for a row of a report. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_trace_exporter.domain.admission import OTHER
from mlflow_trace_exporter.domain.assessments import Assessment
from mlflow_trace_exporter.domain.quantiles import Quantiles

MAX_VALUES = 1_000
"""The most words that are told apart in a row. Further ones are counted as `other`."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """What the assessments of a row say.

    ``assessed_traces``: how many of the ``finished_traces`` have one of them; ``assessed_share`` is None if there are
    no traces. ``values``: how often there is each word or truth value, the most frequent first. ``scores``: how many
    of the assessments are numbers; ``mean`` and ``p50`` are None if none is. Values and scores are those of one name:
    if the assessments of the row have several names, there are none.
    """

    finished_traces: int
    assessed_traces: int
    assessed_share: float | None
    values: Mapping[str, int]
    scores: int
    mean: float | None
    p50: float | None


@dataclass(slots=True)
class OpinionTally:
    """Running totals of assessments."""

    assessments: int = 0
    failed: int = 0
    traces: int = 0
    costs: int = 0
    cost_usd: float = 0.0
    quantiles: Quantiles = field(default_factory=Quantiles)
    _scores: int = 0
    _sum: float = 0.0
    _words: Counter[str] = field(default_factory=Counter)
    _name: str | None = None
    _has_several_names: bool = False

    def add(self, assessment: Assessment, first: bool) -> None:
        """Add an assessment. ``first``: none of its trace was added before."""
        self.assessments += 1
        self.failed += assessment.failed
        self.traces += first
        if assessment.cost_usd is not None:
            self.costs += 1
            self.cost_usd += assessment.cost_usd
        self._has_several_names |= self._name not in (None, assessment.name)
        self._name = assessment.name
        if isinstance(assessment.value, str):
            is_known = assessment.value in self._words or len(self._words) < MAX_VALUES
            self._words[assessment.value if is_known else OTHER] += 1
        elif assessment.value is not None:
            self._scores += 1
            self._sum += assessment.value
            self.quantiles.add(assessment.value)

    def opinions(self, finished_traces: int) -> Opinions:
        """What they say, about some of so many traces."""
        has_scores = self._scores > 0 and not self._has_several_names
        return Opinions(
            finished_traces=finished_traces,
            assessed_traces=self.traces,
            assessed_share=self.traces / finished_traces if finished_traces else None,
            values={} if self._has_several_names else dict(self._words.most_common()),
            scores=self._scores if has_scores else 0,
            mean=self._sum / self._scores if has_scores else None,
            p50=self.quantiles.reader()(0.5) if has_scores else None,
        )
