"""The domain model of an MLflow trace.

This is the waist of the program: the code before it knows MLflow, the code after it knows only these frozen values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from mlflow_trace_exporter.domain.assessments import Assessment
from mlflow_trace_exporter.domain.spans import Inside
from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

PLAIN_ID = re.compile(r"[\w.:/-]{1,200}", re.ASCII)
"""Ids that need no quoting anywhere. MLflow generates only such ids, but accepts any id from a client."""


ORPHAN_MS = 900_000
"""A trace that MLflow shows as in progress is treated as ended if all its spans have ended and it has not changed for
this long."""


class State(Enum):
    """The state of a trace in MLflow. A trace whose state MLflow does not know is ``OK`` if it has a duration, and
    ``IN_PROGRESS`` if not."""

    IN_PROGRESS = "IN_PROGRESS"
    OK = "OK"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """A trace as it was read at one moment.

    ``start_ms`` and ``end_ms`` are times of the traced application's clock. ``seen_ms`` is when this process read the
    trace (for a counted trace: when it first did), by the source's clock. All are Unix milliseconds. ``finalized`` is
    MLflow's own mark. ``experiment`` is unique on the server: where the server has workspaces, it begins with that of
    the trace, see ``workspaces.qualified``. ``experiment_tags`` are those that its experiment had then. Tags and
    metadata can contain user input, so ``repr`` and therefore log lines omit them. ``inside`` is None if its spans
    were not read. ``assessments`` are those that it had when it was read.
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
    experiment_tags: Mapping[str, str] = field(default_factory=dict, repr=False)
    workspace: str | None = None
    inside: Inside | None = None
    assessments: tuple[Assessment, ...] = ()

    @property
    def duration_s(self) -> float | None:
        """The duration of the traced call in seconds; None if MLflow does not know it."""
        return None if self.duration_ms is None else self.duration_ms / 1000

    @property
    def end_ms(self) -> int | None:
        """When the traced call ended; None if MLflow does not know."""
        return None if self.duration_ms is None else self.start_ms + self.duration_ms

    @property
    def valid_assessments(self) -> tuple[Assessment, ...]:
        """Its assessments as MLflow shows them: without those that are overridden."""
        return tuple(each for each in self.assessments if each.valid)

    def ended(self) -> bool:
        """Whether the traced call is over.

        MLflow never ends a trace that arrived over OTLP if the parent of its root span belongs to a service that does
        not trace to MLflow. Unlike a running trace it has a duration, that of its spans. It is treated as ended
        ORPHAN_MS after its end.
        """
        if self.state is not State.IN_PROGRESS:
            return True
        return self.end_ms is not None and self.seen_ms - self.end_ms >= ORPHAN_MS
