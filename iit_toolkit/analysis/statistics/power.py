"""Power: the smallest true lead that as many cases would show."""

from __future__ import annotations

import math

from scipy.special import ndtri

from iit_toolkit.analysis.statistics.resampling import Estimate

POWER = 0.8


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
    elif share.value and share.low is not None and share.high is not None and share.value < 1:
        error = (share.high - share.low) / 2 / quantile
        cases = min(cases, share.value * (1 - share.value) / error**2)
    for step in range(math.ceil(1000 * margin), 1001):
        lead = step / 1000
        error = max(observed, math.sqrt(max(0.0, lead * (1 - lead)) / cases))
        if lead - margin > (quantile + float(ndtri(POWER))) * error:
            return lead
    return None
