"""The configuration file: its schema, its defaults, and the validation of each key."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
)
from pydantic import model_validator as validates_model

from mlflow_trace_exporter.domain.globs import ANY
from mlflow_trace_exporter.domain.labels import (
    ALL_ASSESSMENT_LABELS,
    ENVIRONMENT,
    INSIDE_LABELS,
    VERSION,
    VERSION_LABELS,
)
from mlflow_trace_exporter.domain.objectives import Objective, Objectives, Quality, pattern
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.errors import UserError
from mlflow_trace_exporter.listed import did_you_mean
from mlflow_trace_exporter.settings import yaml_file
from mlflow_trace_exporter.settings.label_keys import ExtraLabels, LabelDefaults, LabelMaps, LabelSources
from mlflow_trace_exporter.settings.values import (
    DEFAULT_TRACKING_URI,
    MAX_EDGE,
    DatabaseUrl,
    Duration,
    Edges,
    Exclusions,
    FilePath,
    Good,
    LedgerName,
    NamePattern,
    Names,
    Ratio,
    SpanTypes,
    Start,
    Team,
    Time,
    TrackingUri,
    TrafficClasses,
    WebUrl,
    at_least,
    at_most,
    parse_tracking_uri,
)
from mlflow_trace_exporter.settings.yaml_file import Section, place_of
from mlflow_trace_exporter.shown import as_written


def _default_ledger(known: Mapping[str, Any]) -> Path:
    if known.get("url") is not None:
        return Path()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser().absolute() / "mlflow-trace-exporter" / "ledger.db"
    except RuntimeError:
        raise UserError("ledger.path: must be set, because this user has no home directory for the ledger") from None


def _default_workspaces() -> tuple[str, ...]:
    name = os.environ.get("MLFLOW_WORKSPACE", "").strip()
    return (name,) if name else ()


class Mlflow(Section):
    """Which traces to read, and from where. Without ``timeout``, MLFLOW_HTTP_REQUEST_TIMEOUT applies, or 30 s."""

    tracking_uri: TrackingUri = Field(
        default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI
    )
    workspaces: Names = Field(default_factory=_default_workspaces)
    experiments: Names = ()
    filter: StrictStr | None = None
    traffic: TrafficClasses = frozenset({Traffic.APPLICATION})
    timeout: Annotated[Duration, at_least("1s")] | None = None


class Poll(Section):
    """When and how far back to read."""

    interval: Annotated[Duration, at_least("1s"), at_most("1h")] = timedelta(seconds=15)
    lateness: Annotated[Duration, at_least("10m")] = timedelta(hours=2)
    audit_horizon: Annotated[Duration, at_least("10m")] = timedelta(hours=24)
    margin: Annotated[Duration, at_least("1m")] = timedelta(minutes=5)
    overlap: Annotated[Duration, at_least("2m")] = timedelta(minutes=2)
    start: Start = "now"
    until: Time | None = None

    @validates_model(mode="after")
    def _can_be_kept(self) -> "Poll":
        """Validation across keys: start times are closed before they are retired, in steps of ten minutes."""
        if self.audit_horizon < self.lateness + timedelta(minutes=10):
            raise ValueError("audit_horizon must be at least 10m more than lateness")
        if self.overlap > self.lateness:
            raise ValueError("overlap must not be more than lateness")
        return self


class Labels(Section):
    """How labels are made: the sources of each (the first that has a value is used), whether there is ``trace_name``,
    the values of traces without one, values that replace others, and the most values that a label can have."""

    environment: LabelSources = ENVIRONMENT
    version: LabelSources = VERSION
    extra: ExtraLabels = Field(default_factory=dict)
    trace_name: StrictBool = True
    defaults: LabelDefaults = Field(default_factory=dict)
    map: LabelMaps = Field(default_factory=dict)
    max_values: Annotated[StrictInt, Field(ge=1, le=100_000)] = 200

    @field_validator("defaults", "map")
    @classmethod
    def _are_of_labels(cls, value: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        """Validation across keys."""
        name_of_trace = ("trace_name",) if info.data.get("trace_name") else ()
        known = ("environment", "version", *name_of_trace, *info.data.get("extra", value))
        for name in value:
            if name not in known:
                meant = did_you_mean(name, known) or f"; write one of {', '.join(known)}"
                raise ValueError(f"{as_written(name)} is not a label that has a source{meant}")
        return value


class Metrics(Section):
    """Which metrics about traces are not exposed. They are counted nevertheless."""

    exclude: Exclusions = ()


class Spans(Section):
    """Whether the spans of traces are read, the types of those that have metrics besides calls of models, and how many
    names they can have."""

    enabled: StrictBool = False
    types: SpanTypes = frozenset({"TOOL", "RETRIEVER", "AGENT"})
    max_names: Annotated[StrictInt, Field(ge=1, le=100_000)] = 100


class Assessments(Section):
    """Whether assessments are counted, and for how long after the start of a trace."""

    enabled: StrictBool = True
    horizon: Annotated[Duration, at_least("1h"), at_most("90d")] = timedelta(days=7)


class ActiveUsers(Section):
    """Whether active users and sessions are counted."""

    enabled: StrictBool = False


class Buckets(Section):
    """Upper bounds of the histogram buckets."""

    duration_seconds: Edges = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
    tokens: Edges = tuple(float(4**power) for power in range(11))
    score: Edges = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 3, 4, 5)


class Series(Section):
    """Which series are exposed: how many at most, for how long, and how long at 0 first."""

    limit: Annotated[StrictInt, Field(ge=1_000, le=10_000_000)] = 100_000
    ttl: Annotated[Duration, at_least("1h")] = timedelta(days=1)
    zero_hold: Annotated[Duration, at_most("10m")] = timedelta(seconds=30)


class QualityOf(Section):
    """The objective for the assessments of a name: which words or scores are good, and the share of good ones."""

    assessment: Annotated[StrictStr, AfterValidator(pattern)]
    good: Good = frozenset()
    at_least: Annotated[float, Field(ge=0, le=MAX_EDGE)] | None = None
    ratio: Ratio

    @validates_model(mode="after")
    def _says_what_is_good(self) -> "QualityOf":
        """Validation across keys."""
        if not self.good and self.at_least is None:
            raise ValueError("say what is good: words, as in good: [yes], or scores, as in at_least: 0.7")
        return self


class ObjectiveOf(Section):
    """The objectives of applications (experiments) in environments, both a name or a glob, and the team that owns
    them. A key that is left out sets no objective."""

    experiment: NamePattern = ANY
    environment: NamePattern = ANY
    team: Team | None = None
    error_ratio: Ratio | None = None
    latency: Annotated[Duration, at_least("1ms")] | None = None
    latency_ratio: Ratio = 0.95
    first_chunk: Annotated[Duration, at_least("1ms")] | None = None
    cost_usd_per_day: Annotated[float, Field(gt=0, le=MAX_EDGE)] | None = None
    quality: tuple[QualityOf, ...] = ()
    min_traces: Annotated[StrictInt, Field(ge=1)] = 20

    @field_validator("quality")
    @classmethod
    def _are_different(cls, value: tuple[QualityOf, ...]) -> tuple[QualityOf, ...]:
        """Validation across elements."""
        names = [each.assessment for each in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} has two objectives; write one, which can have both good and at_least")
        return value

    @validates_model(mode="after")
    def _says_something(self) -> "ObjectiveOf":
        """Validation across keys."""
        said = (self.error_ratio, self.latency, self.first_chunk, self.cost_usd_per_day, self.team)
        if all(each is None for each in said) and not self.quality:
            raise ValueError(
                "name at least one of error_ratio, latency, first_chunk, cost_usd_per_day, quality and team"
            )
        return self

    def as_objective(self) -> Objective:
        """Convert to the domain type."""
        return Objective(
            experiment=self.experiment,
            environment=self.environment,
            team=self.team or "",
            error_ratio=self.error_ratio,
            latency_s=self.latency.total_seconds() if self.latency else None,
            latency_ratio=self.latency_ratio if self.latency else None,
            first_chunk_s=self.first_chunk.total_seconds() if self.first_chunk else None,
            cost_usd_per_day=self.cost_usd_per_day,
            min_traces=self.min_traces,
            quality=tuple(Quality(**dict(each)) for each in self.quality),
        )


class LedgerPlace(Section):
    """Where the exporter keeps its ledger: in a file, or in a PostgreSQL database under a name."""

    url: DatabaseUrl | None = Field(default=None, repr=False)
    path: FilePath = Field(default_factory=_default_ledger)
    name: LedgerName = "mlflow_trace_exporter"

    @validates_model(mode="after")
    def _is_one_place(self) -> "LedgerPlace":
        """Validation across keys."""
        if self.url is not None and "path" in self.model_fields_set:
            raise ValueError("has both a path and a url; remove one of them")
        if self.url is None and "name" in self.model_fields_set:
            raise ValueError("has a name without a url; a ledger in a file has only a path")
        return self


class Web(Section):
    """The URLs at which people reach this exporter and MLflow's pages (None: at ``mlflow.tracking_uri``)."""

    external_url: WebUrl | None = None
    mlflow_ui_url: WebUrl | None = None


