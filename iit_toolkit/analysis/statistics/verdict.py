"""The verdict: does a student keep its teacher's causal structure beyond what the controls reach?

The claim is tested outside the swapped positions (in classification: on the label), on cases in which the
intervention changes the teacher's own answer. A variable is SUPPORTED where the lower bound of [effective IIA -
control] exceeds the margin for every control, NOT SUPPORTED where the upper bound lies below the margin for some
control, INCONCLUSIVE otherwise, and wherever the changed cases come from fewer than `MINIMUM_CLUSTERS` bases or
sources. The student is SUPPORTED where it is for every variable.

Errors. Let alpha be (1 - level) / 2, 2.5 % by default. A variable is falsely SUPPORTED only if the lower bound exceeds
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
from scipy.special import ndtri

from iit_toolkit.analysis.statistics import ranges
from iit_toolkit.analysis.statistics.numbers import basis, count, decimal, interval
from iit_toolkit.analysis.statistics.outcomes import (
    OTHER_VARIABLE,
    RANDOM_NEURONS,
    SHUFFLED,
    SHUFFLED_SOURCES,
    UNTRAINED,
    WRONG_LAYER,
)
from iit_toolkit.analysis.statistics.quantities import check_same_cases, resample_variable, students, variables
from iit_toolkit.analysis.statistics.resampling import Estimate, Resampled
from iit_toolkit.errors import UserError

Label = Literal["SUPPORTED", "NOT SUPPORTED", "INCONCLUSIVE"]

FLOOR = "no-intervention floor"
MINIMUM_CLUSTERS = 20
"""Changed cases must come from this many texts of bases and of sources: intervals of fewer are not to be relied on."""
MINIMUM_EQUAL_TEXTS = 10
"""And not so unevenly that they count as fewer texts of equal size than this."""
ENOUGH_TEXTS = f"bases and sources from {MINIMUM_CLUSTERS} texts each are needed, and no few texts may hold most cases"
POWER = 0.8
_UNTESTED = "The other controls were not run for this student, so nothing is supported; verify it to have them."
SCOPE = (
    "This speaks only of the tested inputs, sites and interventions; "
    "it does not prove that the student computes what its teacher computes."
)


@dataclass(frozen=True)
class Control:
    """What could explain the effective IIA without any causal structure kept.

    Attributes:
        name: The floor, the student that serves as a control, or one of `outcomes.SHUFFLED`.
        level: The share it reaches on the same cases.
        difference: Effective IIA of the judged student less that share, paired; its interval is that of the
            variable's level.
        passed: Whether the difference's interval lies above the margin (False: below it); None if it holds the
            margin, or too few cases changed.
        meaning: What passing or failing means, or why it is open, in words.
    """

    name: str
    level: ranges.Share
    difference: ranges.ShareDifference
    passed: bool | None
    meaning: str


@dataclass(frozen=True)
class VariableVerdict:
    """The verdict on one variable with what it rests on.

    Attributes:
        label: SUPPORTED, NOT SUPPORTED or INCONCLUSIVE.
        effective_iia: Outside the swapped positions.
        controls: All of them must be passed.
        level: Of the intervals of the differences, adjusted to the number of variables.
        detectable: The smallest true lead over the best control that would be SUPPORTED in 80 % of repetitions with
            as many cases; None if none would.
        sentence: The verdict in words.
    """

    label: Label
    effective_iia: ranges.Share
    controls: list[Control]
    level: float
    detectable: float | None
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The verdict on one student: SUPPORTED only where it is for every variable."""

    student: str
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
        margin: How far effective IIA must lie above every control.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.

    Raises:
        UserError: If a student is not in the table, or was verified on other cases than its control.
    """
    outcomes = verified if isinstance(verified, pd.DataFrame) else verified.outcomes
    if not isinstance(verified, pd.DataFrame):
        student = student or verified.judged
        controls = verified.controls if controls is None and student == verified.judged else controls
    if student is None:
        raise UserError(f"judge needs the student's name; give one of {', '.join(students(outcomes))}")
    check_same_cases(outcomes, student, student)
    has_untrained = untrained in students(outcomes) and untrained != student
    if has_untrained:
        check_same_cases(outcomes, student, untrained)
    every = [untrained] if has_untrained else []
    table = outcomes
    if controls is not None:
        table = pd.concat([outcomes, controls], ignore_index=True)
        shuffled = [name for name in SHUFFLED if name in students(controls)]
        for name in shuffled:
            tested = table["student"].isin([student, name]) & table["variable"].isin(variables(controls, name))
            check_same_cases(cast(pd.DataFrame, table[tested]), student, name)
        every += shuffled
    resampled: dict[str, Resampled] = {}
    shares: dict[str, dict[str, tuple[str, str]]] = {}
    for variable in variables(outcomes, student):
        resampled[variable] = resample_variable(table, variable, resamples=resamples, seed=seed, level=level)
        shares[variable] = {FLOOR: (f"{student}/effective_floor/outside", f"{student}/changed/outside")} | {
            name: (f"{name}/effective/outside", f"{name}/changed/outside")
            for name in every
            if variable in variables(table, name)
        }
    judged = judge_variables(resampled, student, shares, margin=margin, level=level)
    return Verdict(
        student=student,
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


def too_few(effective: Estimate) -> bool:
    """Whether the changed cases come from too few texts, or most of them from a few, to rely on the interval."""
    uneven = effective.equal_texts is not None and effective.equal_texts < MINIMUM_EQUAL_TEXTS
    return effective.fewest < MINIMUM_CLUSTERS or uneven


def judge_variables(
    resampled: Mapping[str, Resampled],
    student: str,
    controls: Mapping[str, Mapping[str, tuple[str, str]]],
    *,
    margin: float,
    level: float,
) -> dict[str, VariableVerdict]:
    """Give the verdict on each variable, by Holm's procedure.

    Args:
        resampled: Per variable the quantities of `iit_toolkit.analysis.statistics.quantities.resample_variable`.
        student: The student that is judged.
        controls: Per variable and control the numerator and denominator of the share that the control reaches.
        margin: How far effective IIA must lie above every control.
        level: Coverage of the interval for a single variable.
    """
    judged: dict[str, VariableVerdict] = {}
    left = list(resampled)
    while left:
        adjusted = 1 - (1 - level) / len(left)
        found = {name: _judged(name, resampled[name], student, controls[name], margin, adjusted) for name in left}
        supported = {name: one for name, one in found.items() if one.label == "SUPPORTED"}
        judged |= supported or found
        left = [name for name in left if name not in judged]
    return {name: judged[name] for name in resampled}


def _judged(
    variable: str,
    resampled: Resampled,
    student: str,
    shares: Mapping[str, tuple[str, str]],
    margin: float,
    level: float,
) -> VariableVerdict:
    controls = [_control(resampled, student, name, share, margin, level) for name, share in shares.items()]
    effective = resampled.share(f"{student}/effective/outside", f"{student}/changed/outside")
    label = _label(effective, controls)
    tested = resampled.share(f"{student}/changed/outside", f"{student}/cases/outside").cases
    sentence = _sentence(student, variable, label, effective, controls, margin, tested, level)
    detectable = None if too_few(effective) else _detectable(_best(controls).difference, effective, margin, level)
    return VariableVerdict(label, effective, controls, level, detectable, sentence)


def _control(
    resampled: Resampled, student: str, name: str, share: tuple[str, str], margin: float, level: float
) -> Control:
    own = (f"{student}/effective/outside", f"{student}/changed/outside")
    difference = resampled.lead(own, share, level=level)
    low, high = difference.low, difference.high
    if low is None or high is None or too_few(resampled.share(*own)):
        passed, meaning = None, "Too few changed cases to tell."
    elif low <= margin <= high:
        passed, meaning = None, "The interval of the lead holds the margin: more cases may tell."
    else:
        passed = low > margin
        meaning = control_meanings(student, name)[0 if passed else 1]
    return Control(name, resampled.share(*share), difference, passed, meaning)


def describe_control(name: str) -> str:
    """Return what a control is called in a sentence and in the report."""
    return {
        FLOOR: FLOOR,
        WRONG_LAYER: "student at a wrong layer",
        RANDOM_NEURONS: "student with random neurons",
        OTHER_VARIABLE: "student at the sites of another variable",
        SHUFFLED_SOURCES: "student with shuffled sources",
    }.get(name, f"{name} student")


def control_meanings(student: str, name: str) -> tuple[str, str]:
    """Return what it means that a student passed a control, and that it failed it."""
    meanings = {
        FLOOR: (
            f"{student} follows the intervention; its unmoved answers alone would not score this.",
            f"What {student} scores can be had, up to the margin, without reacting to the intervention.",
        ),
        WRONG_LAYER: (
            f"The layer matters: {student}, swapped at another layer, does not reach this.",
            f"Swapped at another layer, {student} reaches the same up to the margin: the score does not single out the "
            "aligned layer.",
        ),
        RANDOM_NEURONS: (
            f"The neurons matter: {student}, swapped at as many others of the same layer, does not reach this.",
            "As many other neurons of the same layer reach the same up to the margin: the score does not single out "
            "the aligned ones.",
        ),
        OTHER_VARIABLE: (
            f"The pairing matters: {student}, swapped at the sites of another variable, does not reach this.",
            "The sites of another variable reach the same up to the margin: the score does not tell the variables "
            "apart.",
        ),
        SHUFFLED_SOURCES: (
            f"The source matters: {student}, given another source than its teacher, does not reach this.",
            f"Given another source than its teacher, {student} reaches the same up to the margin: the score does not "
            "depend on what is swapped in.",
        ),
    }
    untrained = (
        f"Training brought this about: {name} with the same interventions does not reach it.",
        f"{name} reaches the same up to the margin: what is scored is not shown to come from training.",
    )
    return meanings.get(name, untrained)


def _label(effective: Estimate, controls: list[Control]) -> Label:
    if too_few(effective) or any(one.difference.low is None for one in controls):
        return "INCONCLUSIVE"
    if all(one.passed for one in controls):
        return "SUPPORTED"
    return "NOT SUPPORTED" if any(one.passed is False for one in controls) else "INCONCLUSIVE"


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
    level: float,
) -> str:
    subject = f'Variable "{variable}": '
    if effective.cases == 0:
        return (
            f"{subject}no intervention changed the teacher's answer outside the swapped positions "
            f"(0 of {count(tested, 'case')}), so nothing was tested."
        )
    if too_few(effective):
        return (
            f"{subject}the teacher's answer changed in too few inputs outside the swapped positions "
            f"({basis(effective)}; {ENOUGH_TEXTS})."
        )
    decides = _deciding(controls, label)
    best = "best control" if decides is _best(controls) else "control that decides"
    end = {
        "SUPPORTED": f"lies above the margin of {decimal(margin, 2)}.",
        "NOT SUPPORTED": f"lies below the margin of {decimal(margin, 2)}.",
        "INCONCLUSIVE": f"holds the margin of {decimal(margin, 2)}: more cases, of more texts, could decide.",
    }[label]
    return (
        f"{subject}where the intervention changes the teacher's answer outside the swapped positions "
        f"({basis(effective)}), {student} gives the same new answer at a rate of {interval(effective)}. The {best}, "
        f"the {describe_control(decides.name)}, reaches {interval(decides.level)}; "
        f"the difference, {interval(decides.difference, signed=True)} "
        f"({100 * level:.3g} % interval), {end}"
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


def _detectable(difference: Estimate, effective: Estimate, margin: float, level: float) -> float | None:
    """Return the smallest lead, in steps of 0.001, whose lower bound exceeds the margin with a probability of `POWER`.

    Its standard error is the observed one, but no less than that of a share of as many independent cases as would vary
    as much as the student's share: a student without any lead has an observed error of 0.
    """
    if difference.value is None or difference.low is None:
        return None
    quantile = float(ndtri((1 + level) / 2))
    observed = (difference.value - difference.low) / quantile
    cases = float(difference.cases)
    if effective.value and effective.low is not None and effective.high is not None and effective.value < 1:
        error = (effective.high - effective.low) / 2 / quantile
        cases = min(cases, effective.value * (1 - effective.value) / error**2)
    for step in range(math.ceil(1000 * margin), 1001):
        lead = step / 1000
        error = max(observed, math.sqrt(max(0.0, lead * (1 - lead)) / cases))
        if lead - margin > (quantile + float(ndtri(POWER))) * error:
            return lead
    return None


def _power(judged: Mapping[str, VariableVerdict]) -> str:
    """Return what this many cases can show, in one line."""
    leads = [
        (f"{decimal(one.detectable, 2)}" if one.detectable is not None else "no lead at all")
        + (f' ("{name}")' if len(judged) > 1 else "")
        for name, one in judged.items()
    ]
    return (
        f"Power: the smallest true lead over the best control that as many cases would show as SUPPORTED in "
        f"{POWER:.0%} of repetitions: {', '.join(leads)}. One trained student says nothing about other training seeds."
    )
