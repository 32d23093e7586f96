"""What the exporter says of itself: the table of metrics that begin anew with each process. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlflow_trace_exporter.domain.admission import Group
from mlflow_trace_exporter.domain.labels import VERSION_LABELS
from mlflow_trace_exporter.domain.objectives import Objective
from mlflow_trace_exporter.errors import Reason
from mlflow_trace_exporter.metrics.meter import Cell, Exemplar, TraceFamily


@dataclass(frozen=True, slots=True)
class Build:
    """Versions of the parts of this process."""

    version: str
    python_version: str
    mlflow_version: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How complete the totals are.

    ``experiments`` are the names of those that are read, ``objectives`` are by environment. ``interval_s``: how often
    to poll. ``behind``: whether there is more to read than what just came. ``complete_until_s`` and
    ``audited_until_s`` are Unix seconds, the latter None where there was no audit yet. ``running`` counts traces in
    progress by experiment and environment, and ``first_seen_s`` is when the first trace of a version started, by
    VERSION_LABELS (Unix seconds). ``created_s`` is when each experiment of which series are shown was created, by its
    label (Unix seconds). ``series`` is how many series about traces are shown. ``features`` says of
    each feature of the server whether it can be used; empty as long as that is not known. ``clock_difference_s``: by
    how many seconds MLflow's clock is ahead of ours, None where MLflow does not say. ``counts_from_s``: traces that
    started before are not counted (Unix seconds). ``first_complete_s``: when ``complete_until_s`` can move for the
    first time, None once it has.
    """

    experiments: tuple[str, ...]
    objectives: Mapping[str, Objective]
    interval_s: float
    complete_until_s: float
    behind: bool
    pending: int
    running: Mapping[tuple[str, ...], int]
    first_seen_s: Mapping[tuple[str, ...], float]
    series: int
    series_limit: int
    ledger_bytes: int
    features: Mapping[str, bool]
    audit_supported: bool | None
    audited_until_s: float | None
    unaccounted: int | None
    clock_difference_s: float | None = None
    created_s: Mapping[str, float] = field(default_factory=dict)
    counts_from_s: float | None = None
    first_complete_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A poll that failed: why, and when (Unix seconds)."""

    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Reload:
    """How the last reload of the configuration went, and when one went well (Unix seconds)."""

    successful: bool
    success_s: float


@dataclass(frozen=True, slots=True)
class Status:
    """What the exporter knows of its own work since it started. None means not known yet, and is not exposed.

    ``mlflow_since_s``: since when ``mlflow_up`` is what it is (Unix seconds). ``failure``: the last there was.
    """

    build: Build
    poll_errors: Mapping[str, int]
    mlflow_up: bool | None = None
    mlflow_since_s: float | None = None
    failure: Failure | None = None
    reload: Reload | None = None
    polls: int = 0
    poll_duration_s: float | None = None
    last_success_s: float | None = None
    reading: Reading | None = None

    @classmethod
    def begin(cls, build: Build) -> "Status":
        """The status of a process that has done nothing yet."""
        return cls(build, poll_errors={reason.value: 0 for reason in Reason})

    @property
    def catching_up(self) -> bool | None:
        """Whether MLflow is there and what was missed is being read from it."""
        return None if self.reading is None else self.reading.behind and bool(self.mlflow_up)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What may be exposed: totals that are committed, and the state of the exporter at that moment.

    ``families`` are those that the cells of ``totals`` are of. ``exemplars`` are traces by the bucket they are counted
    in. ``active_ms``: when each group got increments last.
    """

    families: tuple[TraceFamily, ...]
    totals: Mapping[Cell, float]
    status: Status
    exemplars: Mapping[Cell, Exemplar] = field(default_factory=dict)
    active_ms: Mapping[Group, int] = field(default_factory=dict)


Samples = Iterable[tuple[tuple[str, ...], float]]
"""Pairs of label values and a value."""


@dataclass(frozen=True, slots=True)
class StatusFamily:
    """A counter or gauge about the exporter itself."""

    name: str
    type: Literal["counter", "gauge"]
    help: str
    read: Callable[[Status], Samples]
    label_names: tuple[str, ...] = ()


def _known(value: float | None) -> Samples:
    return [] if value is None else [((), float(value))]


def _of_reading(read: Callable[[Reading], float | None]) -> Callable[[Status], Samples]:
    return lambda status: [] if status.reading is None else _known(read(status.reading))


def _objective(name: str, meaning: str, read: Callable[[Objective], float | None]) -> StatusFamily:
    def samples(status: Status) -> Samples:
        found = status.reading.objectives if status.reading else {}
        values = ((environment, read(objective)) for environment, objective in found.items())
        return [((environment,), value) for environment, value in values if value is not None]

    help_text = f"{meaning} The objective of an environment, from the exporter's configuration."
    return StatusFamily(f"mlflow_objective_{name}", "gauge", help_text, samples, ("environment",))


