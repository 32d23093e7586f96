"""What an MLflow server may lack, and what is done without it. Pure."""

import re
from collections.abc import Iterator
from enum import Enum


class Feature(Enum):
    """Something that is asked of a server, and tried out rather than guessed from its version."""

    END_TIME_FILTER = "end_time_filter"
    NOT_IN = "not_in"
    TRACE_METRICS = "trace_metrics"
    LIKE = "like"

    @property
    def without(self) -> str:
        """What it means to do without."""
        return _WITHOUT[self]


_WITHOUT = {
    Feature.END_TIME_FILTER: "MLflow cannot search by end time (it can from 3.6 on): each poll reads all traces that"
    " started within poll.lateness; a shorter one makes polls cheaper",
    Feature.NOT_IN: "MLflow cannot leave out ids in a search: more than 500 traces that start in the same millisecond"
    " are read by page numbers, and one may be read late if others are deleted meanwhile",
    Feature.TRACE_METRICS: "MLflow's own count of traces is unavailable (it exists from 3.10 on, without"
    " mlflow.filter): traces that become visible late are found only when their start times are closed or retired,"
    " after poll.lateness or poll.audit_horizon",
    Feature.LIKE: "MLflow cannot search for part of a tag (it can from 3.6 on): reports, health checks and /traces of"
    " one environment, version or user read all traces of that time, which takes longer",
}

_SINCE = (
    (
        (3, 12),
        "MLflow marks traces as complete from 3.12 on: here each trace is counted 60 s after it last changed, not 10 s",
    ),
    ((3, 10), "MLflow knows the cost of traces from 3.10 on: here the cost of all traces is missing"),
)


def shortcomings(version: str) -> Iterator[str]:
    """What a server of this version does not do, and no request can try out."""
    found = re.match(r"(\d+)\.(\d+)", version)
    for since, without in _SINCE:
        if found and tuple(map(int, found.groups())) < since:
            yield without
