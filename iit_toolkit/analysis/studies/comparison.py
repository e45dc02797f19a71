"""The arms of a study against a baseline: at equal steps, and at equal compute; paired by seed.

Within a run, cases are resampled; that says nothing of how much a student differs from one training to the next.
Here the records are the sample: the difference of two arms with the same seed is one observation, and the interval is
Student's t interval of the mean of these differences. Compute is training FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.analysis.studies.paired import EQUAL_COMPUTE, EQUAL_STEPS, LEVEL, Basis, Paired, Row, pair
from iit_toolkit.analysis.studies.rows import (
    BEHAVIOUR,
    COST,
    FLOOR,
    Groups,
    headline_measure,
    headline_names,
    relative,
    study_rows,
    teacher_rows,
)
from iit_toolkit.analysis.studies.study import Study
from iit_toolkit.errors import UserError, did_you_mean

STUDY_SCHEMA = "iit_toolkit/study/1"
_SAME_KIND = ("objective", "alignment")
COMPUTE_TOLERANCE = 0.1
"""Up to this share, training FLOPs count as equal."""
_SCOPE = (
    "Seeds vary {}; teacher, data and verified alignment are the same throughout. Intervals are not corrected for "
    "their number: of twenty, one is expected to miss the true value."
)
_OF_TEXTS, _OF_NETWORKS = "the training, the verified pairs and the masks", "the training and the verified pairs"


@dataclass(frozen=True)
class ArmComparison:
    """One arm against another.

    Attributes:
        arm: The arm that is hoped to be better.
        basis: What the two had equal, and every measure compared; without measures where no arm fits.
        flops_ratio: The other arm's training FLOPs over this one's, whether or not it fits.
    """

    arm: str
    basis: Basis
    flops_ratio: float | None


@dataclass(frozen=True)
class StudyComparison:
    """A study, measured and compared.

    Attributes:
        study: What was read.
        arms: Its arms: the references, then the others.
        baseline: The arm that the others are compared with at equal steps.
        references: The baseline, and the arms of its kind that had another compute: one of them is compared with at
            equal compute.
        variables: Those that the means over variables are over.
        groups: Every measure of every arm.
        teacher: The measures of the teacher.
        measure: The measure of interventions that the short table and the figures show.
        headline: Names of the measures that a short table shows.
        comparisons: Every treatment, on both bases.
        level: Coverage of the intervals.
        scope: What the intervals speak of.
    """

    study: Study
    arms: tuple[str, ...]
    baseline: str
    references: tuple[str, ...]
    variables: tuple[str, ...]
    groups: Groups
    teacher: tuple[Row, ...]
    measure: str
    headline: tuple[str, ...]
    comparisons: tuple[ArmComparison, ...]
    level: float
    scope: str

    @property
    def rows(self) -> dict[str, Row]:
        """Every measure by its name."""
        return {row.measure.name: row for rows in self.groups.values() for row in rows}

    def find(self, arm: str, basis: str) -> ArmComparison | None:
        """Return the comparison of an arm on a basis; None if there is no such arm, or it is the one compared with."""
        return next((one for one in self.comparisons if (one.arm, one.basis.name) == (arm, basis)), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; undefined values are None."""
        return {
            "schema": STUDY_SCHEMA,
            "seeds": self.study.seeds,
            "runs": {arm: list(self.study.records[arm]) for arm in self.arms},
            "baseline": self.baseline,
            "references": self.references,
            "variables": self.variables,
            "groups": {group: [asdict(row) for row in rows] for group, rows in self.groups.items()},
            "teacher": [asdict(row) for row in self.teacher],
            "verdicts": self.study.verdicts(),
            "headline": self.headline,
            "comparisons": [asdict(one) for one in self.comparisons],
            "level": self.level,
            "scope": self.scope,
        }


