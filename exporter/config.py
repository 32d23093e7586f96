"""The configuration file: a strict schema at the edge, frozen values inside."""

import difflib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
    StrictStr,
    ValidationError,
)
from pydantic import model_validator as validates_model
from pydantic_core import ErrorDetails

from exporter.errors import UserError
from exporter.failures import without_credentials
from exporter.labels import TRACE_LABELS, LabelSource
from exporter.traffic import Traffic

MAX_FILE_BYTES = 64 * 1024
DEFAULT_TRACKING_URI = "http://127.0.0.1:5000"
MAX_DEPTH = 10
MAX_EDGES = 100
MAX_EDGE = 1e12

_UNITS_S = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:(\d{{1,6}}){unit})?" for unit in _UNITS_S))


def parse_duration(value: object) -> timedelta:
    """A duration as Prometheus writes it, such as 15s, 2h or 1h30m; raises ValueError for anything else."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match:
        counts = zip(match.groups(default="0"), _UNITS_S.values(), strict=True)
        return timedelta(seconds=sum(int(count) * unit_s for count, unit_s in counts))
    raise ValueError(f"{value!r} is not a duration; write one such as 15s, 2m or 1h30m")


def parse_tracking_uri(value: object) -> str:
    """The address of a tracking server; raises ValueError for what is not one."""
    complaint = ValueError("not the address of a tracking server; write one such as http://mlflow:5000")
    if not isinstance(value, str) or re.search(r"\s", value):
        raise complaint
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        raise complaint from None
    if not usable:
        raise complaint
    return value


def _web_url(value: object) -> str:
    """An address of pages, without a slash at its end, so that paths can be put after it."""
    try:
        return without_credentials(parse_tracking_uri(value).partition("#")[0].partition("?")[0].rstrip("/"))
    except ValueError:
        raise ValueError("not the address of a web page; write one such as https://mlflow.example.com") from None


def _at_least(minimum: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if value < parse_duration(minimum):
            raise ValueError(f"must be at least {minimum}")
        return value

    return AfterValidator(check)


def _at_most(maximum: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if value > parse_duration(maximum):
            raise ValueError(f"must be at most {maximum}")
        return value

    return AfterValidator(check)


def _start(value: object) -> timedelta | Literal["now", "earliest"]:
    if value == "now":
        return "now"
    if value == "earliest":
        return "earliest"
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither now, earliest nor a duration back such as 24h") from None


def _label_sources(value: object) -> tuple[LabelSource, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("name at least one source, as in [tag.environment]")
    return tuple(LabelSource.parse(text) for text in texts)


_LABEL_NAME = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_RESERVED_LABELS = {*TRACE_LABELS, "job", "instance", "le", "quantile", "status", "kind", "field", "trace_id"}
_PERSONAL = ("mlflow.trace.user", "mlflow.trace.session", "mlflow.traceInputs", "mlflow.traceOutputs")
MAX_EXTRA_LABELS = 10


def _extra_labels(value: object) -> tuple[tuple[str, tuple[LabelSource, ...]], ...]:
    if not isinstance(value, dict):
        raise ValueError("name each label and its sources, as in {team: tag.team}")
    if len(value) > MAX_EXTRA_LABELS:
        raise ValueError(f"at most {MAX_EXTRA_LABELS} labels: each multiplies the number of series")
    return tuple((_label_name(name), _not_personal(name, _label_sources(found))) for name, found in value.items())


def _label_name(name: object) -> str:
    if not isinstance(name, str) or not _LABEL_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a label: write letters, digits and underscores, no digit first")
    if name in _RESERVED_LABELS or name.startswith("__"):
        raise ValueError(f"{name} is a label already, or reserved by Prometheus; choose another name")
    return name


def _not_personal(name: object, sources: tuple[LabelSource, ...]) -> tuple[LabelSource, ...]:
    """Raise ValueError for what would make a series for each user, or show what users wrote."""
    for source in sources:
        if source.key in _PERSONAL:
            raise ValueError(f"{name}: {source.key} cannot become a label; it has a value for each user or question")
    return sources


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _traffic(value: object) -> frozenset[Traffic]:
    known = [each.value for each in Traffic]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(name in known for name in names):
        raise ValueError(f"name at least one of {', '.join(known)}, as in [application, gateway]")
    return frozenset(map(Traffic, names))


def _edges(value: object) -> tuple[float, ...]:
    given = value if isinstance(value, list) else []
    edges = [each for each in given if isinstance(each, int | float) and not isinstance(each, bool)]
    if not 0 < len(edges) == len(given) <= MAX_EDGES:
        raise ValueError(f"write 1 to {MAX_EDGES} numbers, as in [0.1, 1, 10]")
    if not all(0 < each <= MAX_EDGE for each in edges) or not all(low < high for low, high in pairwise(edges)):
        raise ValueError("edges must be above 0, at most 1e12, and each above the one before it")
    return tuple(float(each) for each in edges)


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("write the path of a file")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{value} names the home of a user that there is not") from None


def _default_ledger() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser().absolute() / "mlflow-trace-exporter" / "ledger.db"
    except RuntimeError:
        raise UserError("ledger.path: set it, for this user has no home directory to keep the ledger in") from None


Duration = Annotated[timedelta, PlainValidator(parse_duration)]
WebUrl = Annotated[str, PlainValidator(_web_url)]
TrackingUri = Annotated[str, PlainValidator(parse_tracking_uri)]
Start = Annotated[timedelta | Literal["now", "earliest"], PlainValidator(_start)]
ExtraLabels = Annotated[tuple[tuple[str, tuple[LabelSource, ...]], ...], PlainValidator(_extra_labels)]
TrafficClasses = Annotated[frozenset[Traffic], PlainValidator(_traffic)]
LabelSources = Annotated[tuple[LabelSource, ...], PlainValidator(_label_sources)]
Edges = Annotated[tuple[float, ...], PlainValidator(_edges)]
FilePath = Annotated[Path, PlainValidator(_path)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @validates_model(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        if data is None:
            return {}
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Mlflow(_Section):
    """Where the traces are. ``timeout`` None leaves it to MLFLOW_HTTP_REQUEST_TIMEOUT, or 30 s."""

    tracking_uri: TrackingUri = Field(
        default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI
    )
    experiments: Annotated[tuple[StrictStr, ...], BeforeValidator(_names)] = ()
    filter: StrictStr | None = None
    traffic: TrafficClasses = frozenset({Traffic.APPLICATION})
    timeout: Annotated[Duration, _at_least("1s")] | None = None


class Poll(_Section):
    """When and how far back to read."""

    interval: Annotated[Duration, _at_least("1s"), _at_most("1h")] = timedelta(seconds=15)
    lateness: Annotated[Duration, _at_least("10m")] = timedelta(hours=2)
    audit_horizon: Annotated[Duration, _at_least("10m")] = timedelta(hours=24)
    margin: Annotated[Duration, _at_least("1m")] = timedelta(minutes=5)
    overlap: Annotated[Duration, _at_least("2m")] = timedelta(minutes=2)
    start: Start = "now"

    @validates_model(mode="after")
    def _can_be_kept(self) -> "Poll":
        """What no single key can tell: start times are closed before they are retired, in steps of ten minutes."""
        if self.audit_horizon < self.lateness + timedelta(minutes=10):
            raise ValueError("audit_horizon must be at least 10m more than lateness")
        if self.overlap > self.lateness:
            raise ValueError("overlap must not be more than lateness")
        return self


class Labels(_Section):
    """Where the value of a label comes from (the first source that has one), and how many values it can have."""

    environment: LabelSources = (LabelSource("tag", "environment"),)
    version: LabelSources = (LabelSource("tag", "app_version"), LabelSource("metadata", "mlflow.modelId"))
    extra: ExtraLabels = ()
    max_values: Annotated[StrictInt, Field(ge=1, le=100_000)] = 200


class Buckets(_Section):
    """Upper edges of the histograms' buckets."""

    duration_seconds: Edges = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
    tokens: Edges = tuple(float(4**power) for power in range(11))


