"""How far a statistic varies from one set of texts to another, and how wide that makes its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from iit_toolkit.analysis.statistics.sums import Floats, sum_of_squares


@dataclass(frozen=True)
class Spread:
    """How far a statistic varies from one set of examples to another.

    Attributes:
        variance: Its estimated variance.
        drawn: Its variance in the resamples, to first order.
        freedom: Degrees of freedom behind `variance`.
        freedom_of_amounts: The same for amounts, which have heavy tails.
    """

    variance: float
    drawn: float
    freedom: float
    freedom_of_amounts: float

    def quantile(self, level: float) -> float:
        """Half the width of a two-sided interval, in standard errors."""
        return student_quantile(self.freedom, level)

    def of_amounts(self) -> Spread:
        """Return the same for a statistic of amounts."""
        return replace(self, freedom=self.freedom_of_amounts)


def student_quantile(freedom: float, level: float) -> float:
    """Half the width of a two-sided interval of Student's distribution, in standard errors."""
    return float(stdtrit(freedom, (1 + level) / 2))


def wilson(value: float, trials: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a share, from its value, number of trials and the quantile of its level."""
    square = quantile**2 / trials
    centre = (value + square / 2) / (1 + square)
    half = math.sqrt(value * (1 - value) * square + square**2 / 4) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def variation(residuals: Floats, texts: int) -> float:
    """Return how far the sum of squared residuals of texts varies: the variance of that sum, from fourth powers."""
    squares = residuals**2
    return max(0.0, sum_of_squares(squares) - float(squares.sum()) ** 2 / texts)
