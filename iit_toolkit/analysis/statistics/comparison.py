"""Two students on the same cases: does one keep more of the teacher's causal structure than the other?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd
from pydantic import TypeAdapter

from iit_toolkit.analysis.statistics import ranges
from iit_toolkit.analysis.statistics.numbers import basis, decimal, interval
from iit_toolkit.analysis.statistics.quantities import (
    check_same_cases,
    resample_behaviour,
    resample_variable,
    variables,
)
from iit_toolkit.analysis.statistics.resampling import Estimate

Outcome = Literal["HIGHER", "LOWER", "NOT SEPARATED", "UNDEFINED"]


@dataclass(frozen=True)
class VariableComparison:
    """Two students under interventions on one variable; everything outside the swapped positions.

    Attributes:
        outcome: HIGHER (LOWER) where the treatment's interval of effective IIA lies above (below) that of the
            baseline.
        treatment: Effective IIA of the treatment.
        baseline: Effective IIA of the baseline.
        effective_iia: Treatment less baseline, paired over examples.
        margin: The same difference of the margins over each student's own floor.
        sentence: The outcome in words.
    """

    outcome: Outcome
    treatment: ranges.Share
    baseline: ranges.Share
    effective_iia: ranges.ShareDifference
    margin: ranges.LeadDifference
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Treatment less baseline, in everything that matters; `outcome` is the weakest of the variables'."""

    treatment: str
    baseline: str
    outcome: Outcome
    variables: dict[str, VariableComparison]
    kl: ranges.Sound
    log_perplexity: ranges.Sound
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; undefined values are None."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Comparison:
        """Read what `to_dict` wrote.

        Raises:
            pydantic.ValidationError: If the data is something else.
        """
        return TypeAdapter(Comparison).validate_python(data)


def compare(
    outcomes: pd.DataFrame,
    treatment: str,
    baseline: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Compare two students of an outcomes table, paired over examples.

    Args:
        outcomes: The table of `iit_toolkit.analysis.statistics.outcomes`.
        treatment: The student that is hoped to be better.
        baseline: The student it is measured against.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.

    Raises:
        UserError: If a student is not in the table, or the two were verified on different cases.
    """
    check_same_cases(outcomes, treatment, baseline)
    behaviour = resample_behaviour(outcomes, resamples=resamples, seed=seed, level=level)
    compared: dict[str, VariableComparison] = {}
    for variable in variables(outcomes, treatment):
        resampled = resample_variable(outcomes, variable, resamples=resamples, seed=seed, level=level)

        def pair(name: str, cases: str) -> tuple[tuple[str, str], tuple[str, str]]:
            return (f"{treatment}/{name}", f"{treatment}/{cases}"), (
                f"{baseline}/{name}",
                f"{baseline}/{cases}",
            )

        one, two = pair("effective/outside", "changed/outside")
        estimates = resampled.share(*one), resampled.share(*two)
        difference = resampled.lead(one, two)
        outcome = _outcome(*estimates)
        compared[variable] = VariableComparison(
            outcome=outcome,
            treatment=estimates[0],
            baseline=estimates[1],
            effective_iia=difference,
            margin=resampled.difference(*pair("above_floor/outside", "changed/outside")),
            sentence=_sentence((treatment, baseline), variable, outcome, estimates, difference),
        )
    return Comparison(
        treatment=treatment,
        baseline=baseline,
        outcome=_weakest([one.outcome for one in compared.values()]),
        variables=compared,
        kl=behaviour.difference((f"{treatment}/kl", f"{treatment}/cases"), (f"{baseline}/kl", f"{baseline}/cases")),
        log_perplexity=behaviour.difference(
            (f"{treatment}/student_nll", f"{treatment}/gold"),
            (f"{baseline}/student_nll", f"{baseline}/gold"),
        ),
        sentence=" ".join(one.sentence for one in compared.values()),
    )


def _outcome(treatment: Estimate, baseline: Estimate) -> Outcome:
    if treatment.low is None or treatment.high is None or baseline.low is None or baseline.high is None:
        return "UNDEFINED"
    if treatment.low > baseline.high:
        return "HIGHER"
    return "LOWER" if treatment.high < baseline.low else "NOT SEPARATED"


def _weakest(outcomes: list[Outcome]) -> Outcome:
    order: tuple[Outcome, ...] = ("LOWER", "UNDEFINED", "NOT SEPARATED", "HIGHER")
    return min(outcomes, key=order.index)


def _sentence(
    names: tuple[str, str],
    variable: str,
    outcome: Outcome,
    estimates: tuple[Estimate, Estimate],
    difference: Estimate,
) -> str:
    treatment, baseline = names
    if outcome == "UNDEFINED":
        return (
            f'Variable "{variable}": {treatment} and {baseline} cannot be compared, '
            f"with {basis(estimates[0])} outside the swapped positions."
        )
    facts = (
        f'Variable "{variable}": effective IIA outside is {interval(estimates[0])} for {treatment} and '
        f"{interval(estimates[1])} for {baseline} ({basis(estimates[0])})"
    )
    paired = f"paired difference {interval(difference, signed=True)}"
    if outcome == "HIGHER":
        return f"{facts}: the intervals are separated, {treatment} is higher; {paired}."
    if outcome == "LOWER":
        return f"{facts}: the intervals are separated, {treatment} is LOWER than {baseline}; {paired}."
    return f"{facts}: the intervals overlap; {_overlap(treatment, baseline, difference)}."


def _overlap(treatment: str, baseline: str, difference: Estimate) -> str:
    paired = interval(difference, signed=True)
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return f"{treatment} is not shown to be better than {baseline} (paired difference {paired}, which holds zero)"
    better, worse = (treatment, baseline) if difference.low > 0 else (baseline, treatment)
    end = decimal(min(abs(difference.low), abs(difference.high)))
    return (
        f"only the sharper paired difference tells them apart ({paired}): "
        f"{better} is ahead of {worse} by at least {end}"
    )
