"""Quantiles of many numbers in little memory: exact up to a size, by a sketch past it."""

from array import array
from collections.abc import Callable
from math import floor

from ddsketch import DDSketch

EXACT_UP_TO = 100_000
"""How many numbers are kept as they are: 800 kB."""

RELATIVE_ERROR = 0.01
"""How far a quantile of the sketch is at most, as a share of it, from one of the two numbers between which the exact
one lies (Masson, Rim and Lee, DDSketch, VLDB 2019)."""


class Quantiles:
    """Numbers from 0 on, and what share of them is below what."""

    def __init__(self, exact_up_to: int = EXACT_UP_TO) -> None:
        self._exact_up_to = exact_up_to
        self._values: array[float] = array("d")
        self._sketch: DDSketch | None = None
        self.max: float | None = None
        """The greatest of them, always exact."""

    @property
    def is_exact(self) -> bool:
        """Whether ``quantile`` gives what the numbers themselves give, and not the sketch."""
        return self._sketch is None

    def add(self, value: float) -> None:
        """Add one number."""
        self.max = value if self.max is None else max(self.max, value)
        if self._sketch is not None:
            self._sketch.add(value)
            return
        self._values.append(value)
        if len(self._values) > self._exact_up_to:
            self._sketch = DDSketch(RELATIVE_ERROR)
            for each in self._values:
                self._sketch.add(each)
            self._values = array("d")

    def reader(self) -> Callable[[float], float | None]:
        """What gives the quantile for a share from 0 to 1; None where there are no numbers.

        Between two numbers it is on the line between them, as numpy and pandas do it by default (type 7 of Hyndman and
        Fan, 1996).
        """
        if self._sketch is not None:
            return self._sketch.get_quantile_value
        values = sorted(self._values)

        def quantile(share: float) -> float | None:
            if not values:
                return None
            rank = share * (len(values) - 1)
            below = floor(rank)
            above = min(below + 1, len(values) - 1)
            return values[below] + (values[above] - values[below]) * (rank - below)

        return quantile
