"""The arms of a suite against a baseline: at equal steps, and at equal compute; paired by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.analysis.studies.paired import EQUAL_COMPUTE, EQUAL_STEPS, LEVEL, Basis, Paired, Row, pair
from iit_toolkit.analysis.studies.seeds import COMPUTE_TOLERANCE, unlike_steps
from iit_toolkit.analysis.studies.suite import Suite
from iit_toolkit.analysis.studies.suite_rows import (
    BEHAVIOUR,
    COST,
    FLOOR,
    Groups,
    headline_names,
    relative,
    suite_rows,
    teacher_rows,
)
from iit_toolkit.errors import UserError, did_you_mean

SUITE_SCHEMA = "iit_toolkit/suite/1"
SCOPE = (
    "Seeds vary the training, the verified pairs and the masks; teacher, data and verified alignment are the same "
    "throughout. Each interval stands for itself alone: of many, one in twenty misses its truth."
)


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
class SuiteComparison:
    """A suite, measured and compared.

    Attributes:
        suite: What was read.
        arms: Its arms: the baseline, the arm of equal compute, then the others.
        baseline: The arm that the others are compared with at equal steps.
        equal_compute: The arm of the baseline's kind that was given more compute, if there is one.
        variables: Those that the means over variables are over.
        groups: Every measure of every arm.
        teacher: The measures of the teacher.
        headline: Names of the measures that a short table shows.
        comparisons: Every other arm, on both bases.
        level: Coverage of the intervals.
        scope: What the intervals speak of.
    """

    suite: Suite
    arms: tuple[str, ...]
    baseline: str
    equal_compute: str | None
    variables: tuple[str, ...]
    groups: Groups
    teacher: tuple[Row, ...]
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
            "schema": SUITE_SCHEMA,
            "seeds": self.suite.seeds,
            "runs": {arm: list(self.suite.runs[arm]) for arm in self.arms},
            "baseline": self.baseline,
            "equal_compute": self.equal_compute,
            "variables": self.variables,
            "groups": {group: [asdict(row) for row in rows] for group, rows in self.groups.items()},
            "teacher": [asdict(row) for row in self.teacher],
            "headline": self.headline,
            "comparisons": [asdict(one) for one in self.comparisons],
            "level": self.level,
            "scope": self.scope,
        }


def compare_suite(
    suite: Suite, baseline: str, equal_compute: str | None, variables: Sequence[str] | None = None
) -> SuiteComparison:
    """Compare every arm of a suite with a baseline, paired by seed.

    Arms are compared where their students are of one size. At equal steps, every arm is compared with the baseline, if
    both made as many steps of as many rows. At equal compute, it is compared with the baseline or the arm of equal
    compute, whichever had training FLOPs nearer to its own, unless these are less than its own by more than
    `COMPUTE_TOLERANCE`. Where they are more by that, an arm that is better still is so at equal compute as well, but
    one that is worse is not shown to be: the outcome is INCONCLUSIVE.

    Args:
        suite: What `read_suite` returned.
        baseline: An arm.
        equal_compute: Another one, of the baseline's objective, that had about the compute of the arms that cost
            more; None: the baseline alone is considered.
        variables: The variables that means over variables are over; by default all. Name those at which a swap can
            change answers outside the swapped positions, which excludes the output of a last block.

    Raises:
        UserError: If an arm or a variable is not in the suite, or the two arms are one.
    """
    for role, arm in {"baseline": baseline, "equal compute": equal_compute}.items():
        if arm is not None and arm not in suite.runs:
            raise UserError(f'{role}: {suite.root} has no finished run of "{arm}", {did_you_mean(arm, suite.runs)}')
    if baseline == equal_compute:
        raise UserError(f"baseline and the arm of equal compute are both {baseline}; choose two")
    known = list(suite.first.results.student(suite.first.arm).variables)
    chosen = known if variables is None else list(variables)
    for name in chosen:
        if name not in known:
            raise UserError(f'variables: {suite.root} was not verified on "{name}", {did_you_mean(name, known)}')
    if not chosen:
        raise UserError(f"variables: none is named; valid: {', '.join(known)}")
    references = [baseline] if equal_compute is None else [baseline, equal_compute]
    arms = (*references, *(arm for arm in suite.runs if arm not in references))
    groups = suite_rows(suite, arms, chosen)
    compared = [row for group, rows in groups.items() if group not in (FLOOR, COST) for row in rows]
    perplexities = [row for row in groups[BEHAVIOUR] if row.measure.name.startswith("perplexity")]
    comparisons: list[ArmComparison] = []
    for arm in arms:
        if arm != baseline:
            comparisons.append(_equal_steps(suite, compared, perplexities, arm, baseline))
        if arm not in references:
            comparisons.append(_equal_compute(suite, compared, perplexities, arm, references))
    return SuiteComparison(
        suite=suite,
        arms=arms,
        baseline=baseline,
        equal_compute=equal_compute,
        variables=tuple(chosen),
        groups=groups,
        teacher=teacher_rows(suite),
        headline=headline_names(groups),
        comparisons=tuple(comparisons),
        level=LEVEL,
        scope=SCOPE,
    )


def _equal_steps(
    suite: Suite, rows: Sequence[Row], perplexities: Sequence[Row], arm: str, baseline: str
) -> ArmComparison:
    ratio = _flops(suite, baseline) / _flops(suite, arm)
    trainings = {name: _training(suite, name) for name in (arm, baseline)}
    unlike = unlike_steps(trainings, arm, baseline) or _other_student(suite, arm, baseline)
    if unlike is not None:
        return ArmComparison(arm, Basis(EQUAL_STEPS, None, unlike, ()), ratio)
    note = f"{arm} and {baseline} each made {count(_steps(suite, arm), 'step')}; {_spent(baseline, ratio, arm)}."
    measures = _paired(rows, perplexities, arm, baseline)
    return ArmComparison(arm, Basis(EQUAL_STEPS, baseline, note, measures), ratio)


def _equal_compute(
    suite: Suite, rows: Sequence[Row], perplexities: Sequence[Row], arm: str, references: Sequence[str]
) -> ArmComparison:
    ratios = {name: _flops(suite, name) / _flops(suite, arm) for name in references}
    nearest = min(ratios, key=lambda name: abs(math.log(ratios[name])))
    ratio = ratios[nearest]
    steps = f"{_steps(suite, nearest):,} against {count(_steps(suite, arm), 'step')}"
    note = f"{_spent(nearest, ratio, arm)} ({steps})"
    if (other := _other_student(suite, arm, nearest)) is not None:
        return ArmComparison(arm, Basis(EQUAL_COMPUTE, None, other, ()), ratio)
    if ratio < 1 - COMPUTE_TOLERANCE:
        return ArmComparison(arm, Basis(EQUAL_COMPUTE, None, f"n/a: no arm had it; {note}.", ()), ratio)
    measures = _paired(rows, perplexities, arm, nearest)
    if ratio > 1 + COMPUTE_TOLERANCE:
        note += ", more than equal: what is not better here may be so at equal compute"
        measures = tuple(_not_worse(one) for one in measures)
    return ArmComparison(arm, Basis(EQUAL_COMPUTE, nearest, f"{note}.", measures), ratio)


def _paired(rows: Sequence[Row], perplexities: Sequence[Row], arm: str, baseline: str) -> tuple[Paired, ...]:
    changes = [relative(row, arm, baseline) for row in perplexities]
    return tuple(pair(row, arm, baseline) for row in (*changes, *rows))


def _not_worse(paired: Paired) -> Paired:
    if paired.outcome != "DOES NOT BEAT":
        return paired
    facts = paired.sentence.rpartition(";")[0]
    return replace(
        paired, outcome="INCONCLUSIVE", sentence=f"{facts}; INCONCLUSIVE, since the baseline had more compute."
    )


def _spent(other: str, ratio: float, arm: str) -> str:
    return f"{other} had {ratio:.2f} times the training FLOPs of {arm}"


def _other_student(suite: Suite, arm: str, baseline: str) -> str | None:
    """Why two arms are not compared, if their students are not of one size."""
    sizes = [_training(suite, name)["student_parameters"] for name in (arm, baseline)]
    if sizes[0] == sizes[1]:
        return None
    return f"n/a: the student of {arm} has {count(sizes[0], 'parameter')}, that of {baseline} {sizes[1]:,}."


def _training(suite: Suite, arm: str) -> dict[str, Any]:
    """Return what is the same in all trainings of an arm, of the first."""
    return next(iter(suite.runs[arm].values())).training


def _steps(suite: Suite, arm: str) -> int:
    return _training(suite, arm)["steps"]


def _flops(suite: Suite, arm: str) -> float:
    return float(np.mean([run.flops for run in suite.runs[arm].values()]))
