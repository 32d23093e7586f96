"""The part of the configuration that says where labels come from: the validation of each key."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, PlainValidator

from mlflow_trace_exporter.domain.labels import SOURCES, TRACE_LABELS, LabelSource
from mlflow_trace_exporter.domain.patterns import Pattern
from mlflow_trace_exporter.shown import as_written


def _label_sources(value: object) -> list[object]:
    sources = [value] if isinstance(value, str | dict) else value
    if not isinstance(sources, list) or not sources:
        raise ValueError("name at least one source, as in [tag.environment]")
    return sources


def _label_source(value: object) -> LabelSource:
    if isinstance(value, str):
        return _not_personal(LabelSource.parse(value))
    if not isinstance(value, dict) or not {"from", "regex"} <= value.keys() <= {"from", "regex", "value"}:
        raise ValueError(
            f"{as_written(value)} is not a source; write {SOURCES}, or"
            " {from: experiment.name, regex: '(.+)-(prod|stag)', value: '$2'}"
        )
    for key, text in value.items():
        if not isinstance(text, str):
            raise ValueError(f"{key} must be a string, not {as_written(text)}; put it in quotes")
    given = {key: text for key, text in value.items() if key != "from"}
    return _not_personal(LabelSource.parse(value["from"], Pattern(**given)))


PERSONAL = ("mlflow.trace.user", "mlflow.trace.session", "mlflow.traceInputs", "mlflow.traceOutputs")


def _not_personal(source: LabelSource) -> LabelSource:
    """Raise ValueError for a source that would create a series for each user, or expose what users wrote."""
    if source.key in PERSONAL:
        raise ValueError(f"{source.key} cannot become a label: it has a value for each user or question")
    return source


_LABEL_NAME = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_RESERVED_LABELS = {
    *TRACE_LABELS,
    "user",
    "session",
    "hour",
    "job",
    "instance",
    "le",
    "quantile",
    "status",
    "kind",
    "field",
    "trace_id",
    "pod",
}
MAX_EXTRA_LABELS = 10


def _extra_labels(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("name each label and its sources, as in {team: tag.team}")
    if len(value) > MAX_EXTRA_LABELS:
        raise ValueError(f"at most {MAX_EXTRA_LABELS} labels: each multiplies the number of series")
    return {_label_name(name): found for name, found in value.items()}


def _label_name(name: object) -> str:
    if not isinstance(name, str) or not _LABEL_NAME.fullmatch(name):
        raise ValueError(
            f"{as_written(name)} cannot be a label name: use letters, digits and underscores, and no digit first"
        )
    if name in _RESERVED_LABELS or name.startswith("__"):
        raise ValueError(f"{name} is already a label, or reserved; choose another name")
    return name


def _label_value(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{as_written(value)} cannot be a label value: write a text that is not empty, in quotes")
    return value


def _of_labels(example: str) -> BeforeValidator:
    """Validates that a value has a key for each of some labels."""

    def check(value: object) -> object:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise ValueError(f"name labels, as in {example}")
        return value

    return BeforeValidator(check)


def _label_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("name values and what replaces them, as in {prod: production}")
    made = {_label_value(text).strip(): _label_value(mapped).strip() for text, mapped in value.items()}
    for text, mapped in made.items():
        if mapped in made:
            *before, last = _chain(made, text)
            remedy = "remove one of these" if last in before else f"write {text!r}: {last!r} if that is meant"
            raise ValueError(f"{' becomes '.join(map(repr, (*before, last)))}, but a value is replaced once; {remedy}")
    return made


def _chain(replaced: Mapping[str, str], text: str) -> list[str]:
    """What a text would become if a map were applied again and again, up to the first text that returns."""
    found = [text]
    while found[-1] in replaced and found[-1] not in found[:-1]:
        found.append(replaced[found[-1]])
    return found


LabelSources = Annotated[
    tuple[Annotated[LabelSource, PlainValidator(_label_source)], ...], BeforeValidator(_label_sources)
]
ExtraLabels = Annotated[Mapping[str, LabelSources], BeforeValidator(_extra_labels)]
LabelDefaults = Annotated[
    Mapping[str, Annotated[str, PlainValidator(_label_value)]], _of_labels("{environment: production}")
]
LabelMaps = Annotated[
    Mapping[str, Annotated[Mapping[str, str], PlainValidator(_label_map)]],
    _of_labels("{environment: {prod: production}}"),
]
