"""The leak check: do swaps at unaligned sites move the student more than its teacher?

An alignment that holds all that matters leaves nothing over whose swap moves the student more than what it leaves over
in the teacher moves the teacher. In the spirit of strict interchange intervention training (InterpBench, arXiv
2407.14494), which trains what is not aligned to have no effect; of a student with a residual stream this cannot be
asked, so the teacher sets the measure.

How far a swap moves a model is the share of its probability that goes to other answers, sum |dp| / 2 (the total
variation of its answers): the graded form of the share of answers that change. It is exactly equal if two models are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pandas as pd

from iit_toolkit.analysis.statistics import ranges
from iit_toolkit.analysis.statistics.decision import Decision, decide, too_few
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import InputWords, words_of
from iit_toolkit.analysis.statistics.numbers import count, decimal, inputs, interval
from iit_toolkit.analysis.statistics.outcomes import UNALIGNED, UNALIGNED_NEURONS
from iit_toolkit.analysis.statistics.quantities import resample_variable, variables

PASSED = "no more than the teacher's, up to the margin: no leak found here."
FAILED = (
    "more than the teacher's by over the margin: the student uses what the alignment leaves out, or the two places do "
    "not correspond."
)
SCOPE = (
    "The check compares the share of probability that a swap moves to other answers. Neurons that the alignment leaves "
    "out at its own places decide: the verdict needs these lines to pass. Lines of whole blocks do not decide, since "
    "no alignment says which of these blocks correspond: they are compared at the same relative depth, and a student "
    "that computes in other blocks than its teacher differs there without any leak. A student that reacts more to any "
    "swap fails, whatever the reason. The check cannot show that nothing bypasses aligned whole layers. Its intervals "
    "are not corrected for their number."
)

_PASSED: dict[Decision, bool | None] = {"above": False, "below": True, "undecided": None}


@dataclass(frozen=True)
class Leak:
    """One unaligned place.

    Attributes:
        site: The place, in the student and in the teacher.
        student: How far the swap there moves the student, outside the swapped positions.
        teacher: The same of the teacher.
        difference: Student minus teacher, paired.
        passed: Whether the difference lies below the margin as a whole; `False` where it lies above as a whole, `None`
            where neither, or where cases come from too few texts.
        sentence: The same in words.
    """

    site: str
    student: ranges.Sound
    teacher: ranges.Sound
    difference: ranges.Sound
    passed: bool | None
    sentence: str

    @property
    def decides(self) -> bool:
        """Whether the verdict needs it to pass: the alignment says what corresponds, unlike for whole blocks."""
        return self.site.startswith(UNALIGNED_NEURONS)


def find_leaks(
    controls: pd.DataFrame, *, margin: float, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> list[Leak]:
    """Measure every unaligned place.

    Args:
        controls: The table of a verification's controls.
        margin: How much further the student may move than the teacher.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.
    """
    unaligned = cast(pd.DataFrame, controls[controls["student"] == UNALIGNED])
    leaks, words = list[Leak](), words_of(unaligned)
    for site in variables(unaligned):
        resampled = resample_variable(unaligned, site, resamples=resamples, seed=seed, level=level)
        cases = f"{UNALIGNED}/cases/outside"
        student, teacher = (
            (f"{UNALIGNED}/{moved}/outside", cases) for moved in ("moved_in_student", "moved_in_teacher")
        )
        moved = resampled.ratio(*student), resampled.ratio(*teacher)
        most = max(one.value or 0.0 for one in moved)
        difference = resampled.explained_lead(student, teacher, cases, most=most)
        passed = _passed(difference, margin)
        leaks.append(Leak(site, *moved, difference, passed, _sentence(*moved, difference, passed, margin, words)))
    return leaks


def _passed(difference: Estimate, margin: float) -> bool | None:
    return None if too_few(difference) else _PASSED[decide(difference, margin)]


def _sentence(
    student: Estimate,
    teacher: Estimate,
    difference: Estimate,
    passed: bool | None,
    margin: float,
    words: InputWords,
) -> str:
    if student.cases == 0:
        return "Every evaluated token is at a swapped position, so nothing was tested."
    if too_few(difference):
        end = f"too few inputs to tell ({words.enough})."
    elif passed is None:
        end = f"the difference is not decided against the margin of {decimal(margin, 2)}."
    else:
        end = PASSED if passed else FAILED
    return (
        f"A swap here moves {interval(student)} of the student's probability and {interval(teacher)} of the teacher's "
        f"({count(student.cases, 'case')}, {inputs(student)}; "
        f"{interval(difference, signed=True)}): {end}"
    )
