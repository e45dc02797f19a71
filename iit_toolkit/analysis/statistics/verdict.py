"""The verdict: does a student keep its teacher's causal structure beyond what the controls reach?

The claim is tested outside the swapped positions (in classification: on the label), by one measure: effect R2 unless
another is chosen. A variable is SUPPORTED if the lower bound of [measure - control] exceeds the margin for every
control, NOT SUPPORTED if the upper bound lies below the margin for some control, and INCONCLUSIVE otherwise, and
whenever the measure's cases come from too few texts (`decision.too_few`). A control that swaps elsewhere, or from
another source, is asked only in the cases in which the teacher itself does otherwise there
(`quantities.distinguishing`): if the teacher does the same at two places, so should the student. The student is
SUPPORTED if it is for every variable and passes the leak check (`leak.py`) at the unaligned neurons of its sites.

Sites that are learned subspaces are an exception. If subspaces that were learned on the untrained student score as
high, and every other control is passed, the map that was learned is flexible enough to succeed on a random network. It
then says nothing about the judged one, for or against, and the variable is INCONCLUSIVE.

Errors. Let alpha be (1 - level) / 2, 2.5% by default. A variable is falsely SUPPORTED only if the lower bound exceeds
a lead that truly does not exceed the margin; as every control must be passed, the control that is hardest to pass
alone bounds the probability (an intersection-union test: Berger 1982, Technometrics 24). Over variables the bounds
are Holm's (1979, Scandinavian Journal of Statistics 6): of k variables, those that pass at level 1 - (1 - level) / k
are SUPPORTED, the others are judged anew as the k' that are left, until none passes. So the probability that any
variable is falsely SUPPORTED is at most alpha, if the intervals keep their level (`docs/interval-calibration.md`).
A variable is falsely NOT SUPPORTED with a probability of at most alpha times the number of its controls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import pandas as pd
from pydantic import TypeAdapter

from iit_toolkit.analysis.statistics import verdict_words
from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.input_words import words_of
from iit_toolkit.analysis.statistics.judged_cases import JudgedCases
from iit_toolkit.analysis.statistics.leak import Leak, find_leaks
from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE, MEASURES, Score, judged_measure
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED
from iit_toolkit.analysis.statistics.quantities import students
from iit_toolkit.analysis.statistics.variable_verdict import Controls, Label, VariableVerdict, judge_variables
from iit_toolkit.errors import UserError, shown

_BESIDE = {"explained": "effective_iia", "share": "effect_r2"}
"""The measure that a verdict mentions besides its own, by the kind of its own."""
SCOPE = (
    "The verdict covers only the tested inputs, sites and interventions. "
    "It does not prove that the student computes what its teacher computes."
)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one student: SUPPORTED only if it is for every variable, and nothing leaks.

    Attributes:
        student: Who is judged.
        measure: The measure it rests on, one of `measures.JUDGED`.
        label: SUPPORTED, NOT SUPPORTED or INCONCLUSIVE.
        margin: How far the score must lie above every control.
        variables: The verdict on each variable.
        sentence: The verdict in words.
        power: What this many cases can show, in words.
        scope: What the verdict does not say.
        leaks: The leak check, one per unaligned site; those that decide must pass.
        notes: What else to know: what another measure says, and whether the student has collapsed.
    """

    student: str
    measure: str
    label: Label
    margin: float
    variables: dict[str, VariableVerdict]
    sentence: str
    power: str
    scope: str
    leaks: list[Leak] = field(default_factory=list[Leak])
    notes: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        """Return the verdict in words."""
        return " ".join([f"{self.label}: {self.sentence}", *self.notes])

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

    @property
    def learned(self) -> bool:
        """Whether sites are learned subspaces."""
        ...


def judge(
    verified: Verified | pd.DataFrame,
    student: str | None = None,
    *,
    controls: pd.DataFrame | None = None,
    untrained: str = UNTRAINED,
    learned: bool = False,
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
        controls: The table of this student's controls, if there is one: shuffled sites and sources, unaligned sites.
            That of `verified` is taken if this student's controls were run.
        untrained: The student before training, a control if the table holds it.
        learned: Whether sites are learned subspaces, and others were learned on that control; if `verified` says so,
            they are.
        measure: What the verdict rests on, one of `measures.JUDGED`.
        margin: How far the score must lie above every control, and what a leak may be at most.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.

    Raises:
        UserError: If a student is not in the table, or was verified on other cases than its control, or no verdict
            rests on the measure, or the margin is none.
    """
    chosen = judged_measure(measure)
    asked: Any = margin
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 <= asked < 1:
        raise UserError(f"margin: give a number from 0 to below 1, not {shown(margin)}")
    outcomes = verified if isinstance(verified, pd.DataFrame) else verified.outcomes
    if not isinstance(verified, pd.DataFrame):
        student = student or verified.judged
        controls = verified.controls if controls is None and student == verified.judged else controls
        learned = learned or verified.learned
    if student is None:
        raise UserError(f"judge needs the student's name; give one of {', '.join(students(outcomes))}")
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed, "level": level}
    cases = JudgedCases(outcomes, student, controls, untrained)
    resampled = cases.resampled(**settings)
    leaks = [] if controls is None else find_leaks(controls, margin=margin, **settings)

    def found(name: str) -> dict[str, VariableVerdict]:
        score = Score(MEASURES[name], student)
        rivals: dict[str, Controls] = {
            variable: {FLOOR: score.floor} | {control: Score(score.measure, control) for control in present}
            for variable, present in cases.controls.items()
        }
        elsewhere = cases.distinguishing(graded=score.measure.kind == "explained", **settings)
        given = {"margin": margin, "level": level}
        flexible = untrained if learned else None
        return judge_variables(
            resampled, score, rivals, elsewhere, **given, words=words_of(outcomes), flexible=flexible
        )

    judged, beside = found(measure), _BESIDE[chosen.kind]
    label = _overall(judged, leaks)
    other = found(beside)
    return Verdict(
        student=student,
        measure=measure,
        label=label,
        margin=margin,
        variables=judged,
        sentence=" ".join([*(one.sentence for one in judged.values()), *verdict_words.leak_sentence(leaks)]),
        power=verdict_words.power({name: one.detectable for name, one in judged.items()}),
        scope=SCOPE,
        leaks=leaks,
        notes=[
            verdict_words.beside(
                measure, label, beside, _overall(other, leaks), {v: o.score for v, o in other.items()}
            ),
            *cases.collapsed(),
        ],
    )


def without_controls(verdict: Verdict) -> Verdict:
    """Return what a verdict comes to if the controls were not run: support takes all of them.

    Args:
        verdict: What `judge` gives without `controls`.
    """
    variables = {
        name: replace(one, label="INCONCLUSIVE", sentence=f"{one.sentence} {verdict_words.NOT_RUN}")
        for name, one in verdict.variables.items()
        if one.label == "SUPPORTED"
    }
    if not variables:
        return verdict
    variables = {**verdict.variables, **variables}
    return replace(
        verdict,
        label=_overall(variables, []),
        variables=variables,
        sentence=" ".join(one.sentence for one in variables.values()),
    )


def _overall(judged: Mapping[str, VariableVerdict], leaks: list[Leak]) -> Label:
    labels = [one.label for one in judged.values()]
    leaks = [one for one in leaks if one.decides]
    if "NOT SUPPORTED" in labels or any(one.passed is False for one in leaks):
        return "NOT SUPPORTED"
    passed = "INCONCLUSIVE" not in labels and all(one.passed for one in leaks)
    return "SUPPORTED" if passed else "INCONCLUSIVE"
