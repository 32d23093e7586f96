"""Finds the calls of models among the spans of a trace. Pure.

One call can be several spans, and its usage can be on more than one of them:

    Agent.run           AGENT         200 tokens                        a step
      ChatOpenAI        CHAT_MODEL    100 tokens   gpt-4o   openai      a step: the span below is the same call
        Completions     CHAT_MODEL    100 tokens   gpt-4o               a call; its provider is the one above
      weather           TOOL                                            a step
      Completions       CHAT_MODEL    100 tokens   gpt-4o               a call

A span that has the type of a call, or carries a usage, cost or model, is a call if none below it is one. So the call is
the span nearest to the provider. What a call lacks, the nearest span above knows that has no other call below it.

MLflow's own sum for a trace begins at the other end, with the topmost spans that carry a usage. The sums are the same
if parents repeat what their children carry. ``differs`` finds the traces where they are not.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.domain.spans import CALL_TYPES, CHAT_TYPES, NS, Call, Inside, Span, Step
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

Difference = Literal["tokens", "cost"]
"""What the calls of a trace and MLflow's sum for the trace can differ in."""

DIFFERENCES: tuple[Difference, ...] = get_args(Difference)

USD_ROUNDING = 1e-9
"""The difference in USD that is tolerated between sums of the same costs, in any order."""


def inside(spans: Sequence[Span]) -> Inside:
    """The calls and steps of a trace. Of spans with the same id, the last counts. Parents may be missing, and may form
    cycles: each span then still counts once."""
    by_id = {span.span_id: span for span in spans}
    found = _calls(by_id)
    ordered = sorted(by_id.values(), key=_by_start)
    return Inside(
        calls=tuple(found[span.span_id].call() for span in ordered if span.span_id in found),
        steps=tuple(_step(span) for span in ordered if span.span_id not in found),
    )


def labels_of(what: Call | Step) -> dict[str, str]:
    """The labels that a call or step has besides those of its trace. Only a failed call has an ``error_type``."""
    if isinstance(what, Step):
        return {"span_type": clean(what.span_type), "span_name": clean(what.name)}
    failure = {"error_type": clean(what.error_type)} if what.failed else {}
    return {"provider": what.provider, "model": what.model, **failure}


def differs(usage: TokenUsage | None, cost: Cost | None, calls: Sequence[Call]) -> tuple[Difference, ...]:
    """In what the sum over the calls differs from the usage and cost of their trace. What the trace lacks is not
    compared."""
    usages = [call.usage for call in calls if call.usage is not None]
    costs = [call.cost for call in calls if call.cost is not None]
    found: list[Difference] = []
    if usage is not None and not (
        usage.input in (None, sum(each.input or 0 for each in usages))
        and usage.output in (None, sum(each.output or 0 for each in usages))
    ):
        found.append("tokens")
    if cost is not None and not (
        _same_usd(cost.input_usd, (each.input_usd for each in costs))
        and _same_usd(cost.output_usd, (each.output_usd for each in costs))
    ):
        found.append("cost")
    return tuple(found)


def _same_usd(total: float | None, parts: Iterator[float | None]) -> bool:
    return total is None or math.isclose(total, math.fsum(part or 0.0 for part in parts), abs_tol=USD_ROUNDING)


def _by_start(span: Span) -> tuple[int, str]:
    return span.start_ns, span.span_id


def _step(span: Span) -> Step:
    return Step(span.span_id, span.span_type, span.name, span.failed, span.duration_s, span.end_ms)


