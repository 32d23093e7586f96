"""The numbers behind the charts of a report, added up while the traces are read. Pure, and in bounded memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import floor, log10

from mlflow_trace_exporter.domain.labels import Labels
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from mlflow_trace_exporter.reports.timeline import Slice, Timeline

MAX_GROUPS = 12
"""The most rows of a grouping. The rest is added up in one extra row."""

MAX_COLLECTED = 10_000
"""The most groups that are told apart while traces are read. Further ones are added to that extra row."""

OTHERS = "(others)"
"""The label of that row."""

BINS_PER_DECADE = 20
WIDTHS = (1, 2, 4, 5, 10, 20)
"""How many bins of BINS_PER_DECADE can be one in the chart, so that bins begin at each power of ten."""

MAX_BINS = 40
LEAST_S = 0.001
"""The resolution of MLflow's durations. Shorter ones are counted as this."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The traces that took at least ``low_s`` seconds and less than ``high_s``."""

    low_s: float
    high_s: float
    traces: int
    errors: int


@dataclass(frozen=True, slots=True)
class Consumption:
    """What the traces of a version, or the calls of a model, used: ``count`` of them, their tokens, and their cost in
    USD. None if none has it."""

    label: str
    count: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Grouping:
    """Consumption by ``name`` (version or model), the highest cost first. ``counted``: what ``count`` is the number of,
    traces or calls."""

    name: str
    counted: str
    rows: tuple[Consumption, ...]


@dataclass(frozen=True, slots=True)
class Charts:
    """The numbers behind the charts of a report. ``over_time``: slices of the length ``step``. ``latency``: bins that
    are equally wide on a logarithmic scale. ``groupings``: by version, and by model if spans were read."""

    step: timedelta = timedelta(0)
    over_time: tuple[Slice, ...] = ()
    latency: tuple[Bin, ...] = ()
    groupings: tuple[Grouping, ...] = ()


@dataclass(frozen=True, slots=True)
class Used:
    """The tokens and cost of one trace or call, with the label of its group."""

    label: str
    usage: TokenUsage | None
    cost: Cost | None


def _by_version(record: TraceRecord, labels: Labels) -> Iterator[Used]:
    yield Used(labels["version"], record.usage, record.cost)


def _by_model(record: TraceRecord, _: Labels) -> Iterator[Used]:
    for call in record.inside.calls if record.inside else ():
        yield Used(call.model, call.usage, call.cost)


GROUPINGS: Mapping[tuple[str, str], Callable[[TraceRecord, Labels], Iterable[Used]]] = {
    ("version", "traces"): _by_version,
    ("model", "calls"): _by_model,
}
"""By name and what is counted: the parts of a trace that are added up."""


@dataclass(slots=True)
class _Sum:
    count: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0
    costs: int = 0

    def add(self, used: Used) -> None:
        self.count += 1
        if used.usage is not None:
            for name, tokens in (("input", used.usage.input), ("output", used.usage.output)):
                if tokens is not None:
                    self.tokens[name] += tokens
        if used.cost is not None:
            self.costs += 1
            self.usd += used.cost.total_usd

    def merge(self, other: "_Sum") -> None:
        self.count += other.count
        self.tokens.update(other.tokens)
        self.usd += other.usd
        self.costs += other.costs

    def row(self, label: str) -> Consumption:
        return Consumption(
            label,
            self.count,
            self.tokens.get("input"),
            self.tokens.get("output"),
            self.usd if self.costs else None,
        )


class _Sums:
    """Consumption by label."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, used: Used) -> None:
        label = used.label
        if label not in self._sums and len(self._sums) >= MAX_COLLECTED:
            label = OTHERS
        self._sums.setdefault(label, _Sum()).add(used)

    def rows(self) -> tuple[Consumption, ...]:
        others = self._sums.get(OTHERS, _Sum())
        ranked = sorted((item for item in self._sums.items() if item[0] != OTHERS), key=lambda item: _rank(*item))
        for _, each in ranked[MAX_GROUPS:]:
            others.merge(each)
        rows = tuple(each.row(label) for label, each in ranked[:MAX_GROUPS])
        return (*rows, others.row(OTHERS)) if others.count else rows


def _rank(label: str, found: _Sum) -> tuple[float, int, int, str]:
    return -found.usd, -found.tokens.total(), -found.count, label


class Latencies:
    """Counts traces by duration, in bins of equal width on a logarithmic scale."""

    def __init__(self) -> None:
        self._traces: Counter[int] = Counter()
        self._errors: Counter[int] = Counter()

    def add(self, record: TraceRecord) -> None:
        """Add one finished trace, if it has a duration."""
        if record.duration_s is None:
            return
        at = floor(log10(max(record.duration_s, LEAST_S)) * BINS_PER_DECADE)
        self._traces[at] += 1
        if record.state is State.ERROR:
            self._errors[at] += 1

    def bins(self) -> tuple[Bin, ...]:
        """The bins from the shortest duration to the longest, without gaps, at most MAX_BINS or one for each power of
        ten."""
        if not self._traces:
            return ()
        first, last = min(self._traces), max(self._traces)
        width = next((each for each in WIDTHS if last // each - first // each < MAX_BINS), WIDTHS[-1])
        return tuple(
            Bin(
                10 ** (at * width / BINS_PER_DECADE),
                10 ** ((at + 1) * width / BINS_PER_DECADE),
                sum(self._traces[each] for each in range(at * width, (at + 1) * width)),
                sum(self._errors[each] for each in range(at * width, (at + 1) * width)),
            )
            for at in range(first // width, last // width + 1)
        )


class Collector:
    """Adds up the numbers of all charts."""

    def __init__(self) -> None:
        self._timeline = Timeline()
        self._latencies = Latencies()
        self._sums = {name: _Sums() for name in GROUPINGS}

    def add(self, record: TraceRecord, labels: Labels) -> None:
        """Add one finished trace."""
        self._timeline.add(record)
        self._latencies.add(record)
        for name, used in GROUPINGS.items():
            for each in used(record, labels):
                self._sums[name].add(each)

    def charts(self, since_ms: int, until_ms: int) -> Charts:
        """The numbers, of the traces that started in [since_ms, until_ms)."""
        over_time = self._timeline.slices(since_ms, until_ms)  # decides on the step
        found = (Grouping(*name, sums.rows()) for name, sums in self._sums.items())
        return Charts(
            self._timeline.step,
            over_time,
            self._latencies.bins(),
            tuple(grouping for grouping in found if grouping.rows),
        )
