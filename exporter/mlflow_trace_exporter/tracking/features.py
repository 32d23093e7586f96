"""Features that an MLflow server may lack, and the effect of each. Pure."""

import re
from collections.abc import Iterator
from enum import Enum

from mlflow_trace_exporter.domain.triage import FILL_MS, SETTLE_MS


class Feature(Enum):
    """A feature that is detected by a request and not derived from the server's version."""

    END_TIME_FILTER = "end_time_filter"
    NOT_IN = "not_in"
    TRACE_METRICS = "trace_metrics"
    LIKE = "like"
    SPANS = "spans"
    ASSESSMENT_METRICS = "assessment_metrics"

    @property
    def without(self) -> str:
        """The effect if the server lacks this feature."""
        return _WITHOUT[self]


_WITHOUT = {
    Feature.END_TIME_FILTER: "MLflow cannot search by end time (this needs MLflow 3.6): each poll reads all traces that"
    " started within poll.lateness; a shorter poll.lateness makes polls cheaper",
    Feature.NOT_IN: "MLflow cannot exclude ids from a search: if more than 500 traces start in the same millisecond,"
    " they are read by page number, and one of them may be read late if others are deleted at the same time",
    Feature.TRACE_METRICS: "MLflow's own trace counts are unavailable (this needs MLflow 3.10 and no mlflow.filter):"
    " traces that become visible late are found only when their start times are closed or retired, after poll.lateness"
    " or poll.audit_horizon",
    Feature.SPANS: "MLflow does not return the spans of several traces at once (this needs MLflow 3.6): metrics of"
    " models, tools and other spans are missing",
    Feature.ASSESSMENT_METRICS: "MLflow does not count assessments (this needs MLflow 3.10): those that come after"
    " their trace is counted are only found when its start time is closed or retired, after poll.lateness or"
    " poll.audit_horizon",
    Feature.LIKE: "MLflow cannot search for part of a tag (this needs MLflow 3.6): reports, health checks and /traces"
    " for one environment, version or user read all traces of that time, which takes longer",
}

_SINCE = (
    (
        (3, 12),
        "this version of MLflow does not mark traces as complete (this needs MLflow 3.12): each trace is counted"
        f" {SETTLE_MS // 1000} s after its last change instead of {FILL_MS // 1000} s",
    ),
    ((3, 10), "this version of MLflow does not know the cost of traces (this needs MLflow 3.10): cost is missing"),
)


def shortcomings(version: str) -> Iterator[str]:
    """The limitations of a server of this version that no request can detect."""
    found = re.match(r"(\d+)\.(\d+)", version)
    for since, without in _SINCE:
        if found and tuple(map(int, found.groups())) < since:
            yield without
