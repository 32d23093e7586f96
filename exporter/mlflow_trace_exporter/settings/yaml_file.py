"""Strict loading of YAML files: they are validated against a schema, and every error is reported with its line."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic import model_validator as validates_model
from pydantic_core import ErrorDetails

from mlflow_trace_exporter.errors import UserError, what_failed
from mlflow_trace_exporter.listed import closest
from mlflow_trace_exporter.shown import as_written

MAX_FILE_BYTES = 64 * 1024
MAX_DEPTH = 10


class Section(BaseModel):
    """A section of a file. Unknown keys are errors. An empty key has its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @validates_model(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        if data is None:
            return {}
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


Model = TypeVar("Model", bound=Section)


def load(path: Path, model: type[Model], flag: str) -> Model:
    """Load the file at ``path``, which ``flag`` names. Raises UserError with every error in it, each with its line."""
    data, lines = _read(path, flag)
    try:
        return model.model_validate(data, context=lines)
    except ValidationError as error:
        details = sorted(error.errors(), key=lambda each: _line(each["loc"], lines))
        mistakes = [_mistake(each, lines, model) for each in details]
        raise UserError("\n  ".join([_heading(len(mistakes), path), *mistakes])) from None


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of a file, in dotted form."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


_Path = tuple[str | int, ...]
_Lines = dict[_Path, int]


def place_of(location: _Path, lines: _Lines | None) -> str:
    """Where a key is, for a message. ``lines`` is the context that models are validated with, None without a file."""
    key = ".".join(map(str, location))
    line = _line(location, lines or {})
    return f"line {line}, {key}" if line else key or "the file"


def _read(path: Path, flag: str) -> tuple[Any, _Lines]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path} is larger than {MAX_FILE_BYTES} bytes, the limit for a configuration file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{flag}: cannot read {path}: {what_failed(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{flag}: {path} is not a UTF-8 text file") from None
    try:
        _refuse_oddities(text, path)
        node = yaml.compose(text, yaml.SafeLoader)
        lines = _Lines(_lines(node, path))
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from None


def _refuse_oddities(text: str, path: Path) -> None:
    """Reject aliases (they can expand without end), tags and deep nesting. No configuration needs them."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else "?"
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{path}, line {line}: aliases are not supported")
        if tag := getattr(event, "tag", None):
            raise UserError(f"{path}, line {line}: tags ({tag}) are not supported")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"{path}, line {line}: nested too deeply for a configuration file")


def _lines(node: yaml.Node | None, file: Path, at: _Path = ()) -> Iterator[tuple[_Path, int]]:
    """The line of each key, by path. Raises UserError for a duplicate key: YAML would silently use the last one."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{file}, line {line}: a key must be a plain name; quote a value that begins with {{")
            if key.value in seen:
                raise UserError(f"{file}, line {line}: duplicate key {key.value}")
            seen.add(key.value)
            yield (*at, key.value), line
            yield from _lines(value, file, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _lines(value, file, (*at, index))


def _heading(count: int, path: Path) -> str:
    return f"{count} error{'s' if count > 1 else ''} in {path}:"


def _mistake(details: ErrorDetails, lines: _Lines, model: type[Section]) -> str:
    place = place_of(details["loc"], lines)
    match details["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key{_suggestion(details['loc'], model)}"
        case "value_error":
            return f"{place}: {details['ctx']['error']}"
        case "model_type" | "dict_type":
            return f"{place}: must contain keys, as in `key: value`, not {as_written(details['input'])}"
        case "missing":
            return f"{place}: is required"
    expected = _EXPECTED.get(details["type"]) or details["msg"][0].lower() + details["msg"][1:]
    return f"{place}: {expected.format(**details.get('ctx', {}))}, not {as_written(details['input'])}"


_EXPECTED = {
    "tuple_type": "must be a list, as in `- first`",
    "string_type": "must be a string; put it in quotes",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
}
"""What a value must be, by pydantic's name of the error."""


def _line(location: _Path, lines: _Lines) -> int:
    return lines.get(location) or lines.get(location[:-1]) or 0


def _suggestion(location: _Path, model: type[Section]) -> str:
    """The most similar key of the same section or of another one; without one, all keys of the section."""
    *outer, name = map(str, location)
    prefix = "".join(f"{each}." for each in outer)
    siblings = list(_section_at(location[:-1], model).model_fields)
    if close := closest(name, siblings):
        return f"; did you mean {prefix}{close}?"
    elsewhere = {key.rpartition(".")[2]: key for key in keys(model)}
    if close := closest(name, elsewhere):
        return f"; did you mean {elsewhere[close]}?"
    return f"; known keys are {', '.join(prefix + each for each in siblings)}"


def _section_at(location: Iterable[str | int], model: type[Section]) -> type[Section]:
    """The section at a location, which may be inside a list of sections."""
    for name in location:
        if isinstance(name, str):
            annotation = model.model_fields[name].annotation
            candidates = (annotation, *get_args(annotation))
            model = next(each for each in candidates if isinstance(each, type) and issubclass(each, Section))
    return model