STATUS_FAMILIES = (
    StatusFamily(
        "mlflow_up",
        "gauge",
        "Whether MLflow answered the last poll (1) or not (0).",
        lambda status: _known(status.mlflow_up),
    ),
    StatusFamily(
        "mlflow_trace_exporter_build_info",
        "gauge",
        "Always 1; the labels say which versions run.",
        lambda status: [
            ((status.build.version, status.build.python_version, status.build.mlflow_version), 1),
        ],
        ("version", "python_version", "mlflow_version"),
    ),
    StatusFamily(
        "mlflow_trace_exporter_polls_total",
        "counter",
        "Polls of MLflow that ended, well or not.",
        lambda status: [((), status.polls)],
    ),
    StatusFamily(
        "mlflow_trace_exporter_poll_errors_total",
        "counter",
        "Polls of MLflow that failed, by reason.",
        lambda status: [((reason,), count) for reason, count in status.poll_errors.items()],
        ("reason",),
    ),
    StatusFamily(
        "mlflow_trace_exporter_poll_duration_seconds",
        "gauge",
        "How long the last poll of MLflow took.",
        lambda status: _known(status.poll_duration_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_poll_interval_seconds",
        "gauge",
        "How often MLflow is polled while all is well, from the exporter's configuration (poll.interval).",
        _of_reading(lambda reading: reading.interval_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_last_successful_poll_timestamp_seconds",
        "gauge",
        "When the last successful poll of MLflow ended, in Unix seconds.",
        lambda status: _known(status.last_success_s),
    ),
    StatusFamily(
        "mlflow_traces_in_progress",
        "gauge",
        "Traces that were in progress at the last look at them, from polls of MLflow.",
        lambda status: [] if status.reading is None else status.reading.running.items(),
        ("experiment", "environment"),
    ),
    StatusFamily(
        "mlflow_trace_version_first_seen_timestamp_seconds",
        "gauge",
        "When the first trace of a version started, in Unix seconds, from polls of MLflow.",
        lambda status: [] if status.reading is None else status.reading.first_seen_s.items(),
        VERSION_LABELS,
    ),
    StatusFamily(
        "mlflow_experiment_created_timestamp_seconds",
        "gauge",
        "When an experiment was created, in Unix seconds, from polls of MLflow: it is the same for all who read it.",
        lambda status: [((name,), at_s) for name, at_s in (status.reading.created_s if status.reading else {}).items()],
        ("experiment",),
    ),
    _objective("error_ratio", "Which share of its traces may fail.", lambda objective: objective.error_ratio),
    _objective("latency_seconds", "Within how many seconds a trace should end.", lambda objective: objective.latency_s),
    _objective(
        "latency_ratio", "Which share of its traces should end within that.", lambda objective: objective.latency_ratio
    ),
    _objective("cost_usd_per_day", "What a day may cost in USD.", lambda objective: objective.cost_usd_per_day),
    _objective(
        "min_traces", "Fewer traces than this say nothing about a ratio.", lambda objective: objective.min_traces
    ),
    StatusFamily(
        "mlflow_trace_exporter_complete_until_timestamp_seconds",
        "gauge",
        "Traces that started before this time (Unix seconds) are known: counted, or pending.",
        _of_reading(lambda reading: reading.complete_until_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_audited_until_timestamp_seconds",
        "gauge",
        "When MLflow's own count of traces was last compared with the ledger's, in Unix seconds.",
        _of_reading(lambda reading: reading.audited_until_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_catching_up",
        "gauge",
        "Whether the exporter is reading what it has missed (1) or is up to date (0).",
        lambda status: _known(status.catching_up),
    ),
    StatusFamily(
        "mlflow_trace_exporter_audit_supported",
        "gauge",
        "Whether MLflow's own count of traces can be had (1) or not (0).",
        _of_reading(lambda reading: reading.audit_supported),
    ),
    StatusFamily(
        "mlflow_trace_exporter_server_feature_supported",
        "gauge",
        "Whether the MLflow server has a feature (1), or the exporter does without it, more slowly (0).",
        lambda status: [((name,), has) for name, has in (status.reading.features if status.reading else {}).items()],
        ("feature",),
    ),
    StatusFamily(
        "mlflow_trace_exporter_unaccounted_traces",
        "gauge",
        "Traces that MLflow counts and the ledger does not, after reading them again.",
        _of_reading(lambda reading: reading.unaccounted),
    ),
    StatusFamily(
        "mlflow_trace_exporter_clock_difference_seconds",
        "gauge",
        "By how many seconds MLflow's clock is ahead of the exporter's; MLflow tells it to the second.",
        _of_reading(lambda reading: reading.clock_difference_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_pending_traces",
        "gauge",
        "Traces that were seen and are not counted yet, because they run or may still change.",
        _of_reading(lambda reading: reading.pending),
    ),
    StatusFamily(
        "mlflow_trace_exporter_series",
        "gauge",
        "Time series about traces that are exposed.",
        _of_reading(lambda reading: reading.series),
    ),
    StatusFamily(
        "mlflow_trace_exporter_series_limit",
        "gauge",
        "How many time series about traces can be exposed; beyond it all labels of new ones are `other`.",
        _of_reading(lambda reading: reading.series_limit),
    ),
    StatusFamily(
        "mlflow_trace_exporter_ledger_bytes",
        "gauge",
        "Size of the ledger on disk.",
        _of_reading(lambda reading: reading.ledger_bytes),
    ),
    StatusFamily(
        "mlflow_trace_exporter_config_last_reload_successful",
        "gauge",
        "Whether the configuration file could be used when it was read last (1), or the one before goes on (0).",
        lambda status: _known(status.reload.successful if status.reload else None),
    ),
    StatusFamily(
        "mlflow_trace_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration file was last read and could be used, in Unix seconds.",
        lambda status: _known(status.reload.success_s if status.reload else None),
    ),
)
