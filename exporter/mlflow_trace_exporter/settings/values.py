"""The values of configuration keys: how each kind is written, and the message for what is none."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainValidator, StrictStr

from mlflow_trace_exporter.addresses import without_credentials
from mlflow_trace_exporter.domain.durations import parse_duration
from mlflow_trace_exporter.domain.globs import matches
from mlflow_trace_exporter.domain.labels import clean
from mlflow_trace_exporter.domain.objectives import pattern
from mlflow_trace_exporter.domain.spans import CALL_TYPES
from mlflow_trace_exporter.domain.traffic import Traffic
from mlflow_trace_exporter.listed import did_you_mean
from mlflow_trace_exporter.metrics.families import trace_families
from mlflow_trace_exporter.shown import as_written, shown

DEFAULT_TRACKING_URI = "http://127.0.0.1:5000"
EXCLUDABLE = tuple(
    family.name for family in trace_families((1.0,), (1.0,), with_spans=True, score_edges=(1.0,)) if family.is_of_groups
)
"""The metrics about traces."""

MAX_EDGES = 100
MAX_EDGE = 1e12
"""The limits for the edges of a histogram."""


def parse_tracking_uri(value: object) -> str:
    """Validate the address of a tracking server. Raises ValueError for anything else."""
    complaint = ValueError("not the address of a tracking server; write one such as http://mlflow:5000")
    if not isinstance(value, str) or re.search(r"\s", value):
        raise complaint
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is not a number, half an IPv6 address
        raise complaint from None
    if not usable:
        raise complaint
    address = re.split("[?#]", value)[0]
    if address != value:  # it was copied from a browser
        raise ValueError(f"leave out {shown(value[len(address) :])}; write {without_credentials(address).rstrip('/')}")
    return value


def parse_web_url(value: object) -> str:
    """Validate the URL of a web page. Returns it without a trailing slash, so that paths can be appended.

    Raises ValueError for anything else.
    """
    try:
        address = re.split("[?#]", value)[0] if isinstance(value, str) else value
        return without_credentials(parse_tracking_uri(address).rstrip("/"))
    except ValueError:
        raise ValueError("not the address of a web page; write one such as https://mlflow.example.com") from None


def at_least(minimum: str) -> AfterValidator:
    """Validates that a duration is not shorter than this one."""

    def check(value: timedelta) -> timedelta:
        if value < parse_duration(minimum):
            raise ValueError(f"must be at least {minimum}")
        return value

    return AfterValidator(check)


def at_most(maximum: str) -> AfterValidator:
    """Validates that a duration is not longer than this one."""

    def check(value: timedelta) -> timedelta:
        if value > parse_duration(maximum):
            raise ValueError(f"must be at most {maximum}")
        return value

    return AfterValidator(check)


def _start(value: object) -> timedelta | datetime | Literal["now", "earliest"]:
    if value == "now":
        return "now"
    if value == "earliest":
        return "earliest"
    for parse in (parse_duration, _parse_time):
        with suppress(ValueError):
            return parse(value)
    raise ValueError(
        f"{as_written(value)} is none of now, earliest, a duration such as 24h, or a time such as 2026-11-25T14:30Z"
    )


def _time(value: object) -> datetime:
    try:
        return _parse_time(value)
    except ValueError:
        raise ValueError(f"{as_written(value)} is not a time such as 2026-11-25T14:30Z") from None


def _parse_time(value: object) -> datetime:
    """A date with or without a time. Without an offset it is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime) or value.year < 2000:
        raise ValueError("it is not a time")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def parse_database_url(value: object) -> str:
    """Validate the URL of a PostgreSQL database. Raises ValueError for anything else, without any of it, because it may
    be a password."""
    if not isinstance(value, str) or not re.match(r"postgres(ql)?://", value):
        raise ValueError("write the URL of a database: postgresql://user@host:5432/database")
    if not _DATABASE_URL.fullmatch(value) or re.search(r"%(?![0-9A-Fa-f]{2})", value):
        raise ValueError(
            "percent-encode special characters of the password: %40 for @, %2F for /; a URL is written"
            " postgresql://user@host:5432/database"
        )
    return value


