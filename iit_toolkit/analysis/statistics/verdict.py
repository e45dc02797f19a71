"""The verdict: does a student keep its teacher's causal structure beyond what the controls reach?

The claim is tested outside the swapped positions (in classification: on the label), by one measure: effective IIA
unless another is chosen. A variable is SUPPORTED if the lower bound of [measure - control] exceeds the margin for every
control, NOT SUPPORTED if the upper bound lies below the margin for some control, and INCONCLUSIVE otherwise, and
whenever the measure's cases come from too few texts (`decision.too_few`). The student is SUPPORTED if it is for every
variable.

Errors. Let alpha be (1 - level) / 2, 2.5% by default. A variable is falsely SUPPORTED only if the lower bound exceeds
a lead that truly does not exceed the margin; as every control must be passed, the control that is hardest to pass
alone bounds the probability (an intersection-union test: Berger 1982, Technometrics 24). Over variables the bounds
are Holm's (1979, Scandinavian Journal of Statistics 6): of k variables, those that pass at level 1 - (1 - level) / k
are SUPPORTED, the others are judged anew as the k' that are left, until none passes. So the probability that any
variable is falsely SUPPORTED is at most alpha, if the intervals keep their level (`docs/interval-calibration.md`).
A variable is falsely NOT SUPPORTED with a probability of at most alpha times the number of its controls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, cast

import pandas as pd
from pydantic import TypeAdapter

from iit_toolkit.analysis.statistics import ranges
from iit_toolkit.analysis.statistics.control_words import FLOOR, control_meanings, describe_control
from iit_toolkit.analysis.statistics.decision import ENOUGH_TEXTS, Decision, decide, too_few
from iit_toolkit.analysis.statistics.measures import (
    DEFAULT_MEASURE,
    MEASURES,
    Score,
    estimate,
    judged_measure,
    lead,
)
from iit_toolkit.analysis.statistics.numbers import basis, count, decimal, interval
from iit_toolkit.analysis.statistics.outcomes import SHUFFLED, UNTRAINED
from iit_toolkit.analysis.statistics.power import POWER, detectable_lead
from iit_toolkit.analysis.statistics.quantities import require_same_cases, resample_variable, students, variables
from iit_toolkit.analysis.statistics.resampling import Estimate, Resampled
from iit_toolkit.errors import UserError

Label = Literal["SUPPORTED", "NOT SUPPORTED", "INCONCLUSIVE"]

Controls = Mapping[str, Score]
"""What each control scores, by its name."""

_PASSED: dict[Decision, bool | None] = {"above": True, "below": False, "undecided": None}
_UNTESTED = "The other controls were not run for this student, so nothing is supported. Verify the student to run them."
SCOPE = (
    "The verdict covers only the tested inputs, sites and interventions. "
    "It does not prove that the student computes what its teacher computes."
)


@dataclass(frozen=True)
class Control:
    """What could explain the student's score without any causal structure kept.

    Attributes:
        name: The floor, the student that serves as a control, or one of `outcomes.SHUFFLED`.
        level: What it scores on the same cases.
        difference: The judged student's score minus that, paired; its interval is that of the variable's level.
        passed: Whether the difference's interval lies above the margin (False: below it); None if it holds the
            margin, or too few cases changed.
        meaning: What passing or failing means, or why it is open, in words.
    """

    name: str
    level: ranges.Explained
    difference: ranges.Sound
    passed: bool | None
    meaning: str


@dataclass(frozen=True)
class VariableVerdict:
    """The verdict on one variable with what it rests on.

    Attributes:
        label: SUPPORTED, NOT SUPPORTED or INCONCLUSIVE.
        score: The measure outside the swapped positions.
        controls: All of them must be passed.
        level: Of the intervals of the differences, adjusted to the number of variables.
        detectable: The smallest true lead over the best control that would be SUPPORTED in 80% of repetitions with
            as many cases; None if none would.
        sentence: The verdict in words.
    """

    label: Label
    score: ranges.Explained
    controls: list[Control]
    level: float
    detectable: float | None
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The verdict on one student: SUPPORTED only if it is for every variable.

    Attributes:
        student: Who is judged.
        measure: The measure it rests on, one of `measures.JUDGED`.
        label: SUPPORTED, NOT SUPPORTED or INCONCLUSIVE.
        margin: How far the score must lie above every control.
        variables: The verdict on each variable.
        sentence: The verdict in words.
        power: What this many cases can show, in words.
        scope: What the verdict does not say.
    """

    student: str
    measure: str
    label: Label
    margin: float
    variables: dict[str, VariableVerdict]
    sentence: str
    power: str
    scope: str

    def __str__(self) -> str:
        """Return the verdict in words."""
        return f"{self.label}: {self.sentence}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; undefined values are None."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Verdict:
        """Read what `to_dict` wrote.

        Raises:
            pydantic.ValidationError: If the data is something else.
        """
        return TypeAdapter(Verdict).validate_python(data)


