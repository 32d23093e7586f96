"""Which tag or metadata of a trace becomes which label. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlflow_trace_exporter.domain.trace import TraceRecord
from mlflow_trace_exporter.shown import shown

UNKNOWN = "unknown"
"""The value of a label that a trace does not say."""

MAX_VALUE_LENGTH = 128
"""Longer values are cut: they cost memory in every Prometheus that scrapes them, and no panel can show them."""

PLACE_LABELS = ("experiment", "environment")
"""The labels of what is known even of traces that are not counted."""

VERSION_LABELS = (*PLACE_LABELS, "version")
"""The labels of what is known of a version in an environment."""

TRACE_LABELS = (*VERSION_LABELS, "trace_name")
"""The labels of every series that counts traces; those that the configuration adds come after them."""

Labels = Mapping[str, str]
"""The value of each label of a trace, by name."""


@dataclass(frozen=True, slots=True)
class LabelSource:
    """One place to look for a label's value, written as in MLflow's search filter: ``tag.KEY`` or ``metadata.KEY``."""

    kind: Literal["tag", "metadata"]
    key: str

    @classmethod
    def parse(cls, text: str) -> "LabelSource":
        """Read ``tag.environment`` or ``metadata.mlflow.modelId``; raises ValueError for anything else."""
        match text.partition("."):
            case ("tag" | "metadata") as kind, ".", key if key.strip():
                return cls(kind, key)
        raise ValueError(f"{text!r} names neither a tag nor metadata; write tag.NAME or metadata.NAME")

    def read(self, record: TraceRecord) -> str | None:
        """The value as the trace has it, None where it has none."""
        return (record.tags if self.kind == "tag" else record.metadata).get(self.key)


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Where ``environment``, ``version`` and the labels in ``extra`` come from: the first source with a value wins."""

    environment: tuple[LabelSource, ...]
    version: tuple[LabelSource, ...]
    extra: tuple[tuple[str, tuple[LabelSource, ...]], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The labels of every series that counts traces, in their order."""
        return (*TRACE_LABELS, *(name for name, _ in self.extra))

    def values(self, record: TraceRecord) -> Labels:
        """The value of each of ``names`` for this trace, clean enough for any exposition format."""
        return {
            "experiment": clean(record.experiment),
            "environment": clean(_first(self.environment, record)),
            "version": clean(_first(self.version, record)),
            "trace_name": clean(record.name),
            **{name: clean(_first(sources, record)) for name, sources in self.extra},
        }


def _first(sources: Sequence[LabelSource], record: TraceRecord) -> str | None:
    found = (source.read(record) for source in sources)
    return next((value for value in found if value and value.strip()), None)


def clean(value: str | None) -> str:
    """The label value that a text becomes: without space around it, at most MAX_VALUE_LENGTH characters, and ``shown``;
    ``unknown`` where nothing is left.

    Whatever is compared with a label passes this once, where it enters the program: what a trace says, and what a user
    asks for. A label value stays what it is.
    """
    if value is None:
        return UNKNOWN
    return shown(value.lstrip()[:MAX_VALUE_LENGTH].rstrip()) or UNKNOWN