class Series(_Section):
    """How many series are shown, and when."""

    limit: Annotated[StrictInt, Field(ge=1_000, le=10_000_000)] = 100_000
    ttl: Annotated[Duration, _at_least("1h")] = timedelta(days=1)
    zero_hold: Annotated[Duration, _at_most("10m")] = timedelta(seconds=30)


class LedgerFile(_Section):
    """Where the ledger is kept."""

    path: FilePath = Field(default_factory=_default_ledger)


class Web(_Section):
    """Where people find things: this exporter, and MLflow's pages (None: at ``mlflow.tracking_uri``)."""

    external_url: WebUrl | None = None
    mlflow_ui_url: WebUrl | None = None


class Config(_Section):
    """The whole configuration. A section or key that is left out, or left empty, has its default."""

    mlflow: Mlflow = Field(default_factory=Mlflow)
    poll: Poll = Field(default_factory=Poll)
    labels: Labels = Field(default_factory=Labels)
    buckets: Buckets = Field(default_factory=Buckets)
    series: Series = Field(default_factory=Series)
    ledger: LedgerFile = Field(default_factory=LedgerFile)
    web: Web = Field(default_factory=Web)


def load(path: Path | None) -> Config:
    """The configuration in a file, or all defaults without one.

    Raises UserError with every mistake in it, each with its line and key.
    """
    data, lines = ({}, _Lines()) if path is None else _read(path)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        mistakes = [_mistake(details, lines) for details in sorted(error.errors(), key=lambda each: _line(each, lines))]
        raise UserError("\n  ".join([_heading(len(mistakes), path), *mistakes])) from None
    try:  # where it comes from the environment no schema has seen it
        parse_tracking_uri(config.mlflow.tracking_uri)
    except ValueError as error:
        raise UserError(f"MLFLOW_TRACKING_URI: {error}") from None
    return config


def keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """All keys that a configuration can have, in dotted form."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


_Path = tuple[str | int, ...]
_Lines = dict[_Path, int]


def _read(path: Path) -> tuple[Any, _Lines]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path} is larger than {MAX_FILE_BYTES} bytes: surely not a configuration file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--config.file: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--config.file: {path} is not a text file in UTF-8") from None
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
    """Raise UserError for what no configuration needs: aliases, which can multiply without end, tags, deep nesting."""
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
    """The line of each key, by path. Raises UserError for a key that is there twice: YAML would just take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{file}, line {line}: a key should be a plain name; quote a value that begins with {{")
            if key.value in seen:
                raise UserError(f"{file}, line {line}: {key.value} is there twice")
            seen.add(key.value)
            yield (*at, key.value), line
            yield from _lines(value, file, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _lines(value, file, (*at, index))


def _heading(count: int, path: Path | None) -> str:
    return f"{count} mistake{'s' if count > 1 else ''} in {path}:"


def _mistake(details: ErrorDetails, lines: _Lines) -> str:
    key = ".".join(map(str, details["loc"]))
    line = _line(details, lines)
    place = f"line {line}, {key}" if line else key or "the file"
    match details["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key{_suggestion(key)}"
        case "value_error":
            return f"{place}: {details['ctx']['error']}"
        case "model_type" | "dict_type":
            return f"{place}: should hold keys, as in `key: value`"
    return f"{place}: {details['msg'][0].lower()}{details['msg'][1:]}, not {details['input']!r:.80}"


def _line(details: ErrorDetails, lines: _Lines) -> int:
    location = details["loc"]
    return lines.get(location) or lines.get(location[:-1]) or 0


def _suggestion(key: str) -> str:
    known = list(keys())
    close = difflib.get_close_matches(key, [*known, *Config.model_fields], n=1)
    section = [name for name in known if name.startswith(key.rpartition(".")[0] + ".")]
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(section or known)}"
