"""Before a verification: how many pairs will it need? A pilot of a few pairs says how much the leads vary."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from iit_toolkit.analysis.statistics.decision import too_few
from iit_toolkit.analysis.statistics.input_words import InputWords, words_of
from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE, MEASURES, Measure
from iit_toolkit.analysis.statistics.numbers import basis, interval
from iit_toolkit.analysis.statistics.power import PairsNeeded, pairs_needed
from iit_toolkit.analysis.statistics.quantities import cases_of
from iit_toolkit.analysis.statistics.variable_verdict import Control, VariableVerdict
from iit_toolkit.analysis.statistics.verdict import Verified, judge

LEADS = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class VariablePlan:
    """How many pairs one variable needs.

    Attributes:
        control: The control that came closest to the student in the pilot; empty if none can be told.
        pilot: The lead over it in the pilot, in words.
        supported: Pairs for each lead to be SUPPORTED; empty if the pilot cannot say.
        above_zero: Pairs for each lead to be shown above zero, as a comparison does.
        reason: Why the pilot cannot say; empty if it can.
    """

    control: str
    pilot: str
    supported: tuple[PairsNeeded, ...] = ()
    above_zero: tuple[PairsNeeded, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """How many pairs a verification needs.

    Attributes:
        measure: What the verdict will rest on, one of `measures.JUDGED`.
        margin: How far the measure must lie above every control.
        level: Of the interval that decides a variable, which is Holm's for the number of variables.
        pairs: Pairs of the pilot.
        variables: The plan of each variable.
    """

    measure: str
    margin: float
    level: float
    pairs: int
    variables: dict[str, VariablePlan]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; a number of pairs is None if none is enough."""
        return asdict(self)


def plan(
    verified: Verified | pd.DataFrame,
    student: str | None = None,
    *,
    measure: str = DEFAULT_MEASURE,
    margin: float = 0.05,
    leads: tuple[float, ...] = LEADS,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Plan:
    """Say how many pairs a verification needs, from a verification of a few.

    Args:
        verified: What `verify` returns for the pilot; or its table of outcomes alone.
        student: The student that will be judged; by default the one whose controls were run.
        measure: What the verdict will rest on, one of `measures.JUDGED`.
        margin: How far the score must lie above every control.
        leads: True leads over the best control.
        resamples: Bootstrap resamples behind each interval.
        seed: Of the resampling.
        level: Coverage of the intervals for a single variable.

    Raises:
        UserError: As for `judge`.
    """
    settings: dict[str, Any] = {"measure": measure, "margin": margin, "resamples": resamples, "seed": seed}
    verdict = judge(verified, student, **settings, level=level)
    outcomes = verified if isinstance(verified, pd.DataFrame) else verified.outcomes
    adjusted = 1 - (1 - level) / len(verdict.variables)
    chosen, found, most = MEASURES[measure], dict[str, VariablePlan](), 0
    for name, judged in verdict.variables.items():
        cases = cases_of(outcomes, verdict.student, name)
        pairs = len(set(zip(cases["base"].tolist(), cases["source"].tolist(), strict=True)))
        most = max(most, pairs)
        found[name] = _planned(judged, chosen, pairs, leads, (margin, adjusted, level), words_of(outcomes))
    return Plan(measure, margin, adjusted, most, found)


def _planned(
    judged: VariableVerdict,
    measure: Measure,
    pairs: int,
    leads: tuple[float, ...],
    asked: tuple[float, float, float],
    words: InputWords,
) -> VariablePlan:
    best = _best(judged.controls)
    if best is None or too_few(judged.score):
        facts = f"{basis(judged.score, measure.unit)}; {words.enough}"
        return VariablePlan("", "", reason=f"too few {words.texts} in the pilot ({facts})")
    margin, adjusted, level = asked
    lead = interval(best.difference, signed=True)

    def needed(threshold: float, coverage: float) -> tuple[PairsNeeded, ...]:
        return tuple(
            pairs_needed(best.difference, pairs, one, threshold, coverage, pilot_level=judged.level) for one in leads
        )

    return VariablePlan(best.name, lead, needed(margin, adjusted), needed(0.0, level))


def _best(controls: list[Control]) -> Control | None:
    """Return the control that comes closest to the student, of those that apply; None if a lead has no interval."""
    controls = [one for one in controls if one.applies]
    if any(one.difference.value is None or one.difference.low is None for one in controls):
        return None
    return min(controls, key=lambda one: one.difference.value or 0.0)
