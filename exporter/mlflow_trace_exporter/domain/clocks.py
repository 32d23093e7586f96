"""The current time by our clock and by MLflow's clock. Pure.

Either clock can be wrong by days, temporarily or permanently, so neither is trusted alone. Final decisions (closing
start times, treating traces as settled) use the earlier clock. Searches for new traces extend to the later one.
"""

from dataclasses import dataclass

PLAUSIBLE_MS = 1_704_067_200_000
"""The beginning of 2024, before MLflow had tracing. A clock that shows an earlier time was never set."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Two readings of the same moment in Unix ms. ``server_ms`` is None if MLflow does not report its time."""

    own_ms: int
    server_ms: int | None = None

    @property
    def earliest_ms(self) -> int:
        """The time that both clocks have reached. A clock that is ahead does not affect it."""
        return min(self._usable)

    @property
    def latest_ms(self) -> int:
        """The time that neither clock has passed. A clock that is behind does not affect it."""
        return max(self._usable)

    @property
    def difference_s(self) -> float | None:
        """How many seconds MLflow's clock is ahead of ours; None if MLflow does not report its time."""
        return None if self.server_ms is None else (self.server_ms - self.own_ms) / 1000

    @property
    def _usable(self) -> tuple[int, ...]:
        """The clocks that have been set; ours if none has."""
        there = (self.own_ms,) if self.server_ms is None else (self.own_ms, self.server_ms)
        return tuple(each for each in there if each >= PLAUSIBLE_MS) or (self.own_ms,)
