"""Who is active: the users and sessions of traces, and the windows in which they are counted. Pure.

How many distinct users there were in a day is not the sum of those of each hour, so totals cannot tell. Users and
sessions are kept as sketches, one for each period: an hour, or a day (UTC). The sketches of several periods can be
combined. A window is the current period and a number of periods before it. Example: it is Tuesday, 12:07. The window 1d
has the hours from Monday 12:00 on, the window 30d the days from the Sunday 30 days ago on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.domain.trace import TraceRecord

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Who(Enum):
    """What is counted. The value is stored in ledgers."""

    USER = "user"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Activity:
    """Where and when a trace of a user or session started: its place (PLACE_LABELS) and hour (Unix ms)."""

    who: Who
    place: LabelValues
    hour_ms: int


Active = Mapping[Activity, frozenset[int]]
"""The users or sessions of each activity, by their hashes. Their names go no further than this module."""

_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class ActiveWindow:
    """The current period and those before it, ``periods`` in total, each ``period_ms`` long. ``name``: the value of the
    label ``window``."""

    name: str
    period_ms: int
    periods: int

    def period(self, ms: int) -> int:
        """The start of the period that contains a point in time."""
        return ms // self.period_ms * self.period_ms

    def starts(self, now_ms: int) -> range:
        """The starts of all periods of the window."""
        last_ms = self.period(now_ms)
        return range(last_ms - (self.periods - 1) * self.period_ms, last_ms + 1, self.period_ms)


WINDOWS = (ActiveWindow("1d", HOUR_MS, 25), ActiveWindow("30d", DAY_MS, 31))


def activities(record: TraceRecord, place: LabelValues) -> Mapping[Activity, int]:
    """The activities of a trace that is counted in this place, with the hash of its user or session."""
    hour_ms = record.start_ms // HOUR_MS * HOUR_MS
    of = {Who.USER: record.user, Who.SESSION: record.session}
    return {Activity(who, place, hour_ms): _hash(name) for who, name in of.items() if name}


def _hash(name: str) -> int:
    """A signed 64-bit hash. It is stored in sketches, so it must remain as it is."""
    encoded = name.encode("utf-8", "surrogatepass")  # a client can send half a surrogate pair
    return int.from_bytes(blake2b(encoded, digest_size=_HASH_BYTES).digest(), signed=True)
