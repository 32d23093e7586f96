"""One MLflow trace as the rest of the program sees it.

This is the waist of the program: everything before it knows MLflow, everything after it knows only these frozen
values. It imports nothing of ours and nothing of third parties.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

PLAIN_ID = re.compile(r"[\w.:/-]{1,200}", re.ASCII)
"""Ids that need no quoting anywhere. MLflow makes no others, but takes any that a client makes up."""


ORPHAN_MS = 900_000
"""After how long without a change a trace whose spans have all ended counts as ended, though MLflow says that it is in
progress."""


class State(Enum):
    """What MLflow says of a trace: still running, ended well, or ended with an error. One whose state it does not know
    ended well if it has a duration, and is running if not."""

    IN_PROGRESS = "IN_PROGRESS"
    OK = "OK"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of all LLM calls of a trace. None means unknown, which is not zero. A total that MLflow does not split is
    ``input``.

    Most of MLflow's integrations count the tokens of the two cache counts in ``input`` as well. ``mlflow.claude_code``
    does not, nor does Bedrock's before MLflow 3.16.1: there the cache counts can exceed ``input``.
    """

    input: int | None = None
    output: int | None = None
    cache_read_input: int | None = None
    cache_creation_input: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of all LLM calls of a trace in USD, as MLflow worked it out. None means unknown. ``input_usd`` also has what
    MLflow does not split."""

    input_usd: float | None = None
    output_usd: float | None = None


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One trace, as read at one moment.

    ``start_ms`` and ``end_ms`` are by the traced application's clock, ``seen_ms`` (when this process read the trace; of
    one that is counted, when it first did) is by the source's; all are Unix milliseconds. ``finalized`` is MLflow's own
    mark. Tags and metadata can hold what users wrote, so they are kept out of ``repr`` and with it out of every log
    line.
    """

    trace_id: str
    experiment_id: str
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
    def duration_s(self) -> float | None:
        """How long the traced call took, in seconds; None where MLflow does not know."""
        return None if self.duration_ms is None else self.duration_ms / 1000

    @property
    def end_ms(self) -> int | None:
        """When the traced call ended; None where MLflow does not know."""
        return None if self.duration_ms is None else self.start_ms + self.duration_ms

    def ended(self) -> bool:
        """Whether the traced call is over.

        A trace that comes by OTLP, and whose root span has its parent in a service that does not trace to MLflow, stays
        in progress there for good. Unlike one that runs it has a duration, that of its spans; ORPHAN_MS after its end
        it counts as ended.
        """
        if self.state is not State.IN_PROGRESS:
            return True
        return self.end_ms is not None and self.seen_ms - self.end_ms >= ORPHAN_MS
