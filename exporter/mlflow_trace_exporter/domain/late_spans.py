"""Finds what spans that arrive late add to a trace that is counted. Pure.

A late span changes what the others mean: it can be the call that a span above it was counted as, and a call can get its
usage from a late span above it. A counter cannot move what it has to another model, so nothing that is counted is taken
back. What is added is the difference between the sums:

    counted           agent   200 tokens     a call of an unknown model
    now               agent   200 tokens     a step
                        call  150 tokens     the same call, nothing is added
                        call  100 tokens     another call, 50 tokens are added
"""

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from mlflow_trace_exporter.domain.calls import Difference, inside
from mlflow_trace_exporter.domain.growth import Change, nano, usd
from mlflow_trace_exporter.domain.spans import Call, Inside, Span
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

ROUNDING_NANO = 2
"""The difference in nano-USD that is tolerated, because amounts are rounded before they are subtracted."""


def with_late_spans(change: Change, spans: Sequence[Span]) -> Change:
    """The change with what came late inside the trace, given the spans that it has now."""
    known = change.before.span_ids or frozenset()
    late = late_inside(spans, known)
    after = replace(change.after, span_ids=known | {span.span_id for span in spans})
    return replace(change, after=after, late=None if late == Inside() else late)


def late_inside(spans: Sequence[Span], counted: Set[str]) -> Inside:
    """What these spans add to those with the ids ``counted``. A call without a duration only adds to the amounts of one
    that is counted."""
    before, now = inside([span for span in spans if span.span_id in counted]), inside(spans)
    known = {call.span_id: _Sums.of(call) for call in before.calls}
    moved = [call for call in before.calls if call.span_id not in {call.span_id for call in now.calls}]
    same = _same(moved, [call for call in now.calls if call.span_id not in counted])
    sums = {call.span_id: _Sums.of(call) for call in now.calls}
    paid = _Sums.over([each.less(sums.get(span_id, _NOTHING)) for span_id, each in known.items()])
    late: list[Call] = []
    for call in sorted(now.calls, key=lambda each: each.span_id not in same):
        own = sums[call.span_id]
        unknown = own.less(known.get(call.span_id, _NOTHING))
        more, paid = unknown.less(paid), paid.less(unknown)
        if call.span_id not in counted and call.span_id not in same:
            late.append(call if more == own else more.put_into(call))
        elif any(more):
            late.append(more.put_into(Call(call.span_id, call.provider, call.model)))
    return Inside(tuple(late), tuple(step for step in now.steps if step.span_id not in counted))


def differences(change: Change) -> tuple[Difference, ...]:
    """In what the growth of a trace whose calls are counted differs from what came late inside it. What was unknown
    before is not compared."""
    before, after = change.before.amounts, change.after.amounts
    if before is None or after is None or change.before.span_ids is None:
        return ()
    late = _Sums.over([_Sums.of(call) for call in change.late.calls] if change.late else [])
    usage = ((before.input, after.input, late.input), (before.output, after.output, late.output))
    cost = (
        (before.input_nano_usd, after.input_nano_usd, late.input_nano_usd),
        (before.output_nano_usd, after.output_nano_usd, late.output_nano_usd),
    )
    found: list[Difference] = []
    if any(old is not None and (new or 0) - old != more for old, new, more in usage):
        found.append("tokens")
    if any(old is not None and abs((new or 0) - old - more) > ROUNDING_NANO for old, new, more in cost):
        found.append("cost")
    return tuple(found)


class _Sums(NamedTuple):
    """What calls add to counters, 0 if it is unknown."""

    input: int = 0
    output: int = 0
    cache_read_input: int = 0
    cache_creation_input: int = 0
    input_nano_usd: int = 0
    output_nano_usd: int = 0

    @classmethod
    def of(cls, call: Call) -> "_Sums":
        usage, cost = call.usage or TokenUsage(), call.cost or Cost()
        counts = (usage.input, usage.output, usage.cache_read_input, usage.cache_creation_input)
        return cls(*(each or 0 for each in (*counts, nano(cost.input_usd), nano(cost.output_usd))))

    @classmethod
    def over(cls, sums: Sequence["_Sums"]) -> "_Sums":
        return cls(*map(sum, zip(*sums, strict=True)))

    def less(self, others: "_Sums") -> "_Sums":
        """What is left of these after ``others``, at least 0."""
        return _Sums(*(max(0, each - other) for each, other in zip(self, others, strict=True)))

    def put_into(self, call: Call) -> Call:
        """The call with these amounts in place of its own."""
        return replace(call, usage=TokenUsage(*self[:4]), cost=Cost(*map(usd, self[4:])))


_NOTHING = _Sums()


def _same(moved: Sequence[Call], late: Sequence[Call]) -> frozenset[str]:
    """The ids of those late calls that are calls which spans above them were counted as."""
    left = list(late)
    for each in moved:
        same = next((call for call in left if call.usage == each.usage), None) or next(iter(left), None)
        if same is not None:
            left.remove(same)
    return frozenset(call.span_id for call in late if call not in left)
