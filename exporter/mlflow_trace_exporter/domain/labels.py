"""Makes labels from a trace and its experiment. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from mlflow_trace_exporter.domain.patterns import Pattern
from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.shown import shown

UNKNOWN = "unknown"
"""Replaces a missing label value."""

MAX_VALUE_LENGTH = 128
"""Longer values are truncated: they cost memory in every Prometheus that scrapes them, and no panel can show them."""

PLACE_LABELS = ("experiment", "environment")
"""The labels that are known even for traces that are not counted."""

VERSION_LABELS = (*PLACE_LABELS, "version")
"""The labels that identify a version of an experiment in an environment."""

TRACE_LABELS = (*VERSION_LABELS, "trace_name")
"""The labels of every series that counts traces; labels added by the configuration follow them."""

CALL_LABELS = (*VERSION_LABELS, "provider", "model")
"""The labels of every series that counts calls of models."""

CALL_ERROR_LABELS = (*CALL_LABELS, "error_type")
"""The labels of the series that counts failed calls of models."""

STEP_LABELS = (*VERSION_LABELS, "span_type", "span_name")
"""The labels of every series that counts other spans."""

INSIDE_LABELS = (CALL_LABELS, CALL_ERROR_LABELS, STEP_LABELS)
"""The labels of all series about the inside of traces."""

ASSESSMENT_LABELS = (*VERSION_LABELS, "assessment")
"""The labels of every series that counts assessments of one name, whoever gave them."""

ASSESSMENT_SOURCE_LABELS = (*ASSESSMENT_LABELS, "source")
"""The same, by who gave them."""

ASSESSMENT_VALUE_LABELS = (*ASSESSMENT_SOURCE_LABELS, "value")
"""The labels of every series that counts assessments that are words or truth values."""

ASSESSMENT_SCORE_LABELS = (*VERSION_LABELS, "source", "assessment")
"""The labels of every series about assessments that are numbers. They are in another order than
ASSESSMENT_SOURCE_LABELS, because a group is identified by its labels, and words have no scores."""

ALL_ASSESSMENT_LABELS = (
    ASSESSMENT_LABELS,
    ASSESSMENT_SOURCE_LABELS,
    ASSESSMENT_VALUE_LABELS,
    ASSESSMENT_SCORE_LABELS,
)
"""The labels of all series about assessments."""

PART_LABELS = (*INSIDE_LABELS, *ALL_ASSESSMENT_LABELS)
"""The labels of all series about parts of traces: what is inside them, and what is said about them."""


def part_names(label_sets: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The labels that series with these labels have besides VERSION_LABELS, each once."""
    return tuple(dict.fromkeys(name for names in label_sets for name in names[len(VERSION_LABELS) :]))


INSIDE_NAMES = part_names(INSIDE_LABELS)
"""The labels that only series about the inside of traces have."""

ASSESSMENT_NAMES = part_names(ALL_ASSESSMENT_LABELS)
"""The labels that only series about assessments have: assessment, source and value."""

Labels = Mapping[str, str]
"""The label values of a trace by label name."""

LabelValues = tuple[str, ...]
"""The label values of a series, in the order of its label names."""


@dataclass(frozen=True, slots=True)
class LabelSource:
    """Where a label value comes from: a tag or metadata of the trace, a tag of its experiment, or the name of the
    experiment. With a ``pattern``, the value is what that makes of the text, and there is none if it does not match."""

    kind: Literal["tag", "metadata", "experiment_tag", "experiment"]
    key: str
    pattern: Pattern | None = None

    @classmethod
    def parse(cls, text: str, pattern: Pattern | None = None) -> "LabelSource":
        """Parse a source such as ``metadata.mlflow.modelId``. Raises ValueError for what is none of SOURCES."""
        match text.partition("."):
            case ("tag" | "metadata" | "experiment_tag") as kind, ".", key if key.strip():
                return cls(kind, key, pattern)
            case "experiment", ".", "name":
                return cls("experiment", "name", pattern)
        raise ValueError(f"{text!r} is not a source; write {SOURCES}")

    def read(self, record: TraceRecord) -> str | None:
        """The value for this trace before it is cleaned, None if it has none."""
        if self.kind == "tag":  # first, because most sources are tags, and every trace is asked for each
            text = record.tags.get(self.key)
        elif self.kind == "metadata":
            text = record.metadata.get(self.key)
        elif self.kind == "experiment_tag":
            text = record.experiment_tags.get(self.key)
        else:
            text = record.experiment
        return text if text is None or self.pattern is None else self.pattern.replace(text)


