"""The leak check: do swaps beside the alignment move the student's answers more than its teacher's?

An alignment that holds all that matters leaves nothing over whose swap moves the student more than what it leaves over
in the teacher moves the teacher. In the spirit of strict interchange intervention training (InterpBench, arXiv
2407.14494), which trains what is not aligned to have no effect; of a student of a residual stream this cannot be asked,
so the teacher sets the measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from iit_toolkit.analysis.numbers import count, decimal, interval
from iit_toolkit.analysis.outcomes import BESIDE
from iit_toolkit.analysis.quantities import cases_of, counted, variables
from iit_toolkit.analysis.statistics import Estimate, Resampled, sum_by_cluster
from iit_toolkit.analysis.verdict import MINIMUM_CLUSTERS

SCOPE = (
    "Every block hands on all that the model holds of a token, so a swap at a block beside the alignment moves answers "
    "in the teacher, too. The check compares how much; it cannot show that nothing bypasses aligned whole layers. Of "
    "sites that are parts of a layer, it tests the parts that were left out."
)


@dataclass(frozen=True)
class Leak:
    """One place beside the alignment.

    Attributes:
        site: The place, in the student and in the teacher.
        student: Share of the student's answers, outside the swapped positions, that the swap there changes.
        teacher: The same of the teacher.
        difference: Student less teacher, paired.
        passed: Whether the difference lies below the margin as a whole; `False` where it lies above as a whole, `None`
            where neither, or where cases come from too few base examples.
        sentence: The same in words.
    """

    site: str
    student: Estimate
    teacher: Estimate
    difference: Estimate
    passed: bool | None
    sentence: str


def find_leaks(
    controls: pd.DataFrame, *, margin: float, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> list[Leak]:
    """Measure every place beside the alignment.

    Args:
        controls: The table of a verification's controls.
        margin: How much more the student's answers may move than the teacher's.
        resamples: Bootstrap resamples of the base examples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals.
    """
    beside = cast(pd.DataFrame, controls[controls["student"] == BESIDE])
    return [_leak(beside, site, margin, resamples, seed, level) for site in variables(beside)]


def _leak(beside: pd.DataFrame, site: str, margin: float, resamples: int, seed: int, level: float) -> Leak:
    cases = cases_of(beside, BESIDE, site)
    outside = counted(cases)["cases/outside"]
    clusters, codes = np.unique(cases["base"], return_inverse=True)
    moved = {side: outside & (cases[f"{side}_cf"] != cases[f"{side}_base"]) for side in ("student", "teacher")}
    sums = sum_by_cluster(codes, {"cases": outside, **moved}, len(clusters))
    resampled = Resampled(sums, resamples=resamples, seed=seed, level=level)
    student, teacher = (resampled.share(side, "cases") for side in ("student", "teacher"))
    difference = resampled.difference(("student", "cases"), ("teacher", "cases"))
    passed = _passed(difference, margin)
    return Leak(site, student, teacher, difference, passed, _sentence(student, teacher, difference, passed, margin))


def _passed(difference: Estimate, margin: float) -> bool | None:
    if difference.low is None or difference.high is None or difference.clusters < MINIMUM_CLUSTERS:
        return None
    if difference.high < margin:
        return True
    return False if difference.low > margin else None


def _sentence(student: Estimate, teacher: Estimate, difference: Estimate, passed: bool | None, margin: float) -> str:
    if student.cases == 0:
        return "Every evaluated token is at a swapped position, so nothing was tested."
    end = {
        True: f"no more, up to the margin of {decimal(margin, 2)}: no leak found here.",
        False: f"more by over {decimal(margin, 2)}: the student uses what the alignment leaves out.",
        None: f"the difference is not decided against the margin of {decimal(margin, 2)}.",
    }[passed]
    return (
        f"A swap here moves {interval(student)} of the student's answers and {interval(teacher)} of the teacher's "
        f"({count(student.cases, 'case')}, {count(student.clusters, 'base example')}; "
        f"{interval(difference, signed=True)}): {end}"
    )
