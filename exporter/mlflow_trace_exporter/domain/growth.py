"""Decides what a trace adds to the totals if it changed after it was counted. Pure.

Nothing shows which span of a trace is the last to arrive over OTLP, and a busy server computes the cost of a trace only
after it shows the trace. A longer wait would delay every number and still miss some changes. But most of these changes
are increases, which counters can follow. So the ledger keeps the amounts with which each trace was counted. When a
later read shows more, the difference is added. It is stored in one transaction with the new amounts, so it is added
only once:

    counted with 100 tokens, OK      read again: 130 tokens, ERROR      adds 30 tokens and one error

Not every change can be added. A counter cannot decrease, and a histogram cannot move an observation to another bucket.
The amounts then stay as counted, and the trace is reported as changed.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple
from zlib import crc32

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.spans import Inside
from mlflow_trace_exporter.domain.trace import State, TraceRecord
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

NANO = 10**9
"""Nano-USD per USD. The ledger keeps cost in whole nano-USD, which is compact and exact enough for differences."""

MAX_NANO = 2**62
"""The limit for a cost in nano-USD, which must fit into a 64-bit integer: 4.6 billion USD for one trace."""


class Amounts(NamedTuple):
    """What one trace adds to counters. Tokens as in ``TokenUsage``, cost as in ``Cost`` but in nano-USD. None means
    unknown."""

    failed: bool
    duration_ms: int | None
    input: int | None
    output: int | None
    cache_read_input: int | None
    cache_creation_input: int | None
    input_nano_usd: int | None
    output_nano_usd: int | None

    @classmethod
    def of(cls, record: TraceRecord) -> "Amounts":
        """The amounts of a trace as it was read."""
        usage, cost = record.usage or _NO_USAGE, record.cost or _NO_COST
        return cls(
            record.state is State.ERROR,
            record.duration_ms,
            usage.input,
            usage.output,
            usage.cache_read_input,
            usage.cache_creation_input,
            nano(cost.input_usd),
            nano(cost.output_usd),
        )

    def grown_to(self, now: "Amounts") -> "Amounts":
        """These amounts with all increases up to ``now``: nothing shrinks, and a known duration stays."""
        duration_ms = now.duration_ms if self.duration_ms is None else self.duration_ms
        return Amounts(
            self.failed or now.failed,
            duration_ms,
            *_grown(self[2:4], now[2:4]),
            *_grown(self[4:5], now[4:5]),
            *_grown(self[5:6], now[5:6]),
            *_grown(self[6:8], now[6:8]),
        )

    def put_into(self, record: TraceRecord) -> TraceRecord:
        """The trace with these amounts in place of its own."""
        usage = TokenUsage(self.input, self.output, self.cache_read_input, self.cache_creation_input)
        cost = Cost(usd(self.input_nano_usd), usd(self.output_nano_usd))
        return replace(
            record,
            state=State.ERROR if self.failed else State.OK,
            duration_ms=self.duration_ms,
            usage=None if usage == _NO_USAGE else usage,
            cost=None if cost == _NO_COST else cost,
        )


_NO_USAGE = TokenUsage()
_NO_COST = Cost()


@dataclass(frozen=True, slots=True)
class Counted:
    """What the ledger knows about a trace that is done with.

    ``group``: the label values of the series that count it, None if they no longer exist. ``amounts``: what it was
    counted with, None if it was not counted (given up, or other traffic) or was counted before amounts were kept.
    ``seen``: the ``checksum`` of the trace when it was last read, if it differs from what was counted. ``span_ids``:
    the spans that are counted; none if no others can come because MLflow marked the trace as complete; None if its
    spans were not read.
    """

    start_ms: int
    group: Group | None = None
    amounts: Amounts | None = None
    seen: int | None = None
    span_ids: frozenset[str] | None = None


def span_ids_of(record: TraceRecord) -> frozenset[str] | None:
    """``Counted.span_ids`` of a trace that is counted now."""
    if record.inside is None:
        return None
    if record.finalized:
        return frozenset()
    return frozenset(each.span_id for each in record.inside.all)


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between a trace and what the ledger knows about it (``before``). ``after`` is what the ledger should
    know from now on. ``late``: what came late inside the trace."""

    record: TraceRecord
    before: Counted
    after: Counted
    late: Inside | None = None

    @property
    def grew(self) -> bool:
        """Whether the trace adds something to its counters."""
        return self.before.amounts != self.after.amounts or self.late is not None

    @property
    def is_beyond_correction(self) -> bool:
        """Whether some of the change cannot be added to a counter."""
        moved = self.after.start_ms != self.before.start_ms and self.after.amounts is not None
        return moved or self.after.seen is not None


def change_of(record: TraceRecord, before: Counted) -> Change | None:
    """What has changed about a trace that is done with; None if nothing has."""
    after = replace(before, start_ms=record.start_ms)
    if before.amounts is not None:
        now = Amounts.of(record)
        amounts = before.amounts.grown_to(now)
        after = replace(after, amounts=amounts, seen=None if amounts == now else checksum(record))
    elif before.seen is not None:
        after = replace(after, seen=checksum(record))
    return None if after == before else Change(record, before, after)


def checksum(record: TraceRecord) -> int:
    """A checksum of the amounts and the start of a trace."""
    return checksum_of(record.state, record.start_ms, record.duration_ms, record.usage, record.cost)


def checksum_of(*values: object) -> int:
    """A checksum of values that is the same in every process."""
    return crc32(repr(values).encode("utf-8", "backslashreplace"))


def _grown(before: tuple[int | None, ...], now: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Counts as they are now if none of them has shrunk, otherwise as before. Input and output are compared together:
    if one shrinks, the other may have grown only because a total was split differently."""
    pairs = list(zip(before, now, strict=True))
    has_shrunk = any(old is not None and (new is None or new < old) for old, new in pairs)
    return before if has_shrunk else now


def nano(usd: float | None) -> int | None:
    """A cost in USD in whole nano-USD, which MAX_NANO limits."""
    return None if usd is None else min(round(usd * NANO), MAX_NANO)


def usd(nano: int | None) -> float | None:
    """A cost in nano-USD in USD."""
    return None if nano is None else nano / NANO