class Verified(Protocol):
    """A finished verification, as `iit_toolkit.analysis.verification.verify.verify` returns it."""

    @property
    def outcomes(self) -> pd.DataFrame:
        """The outcomes table."""
        ...

    @property
    def controls(self) -> pd.DataFrame | None:
        """The table of the judged student's controls."""
        ...

    @property
    def judged(self) -> str | None:
        """The student whose controls were run."""
        ...


def judge(
    verified: Verified | pd.DataFrame,
    student: str | None = None,
    *,
    controls: pd.DataFrame | None = None,
    untrained: str = UNTRAINED,
    measure: str = DEFAULT_MEASURE,
    margin: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Verdict:
    """Give the verdict on one student.

    Args:
        verified: What `verify` returns; or its table of outcomes alone.
        student: The student that is judged; by default the one whose controls were run.
        controls: The table of this student's controls, if there is one: shuffled sites and sources. That of `verified`
            is taken if this student's controls were run.
        untrained: The student before training, a control where the table holds it.
        measure: What the verdict rests on, one of `measures.JUDGED`.
        margin: How far the score must lie above every control.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.

    Raises:
        UserError: If a student is not in the table, or was verified on other cases than its control, or no verdict
            rests on the measure.
    """
    chosen = judged_measure(measure)
    outcomes = verified if isinstance(verified, pd.DataFrame) else verified.outcomes
    if not isinstance(verified, pd.DataFrame):
        student = student or verified.judged
        controls = verified.controls if controls is None and student == verified.judged else controls
    if student is None:
        raise UserError(f"judge needs the student's name; give one of {', '.join(students(outcomes))}")
    require_same_cases(outcomes, student, student)
    has_untrained = untrained in students(outcomes) and untrained != student
    if has_untrained:
        require_same_cases(outcomes, student, untrained)
    every = [untrained] if has_untrained else []
    table = outcomes
    if controls is not None:
        table = pd.concat([outcomes, controls], ignore_index=True)
        shuffled = [name for name in SHUFFLED if name in students(controls)]
        for name in shuffled:
            tested = table["student"].isin([student, name]) & table["variable"].isin(variables(controls, name))
            require_same_cases(cast(pd.DataFrame, table[tested]), student, name)
        every += shuffled
    resampled: dict[str, Resampled] = {}
    rivals: dict[str, Controls] = {}
    for variable in variables(outcomes, student):
        resampled[variable] = resample_variable(table, variable, resamples=resamples, seed=seed, level=level)
        present = [name for name in every if variable in variables(table, name)]
        rivals[variable] = {FLOOR: Score(chosen, student).floor} | {name: Score(chosen, name) for name in present}
    judged = judge_variables(resampled, Score(chosen, student), rivals, margin=margin, level=level)
    return Verdict(
        student=student,
        measure=measure,
        label=_overall([one.label for one in judged.values()]),
        margin=margin,
        variables=judged,
        sentence=" ".join(one.sentence for one in judged.values()),
        power=_power(judged),
        scope=SCOPE,
    )


def without_controls(verdict: Verdict) -> Verdict:
    """Return what a verdict comes to where the controls were not run: support takes all of them.

    Args:
        verdict: What `judge` gives without `controls`.
    """
    variables = {
        name: replace(one, label="INCONCLUSIVE", sentence=f"{one.sentence} {_UNTESTED}")
        for name, one in verdict.variables.items()
        if one.label == "SUPPORTED"
    }
    if not variables:
        return verdict
    variables = {**verdict.variables, **variables}
    return replace(
        verdict,
        label=_overall([one.label for one in variables.values()]),
        variables=variables,
        sentence=" ".join(one.sentence for one in variables.values()),
    )


def judge_variables(
    resampled: Mapping[str, Resampled],
    score: Score,
    controls: Mapping[str, Controls],
    *,
    margin: float,
    level: float,
) -> dict[str, VariableVerdict]:
    """Give the verdict on each variable, by Holm's procedure.

    Args:
        resampled: Per variable the quantities of `iit_toolkit.analysis.statistics.quantities.resample_variable`.
        score: The measure of the student that is judged.
        controls: Per variable and control what the control scores.
        margin: How far the score must lie above every control.
        level: Coverage of the interval for a single variable.
    """
    judged: dict[str, VariableVerdict] = {}
    left = list(resampled)
    while left:
        adjusted = 1 - (1 - level) / len(left)
        found = {name: _judged(name, resampled[name], score, controls[name], margin, adjusted) for name in left}
        supported = {name: one for name, one in found.items() if one.label == "SUPPORTED"}
        judged |= supported or found
        left = [name for name in left if name not in judged]
    return {name: judged[name] for name in resampled}


def _judged(
    variable: str, resampled: Resampled, score: Score, rivals: Controls, margin: float, level: float
) -> VariableVerdict:
    own = estimate(resampled, score)
    controls = [_control(resampled, own, score, name, rival, margin, level) for name, rival in rivals.items()]
    label = _label(own, controls)
    sentence = f'Variable "{variable}": ' + (
        _untested(resampled, own, score) if too_few(own) else _sentence(score, label, own, controls, margin, level)
    )
    detectable = None if too_few(own) else detectable_lead(_best(controls).difference, own, margin, level)
    return VariableVerdict(label, own, controls, level, detectable, sentence)


def _control(
    resampled: Resampled, own: Estimate, score: Score, name: str, rival: Score, margin: float, level: float
) -> Control:
    difference = lead(resampled, score, rival, level=level)
    passed = None if too_few(own) else _PASSED[decide(difference, margin)]
    if passed is not None:
        meaning = control_meanings(score.student, name)[0 if passed else 1]
    elif difference.low is None or too_few(own):
        meaning = f"Undecided: there are too few {score.measure.units}."
    else:
        meaning = "Undecided: the interval of the lead contains the margin. More cases could decide."
    return Control(name, estimate(resampled, rival), difference, passed, meaning)


def _label(own: Estimate, controls: list[Control]) -> Label:
    if too_few(own) or any(one.difference.low is None for one in controls):
        return "INCONCLUSIVE"
    if all(one.passed for one in controls):
        return "SUPPORTED"
    return "NOT SUPPORTED" if any(one.passed is False for one in controls) else "INCONCLUSIVE"


def _overall(labels: list[Label]) -> Label:
    if "NOT SUPPORTED" in labels:
        return "NOT SUPPORTED"
    return "INCONCLUSIVE" if "INCONCLUSIVE" in labels else "SUPPORTED"


def _untested(resampled: Resampled, own: Estimate, score: Score) -> str:
    """Return why a variable is not judged."""
    measure = score.measure
    if own.cases:
        facts = f"{basis(own, measure.unit)}; {ENOUGH_TEXTS}"
        return f"too few inputs have {measure.units} outside the swapped positions ({facts})."
    tested = estimate(resampled, Score(MEASURES["iia"], score.student)).cases
    return f"{measure.untested} (0 of {count(tested, 'case')}), so nothing was tested."


def _sentence(score: Score, label: Label, own: Estimate, controls: list[Control], margin: float, level: float) -> str:
    measure = score.measure
    decides = _deciding(controls, label)
    best = "best control" if decides is _best(controls) else "control that decides"
    end = {
        "SUPPORTED": f"is above the margin of {decimal(margin, 2)}.",
        "NOT SUPPORTED": f"is below the margin of {decimal(margin, 2)}.",
        "INCONCLUSIVE": f"contains the margin of {decimal(margin, 2)}: more cases, of more texts, could decide.",
    }[label]
    facts = measure.scored.format(basis=basis(own, measure.unit), student=score.student, estimate=interval(own))
    return (
        f"{facts}. The {best}, the {describe_control(decides.name)}, reaches {interval(decides.level)}. "
        f"The difference, {interval(decides.difference, signed=True)} ({100 * level:.3g}% interval), {end}"
    )


def _best(controls: list[Control]) -> Control:
    """Return the control that comes closest to the student."""
    return min(controls, key=lambda one: one.difference.value or 0.0)


def _deciding(controls: list[Control], label: Label) -> Control:
    """Return the control that brings the label about, by the bound of its interval that does."""
    if label == "NOT SUPPORTED":
        return min(controls, key=lambda one: math.inf if one.difference.high is None else one.difference.high)
    open_ones = [one for one in controls if not one.passed] or controls
    return min(open_ones, key=lambda one: math.inf if one.difference.low is None else one.difference.low)


def _power(judged: Mapping[str, VariableVerdict]) -> str:
    """Return what this many cases can show, in one line."""
    leads = [
        ("none" if one.detectable is None else decimal(one.detectable, 2)) + (f' ("{name}")' if len(judged) > 1 else "")
        for name, one in judged.items()
    ]
    return (
        f"Power: with as many cases, the smallest true lead over the best control that would be SUPPORTED in "
        f"{POWER:.0%} of repetitions is {', '.join(leads)}. "
        "One trained student says nothing about other training seeds."
    )
