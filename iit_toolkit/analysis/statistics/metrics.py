"""What was measured of each student: interchange intervention accuracy in all its splits, and behaviour."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from iit_toolkit.analysis.statistics import ranges
from iit_toolkit.analysis.statistics.quantities import resample_behaviour, resample_variable, students, variables
from iit_toolkit.analysis.statistics.resampling import Estimate, Resampled


@dataclass(frozen=True)
class Split:
    """An estimate over all cases, and over those whose position is (inside) or is not (outside) swapped."""

    all: ranges.ShareDifference
    inside: ranges.ShareDifference
    outside: ranges.ShareDifference


@dataclass(frozen=True)
class ShareSplit(Split):
    """A share over the same cases."""

    all: ranges.Share
    inside: ranges.Share
    outside: ranges.Share


@dataclass(frozen=True)
class VariableSummary:
    """One student under interventions on one variable.

    Attributes:
        iia: Share of cases in which student and teacher, both intervened, give the same answer.
        effective_iia: The same, where the intervention changes the teacher's own answer.
        changed: Share of cases in which it does.
        base_agreement: Share of cases with the same answer without intervention.
        floor: No-intervention floor: share with student's base answer = teacher's counterfactual answer.
        effective_floor: The same, where the intervention changes the teacher's own answer.
        margin: Effective IIA less its floor, outside, paired.
        effect_correlation: Correlation of teacher's and student's changes of log-probability.
    """

    iia: ShareSplit
    effective_iia: ShareSplit
    changed: ShareSplit
    base_agreement: ranges.Share
    floor: ShareSplit
    effective_floor: ShareSplit
    margin: ranges.ShareDifference
    effect_correlation: Split


@dataclass(frozen=True)
class Behaviour:
    """One student without interventions (and its divergence with them).

    Attributes:
        top1_agreement: Share of cases in which student and teacher give the same answer.
        kl: Mean KL(teacher || student), nats.
        kl_counterfactual: The same between counterfactual runs, over all variables.
        student_perplexity: exp of the mean negative log-likelihood of the gold tokens.
        teacher_perplexity: The teacher's, on the same tokens.
    """

    top1_agreement: ranges.Share
    kl: ranges.Divergence
    kl_counterfactual: ranges.Divergence
    student_perplexity: ranges.Perplexity
    teacher_perplexity: ranges.Perplexity


@dataclass(frozen=True)
class StudentSummary:
    """All that was measured of one student."""

    variables: dict[str, VariableSummary]
    behaviour: Behaviour


@dataclass(frozen=True)
class Summary:
    """All that was measured, with the settings of its intervals."""

    students: dict[str, StudentSummary]
    resamples: int
    seed: int
    level: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; undefined values are None."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Summary:
        """Read what `to_dict` wrote.

        Raises:
            pydantic.ValidationError: If the data is something else.
        """
        return TypeAdapter(Summary).validate_python(data)


def summarise(outcomes: pd.DataFrame, *, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Summary:
    """Summarises an outcomes table.

    Args:
        outcomes: The table of `iit_toolkit.analysis.statistics.outcomes`.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.

    Returns:
        Estimates per student and variable, students and variables in order of appearance.
    """
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed, "level": level}
    behaviour = resample_behaviour(outcomes, **settings)
    names = {student: variables(outcomes, student) for student in students(outcomes)}
    measured: dict[tuple[str, str], VariableSummary] = {}
    for variable in variables(outcomes):  # one after the other: what is resampled takes memory
        resampled = resample_variable(outcomes, variable, **settings)
        having = [student for student, of_student in names.items() if variable in of_student]
        measured |= {(student, variable): _variable_summary(resampled, student) for student in having}
    return Summary(
        students={
            student: StudentSummary(
                variables={variable: measured[student, variable] for variable in of_student},
                behaviour=_behaviour(behaviour, student),
            )
            for student, of_student in names.items()
        },
        **settings,
    )


def _variable_summary(resampled: Resampled, student: str) -> VariableSummary:
    def split(hits: str, cases: str) -> ShareSplit:
        def share(region: str) -> Estimate:
            return resampled.share(f"{student}/{hits}/{region}", f"{student}/{cases}/{region}")

        return ShareSplit(share("all"), share("inside"), share("outside"))

    def correlation(region: str) -> Estimate:
        return resampled.correlation(f"{student}/effect/{region}/", f"{student}/effect_cases/{region}")

    return VariableSummary(
        iia=split("hits", "cases"),
        effective_iia=split("effective", "changed"),
        changed=split("changed", "cases"),
        base_agreement=resampled.share(f"{student}/agree/all", f"{student}/cases/all"),
        floor=split("floor", "cases"),
        effective_floor=split("effective_floor", "changed"),
        margin=resampled.lead(
            (f"{student}/effective/outside", f"{student}/changed/outside"),
            (f"{student}/effective_floor/outside", f"{student}/changed/outside"),
        ),
        effect_correlation=Split(correlation("all"), correlation("inside"), correlation("outside")),
    )


def _behaviour(resampled: Resampled, student: str) -> Behaviour:
    def perplexity(nll: str) -> Estimate:
        return resampled.ratio(f"{student}/{nll}", f"{student}/gold").mapped(math.exp)

    return Behaviour(
        top1_agreement=resampled.share(f"{student}/agree", f"{student}/cases"),
        kl=resampled.ratio(f"{student}/kl", f"{student}/cases"),
        kl_counterfactual=resampled.ratio(f"{student}/kl_cf", f"{student}/cf_cases"),
        student_perplexity=perplexity("student_nll"),
        teacher_perplexity=perplexity("teacher_nll"),
    )