@dataclass(slots=True)
class _Call:
    """A call while its spans are put together, from the one nearest to the provider upwards."""

    span: Span
    model: str | None
    provider: str | None
    first_chunk_ns: int | None
    usage: TokenUsage | None
    cost: Cost | None

    @classmethod
    def of(cls, span: Span) -> "_Call":
        return cls(span, span.model, span.provider, span.first_chunk_ns, span.usage, span.cost)

    def learn(self, above: Span) -> None:
        """Take what is unknown from a span above that has no other call below it."""
        self.model = self.model or above.model
        self.provider = self.provider or above.provider
        if self.first_chunk_ns is None and above.span_type in CHAT_TYPES:  # other spans stream what they make of it
            self.first_chunk_ns = above.first_chunk_ns

    def call(self) -> Call:
        span = self.span
        return Call(
            span_id=span.span_id,
            provider=clean(self.provider),
            model=clean(self.model),
            failed=span.failed,
            error_type=span.error_type,
            duration_s=span.duration_s,
            end_ms=span.end_ms,
            first_chunk_s=self._first_chunk_s(),
            usage=self.usage,
            cost=self.cost,
        )

    def _first_chunk_s(self) -> float | None:
        if self.first_chunk_ns is None or self.first_chunk_ns < self.span.start_ns:
            return None
        return (self.first_chunk_ns - self.span.start_ns) / NS


def _calls(spans: Mapping[str, Span]) -> dict[str, _Call]:
    """The calls by the id of their span."""
    calls: dict[str, _Call] = {}
    below: defaultdict[str | None, list[_Call]] = defaultdict(list)
    for span in _children_first(spans):
        under = below.pop(span.span_id, [])
        if _is_call(span, under):
            calls[span.span_id] = _Call.of(span)
            under.append(calls[span.span_id])
        else:
            _hand_down(span, under)
        few, many = sorted((under, below[span.parent_id]), key=len)
        many += few
        below[span.parent_id] = many
    return calls


def _children_first(spans: Mapping[str, Span]) -> list[Span]:
    """All spans, each after those below it. A cycle is cut above the first of its spans."""
    children: defaultdict[str | None, list[Span]] = defaultdict(list)
    for span in spans.values():
        children[span.parent_id if span.parent_id in spans else None].append(span)
    parents_first: dict[str, Span] = {}
    for start in (*children[None], *spans.values()):  # the second because the spans of a cycle are not below a root
        waiting = [start]  # not recursive because spans can nest 1,000 deep
        while waiting:
            span = waiting.pop()
            if span.span_id not in parents_first:
                parents_first[span.span_id] = span
                waiting += children[span.span_id]
    return list(reversed(parents_first.values()))


def _is_call(span: Span, under: Sequence[_Call]) -> bool:
    """Whether a span is a call, with these calls below it."""
    if not under:
        return span.span_type in CALL_TYPES or bool(span.model or span.usage or span.cost)
    if any(call.span.span_type not in _EMBEDDERS for call in under):
        return False
    generates = span.usage is not None and bool(span.usage.output)
    return generates or (span.span_type in CHAT_TYPES and span.model is not None)


_EMBEDDERS = CALL_TYPES - CHAT_TYPES
"""Such calls have no output tokens. So a span above them that has some, or is a chat with a model, is another call."""


def _hand_down(span: Span, under: Sequence[_Call]) -> None:
    """Give what a span knows to the call below it that lacks it."""
    if len(under) == 1:
        under[0].learn(span)
    usage, cost = span.usage, span.cost
    if usage and _has_tokens(usage) and not any(_has_tokens(call.usage) for call in under):
        for call in _owner(under, generated=bool(usage.output)):
            call.usage = usage
    if cost and _has_cost(cost) and not any(_has_cost(call.cost) for call in under):
        for call in _owner(under, generated=bool(cost.output_usd)):
            call.cost = cost


def _owner(under: Sequence[_Call], generated: bool) -> Sequence[_Call]:
    """The one of these calls, none of which has its own, that gets the usage or cost of a span above them; () if it
    cannot be told. ``generated``: whether it includes output.

    Failed calls and those without output are left out. If all others are of the same provider and model, each of them
    will do, because the sums by model are the same.
    """
    able = [call for call in under if not (call.span.failed or (generated and call.span.span_type in _EMBEDDERS))]
    able = able or list(under)
    if len({(call.provider, call.model) for call in able}) != 1:
        return ()
    return (min(able, key=lambda call: _by_start(call.span)),)


def _has_tokens(usage: TokenUsage | None) -> bool:
    return usage is not None and bool(usage.input or usage.output)


def _has_cost(cost: Cost | None) -> bool:
    return cost is not None and bool(cost.input_usd or cost.output_usd)
