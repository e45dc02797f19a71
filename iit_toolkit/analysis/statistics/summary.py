"""The summary of an outcomes table: every measure of every student."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from iit_toolkit.analysis.statistics import ranges
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.measures import (
    MEASURES,
    OF_BEHAVIOUR,
    OF_INTERVENTIONS,
    Kind,
    Measure,
    Score,
    estimate,
)
from iit_toolkit.analysis.statistics.quantities import (
    Region,
    resample_behaviour,
    resample_variable,
    students,
    variables,
)
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.errors import UserError


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
class ExplainedSplit(Split):
    """How much of an amount is explained: at most 1."""

    all: ranges.Explained
    inside: ranges.Explained
    outside: ranges.Explained


_SPLITS: dict[Kind, type[Split]] = {"share": ShareSplit, "explained": ExplainedSplit}


@dataclass(frozen=True)
class VariableSummary:
    """One student under interventions on one variable.

    Each field is the measure of that name in `MEASURES`: in all its regions, or, if it has only one, in that one.
    """

    iia: ShareSplit
    effective_iia: ShareSplit
    changed: ShareSplit
    base_agreement: ranges.Share
    floor: ShareSplit
    effective_floor: ShareSplit
    margin: ranges.ShareDifference
    effect_correlation: Split
    effect_r2: ExplainedSplit | None = None
    kl_recovered: ExplainedSplit | None = None

    def estimate(self, measure: str, region: Region = "outside") -> Estimate:
        """Return a measure by its name, in a region; a measure of one region is that one's.

        Raises:
            UserError: If it was not measured: results of an earlier version lack what came later.
        """
        found: Split | Estimate | None = getattr(self, measure)
        if found is None:
            raise UserError(f"{MEASURES[measure].title} was not measured in these results; verify the run again")
        return found if isinstance(found, Estimate) else getattr(found, region)


@dataclass(frozen=True)
class Behaviour:
    """One student without interventions (and its divergence with them): the measures of these names."""

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
    def measured(measure: Measure) -> Split | Estimate:
        found = {region: estimate(resampled, Score(measure, student, region)) for region in measure.regions}
        if len(found) == 1:
            return next(iter(found.values()))
        return _SPLITS.get(measure.kind, Split)(**found)

    fields: dict[str, Any] = {one.name: measured(one) for one in OF_INTERVENTIONS}
    return VariableSummary(**fields)


def _behaviour(resampled: Resampled, student: str) -> Behaviour:
    fields: dict[str, Any] = {one.name: estimate(resampled, Score(one, student, region=None)) for one in OF_BEHAVIOUR}
    return Behaviour(**fields)
