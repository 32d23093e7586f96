"""Parses and formats points in time: how long ago, or a date. Pure."""

from datetime import UTC, datetime, timedelta

from mlflow_trace_exporter.domain.durations import parse_duration
from mlflow_trace_exporter.errors import ArgumentError

Moment = str | timedelta | datetime
"""How long ago (a timedelta, or a text such as 24h), or a date with or without a time. Without an offset it is UTC."""

LATEST_MS = 253_402_300_799_000
"""The end of the year 9999, the last that ``datetime`` supports."""


def unix_ms(moment: Moment, now_ms: int) -> int:
    """Convert a moment to Unix ms. Raises ValueError if it is not valid."""
    if isinstance(moment, str):
        moment = _read(moment)
    if isinstance(moment, timedelta):
        return now_ms - round(moment.total_seconds() * 1000)  # a subclass may redefine division
    if not isinstance(moment, datetime):
        raise ValueError(f"{moment!r} is neither a text, nor a timedelta, nor a datetime")
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def asked_ms(name: str, moment: Moment, now_ms: int) -> int:
    """Convert the argument ``name`` to Unix ms. Raises ArgumentError if it is not a valid moment."""
    try:
        found_ms = unix_ms(moment, now_ms)
        utc(found_ms)  # raises if it is out of range
    except (ValueError, OverflowError) as error:
        raise ArgumentError(name, str(error)) from None
    return found_ms


def utc(ms: int) -> datetime:
    """Convert Unix ms to a datetime in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def text(ms: int) -> str:
    """Format Unix ms as a date and time in UTC, to the minute."""
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
            f"{text!r} is neither a duration such as 24h nor a time such as 2026-11-25 or 2026-11-25T14:30"
        ) from None