def compare_study(
    study: Study,
    references: Sequence[str],
    *,
    treatments: Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
    measure: str | None = None,
) -> StudyComparison:
    """Compare arms of a study with a baseline, paired by seed.

    Arms are compared if their students are of one size. At equal steps, an arm is compared with the baseline, if both
    made as many steps of as many rows. At equal compute, it is compared with the reference whose training FLOPs are
    nearest to its own, unless these are less than its own by more than `COMPUTE_TOLERANCE`. If they are more by that,
    an arm that is better still is so at equal compute as well, but one that is worse is not shown to be: the outcome
    is INCONCLUSIVE.

    Args:
        study: What `read_suite` or `read_runs` returned.
        references: The baseline, and arms trained as it is with another compute.
        treatments: The arms that are compared with them; by default all others.
        variables: The variables that means over variables are over; by default all. Name those at which a swap can
            change answers outside the swapped positions, which excludes the output of a last block.
        measure: The measure of interventions that the short table and the figures show, one of `measures.JUDGED`; by
            default effect R² or, if no run has it, effective IIA.

    Raises:
        UserError: If an arm or a variable is not in the study, an arm is named twice, or no run has the measure.
    """
    named = (*references, *(treatments or ()))
    for arm in named:
        if arm not in study.records:
            raise UserError(f'{study.name} has no finished run of "{arm}", {did_you_mean(arm, study.records)}')
        if named.count(arm) > 1:
            raise UserError(f"an arm is not compared with itself: {arm} is named twice; choose two arms")
    known = list(study.first.student.variables)
    chosen = known if variables is None else list(variables)
    for name in chosen:
        if name not in known:
            raise UserError(f'variables: {study.name} was not verified on "{name}", {did_you_mean(name, known)}')
    if not chosen:
        raise UserError(f"variables: none is named; valid: {', '.join(known)}")
    baseline = references[0]
    arms = (*references, *(arm for arm in study.records if arm not in references))
    shown = headline_measure(study, measure)
    groups = study_rows(study, arms, chosen)
    compared = [row for group, rows in groups.items() if group not in (FLOOR, COST) for row in rows]
    perplexities = [row for row in groups[BEHAVIOUR] if row.measure.name.startswith("perplexity")]
    comparisons: list[ArmComparison] = []
    for arm in arms[1:] if treatments is None else treatments:
        comparisons.append(_equal_steps(study, compared, perplexities, arm, baseline))
        if arm not in references:
            comparisons.append(_equal_compute(study, compared, perplexities, arm, references))
    return StudyComparison(
        study=study,
        arms=arms,
        baseline=baseline,
        references=tuple(references),
        variables=tuple(chosen),
        groups=groups,
        teacher=teacher_rows(study),
        measure=shown,
        headline=headline_names(groups, shown),
        comparisons=tuple(comparisons),
        level=LEVEL,
        scope=_SCOPE.format(_OF_NETWORKS if study.of_networks else _OF_TEXTS),
    )


def compare_arms(
    study: Study, treatment: str | None = None, baseline: str | None = None, *, measure: str | None = None
) -> StudyComparison:
    """Compare one arm with another, as `compare_study`; the references are all arms trained as the baseline is.

    Args:
        study: What `read_runs` returned.
        treatment: An arm; by default the one that the runs compare.
        baseline: An arm; by default the one that the runs compare the treatment with.
        measure: As for `compare_study`.

    Raises:
        UserError: If an arm is neither given nor known from the runs, or is not among theirs, or both are one.
    """
    judged, against = _chosen_arms(study, treatment, baseline)
    return compare_study(study, _same_kind(study, against, judged), treatments=[judged], measure=measure)


def _chosen_arms(study: Study, treatment: str | None, baseline: str | None) -> tuple[str, str]:
    """Return the two arms to compare: those given, else those that the runs compare."""
    compared = study.first.results.document.get("comparison") or {}
    chosen = treatment or compared.get("treatment"), baseline or compared.get("baseline")
    for role, arm in zip(("treatment", "baseline"), chosen, strict=True):
        if arm is None:
            raise UserError(f"{study.name} compares no two arms; give --{role} (arms: {', '.join(study.records)})")
        if arm not in study.records:
            raise UserError(f'--{role}: {study.name} has no arm "{arm}", {did_you_mean(arm, study.records)}')
    if chosen[0] == chosen[1]:
        arms = ", ".join(study.records)
        raise UserError(f"treatment and baseline are both {chosen[0]}; choose two arms (arms: {arms})")
    return str(chosen[0]), str(chosen[1])


