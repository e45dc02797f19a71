"""A value with its interval, and what it rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; None if it is undefined (never NaN).

    Attributes:
        value: The estimate from all cases.
        low: Lower end of the interval.
        high: Upper end of the interval.
        cases: How many cases it rests on.
        clusters: How many base examples those cases come from.
        sources: How many source examples they have; None if there was no intervention.
        texts: How many texts the bases were cut from, or the sources if those are of fewer; None if that is not known.
        equal_texts: As how many texts of equal size those of the bases count: (sum of n)^2 / (sum of n^2) for n cases
            of a text. Far fewer than `texts` where few texts hold most cases.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int
    clusters: int
    sources: int | None = None
    texts: int | None = None
    equal_texts: float | None = None

    @property
    def fewest(self) -> int:
        """On how many inputs it rests that do not hang together: texts, or examples where texts are not known."""
        return min(number for number in (self.clusters, self.sources, self.texts) if number is not None)

    def mapped(self, function: Callable[[float], float]) -> Estimate:
        """Apply an increasing function, for instance `math.exp`, to value and interval."""

        def finite(number: float | None) -> float | None:
            try:
                return None if number is None else function(number)
            except OverflowError:
                return None

        value, low, high = finite(self.value), finite(self.low), finite(self.high)
        if value is None or low is None or high is None:
            low = high = None
        return replace(self, value=value, low=low, high=high)
