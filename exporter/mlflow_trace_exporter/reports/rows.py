"""The rows of a report, and the running totals that become one. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mlflow_trace_exporter.domain.quantiles import Quantiles
from mlflow_trace_exporter.domain.usage import TokenUsage
from mlflow_trace_exporter.reports.opinions import Opinions, OpinionTally
from mlflow_trace_exporter.reports.subjects import Subject, Unit


@dataclass(frozen=True, slots=True)
class Row:
    """The totals of all traces with the same ``key``, or of the calls of models, other spans or assessments that they
    have, as ``unit`` says: then ``traces`` is their number.

    Durations are in seconds, and None if no trace has one. ``exact``: whether the quantiles are exact, or within 1 % of
    the exact ones. Tokens and cost (USD) include only traces that have them, and are None if none has.
    ``total_tokens`` is input plus output. With most MLflow integrations, input includes the two cache counts, see
    ``TokenUsage``. ``without_…``: the number of traces without duration, token usage or cost.

    Assessments have no durations and tokens. Their errors are those whose scorer failed, and their cost is that of the
    judges. ``opinions``: what they say; None for all other units.
    """

    key: Mapping[str, str]
    traces: int
    errors: int
    error_rate: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    max_s: float | None
    exact: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_read_input_tokens: int | None
    cache_creation_input_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    without_duration: int
    without_usage: int
    without_cost: int
    unit: Unit = "traces"
    opinions: Opinions | None = None

    def as_dict(self) -> dict[str, Any]:
        """The dimensions and all numbers, by name."""
        if self.opinions is not None:
            found = asdict(self.opinions)
            names = ["exact", "errors", "error_rate", "cost_usd"]
        else:
            _, _, *others, _, _ = fields(self)
            found, names = {}, [each.name for each in others]
        return {**self.key, self.unit: self.traces, **found, **{name: getattr(self, name) for name in names}}


@dataclass(slots=True)
class Tally:
    """Running totals of traces."""

    traces: int = 0
    errors: int = 0
    durations: Quantiles = field(default_factory=Quantiles)
    usages: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    costs: int = 0
    cost_usd: float = 0.0
    without_duration: int = 0

    def add(self, subject: Subject) -> None:
        """Add one finished trace, or something inside it."""
        self.traces += 1
        self.errors += subject.failed
        if subject.duration_s is None:
            self.without_duration += 1
        else:
            self.durations.add(subject.duration_s)
        if subject.usage is not None:
            self.usages += 1
            self._add_tokens(subject.usage)
        if subject.cost is not None:
            self.costs += 1
            self.cost_usd += subject.cost.total_usd

    def _add_tokens(self, usage: TokenUsage) -> None:
        for each in fields(usage):
            tokens = getattr(usage, each.name)
            if tokens is not None:
                self.tokens[each.name] = self.tokens.get(each.name, 0) + tokens

    def row(self, key: Mapping[str, str], unit: Unit = "traces") -> Row:
        """The totals as a row of a report."""
        quantile = self.durations.reader()
        tokens = self.tokens
        return Row(
            key=key,
            traces=self.traces,
            errors=self.errors,
            error_rate=self.errors / self.traces if self.traces else None,
            p50_s=quantile(0.5),
            p95_s=quantile(0.95),
            p99_s=quantile(0.99),
            max_s=self.durations.max,
            exact=self.durations.is_exact,
            input_tokens=tokens.get("input"),
            output_tokens=tokens.get("output"),
            cache_read_input_tokens=tokens.get("cache_read_input"),
            cache_creation_input_tokens=tokens.get("cache_creation_input"),
            total_tokens=tokens.get("input", 0) + tokens.get("output", 0) if self.usages else None,
            cost_usd=self.cost_usd if self.costs else None,
            without_duration=self.without_duration,
            without_usage=self.traces - self.usages,
            without_cost=self.traces - self.costs,
            unit=unit,
        )


def opinion_row(key: Mapping[str, str], tally: OpinionTally, finished_traces: int) -> Row:
    """The totals of assessments of some of so many traces as a row of a report."""
    return Row(
        key=key,
        traces=tally.assessments,
        errors=tally.failed,
        error_rate=tally.failed / tally.assessments if tally.assessments else None,
        p50_s=None,
        p95_s=None,
        p99_s=None,
        max_s=None,
        exact=tally.quantiles.is_exact,
        input_tokens=None,
        output_tokens=None,
        cache_read_input_tokens=None,
        cache_creation_input_tokens=None,
        total_tokens=None,
        cost_usd=tally.cost_usd if tally.costs else None,
        without_duration=0,
        without_usage=0,
        without_cost=0,
        unit="assessments",
        opinions=tally.opinions(finished_traces),
    )
