"""The sketches of active users and sessions in the ledger, and how many there are in each window."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from mlflow_trace_exporter.domain.activity import WINDOWS, Active, ActiveWindow, Who
from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.ledger.connection import Connection, LedgerDamagedError, dump, load, upsert
from mlflow_trace_exporter.ledger.sketches import Sketch, is_sound

_Of = tuple[Who, LabelValues]
"""What a sketch is of: users or sessions, and their place."""

_Key = tuple[int, int, str, str]
"""The primary key of a sketch in the ledger."""

_KEY = ("period_ms", "start_ms", "who", "labels")
_STORE = upsert("sketches", (*_KEY, "sketch"), _KEY)

MAX_RECENT = 2_000
"""How many sketches of periods are kept in memory, in up to 4 kB each."""


@dataclass(frozen=True, slots=True)
class _InWindow:
    """The sketches of all periods of a window together. ``last_ms``: the start of its last period."""

    window: ActiveWindow
    last_ms: int
    sketches: dict[_Of, Sketch]

    def add(self, active: Active) -> None:
        """Add what has been committed in the periods of the window."""
        starts = self.window.starts(self.last_ms)
        for activity, hashes in active.items():
            if self.window.period(activity.hour_ms) in starts:
                of = (activity.who, activity.place)
                self.sketches.setdefault(of, Sketch()).add(hashes)


class ActiveInLedger:
    """The sketches in a ledger. Those of each window are also in memory: they are read again only when a period ends.
    Methods raise PollError as those of Connection do. Only ``forget`` works without the extra ``users``."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._windows: dict[ActiveWindow, _InWindow] = {}
        self._recent: dict[_Key, Sketch] = {}
        """Sketches of periods that have changed recently, as they are in the ledger."""

    def add(self, active: Active) -> dict[_Key, Sketch]:
        """Store users and sessions, inside a transaction. Returns what to ``keep`` after COMMIT."""
        recent, self._recent = self._recent, {}  # if the transaction fails, they are read again
        if len(recent) > MAX_RECENT:
            recent = {}
        for key, hashes in _by_sketch(active):
            sketch = recent[key] = recent.get(key) or self._sketch(key)
            if sketch.add(hashes):
                self._db.execute(_STORE, *key, sketch.packed())
        return recent

    def keep(self, active: Active, recent: dict[_Key, Sketch]) -> None:
        """Count what ``add`` stored, after COMMIT. ``recent`` is what it returned."""
        self._recent = recent
        for each in self._windows.values():
            each.add(active)

    def _sketch(self, key: _Key) -> Sketch:
        query = "SELECT sketch FROM sketches WHERE period_ms = ? AND start_ms = ? AND who = ? AND labels = ?"
        return Sketch(_sound(packed) for (packed,) in self._db.rows(query, *key))

    def counts(self, who: Who, places: Collection[LabelValues], now_ms: int) -> Mapping[LabelValues, int]:
        """How many there are in each of these places and each window, by PLACE_LABELS and the name of the window."""
        return {
            (*place, window.name): sketch.count() if (sketch := found.sketches.get((who, place))) else 0
            for window, found in ((window, self._in(window, now_ms)) for window in WINDOWS)
            for place in places
        }

    def forget(self, until_ms: int) -> None:
        """Delete what is in no window at this time or later."""
        gone = [(window.period_ms, window.starts(until_ms)[0]) for window in WINDOWS]
        old = "FROM sketches WHERE period_ms = ? AND start_ms < ?"
        if any(self._db.rows(f"SELECT 1 {old} LIMIT 1", *each) for each in gone):
            with self._db.transaction():
                self._db.each(f"DELETE {old}", gone)

    def _in(self, window: ActiveWindow, now_ms: int) -> _InWindow:
        found = self._windows.get(window)
        if found is None or found.last_ms != window.period(now_ms):
            found = self._windows[window] = self._read(window, now_ms)
        return found

    def _read(self, window: ActiveWindow, now_ms: int) -> _InWindow:
        packed: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        query = "SELECT who, labels, sketch FROM sketches WHERE period_ms = ? AND start_ms = ?"
        for start_ms in window.starts(now_ms):
            for who, labels, sketch in self._db.rows(query, window.period_ms, start_ms):
                packed[who, labels].append(_sound(sketch))
        sketches = {(Who(who), load(labels)): Sketch(each) for (who, labels), each in packed.items()}
        return _InWindow(window, window.period(now_ms), sketches)


def _by_sketch(active: Active) -> Iterator[tuple[_Key, frozenset[int]]]:
    """The key of each sketch to change, and the hashes to add to it."""
    hashes: defaultdict[tuple[int, int, Who, LabelValues], frozenset[int]] = defaultdict(frozenset)
    for activity, found in active.items():
        for window in WINDOWS:
            hashes[window.period_ms, window.period(activity.hour_ms), activity.who, activity.place] |= found
    for (period_ms, start_ms, who, place), found in hashes.items():
        yield (period_ms, start_ms, who.value, dump(place)), found


def _sound(packed: bytes) -> bytes:
    if not is_sound(packed):
        raise LedgerDamagedError("a sketch of users or sessions is invalid")
    return packed
