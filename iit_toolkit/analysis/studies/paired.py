"""Measures of arms over seeds, and the difference of two arms in one of them, paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from iit_toolkit.analysis.statistics.decision import Decision, decide
from iit_toolkit.analysis.statistics.numbers import count, decimal

Outcome = Literal["BEATS", "WORSE", "INCONCLUSIVE"]

MINIMUM_SEEDS = 3
LEVEL = 0.95
EQUAL_STEPS, EQUAL_COMPUTE = "equal steps", "equal compute"
_OUTCOMES: dict[bool, dict[Decision, Outcome]] = {
    True: {"above": "BEATS", "below": "WORSE", "undecided": "INCONCLUSIVE"},
    False: {"above": "WORSE", "below": "BEATS", "undecided": "INCONCLUSIVE"},
}
"""What a difference comes to, by whether higher is better."""
_Test = tuple[float | None, float | None, float | None, float | None]


@dataclass(frozen=True)
class StudyMeasure:
    """What is compared of arms: a measure, a task's score or a cost.

    Attributes:
        name: With the variable or the data that it is about.
        higher_is_better: Whether more of it is better.
        digits: To write after the decimal point.
    """

    name: str
    higher_is_better: bool
    digits: int


@dataclass(frozen=True)
class Row:
    """One measure of every arm.

    Attributes:
        measure: What was measured.
        values: Per arm its value in each run, in the order of the seeds; None if it is undefined.
    """

    measure: StudyMeasure
    values: dict[str, tuple[float | None, ...]]

    def spread(self, arm: str) -> tuple[float | None, float | None]:
        """Return mean and standard deviation of an arm's defined values; None with too few."""
        defined = [value for value in self.values[arm] if value is not None]
        mean = float(np.mean(defined)) if defined else None
        return mean, float(np.std(defined, ddof=1)) if len(defined) > 1 else None


@dataclass(frozen=True)
class Paired:
    """One measure: treatment minus baseline.

    Attributes:
        measure: What was measured.
        outcome: BEATS where the interval lies wholly on the better side of zero, WORSE where it lies
            wholly on the other, else INCONCLUSIVE.
        seeds: In how many runs both arms have a value.
        difference: Mean of the differences; None without any.
        low: Lower end of its interval; None with fewer than two differences, or where all are equal.
        high: Upper end.
        p: Two-sided p value of Student's paired t test, for a difference of zero; None if there is no interval.
        sentence: The outcome in words.
    """

    measure: StudyMeasure
    outcome: Outcome
    seeds: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    sentence: str


@dataclass(frozen=True)
class Basis:
    """What the two arms had equal.

    Attributes:
        name: `equal steps` or `equal compute`.
        baseline: The arm that the treatment is compared with; None if no arm fits.
        note: What the arms had, or why there is no such arm.
        measures: The comparison; empty without baseline.
    """

    name: str
    baseline: str | None
    note: str
    measures: tuple[Paired, ...]


def pair(row: Row, treatment: str, baseline: str) -> Paired:
    """Compare two arms in one measure, paired by seed."""
    both = zip(row.values[treatment], row.values[baseline], strict=True)
    differences = [one - two for one, two in both if one is not None and two is not None]
    paired = Paired(row.measure, "INCONCLUSIVE", len(differences), *_t_test(differences), sentence="")
    if paired.seeds >= MINIMUM_SEEDS:
        paired = replace(paired, outcome=_OUTCOMES[row.measure.higher_is_better][decide(paired, 0.0)])
    return replace(paired, sentence=_sentence(paired, treatment, baseline))


def difference(paired: Paired) -> str:
    """`+0.100 [+0.050, +0.150]`."""
    digits = paired.measure.digits
    if paired.difference is None:
        return "n/a (undefined in every run)"
    mean = decimal(paired.difference, digits, signed=True)
    if paired.low is None or paired.high is None:
        return f"{mean} [no interval]"
    return f"{mean} [{decimal(paired.low, digits, signed=True)}, {decimal(paired.high, digits, signed=True)}]"


def _t_test(differences: Sequence[float]) -> _Test:
    """Mean, t interval and p value; the mean alone where the spread between seeds is unknown or nil."""
    if not differences:
        return None, None, None, None
    mean = float(np.mean(differences))
    if len(differences) < 2 or float(np.std(differences)) <= 1e-12 * max(1.0, abs(mean)):
        return mean, None, None, None
    tested: Any = stats.ttest_1samp(differences, 0.0)
    low, high = tested.confidence_interval(LEVEL)
    return mean, float(low), float(high), float(tested.pvalue)


def _sentence(paired: Paired, treatment: str, baseline: str) -> str:
    better = "" if paired.measure.higher_is_better else " (lower is better)"
    facts = f"{paired.measure.name}{better}: {treatment} minus {baseline} is {difference(paired)}"
    facts += f" over {count(paired.seeds, 'seed')}"
    if paired.outcome != "INCONCLUSIVE":
        return f"{facts}; {treatment} {'BEATS' if paired.outcome == 'BEATS' else 'is WORSE than'} {baseline}."
    if paired.seeds < MINIMUM_SEEDS:
        return f"{facts}; INCONCLUSIVE, since {MINIMUM_SEEDS} seeds are needed."
    if paired.low is None:
        return f"{facts}; INCONCLUSIVE, since the difference is the same for all seeds, so its spread is unknown."
    return f"{facts}; INCONCLUSIVE, since the interval contains zero."
