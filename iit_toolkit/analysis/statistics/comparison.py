"""Two students on the same cases: does one keep more of the teacher's causal structure than the other?

The paired lead decides: both students see the same cases and the same resamples, so its interval is narrower than the
gap between two intervals would suggest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from iit_toolkit.analysis.statistics import ranges
from iit_toolkit.analysis.statistics.decision import Decision, decide, too_few
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import InputWords, words_of
from iit_toolkit.analysis.statistics.measures import (
    DEFAULT_MEASURE,
    MEASURES,
    Measure,
    Score,
    estimate,
    judged_measure,
    lead,
)
from iit_toolkit.analysis.statistics.numbers import basis, interval
from iit_toolkit.analysis.statistics.quantities import (
    require_same_cases,
    resample_behaviour,
    resample_variable,
    variables,
)

Outcome = Literal["HIGHER", "LOWER", "NOT SEPARATED", "UNDEFINED"]
_OUTCOMES: dict[Decision, Outcome] = {"above": "HIGHER", "below": "LOWER", "undecided": "NOT SEPARATED"}


@dataclass(frozen=True)
class VariableComparison:
    """Two students under interventions on one variable; everything outside the swapped positions.

    Attributes:
        outcome: HIGHER (LOWER) if the interval of the paired difference lies above (below) zero; NOT SEPARATED if it
            contains zero, or the cases come from too few texts; UNDEFINED without an interval.
        treatment: The measure of the treatment.
        baseline: The measure of the baseline.
        difference: Treatment minus baseline, paired over examples.
        above_floor: The same difference of the leads over each student's own floor.
        sentence: The outcome in words.
    """

    outcome: Outcome
    treatment: ranges.Explained
    baseline: ranges.Explained
    difference: ranges.Sound
    above_floor: ranges.Sound
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Treatment minus baseline, in everything that matters; `outcome` is the weakest of the variables'."""

    treatment: str
    baseline: str
    measure: str
    outcome: Outcome
    variables: dict[str, VariableComparison]
    kl: ranges.Sound
    log_perplexity: ranges.Sound
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; undefined values are None."""
        return asdict(self)


def compare(
    outcomes: pd.DataFrame,
    treatment: str,
    baseline: str,
    *,
    measure: str = DEFAULT_MEASURE,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Compare two students of an outcomes table, paired over examples.

    Args:
        outcomes: The table of `iit_toolkit.analysis.statistics.outcomes`.
        treatment: The student that is hoped to be better.
        baseline: The student it is measured against.
        measure: What is compared, one of `measures.JUDGED`.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.

    Raises:
        UserError: If a student is not in the table, the two were verified on different cases, or no verdict rests on
            the measure.
    """
    chosen = judged_measure(measure)
    require_same_cases(outcomes, treatment, baseline)
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed, "level": level}
    behaviour = resample_behaviour(outcomes, **settings)
    compared, words = dict[str, VariableComparison](), words_of(outcomes)
    for variable in variables(outcomes, treatment):
        resampled = resample_variable(outcomes, variable, **settings)
        scores = Score(chosen, treatment), Score(chosen, baseline)
        estimates = estimate(resampled, scores[0]), estimate(resampled, scores[1])
        difference = lead(resampled, *scores)
        outcome = _outcome(estimates, difference)
        compared[variable] = VariableComparison(
            outcome=outcome,
            treatment=estimates[0],
            baseline=estimates[1],
            difference=difference,
            above_floor=lead(resampled, scores[0].over_floor, scores[1].over_floor),
            sentence=_sentence((treatment, baseline), variable, chosen, outcome, estimates, difference, words),
        )

    def behaviour_difference(name: str) -> Estimate:
        one, two = (Score(MEASURES[name], student, region=None) for student in (treatment, baseline))
        return lead(behaviour, one, two)

    return Comparison(
        treatment=treatment,
        baseline=baseline,
        measure=measure,
        outcome=_weakest([one.outcome for one in compared.values()]),
        variables=compared,
        kl=behaviour_difference("kl"),
        log_perplexity=behaviour_difference("student_perplexity"),
        sentence=" ".join(one.sentence for one in compared.values()),
    )


def _outcome(estimates: tuple[Estimate, Estimate], difference: Estimate) -> Outcome:
    if difference.low is None:
        return "UNDEFINED"
    if any(too_few(one) for one in estimates):
        return "NOT SEPARATED"
    return _OUTCOMES[decide(difference, 0.0)]


def _weakest(outcomes: list[Outcome]) -> Outcome:
    order: tuple[Outcome, ...] = ("LOWER", "UNDEFINED", "NOT SEPARATED", "HIGHER")
    return min(outcomes, key=order.index)


def _sentence(
    names: tuple[str, str],
    variable: str,
    measure: Measure,
    outcome: Outcome,
    estimates: tuple[Estimate, Estimate],
    difference: Estimate,
    words: InputWords,
) -> str:
    treatment, baseline = names
    if outcome == "UNDEFINED":
        return (
            f'Variable "{variable}": {treatment} and {baseline} cannot be compared, '
            f"with {basis(estimates[0], measure.unit)}{words.outside}."
        )
    facts = (
        f'Variable "{variable}": {measure.title}{words.region} is {interval(estimates[0])} for {treatment} and '
        f"{interval(estimates[1])} for {baseline} ({basis(estimates[0], measure.unit)})"
    )
    paired = f"the paired difference is {interval(difference, signed=True)}"
    if outcome == "HIGHER":
        return f"{facts}. It is higher for {treatment}: {paired}."
    if outcome == "LOWER":
        return f"{facts}. It is LOWER for {treatment}: {paired}."
    why = f"there are too few inputs ({words.enough})" if any(map(too_few, estimates)) else "its interval contains zero"
    return f"{facts}. It is not shown that {treatment} is better than {baseline}: {paired}, and {why}."
