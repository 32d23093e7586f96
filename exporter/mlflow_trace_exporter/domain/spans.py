"""The spans of a trace, and what is counted of them: calls of models, and steps."""

from dataclasses import dataclass, field

from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

UNKNOWN_TYPE = "UNKNOWN"
"""MLflow's type of a span that has none."""

CHAT_TYPES = frozenset({"LLM", "CHAT_MODEL"})
"""The types of spans that call a model which generates text."""

CALL_TYPES = CHAT_TYPES | {"EMBEDDING", "RERANKER"}
"""The types of spans that call a model."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span as MLflow stores it, without its inputs and outputs.

    Ids are 16 hexadecimal digits. ``parent_id`` can name a span that is not there: one of another service, or one that
    has not arrived. Times are Unix nanoseconds of the traced application's clock. ``end_ns`` is None while the span is
    in progress, and never before ``start_ns``. ``first_chunk_ns`` is when a streamed response began to arrive. The
    error type, usage and cost are those that the span itself carries; a parent can repeat those of its children.
    """

    span_id: str
    parent_id: str | None
    name: str = field(repr=False)  # can contain user input
    span_type: str
    start_ns: int
    end_ns: int | None = None
    failed: bool = False
    error_type: str | None = None
    model: str | None = None
    provider: str | None = None
    usage: TokenUsage | None = None
    cost: Cost | None = None
    first_chunk_ns: int | None = None

    @property
    def duration_s(self) -> float | None:
        """The duration in seconds; None if the span is in progress."""
        return None if self.end_ns is None else (self.end_ns - self.start_ns) / NS

    @property
    def end_ms(self) -> int | None:
        """The end in Unix milliseconds, rounded down; None if the span is in progress."""
        return None if self.end_ns is None else self.end_ns // NS_PER_MS


NS = 10**9
"""Nanoseconds per second."""

NS_PER_MS = 10**6
"""Nanoseconds per millisecond."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model. ``provider`` and ``model`` are label values. Duration, end, failure and error type are
    those of the span, ``span_id``. ``first_chunk_s`` is the time from its start to the first chunk of a streamed
    response."""

    span_id: str
    provider: str
    model: str
    failed: bool = False
    error_type: str | None = None
    duration_s: float | None = None
    end_ms: int | None = None
    first_chunk_s: float | None = None
    usage: TokenUsage | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A span that is not a call: a tool, a retriever, an agent, a function, or a wrapper around a call."""

    span_id: str
    span_type: str
    name: str = field(repr=False)  # can contain user input
    failed: bool = False
    duration_s: float | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """What happened inside a trace. Calls and steps are in order of their start."""

    calls: tuple[Call, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def all(self) -> tuple[Call | Step, ...]:
        """The calls and the steps: there is one for each span."""
        return (*self.calls, *self.steps)
