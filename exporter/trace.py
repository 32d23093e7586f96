"""One MLflow trace as the rest of the program sees it.

This is the waist of the program: everything before it knows MLflow, everything after it knows only these frozen
values. It imports nothing of ours and nothing of third parties.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

SETTLE_MS = 60_000
"""How long after its end a trace may still change that MLflow has not marked as final."""


FILL_MS = 5_000
"""How long after its end MLflow may still add to a trace that it has marked as final; seen: mostly within 0.2 s."""


class State(Enum):
    """What MLflow says of a trace: still running (or not said), ended well, or ended with an error."""

    IN_PROGRESS = "IN_PROGRESS"
    OK = "OK"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of all LLM calls of a trace. None means unknown, which is not zero.

    The two cache counts are subsets of ``input``.
    """

    input: int | None = None
    output: int | None = None
    cache_read_input: int | None = None
    cache_creation_input: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of all LLM calls of a trace in USD, as MLflow worked it out. None means unknown."""

    input_usd: float | None = None
    output_usd: float | None = None


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One trace, as read at one moment.

    ``start_ms`` and ``end_ms`` are by the traced application's clock, ``seen_ms`` (when this process read the trace)
    is by the exporter's; all are Unix milliseconds. ``finalized`` is MLflow's own mark. Tags and metadata can hold what
    users wrote, so they are kept out of ``repr`` and with it out of every log line.
    """

    trace_id: str
    experiment: str
    state: State
    start_ms: int
    seen_ms: int
    duration_ms: int | None = None
    finalized: bool = False
    name: str | None = None
    user: str | None = field(default=None, repr=False)
    session: str | None = field(default=None, repr=False)
    usage: TokenUsage | None = None
    cost: Cost | None = None
    tags: Mapping[str, str] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def final(self) -> bool:
        """Whether the call has ended and its trace is complete, so that it can be counted.

        An SDK sends the spans and the trace itself in two requests, in either order. Between them MLflow shows a trace
        that has ended but has no tags yet, or one that it has marked as finalized (from 3.12 on) but whose tokens, cost
        and session it is still adding up from the spans. So a trace is given FILL_MS after its end if it has the mark.
        It is given SETTLE_MS if not (an older server, or a trace that came over OTLP), and if it has tokens but no cost
        yet: the cost is the last to come, on a busy server many seconds later.
        """
        if self.state is State.IN_PROGRESS:
            return False
        age_ms = self.seen_ms - (self.end_ms or self.start_ms)
        cost_to_come = self.usage is not None and self.cost is None
        return age_ms >= (FILL_MS if self.finalized and not cost_to_come else SETTLE_MS)

    @property
    def duration_s(self) -> float | None:
        """How long the traced call took, in seconds; None where MLflow does not know."""
        return None if self.duration_ms is None else self.duration_ms / 1000

    @property
    def end_ms(self) -> int | None:
        """When the traced call ended; None where MLflow does not know."""
        return None if self.duration_ms is None else self.start_ms + self.duration_ms