class Config(Section):
    """The whole configuration. A section or key that is missing or empty has its default."""

    mlflow: Mlflow = Field(default_factory=Mlflow)
    poll: Poll = Field(default_factory=Poll)
    labels: Labels = Field(default_factory=Labels)
    metrics: Metrics = Field(default_factory=Metrics)
    spans: Spans = Field(default_factory=Spans)
    assessments: Assessments = Field(default_factory=Assessments)
    active_users: ActiveUsers = Field(default_factory=ActiveUsers)
    buckets: Buckets = Field(default_factory=Buckets)
    series: Series = Field(default_factory=Series)
    objectives: tuple[ObjectiveOf, ...] = (
        ObjectiveOf.model_validate({"environment": "production", "error_ratio": "5%", "latency": "5s"}),
    )
    ledger: LedgerPlace = Field(default_factory=LedgerPlace)
    web: Web = Field(default_factory=Web)
    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is valid, but cannot be meant, a sentence each."""
        return self._warnings

    @property
    def all_objectives(self) -> Objectives:
        """The objectives as the domain type."""
        return Objectives(tuple(each.as_objective() for each in self.objectives))

    @validates_model(mode="after")
    def _traces_have_labels_of_their_own(self) -> "Config":
        """Validation across keys: the labels of a series tell what it counts: traces, parts of them or assessments."""
        names = (*VERSION_LABELS, *self.labels.extra)
        taken = {
            "spans": self.spans.enabled and names in INSIDE_LABELS,
            "assessments": self.assessments.enabled and names in ALL_ASSESSMENT_LABELS,
        }
        by = next((each for each, is_taken in taken.items() if is_taken), None)
        if by is not None and not self.labels.trace_name:
            raise ValueError(
                f"without trace_name, labels.extra cannot be {', '.join(self.labels.extra)}, because series about {by}"
                " have these labels; choose other names"
            )
        return self

    @validates_model(mode="after")
    def _warn_of_unused_objectives(self, info: ValidationInfo) -> "Config":
        """Validation across keys."""

        def place(at: int) -> str:
            return place_of(("objectives", at), info.context)

        self._warnings = tuple(
            f"{place(at)}: is never used, because {place(before)} matches the same experiments and environments"
            for at, before in self.all_objectives.never_used()
        )
        return self


def load(path: Path | None, named_by: str = "--config.file") -> Config:
    """Load the configuration from a file, or all defaults without one. ``named_by`` is the flag or argument that named
    the file.

    Raises UserError with every error in the file, each with its line and key.
    """
    config = Config() if path is None else yaml_file.load(path, Config, named_by)
    try:  # a value from the environment has not been validated yet
        parse_tracking_uri(config.mlflow.tracking_uri)
    except ValueError as error:
        raise UserError(f"MLFLOW_TRACKING_URI: {error}") from None
    return config


def keys() -> list[str]:
    """All keys of the configuration, in dotted form."""
    return list(yaml_file.keys(Config))
