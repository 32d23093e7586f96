"""What time it is by the clocks that can be read: ours, and MLflow's. Pure.

Either of them can be wrong, by days, for a while or for good. So nothing rests on one of them alone: what is made final
(start times that are closed, traces that are settled) goes by the earlier of the two, and what may still come is
looked for up to the later one.
"""

from dataclasses import dataclass

PLAUSIBLE_MS = 1_704_067_200_000
"""The beginning of 2024, when MLflow had no tracing yet. A clock that says less was never set."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Two readings of the same moment in Unix ms. ``server_ms`` is None where MLflow does not say what time it has."""

    own_ms: int
    server_ms: int | None = None

    @property
    def earliest_ms(self) -> int:
        """What both clocks agree has passed. A clock that runs ahead cannot move it."""
        return min(self._usable)

    @property
    def latest_ms(self) -> int:
        """What no clock is past. A clock that is behind cannot move it."""
        return max(self._usable)

    @property
    def difference_s(self) -> float | None:
        """By how many seconds MLflow's clock is ahead of ours; None where MLflow does not say."""
        return None if self.server_ms is None else (self.server_ms - self.own_ms) / 1000

    @property
    def _usable(self) -> tuple[int, ...]:
        """The clocks that were set; ours where none was."""
        there = (self.own_ms,) if self.server_ms is None else (self.own_ms, self.server_ms)
        return tuple(each for each in there if each >= PLAUSIBLE_MS) or (self.own_ms,)
