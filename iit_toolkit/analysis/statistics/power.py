"""Power: the smallest true lead that as many cases would show, and how many pairs a lead needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import chdtri, ndtri, stdtrit

from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.estimates import Estimate

POWER = 0.8
_COVERAGE = 0.95
"""Of the range of pairs that a pilot leaves open."""


def detectable_lead(difference: Estimate, share: Estimate | None, margin: float, level: float) -> float | None:
    """Return the smallest lead, in steps of 0.001, whose lower bound exceeds the margin with a probability of `POWER`.

    Its standard error is the observed one, but no less than that of a share of as many independent cases as would vary
    as much as the student's share: a student without any lead has an observed error of 0.

    Args:
        difference: The lead over a control.
        share: The student's score, if it is a share.
        margin: What the lead must exceed.
        level: Of the interval of the difference.
    """
    if difference.value is None or difference.low is None:
        return None
    quantile = float(ndtri((1 + level) / 2))
    observed = (difference.value - difference.low) / quantile
    cases = float(difference.cases)
    if share is None:
        cases = math.inf
    elif share.value is not None and share.low is not None and share.high is not None and 0 < share.value < 1:
        error = (share.high - share.low) / 2 / quantile
        cases = min(cases, share.value * (1 - share.value) / error**2)
    for step in range(math.ceil(1000 * margin), 1001):
        lead = step / 1000
        error = max(observed, math.sqrt(max(0.0, lead * (1 - lead)) / cases))
        if lead - margin > (quantile + float(ndtri(POWER))) * error:
            return lead
    return None


@dataclass(frozen=True)
class PairsNeeded:
    """How many pairs a true lead needs to be shown with a probability of `POWER`.

    Attributes:
        lead: The true lead.
        pairs: How many, if the pilot's variance is the true one; None if no number is enough.
        low: The fewest, by the lower end of the interval of the pilot's variance.
        high: The most, by its upper end.
    """

    lead: float
    pairs: int | None
    low: int | None
    high: int | None


def pairs_needed(
    difference: Estimate, pairs: int, lead: float, margin: float, level: float, *, pilot_level: float = 0.95
) -> PairsNeeded:
    """Return how many pairs let the lower bound of a lead exceed a margin with a probability of `POWER`.

    A pilot of m pairs has the standard error s. The variance of an estimate scales with 1 / pairs, so n pairs have
    s sqrt(m / n). The lower bound of the interval lies z(level) standard errors below the estimate, which itself lies
    below the true lead by more than z(power) standard errors in 1 - power of repetitions. So n is the smallest number
    with

        lead - margin > (z(level) + z(power)) s sqrt(m / n),
        that is n = m s^2 ((z(level) + z(power)) / (lead - margin))^2

    with z(level) the normal quantile of (1 + level) / 2 and z(power) that of the power. No number is enough if the lead
    does not exceed the margin. It is never less than the number of texts without which nothing is decided.

    s is the lower part of the pilot's interval over the quantile of Student's distribution that made it, but no less
    than that of a share of the size of the lead in as many independent cases: a student that nowhere differs from its
    control varies by nothing. With f = texts - 1 degrees of freedom, the true variance lies between f s^2 / c and
    f s^2 / c' in 95% of pilots, c and c' being the upper and lower 2.5% points of the chi-square distribution. These
    give `low` and `high`.

    Args:
        difference: The lead in the pilot, with its interval.
        pairs: Pairs of the pilot.
        lead: The true lead.
        margin: What its lower bound must exceed.
        level: Coverage of the interval in the verification to come.
        pilot_level: Coverage of the interval of the pilot.

    Raises:
        ValueError: If the pilot has no interval.
    """
    if difference.value is None or difference.low is None:
        raise ValueError("a pilot without an interval says nothing of its variance")
    if lead <= margin:
        return PairsNeeded(lead, None, None, None)
    freedom = max(1, difference.fewest - 1)
    error = (difference.value - difference.low) / float(stdtrit(freedom, (1 + pilot_level) / 2))
    variance = max(error**2, max(0.0, lead * (1 - lead)) / max(1, difference.cases))
    quantiles = float(ndtri((1 + level) / 2)) + float(ndtri(POWER))
    tail = (1 - _COVERAGE) / 2
    most, least = (freedom / float(chdtri(freedom, share)) for share in (1 - tail, tail))

    def number(times: float) -> int:
        return max(MINIMUM_CLUSTERS, math.ceil(pairs * times * variance * (quantiles / (lead - margin)) ** 2))

    return PairsNeeded(lead, number(1.0), number(least), number(most))
