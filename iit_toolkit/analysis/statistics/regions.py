"""Where a student holds: its score region by region, found on one half of the texts and confirmed on the other.

A score over all cases can hide a region in which the student keeps nothing, or be brought about by one region alone
(Geiger et al., arXiv 2605.02234). Who looks at many regions finds some that look bad or good by luck. So one half of
the texts finds: a region holds if the score's lead over its floor lies above the margin as a whole, and fails if it
lies below as a whole. The other half is asked only about these. Its intervals are Holm's (1979, Scandinavian Journal
of Statistics 6) over all that is asked, as in the verdict.

No text is in both halves: `halves.py`. Cases whose base and source lie in different halves are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iit_toolkit.analysis.statistics.candidates import Candidate, Inputs, candidates
from iit_toolkit.analysis.statistics.decision import Decision, decide, too_few
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.halves import ACROSS, CONFIRMING, FINDING, halves
from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE, MEASURES, Measure, Score, judged_measure, lead
from iit_toolkit.analysis.statistics.outcomes import NO_POSITION
from iit_toolkit.analysis.statistics.quantities import resample_parts, variables
from iit_toolkit.analysis.statistics.resampling import Resampled

Found = Literal["HOLDS", "FAILS", "OPEN"]
Label = Literal["HOLDS", "FAILS", "REFUTED", "NOT CONFIRMED", "OPEN"]

_FOUND: dict[Decision, Found] = {"above": "HOLDS", "below": "FAILS", "undecided": "OPEN"}


@dataclass(frozen=True)
class MappedRegion:
    """A region of inputs with what the student scores in it.

    Attributes:
        variable: The variable that is swapped.
        kind: By what the region is told apart.
        name: What it is called.
        cases: How many cases of both halves the measure counts in it.
        share: Share of the teacher's effect outside that lies in it; None if it is not outside.
        finding: The score's lead over its floor in the half that finds.
        confirming: The same in the half that confirms, at `level`.
        level: Coverage of the interval of `confirming`, adjusted to the number of regions that are asked about.
        found: HOLDS if the interval of `finding` lies above the margin, FAILS if it lies below, OPEN otherwise.
        label: What was found if the other half says so, too; REFUTED if it says the opposite; NOT CONFIRMED if its
            interval holds the margin; OPEN if nothing was found.
    """

    variable: str
    kind: str
    name: str
    cases: int
    share: float | None
    finding: Estimate
    confirming: Estimate
    level: float
    found: Found
    label: Label


@dataclass(frozen=True)
class RegionMap:
    """Where one student holds.

    Attributes:
        student: Who is mapped.
        measure: The measure, one of `measures.JUDGED`.
        margin: How far the score must lie above its floor.
        level: Coverage of the intervals of the half that finds.
        regions: All regions with enough texts in both halves.
        too_few: How many regions have too few texts in one of them.
        cases: How many cases there are.
        across: How many of them have base and source in different halves, and are left out.
    """

    student: str
    measure: str
    margin: float
    level: float
    regions: list[MappedRegion]
    too_few: int
    cases: int
    across: int

    @property
    def told(self) -> list[MappedRegion]:
        """The regions that were confirmed or refuted."""
        return [one for one in self.regions if one.label in ("HOLDS", "FAILS", "REFUTED")]

    def count(self, label: Label) -> int:
        """Return how many regions have a label."""
        return sum(one.label == label for one in self.regions)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; undefined values are None."""
        return asdict(self)


@dataclass(frozen=True)
class _Asked:
    """A region with what its score in the confirming half is estimated from."""

    region: MappedRegion
    resampled: Resampled
    score: Score

    def confirming(self, level: float) -> Estimate:
        return lead(self.resampled, self.score, self.score.floor, level=level)


