"""Where an interval lies against a threshold: the one place that compares the two, in words that others map on theirs.

Verdict, comparison, leak check, gate and studies call these functions; SUPPORTED, HIGHER, BEATS and the like are
mappings of a `Decision`.
"""

from __future__ import annotations

from typing import Literal, Protocol

from iit_toolkit.analysis.statistics.estimates import Estimate

Decision = Literal["above", "below", "undecided"]

MINIMUM_CLUSTERS = 20
"""Cases must come from this many texts of bases and of sources: intervals of fewer are not to be relied on."""
MINIMUM_EQUAL_TEXTS = 10
"""And not so unevenly that they count as fewer texts of equal size than this."""


class Interval(Protocol):
    """Anything that has an interval."""

    @property
    def low(self) -> float | None:
        """Its lower end; None if there is no interval."""
        ...

    @property
    def high(self) -> float | None:
        """Its upper end."""
        ...


def decide(interval: Interval, threshold: float) -> Decision:
    """Return whether an interval lies wholly above a threshold or wholly below it; undecided without an interval."""
    if interval.low is None or interval.high is None:
        return "undecided"
    if interval.low > threshold:
        return "above"
    return "below" if interval.high < threshold else "undecided"


def reaches(interval: Interval, bound: float) -> bool:
    """Return whether the lower end of an interval is at least a bound; false without an interval."""
    return interval.low is not None and interval.low >= bound


def too_few(estimate: Estimate) -> bool:
    """Return whether the cases come from too few texts, or most of them from a few, to rely on the interval."""
    uneven = estimate.equal_texts is not None and estimate.equal_texts < MINIMUM_EQUAL_TEXTS
    return estimate.fewest < MINIMUM_CLUSTERS or uneven
