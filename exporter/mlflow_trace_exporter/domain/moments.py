"""Points in time as people write them: how long ago, or a date. Pure."""

from datetime import UTC, datetime, timedelta

from mlflow_trace_exporter.domain.durations import parse_duration
from mlflow_trace_exporter.errors import ArgumentError

Moment = str | timedelta | datetime
"""How long ago (a timedelta, or a text such as 24h), or a date with or without a time, in UTC if it does not say."""

LATEST_MS = 253_402_300_799_000
"""The end of the year 9999: no calendar goes further."""


def unix_ms(moment: Moment, now_ms: int) -> int:
    """A moment in Unix ms. Raises ValueError for a text that is none."""
    if isinstance(moment, str):
        moment = _read(moment)
    if isinstance(moment, timedelta):
        return now_ms - round(moment.total_seconds() * 1000)  # a subclass may have a division of its own
    if not isinstance(moment, datetime):
        raise ValueError(f"{moment!r} is neither a text, nor a timedelta, nor a datetime")
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def asked_ms(name: str, moment: Moment, now_ms: int) -> int:
    """A moment that the user gave as ``name``, in Unix ms. Raises ArgumentError for what is none."""
    try:
        found_ms = unix_ms(moment, now_ms)
        utc(found_ms)  # there are times that no calendar has
    except (ValueError, OverflowError) as error:
        raise ArgumentError(name, str(error)) from None
    return found_ms


def utc(ms: int) -> datetime:
    """Unix ms as a time in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def text(ms: int) -> str:
    """Unix ms for people, to the minute, in UTC."""
    return f"{utc(ms):%Y-%m-%d %H:%M}"


def _read(text: str) -> timedelta | datetime:
    if text == "now":
        return timedelta()
    try:
        return parse_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a duration back, such as 24h, nor a time, such as 2026-11-25 or 2026-11-25T14:30"
        ) from None
