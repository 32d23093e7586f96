"""What an MLflow server may lack, and what is done without it. Pure."""

from enum import Enum


class Feature(Enum):
    """Something that is asked of a server, and tried out rather than guessed from its version."""

    END_TIME_FILTER = "end_time_filter"
    NOT_IN = "not_in"
    TRACE_METRICS = "trace_metrics"

    @property
    def without(self) -> str:
        """What it means to do without."""
        return _WITHOUT[self]


_WITHOUT = {
    Feature.END_TIME_FILTER: "MLflow cannot search by end time (it can from 3.6 on): each poll reads all traces that"
    " started within poll.lateness; a shorter one makes polls cheaper",
    Feature.NOT_IN: "MLflow cannot leave out ids in a search: more than 500 traces that start in the same millisecond"
    " are read by page numbers, and one may be read late if others are deleted meanwhile",
    Feature.TRACE_METRICS: "MLflow's own count of traces cannot be had (it can from 3.10 on, without mlflow.filter):"
    " traces that become visible late are found only when their start times are closed or retired, after poll.lateness"
    " or poll.audit_horizon",
}