_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^][:@/,?#\s]*)(:\d*)?"
_DATABASE_URL = re.compile(rf"postgres(ql)?://([^@/?#\s]*@)?{_HOST}(,{_HOST})*(/[^@/?#\s]*)?(\?[^#\s]*)?", re.ASCII)
"""Without this, libpq would show parts of a password as a host or a port in its messages."""


def parse_ledger_name(value: object) -> str:
    """Validate the name of a ledger in PostgreSQL. Raises ValueError for anything else."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", value, re.ASCII):
        raise ValueError(f"{as_written(value)}: write up to 40 letters from a to z, digits and underscores")
    return value


def _exclusion(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{as_written(value)} is not a metric; write a name or a glob, as in mlflow_tokens_*")
    if not any(matches(value, name) for name in EXCLUDABLE):
        meant = did_you_mean(value, EXCLUDABLE) or f"; they are {', '.join(EXCLUDABLE)}"
        raise ValueError(f"{value!r} is none of the metrics about traces{meant}")
    return value


def parse_ratio(value: object) -> float:
    """Parse a ratio between 0 and 1, such as 5% or 0.05. Raises ValueError for anything else."""
    text = value.replace(" ", "") if isinstance(value, str) else ""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1) if text else value
    except ValueError:
        found = None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1:
        raise ValueError(f"{as_written(value)} is not a ratio between 0 and 1, such as 5% or 0.05")
    return float(found)


def _team(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; name a team")
    return clean(text)


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _traffic(value: object) -> frozenset[Traffic]:
    known = [each.value for each in Traffic]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(name in known for name in names):
        raise ValueError(f"name at least one of {', '.join(known)}, as in [application, gateway]")
    return frozenset(map(Traffic, names))


def _span_types(value: object) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"{as_written(value)} is not a list of span types, as in [TOOL, RETRIEVER]")
    for name in names:
        if name.upper() in CALL_TYPES:
            raise ValueError(f"{name} is the type of calls of models, which have metrics of their own; leave it out")
    return frozenset(name.strip().upper() for name in names)


def _good(value: object) -> frozenset[str]:
    """The words that are good. YAML reads yes and true as the same value, so it stands for both of them."""
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(each, bool | str) and str(each).strip() for each in given):
        raise ValueError(f"{as_written(value)} is not a list of words; write those that are good, as in [yes, correct]")
    words = (_TRUTH[each] if isinstance(each, bool) else (clean(each).casefold(),) for each in given)
    return frozenset(word for some in words for word in some)


_TRUTH = {True: ("yes", "true"), False: ("no", "false")}


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
        raise ValueError(f"{value}: there is no such user, so there is no home directory") from None


Duration = Annotated[timedelta, PlainValidator(parse_duration)]
WebUrl = Annotated[str, PlainValidator(parse_web_url)]
TrackingUri = Annotated[str, PlainValidator(parse_tracking_uri)]
Start = Annotated[timedelta | datetime | Literal["now", "earliest"], PlainValidator(_start)]
Time = Annotated[datetime, PlainValidator(_time)]
DatabaseUrl = Annotated[str, PlainValidator(parse_database_url)]
LedgerName = Annotated[str, PlainValidator(parse_ledger_name)]
Names = Annotated[tuple[StrictStr, ...], BeforeValidator(_names)]
Team = Annotated[StrictStr, AfterValidator(_team)]
NamePattern = Annotated[StrictStr, AfterValidator(pattern)]
Ratio = Annotated[float, PlainValidator(parse_ratio)]
TrafficClasses = Annotated[frozenset[Traffic], PlainValidator(_traffic)]
SpanTypes = Annotated[frozenset[str], PlainValidator(_span_types)]
Exclusions = Annotated[tuple[Annotated[str, PlainValidator(_exclusion)], ...], BeforeValidator(_names)]
Good = Annotated[frozenset[str], PlainValidator(_good)]
Edges = Annotated[tuple[float, ...], PlainValidator(_edges)]
FilePath = Annotated[Path, PlainValidator(_path)]
