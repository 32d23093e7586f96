"""Maps tags and metadata of a trace to labels. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

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

Labels = Mapping[str, str]
"""The label values of a trace by label name."""


@dataclass(frozen=True, slots=True)
class LabelSource:
    """A tag or metadata key that provides a label value, written as in MLflow search filters: ``tag.KEY`` or
    ``metadata.KEY``."""

    kind: Literal["tag", "metadata"]
    key: str

    @classmethod
    def parse(cls, text: str) -> "LabelSource":
        """Parse ``tag.NAME`` or ``metadata.NAME``, such as ``metadata.mlflow.modelId``. Raises ValueError for anything
        else."""
        match text.partition("."):
            case ("tag" | "metadata") as kind, ".", key if key.strip():
                return cls(kind, key)
        raise ValueError(f"{text!r} is neither a tag nor metadata; write tag.NAME or metadata.NAME")

    def read(self, record: TraceRecord) -> str | None:
        """The raw value from the trace, None if it has none."""
        return (record.tags if self.kind == "tag" else record.metadata).get(self.key)


@dataclass(frozen=True, slots=True)
class LabelRules:
    """The sources of ``environment``, ``version`` and the labels in ``extra``. The first source with a value wins."""

    environment: tuple[LabelSource, ...]
    version: tuple[LabelSource, ...]
    extra: tuple[tuple[str, tuple[LabelSource, ...]], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The labels of every series that counts traces, in order."""
        return (*TRACE_LABELS, *(name for name, _ in self.extra))

    def values(self, record: TraceRecord) -> Labels:
        """The value of each of ``names`` for this trace, safe for every exposition format."""
        return {
            "experiment": clean(record.experiment),
            "environment": clean(_first(self.environment, record)),
            "version": clean(_first(self.version, record)),
            "trace_name": clean(record.name),
            **{name: clean(_first(sources, record)) for name, sources in self.extra},
        }


def _first(sources: Sequence[LabelSource], record: TraceRecord) -> str | None:
    for source in sources:
        value = source.read(record)
        if value and value.strip():
            return value
    return None


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
