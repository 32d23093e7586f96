"""Quantiles in bounded memory: exact up to a number of values, estimated by a sketch beyond it."""

from array import array
from collections.abc import Callable
from math import floor

from ddsketch import DDSketch

EXACT_UP_TO = 100_000
"""The number of values that are kept as they are (800 kB)."""

RELATIVE_ERROR = 0.01
"""The maximum relative error of a quantile of the sketch, compared with one of the two values between which the exact
quantile lies (Masson, Rim and Lee, DDSketch, VLDB 2019)."""


class Quantiles:
    """Collects non-negative values and computes their quantiles."""

    def __init__(self, exact_up_to: int = EXACT_UP_TO) -> None:
        self._exact_up_to = exact_up_to
        self._values: array[float] = array("d")
        self._sketch: DDSketch | None = None
        self.max: float | None = None
        """The largest value, always exact."""

    @property
    def is_exact(self) -> bool:
        """Whether quantiles are computed from the values themselves and not from the sketch."""
        return self._sketch is None

    def add(self, value: float) -> None:
        """Add one value."""
        self.max = value if self.max is None else max(self.max, value)
        if self._sketch is not None:
            self._sketch.add(value)
            return
        self._values.append(value)
        if len(self._values) > self._exact_up_to:
            self._estimate()

    def merge(self, other: "Quantiles") -> None:
        """Add all values of another collection, which stays as it is."""
        if other._sketch is None:
            for each in other._values:
                self.add(each)
            return
        self._estimate().merge(other._sketch)
        self.max = other.max if self.max is None else max(self.max, other.max or 0.0)

    def _estimate(self) -> DDSketch:
        """Go on with a sketch of the values instead of the values."""
        if self._sketch is None:
            self._sketch = DDSketch(RELATIVE_ERROR)
            for each in self._values:
                self._sketch.add(each)
            self._values = array("d")
        return self._sketch

    def reader(self) -> Callable[[float], float | None]:
        """A function that returns the quantile for a share from 0 to 1; None if there are no values.

        Between two values it interpolates linearly, as numpy and pandas do by default (type 7 of Hyndman and Fan,
        1996).
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