def _same_kind(study: Study, baseline: str, treatment: str) -> list[str]:
    """Return the arms that the treatment may be compared with at equal compute: those trained as the baseline is."""
    kind = [study.training(baseline)[name] for name in _SAME_KIND]
    alike = [arm for arm in study.records if [study.training(arm)[name] for name in _SAME_KIND] == kind]
    return [baseline, *(arm for arm in alike if arm not in (baseline, treatment))]


def _equal_steps(
    study: Study, rows: Sequence[Row], perplexities: Sequence[Row], arm: str, baseline: str
) -> ArmComparison:
    ratio = study.flops(baseline) / study.flops(arm)
    trainings = {name: study.training(name) for name in (arm, baseline)}
    unlike = _unlike_steps(trainings, arm, baseline) or _other_student(study, arm, baseline)
    if unlike is not None:
        return ArmComparison(arm, Basis(EQUAL_STEPS, None, unlike, ()), ratio)
    note = f"{arm} and {baseline} each made {count(_steps(study, arm), 'step')}; {_spent(baseline, ratio, arm)}."
    measures = _paired(rows, perplexities, arm, baseline)
    return ArmComparison(arm, Basis(EQUAL_STEPS, baseline, note, measures), ratio)


def _equal_compute(
    study: Study, rows: Sequence[Row], perplexities: Sequence[Row], arm: str, references: Sequence[str]
) -> ArmComparison:
    ratios = {name: study.flops(name) / study.flops(arm) for name in references}
    nearest = min(ratios, key=lambda name: abs(math.log(ratios[name])))
    ratio = ratios[nearest]
    steps = f"{_steps(study, nearest):,} against {count(_steps(study, arm), 'step')}"
    note = f"{_spent(nearest, ratio, arm)} ({steps})"
    if (other := _other_student(study, arm, nearest)) is not None:
        return ArmComparison(arm, Basis(EQUAL_COMPUTE, None, other, ()), ratio)
    if ratio < 1 - COMPUTE_TOLERANCE:
        return ArmComparison(arm, Basis(EQUAL_COMPUTE, None, f"n/a: no arm had the same compute; {note}.", ()), ratio)
    measures = _paired(rows, perplexities, arm, nearest)
    if ratio > 1 + COMPUTE_TOLERANCE:
        note += ", more than equal: what is not better here may be so at equal compute"
        measures = tuple(_not_worse(one) for one in measures)
    return ArmComparison(arm, Basis(EQUAL_COMPUTE, nearest, f"{note}.", measures), ratio)


def _paired(rows: Sequence[Row], perplexities: Sequence[Row], arm: str, baseline: str) -> tuple[Paired, ...]:
    changes = [relative(row, arm, baseline) for row in perplexities]
    return tuple(pair(row, arm, baseline) for row in (*changes, *rows))


def _not_worse(paired: Paired) -> Paired:
    if paired.outcome != "WORSE":
        return paired
    facts = paired.sentence.rpartition(";")[0]
    return replace(
        paired, outcome="INCONCLUSIVE", sentence=f"{facts}; INCONCLUSIVE, since the baseline had more compute."
    )


def _spent(other: str, ratio: float, arm: str) -> str:
    return f"{other} had {ratio:.2f} times the training FLOPs of {arm}"


def _other_student(study: Study, arm: str, baseline: str) -> str | None:
    """Why two arms are not compared, if their students are not of one size."""
    sizes = [study.training(name)["student_parameters"] for name in (arm, baseline)]
    if sizes[0] == sizes[1]:
        return None
    return f"n/a: the student of {arm} has {count(sizes[0], 'parameter')}, that of {baseline} {sizes[1]:,}."


def _unlike_steps(trainings: Mapping[str, Mapping[str, Any]], arm: str, baseline: str) -> str | None:
    """Why the trainings of two arms did not take equal steps: their number, or the rows of each."""
    one, other = trainings[arm], trainings[baseline]
    if one["steps"] != other["steps"]:
        return f"n/a: {arm} made {count(one['steps'], 'step')}, {baseline} {other['steps']:,}."
    rows = "effective_batch"
    if one[rows] != other[rows]:
        return f"n/a: a step of {arm} had {count(one[rows], 'row')}, one of {baseline} {other[rows]:,}."
    return None


def _steps(study: Study, arm: str) -> int:
    return study.training(arm)["steps"]
