"""What estimates that are read back may be: numbers that belong together, in the range of what they measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from iit_toolkit.analysis.statistics.estimates import Estimate

_ROUNDING = 1e-9
_LEAST_KL = -1e-4
"""In nats: log-probabilities in single precision give no less than this where two models agree."""


def _refuse_unsound(estimate: Estimate) -> Estimate:
    counts = (estimate.cases, estimate.clusters, estimate.sources, estimate.texts, estimate.equal_texts)
    if any(number is not None and number < 0 for number in counts):
        raise ValueError("a number of cases, clusters, sources or texts is negative")
    value, low, high = estimate.value, estimate.low, estimate.high
    if (low is None) != (high is None) or (value is None and low is not None):
        raise ValueError("an interval has two ends and a value, or there is none")
    if value is not None and low is not None and high is not None:
        rounding = _ROUNDING * max(1.0, abs(value))
        if not low - rounding <= value <= high + rounding:
            raise ValueError(f"the interval from {low:g} to {high:g} does not hold the value {value:g}")
    return estimate


def _share(estimate: Estimate) -> Estimate:
    _refuse_unsound(estimate)
    for number in (estimate.value, estimate.low, estimate.high):
        _refuse_outside(number, 0, 1)
    return estimate


def _explained(estimate: Estimate) -> Estimate:
    _refuse_unsound(estimate)
    for number in (estimate.value, estimate.high):
        if number is not None and number > 1 + _ROUNDING:
            raise ValueError(f"{number:g} is above 1: no more than all can be explained")
    return estimate


def _difference(most: float) -> Callable[[Estimate], Estimate]:
    def check(estimate: Estimate) -> Estimate:
        _refuse_unsound(estimate)
        _refuse_outside(estimate.value, -most, most)  # the ends of its interval, from few texts, may lie beyond
        return estimate

    return check


def _refuse_outside(number: float | None, least: float, most: float) -> None:
    if number is not None and not least - _ROUNDING <= number <= most + _ROUNDING:
        raise ValueError(f"{number:g} does not lie between {least:g} and {most:g}")


def _positive(estimate: Estimate) -> Estimate:
    _refuse_unsound(estimate)
    if any(number is not None and number <= 0 for number in (estimate.value, estimate.low, estimate.high)):
        raise ValueError("a perplexity is above 0")
    return estimate


def _divergence(estimate: Estimate) -> Estimate:
    _refuse_unsound(estimate)
    if estimate.value is not None and estimate.value < _LEAST_KL:
        raise ValueError(f"a mean divergence is not negative, as {estimate.value:g} is")
    return estimate


Count = Annotated[int, Field(ge=0)]
Sound = Annotated[Estimate, AfterValidator(_refuse_unsound)]
"""Any number."""
Share = Annotated[Estimate, AfterValidator(_share)]
Explained = Annotated[Estimate, AfterValidator(_explained)]
"""A share, or how much of an amount is explained, which may be negative."""
ShareDifference = Annotated[Estimate, AfterValidator(_difference(1))]
"""Of two shares; a correlation has the same range."""
Perplexity = Annotated[Estimate, AfterValidator(_positive)]
Divergence = Annotated[Estimate, AfterValidator(_divergence)]
"""A mean of KL; its interval is that of a mean, whose lower end may be negative."""
