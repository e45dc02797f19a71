"""The verdict: does a student keep its teacher's causal structure beyond what the controls reach?

The claim is tested outside the swapped positions, on cases in which the intervention changes the teacher's
own answer. It is SUPPORTED where the lower bound of [effective IIA - control] exceeds the margin for every
control, NOT SUPPORTED where the upper bound lies below the margin for some control, INCONCLUSIVE otherwise.
Asking it of every control (an intersection-union test) keeps the error of each single test.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd
from pydantic import ConfigDict, TypeAdapter

from iit_toolkit.analysis.numbers import count, decimal, interval
from iit_toolkit.analysis.quantities import check_same_cases, resample_variable, students, variables
from iit_toolkit.analysis.statistics import Estimate, Resampled

Label = Literal["SUPPORTED", "NOT SUPPORTED", "INCONCLUSIVE"]

FLOOR = "no-intervention floor"
MINIMUM_CLUSTERS = 20
"""Changed cases must come from this many base examples: percentile intervals of fewer are too narrow."""
SCOPE = (
    "This speaks only of the tested inputs, sites and interventions; "
    "it does not prove that the student computes what its teacher computes."
)


@dataclass(frozen=True)
class Control:
    """What could explain the effective IIA without any causal structure kept.

    Attributes:
        name: The floor, or the student that serves as a control.
        level: The share it reaches on the same cases.
        difference: Effective IIA of the judged student less that share, paired.
        passed: Whether the lower bound of the difference exceeds the margin; None where it has no interval.
        meaning: What passing or failing means, in words.
    """

    name: str
    level: Estimate
    difference: Estimate
    passed: bool | None
    meaning: str


@dataclass(frozen=True)
class VariableVerdict:
    """The verdict on one variable with what it rests on."""

    label: Label
    effective_iia: Estimate
    controls: list[Control]
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The verdict on one student: SUPPORTED only where it is for every variable."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    student: str
    label: Label
    margin: float
    variables: dict[str, VariableVerdict]
    sentence: str
    scope: str

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON data; undefined values are None."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Verdict:
        """Reads what `to_dict` wrote.

        Raises:
            pydantic.ValidationError: Where the data is something else.
        """
        return TypeAdapter(Verdict).validate_python(data)


def judge(
    outcomes: pd.DataFrame,
    student: str,
    *,
    untrained: str = "untrained",
    margin: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Verdict:
    """Gives the verdict on one student.

    Args:
        outcomes: The table of `iit_toolkit.analysis.outcomes`.
        student: The student that is judged.
        untrained: The student before training, a control where the table holds it.
        margin: How far effective IIA must lie above every control.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.

    Raises:
        UserError: Where a student is not in the table, or was verified on other cases than its control.
    """
    check_same_cases(outcomes, student, student)
    has_untrained = untrained in students(outcomes) and untrained != student
    if has_untrained:
        check_same_cases(outcomes, student, untrained)
    judged: dict[str, VariableVerdict] = {}
    for variable in variables(outcomes, student):
        resampled = resample_variable(outcomes, variable, resamples=resamples, seed=seed, level=level)
        controls = [
            _control(
                resampled,
                student,
                FLOOR,
                (f"{student}/effective_floor/outside", f"{student}/changed/outside"),
                margin,
            )
        ]
        if has_untrained:
            controls.append(
                _control(
                    resampled,
                    student,
                    untrained,
                    (f"{untrained}/effective/outside", f"{untrained}/changed/outside"),
                    margin,
                )
            )
        effective = resampled.share(f"{student}/effective/outside", f"{student}/changed/outside")
        label = _label(effective, controls, margin)
        tested = resampled.share(f"{student}/changed/outside", f"{student}/cases/outside").cases
        sentence = _sentence(student, variable, label, effective, controls, margin, tested)
        judged[variable] = VariableVerdict(label, effective, controls, sentence)
    return Verdict(
        student=student,
        label=_overall([one.label for one in judged.values()]),
        margin=margin,
        variables=judged,
        sentence=" ".join(one.sentence for one in judged.values()),
        scope=SCOPE,
    )


def _control(resampled: Resampled, student: str, name: str, share: tuple[str, str], margin: float) -> Control:
    difference = resampled.difference((f"{student}/effective/outside", f"{student}/changed/outside"), share)
    passed = None if difference.low is None else difference.low > margin
    return Control(name, resampled.share(*share), difference, passed, _meaning(student, name, passed))


def _meaning(student: str, name: str, passed: bool | None) -> str:
    if passed is None:
        return "Too few changed cases to tell."
    if name == FLOOR:
        return (
            f"{student} follows the intervention; its unmoved answers alone would not score this."
            if passed
            else f"What {student} scores can be had, up to the margin, without reacting to the intervention."
        )
    return (
        f"Training brought this about: {name} with the same interventions does not reach it."
        if passed
        else f"{name} reaches the same up to the margin: what is scored is not shown to come from training."
    )


def _label(effective: Estimate, controls: list[Control], margin: float) -> Label:
    if effective.clusters < MINIMUM_CLUSTERS or any(one.passed is None for one in controls):
        return "INCONCLUSIVE"
    if all(one.passed for one in controls):
        return "SUPPORTED"
    below = (one.difference.high is not None and one.difference.high < margin for one in controls)
    return "NOT SUPPORTED" if any(below) else "INCONCLUSIVE"


def _overall(labels: list[Label]) -> Label:
    if "NOT SUPPORTED" in labels:
        return "NOT SUPPORTED"
    return "INCONCLUSIVE" if "INCONCLUSIVE" in labels else "SUPPORTED"


def _sentence(
    student: str,
    variable: str,
    label: Label,
    effective: Estimate,
    controls: list[Control],
    margin: float,
    tested: int,
) -> str:
    subject = f'Variable "{variable}": '
    if effective.cases == 0:
        return (
            f"{subject}no intervention changed the teacher's answer outside the swapped positions "
            f"(0 of {count(tested, 'case')}), so nothing was tested."
        )
    basis = f"{count(effective.cases, 'changed case')}, {count(effective.clusters, 'base example')}"
    if effective.clusters < MINIMUM_CLUSTERS:
        return (
            f"{subject}the teacher's answer changed in too few inputs outside the swapped positions "
            f"({basis}; {MINIMUM_CLUSTERS} base examples are needed)."
        )
    best = min(controls, key=lambda one: one.difference.value or 0.0)
    end = {
        "SUPPORTED": f"lies above the margin of {decimal(margin, 2)}.",
        "NOT SUPPORTED": f"lies below the margin of {decimal(margin, 2)}.",
        "INCONCLUSIVE": f"holds the margin of {decimal(margin, 2)}: more cases could decide.",
    }[label]
    return (
        f"{subject}where the intervention changes the teacher's answer outside the swapped positions "
        f"({basis}), {student} gives the same new answer at a rate of {interval(effective)}. The best "
        f"control, the {best.name}{'' if best.name == FLOOR else ' student'}, "
        f"reaches {interval(best.level)}; "
        f"the difference, {interval(best.difference, signed=True)}, {end}"
    )