def map_regions(
    outcomes: pd.DataFrame,
    student: str,
    inputs: Inputs | None = None,
    *,
    measure: str = DEFAULT_MEASURE,
    margin: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> RegionMap:
    """Find in which regions of inputs a student holds and in which it fails, and confirm that.

    Args:
        outcomes: The outcomes table.
        student: Who is mapped.
        inputs: What is known of inputs and answers besides; without it, there are fewer regions.
        measure: What the map rests on, one of `measures.JUDGED`.
        margin: How far the score must lie above its floor.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the halves and the resampling.
        level: Coverage of the intervals.

    Raises:
        UserError: If no verdict can rest on the measure.
    """
    chosen = judged_measure(measure)
    inputs = inputs or Inputs(None, {}, {})
    own = _where(outcomes, (outcomes["student"] == student).to_numpy())
    half = halves(own, seed)
    few, asked = 0, list[_Asked]()
    for variable in variables(own):
        mine = (own["variable"] == variable).to_numpy()
        cases, side = _where(own, mine), half[mine]
        regions = candidates(cases, side == FINDING, inputs)
        found = _found(cases, side, variable, regions, chosen, margin, resamples=resamples, seed=seed, level=level)
        few += len(regions) - len(found)
        asked += found
    across = int((half == ACROSS).sum())
    return RegionMap(student, measure, margin, level, _confirmed(asked, margin, level), few, len(own), across)


def _found(
    cases: pd.DataFrame,
    side: NDArray[np.int8],
    variable: str,
    regions: list[Candidate],
    measure: Measure,
    margin: float,
    **settings: Any,
) -> list[_Asked]:
    """Return what one half finds in the regions of a variable that have enough texts in both."""
    if not all((side == half).any() for half in (FINDING, CONFIRMING)):
        return []
    finding, confirming = (
        _resampled(cases, side == half, regions, measure, settings) for half in (FINDING, CONFIRMING)
    )
    effects = _effects(cases)
    asked: list[_Asked] = []
    for number, one in enumerate(regions):
        score = Score(measure, str(number), one.place)
        first, second = (lead(half, score, score.floor) for half in (finding, confirming))
        if too_few(first) or too_few(second):
            continue
        label = _FOUND[decide(first, margin)]
        region = MappedRegion(
            variable=variable,
            kind=one.kind,
            name=one.name,
            cases=first.cases + second.cases,
            share=_share(effects, one),
            finding=first,
            confirming=second,
            level=settings["level"],
            found=label,
            label=label,
        )
        asked.append(_Asked(region, confirming, score))
    return asked


def _confirmed(asked: list[_Asked], margin: float, level: float) -> list[MappedRegion]:
    """Ask the other half about every region in which something was found, by Holm's procedure."""
    told: dict[int, MappedRegion] = {}
    left = {number: one for number, one in enumerate(asked) if one.region.found != "OPEN"}
    while left:
        adjusted = 1 - (1 - level) / len(left)
        tested = {number: _tested(one, margin, adjusted) for number, one in left.items()}
        decided = {number: one for number, one in tested.items() if one.label != "NOT CONFIRMED"}
        told |= decided or tested
        left = {number: one for number, one in left.items() if number not in told}
    return [told.get(number, one.region) for number, one in enumerate(asked)]


def _tested(one: _Asked, margin: float, level: float) -> MappedRegion:
    confirming = one.confirming(level)
    again = _FOUND[decide(confirming, margin)]
    label: Label = "NOT CONFIRMED" if again == "OPEN" else again if again == one.region.found else "REFUTED"
    return replace(one.region, confirming=confirming, level=level, label=label)


def _resampled(
    cases: pd.DataFrame, chosen: NDArray[np.bool_], regions: list[Candidate], measure: Measure, settings: dict[str, Any]
) -> Resampled:
    parts: Mapping[str, NDArray[np.bool_]] = {str(number): one.chosen[chosen] for number, one in enumerate(regions)}
    return resample_parts(_where(cases, chosen), parts, _quantities(measure), **settings)


def _quantities(measure: Measure) -> set[str]:
    """Return the quantities that a measure and its floor are estimated from."""
    names = {measure.numerator, measure.denominator, measure.counted}
    if measure.floor:
        names |= {MEASURES[measure.floor].numerator, MEASURES[measure.floor].denominator}
    return {f"{name}/{place}" for name in names - {""} for place in ("outside", "inside")}


def _effects(cases: pd.DataFrame) -> NDArray[np.float64]:
    """Return the teacher's effect in each case outside, 0 in the others."""
    inside = cases["inside"].to_numpy() & (cases["position"].to_numpy() != NO_POSITION)
    return np.where(inside, 0.0, cases["teacher_effect"].to_numpy())


def _share(effects: NDArray[np.float64], region: Candidate) -> float | None:
    whole = float(effects.sum())
    return float(effects[region.chosen].sum()) / whole if region.place == "outside" and whole > 0 else None


def _where(frame: pd.DataFrame, chosen: NDArray[np.bool_]) -> pd.DataFrame:
    return cast(pd.DataFrame, frame[chosen])