SOURCES = "tag.NAME, metadata.NAME, experiment_tag.NAME or experiment.name"
"""All sources, as they are written in the configuration."""

Sources = tuple[LabelSource, ...]
"""The sources of a label. The first one that has a value is used."""

ENVIRONMENT = tuple(
    LabelSource("tag", key) for key in ("environment", "deployment.environment.name", "deployment.environment")
)
"""The sources of the environment by default. MLflow stores the resource attributes of OTLP applications as tags."""

VERSION = (
    LabelSource("tag", "app_version"),
    LabelSource("metadata", "mlflow.modelId"),
    LabelSource("tag", "service.version"),
)
"""The sources of the version by default."""


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How the labels of a trace are made.

    ``environment``, ``version`` and ``extra`` have sources. ``trace_name``: whether that is a label of the series.
    ``defaults``: by label, the value for traces without one. ``maps``: by label, the final values for some values.
    """

    environment: Sources = ENVIRONMENT
    version: Sources = VERSION
    extra: tuple[tuple[str, Sources], ...] = ()
    trace_name: bool = True
    defaults: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels of every series that counts traces, in order."""
        first = TRACE_LABELS if self.trace_name else VERSION_LABELS
        return (*first, *(name for name, _ in self.extra))

    @property
    def all_names(self) -> tuple[str, ...]:
        """The labels that ``values`` has, in order: ``names`` and the name of the trace."""
        return (*TRACE_LABELS, *(name for name, _ in self.extra))

    @property
    def sources(self) -> tuple[tuple[str, Sources], ...]:
        """The labels that have sources."""
        return (("environment", self.environment), ("version", self.version), *self.extra)

    def values(self, record: TraceRecord) -> Labels:
        """The value of each of ``all_names`` for this trace, safe for every exposition format."""
        return {
            "experiment": clean(record.experiment),
            "trace_name": self._value("trace_name", (record.name or "").strip()),
            **{name: self._value(name, _first(sources, record)) for name, sources in self.sources},
        }

    def has(self, name: str, record: TraceRecord) -> bool:
        """Whether a trace has a value for a label with sources, so that it does not get the default."""
        found = _first(dict(self.sources)[name], record)
        return bool(found) and self._value(name, found) != UNKNOWN

    def texts(self, name: str, value: str) -> tuple[str, ...]:
        """Texts of which every trace with this label value has at least one, in the value of one of the sources; none
        if traces without a value have this label, too. ``value`` is a label value."""
        if value in (UNKNOWN, self._value(name, "")):
            return ()
        return (value, *(text for text, mapped in self.maps.get(name, {}).items() if clean(mapped) == value))

    def _value(self, name: str, found: str) -> str:
        """The label for the text of a source without surrounding spaces; "" if there is none."""
        if not found:
            return clean(self.defaults.get(name))
        return clean(self.maps[name].get(found, found) if name in self.maps else found)


def _first(sources: Sources, record: TraceRecord) -> str:
    for source in sources:
        value = source.read(record)
        if value and (text := value.strip()):
            return text
    return ""


@lru_cache(maxsize=10_000)
def clean(value: str | None) -> str:
    """Convert a text to a label value: without surrounding whitespace, truncated to MAX_VALUE_LENGTH, and ``shown``;
    ``unknown`` if nothing is left.

    Everything that is compared with a label is cleaned once, where it enters the program: the tags of traces, and the
    names that users ask for. Cleaning a label value does not change it.
    """
    if value is None:
        return UNKNOWN
    return shown(value.lstrip()[:MAX_VALUE_LENGTH].rstrip()) or UNKNOWN
