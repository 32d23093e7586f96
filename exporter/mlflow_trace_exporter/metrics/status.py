"""The table of metrics about the exporter itself, which start again with each process. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.labels import PLACE_LABELS, VERSION_LABELS, LabelValues
from mlflow_trace_exporter.domain.objectives import Objective
from mlflow_trace_exporter.errors import Reason
from mlflow_trace_exporter.metrics.model import TraceFamily
from mlflow_trace_exporter.metrics.series import SeriesExemplars, SeriesTotals


@dataclass(frozen=True, slots=True)
class Build:
    """Versions of the software in this process."""

    version: str
    python_version: str
    mlflow_version: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How complete the totals are. All points in time are Unix seconds.

    ``experiments``: the names of the experiments that are read. ``objectives``: by PLACE_LABELS. ``interval_s``: the
    poll interval. ``behind``: whether there is a backlog to read. ``audited_until_s``: None before the first audit.
    ``running``: the number of traces in progress by experiment and environment. ``first_seen_s``: when the first trace
    of a version started, by VERSION_LABELS. ``created_s``: when each experiment with exposed series was created, by its
    label. ``series``: the number of exposed series about traces. ``features``: whether each feature of the server can
    be used; empty while unknown. ``clock_difference_s``: how many seconds MLflow's clock is ahead of ours, None if
    MLflow does not report its time. ``counts_from_s``: traces that started earlier are not counted.
    ``first_complete_s``: when ``complete_until_s`` can move for the first time, None once it has. ``workspaces``:
    whether MLflow lets each workspace be read; empty if the server has none. ``active_users`` and ``active_sessions``:
    how many there are by PLACE_LABELS and window; empty if they are not counted.
    """

    experiments: tuple[str, ...]
    objectives: Mapping[LabelValues, Objective]
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
    unaccounted_assessments: int | None = None
    clock_difference_s: float | None = None
    created_s: Mapping[str, float] = field(default_factory=dict)
    counts_from_s: float | None = None
    first_complete_s: float | None = None
    workspaces: Mapping[str, bool] = field(default_factory=dict)
    active_users: Mapping[LabelValues, int] = field(default_factory=dict)
    active_sessions: Mapping[LabelValues, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed poll: why, and when (Unix seconds)."""

    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Reload:
    """Whether the last reload of the configuration succeeded, and when the last successful one was (Unix seconds)."""

    successful: bool
    success_s: float


@dataclass(frozen=True, slots=True)
class Leader:
    """The process that leads instead of this one, and since when (Unix seconds); both may be unknown."""

    holder: str = ""
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the exporter since it started. None means not known yet, and is not exposed.

    ``mlflow_since_s``: when ``mlflow_up`` last changed (Unix seconds). ``failure``: the most recent one. ``stands_by``:
    this process does not lead, and what is known of the one that does; None if it leads.
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
    stands_by: Leader | None = None

    @classmethod
    def begin(cls, build: Build) -> "Status":
        """The status of a process that has just started."""
        return cls(build, poll_errors={reason.value: 0 for reason in Reason})

    def standing_by(self, leader: Leader) -> "Status":
        """The status while another process leads, or may lead: only what is about this one."""
        alone = Status(self.build, self.poll_errors, failure=self.failure, reload=self.reload, polls=self.polls)
        return replace(alone, stands_by=leader)

    @property
    def catching_up(self) -> bool | None:
        """Whether MLflow is reachable and the exporter is reading traces that it missed."""
        return None if self.reading is None else self.reading.behind and bool(self.mlflow_up)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of an exposition: committed totals, and the state of the exporter at that moment.

    ``families``: the families of the series in ``totals``. ``exemplars``: traces by the bucket that counts them; a
    bucket may not show them yet. ``active_ms``: when each group last had increments. ``excluded``: the names of
    families that are not exposed. ``workspaces``: all workspaces that can be in a label ``experiment``.
    """

    families: tuple[TraceFamily, ...]
    totals: SeriesTotals
    status: Status
    exemplars: SeriesExemplars = field(default_factory=dict)
    active_ms: Mapping[Group, int] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    workspaces: frozenset[str] = frozenset()

    @property
    def exposed(self) -> tuple[TraceFamily, ...]:
        """The families that are exposed."""
        return tuple(family for family in self.families if family.name not in self.excluded)


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
        values = ((place, read(objective)) for place, objective in _objectives(status))
        return [(place, value) for place, value in values if value is not None]

    help_text = f"{meaning} An objective from the exporter's configuration."
    return StatusFamily(f"mlflow_objective_{name}", "gauge", help_text, samples, PLACE_LABELS)


def _active(what: str, read: Callable[[Reading], Mapping[LabelValues, int]]) -> StatusFamily:
    return StatusFamily(
        f"mlflow_active_{what}",
        "gauge",
        f"Distinct {what} with counted traces that started in the window, within 1.5 % (standard error). Window 1d: the"
        " current hour and the 24 before; 30d: the current day (UTC) and the 30 before.",
        lambda status: [] if status.reading is None else read(status.reading).items(),
        (*PLACE_LABELS, "window"),
    )


def _objectives(status: Status) -> Iterable[tuple[LabelValues, Objective]]:
    return status.reading.objectives.items() if status.reading else ()


STATUS_FAMILIES = (
    StatusFamily(
        "mlflow_up",
        "gauge",
        "Whether MLflow answered the last poll (1) or not (0).",
        lambda status: _known(status.mlflow_up),
    ),
    StatusFamily(
        "mlflow_trace_exporter_leader",
        "gauge",
        "Whether this exporter counts traces (1), or stands by for the one that does (0).",
        lambda status: [((), status.stands_by is None)],
    ),
    StatusFamily(
        "mlflow_trace_exporter_build_info",
        "gauge",
        "Always 1; the labels are the versions of the exporter, Python and the MLflow client.",
        lambda status: [
            ((status.build.version, status.build.python_version, status.build.mlflow_version), 1),
        ],
        ("version", "python_version", "mlflow_version"),
    ),
    StatusFamily(
        "mlflow_trace_exporter_polls_total",
        "counter",
        "Polls of MLflow that ended, successfully or not.",
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
        "Duration of the last poll of MLflow.",
        lambda status: _known(status.poll_duration_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_poll_interval_seconds",
        "gauge",
        "Configured interval between polls of MLflow (poll.interval).",
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
        "Traces in progress when they were last checked, from polls of MLflow.",
        lambda status: [] if status.reading is None else status.reading.running.items(),
        ("experiment", "environment"),
    ),
    _active("users", lambda reading: reading.active_users),
    _active("sessions", lambda reading: reading.active_sessions),
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
        "When an experiment was created, in Unix seconds, from polls of MLflow. All exporters of a server agree on it.",
        lambda status: [((name,), at_s) for name, at_s in (status.reading.created_s if status.reading else {}).items()],
        ("experiment",),
    ),
    StatusFamily(
        "mlflow_objective_info",
        "gauge",
        "Always 1, for each experiment and environment; team is its owner according to the exporter's configuration.",
        lambda status: [((*place, objective.team), 1) for place, objective in _objectives(status)],
        (*PLACE_LABELS, "team"),
    ),
    _objective("error_ratio", "Maximum share of failed traces.", lambda objective: objective.error_ratio),
    _objective(
        "latency_seconds",
        "Maximum duration of a trace, in seconds.",
        lambda objective: objective.latency_s,
    ),
    _objective(
        "latency_ratio",
        "Minimum share of traces that end within mlflow_objective_latency_seconds.",
        lambda objective: objective.latency_ratio,
    ),
    _objective(
        "first_chunk_seconds",
        "Maximum time from the start of a streamed call of a model to its first chunk, in seconds, for 95 % of them.",
        lambda objective: objective.first_chunk_s,
    ),
    _objective(
        "cost_usd_per_day",
        "Maximum cost per day, in USD.",
        lambda objective: objective.cost_usd_per_day,
    ),
    StatusFamily(
        "mlflow_objective_assessment_ratio",
        "gauge",
        "Minimum share of good assessments of this name. An objective from the exporter's configuration.",
        lambda status: [
            ((*place, each.assessment), each.ratio)
            for place, objective in _objectives(status)
            for each in objective.quality
        ],
        (*PLACE_LABELS, "assessment"),
    ),
    _objective(
        "min_traces",
        "Minimum number of traces for a ratio to be significant.",
        lambda objective: objective.min_traces if objective.has_threshold else None,
    ),
    StatusFamily(
        "mlflow_trace_exporter_complete_until_timestamp_seconds",
        "gauge",
        "All traces that started before this time (Unix seconds) are known: either counted or pending.",
        _of_reading(lambda reading: reading.complete_until_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_audited_until_timestamp_seconds",
        "gauge",
        "When MLflow's own trace counts were last compared with the ledger's, in Unix seconds.",
        _of_reading(lambda reading: reading.audited_until_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_catching_up",
        "gauge",
        "Whether the exporter is reading traces that it missed (1) or is up to date (0).",
        lambda status: _known(status.catching_up),
    ),
    StatusFamily(
        "mlflow_trace_exporter_audit_supported",
        "gauge",
        "Whether MLflow's own trace counts are available (1) or not (0).",
        _of_reading(lambda reading: reading.audit_supported),
    ),
    StatusFamily(
        "mlflow_trace_exporter_server_feature_supported",
        "gauge",
        "Whether the MLflow server has a feature (1), or the exporter works without it, more slowly (0).",
        lambda status: [((name,), has) for name, has in (status.reading.features if status.reading else {}).items()],
        ("feature",),
    ),
    StatusFamily(
        "mlflow_trace_exporter_workspace_readable",
        "gauge",
        "Whether MLflow lets the exporter read a workspace (1) or denies access (0). Only if MLflow has workspaces.",
        lambda status: [((name,), can) for name, can in (status.reading.workspaces if status.reading else {}).items()],
        ("workspace",),
    ),
    StatusFamily(
        "mlflow_trace_exporter_unaccounted_traces",
        "gauge",
        "Traces that MLflow counts but the ledger does not, even after reading again.",
        _of_reading(lambda reading: reading.unaccounted),
    ),
    StatusFamily(
        "mlflow_trace_exporter_unaccounted_assessments",
        "gauge",
        "Assessments that MLflow counts but the ledger does not, even after reading again.",
        _of_reading(lambda reading: reading.unaccounted_assessments),
    ),
    StatusFamily(
        "mlflow_trace_exporter_clock_difference_seconds",
        "gauge",
        "How many seconds MLflow's clock is ahead of the exporter's. MLflow reports its time in whole seconds.",
        _of_reading(lambda reading: reading.clock_difference_s),
    ),
    StatusFamily(
        "mlflow_trace_exporter_pending_traces",
        "gauge",
        "Traces that were seen but not counted yet, because they are running or may still change.",
        _of_reading(lambda reading: reading.pending),
    ),
    StatusFamily(
        "mlflow_trace_exporter_series",
        "gauge",
        "Exposed time series about traces.",
        _of_reading(lambda reading: reading.series),
    ),
    StatusFamily(
        "mlflow_trace_exporter_series_limit",
        "gauge",
        "Maximum number of exposed time series about traces. Beyond it all labels of new series are `other`.",
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
        "Whether the last reload of the configuration file succeeded (1), or the previous one is still used (0).",
        lambda status: _known(status.reload.successful if status.reload else None),
    ),
    StatusFamily(
        "mlflow_trace_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration file was last loaded successfully, in Unix seconds.",
        lambda status: _known(status.reload.success_s if status.reload else None),
    ),
)
