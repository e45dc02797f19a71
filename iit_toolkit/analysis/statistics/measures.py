"""Measures: what is estimated of a student's cases, as rows of one table.

A measure is looked up by its name, here and on the command line. Verdict, gate, comparison, tables and figures take
one. So a new measure is a row in `OF_INTERVENTIONS` or `OF_BEHAVIOUR`, and a field of `summary.VariableSummary`
or `summary.Behaviour`, besides the quantity that it sums (`quantities.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.quantities import (
    REGIONS,
    Region,
)
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.errors import UserError, did_you_mean

Kind = Literal["share", "explained", "lead", "mean", "perplexity", "correlation", "zero"]


@dataclass(frozen=True)
class Measure:
    """A number of a set of cases.

    Attributes:
        name: Its name in results.json, in Python and on the command line.
        title: What tables and figures call it.
        caption: What it means.
        kind: How it is estimated. share: numerator / denominator, with Wilson's interval. explained: the same, if the
            denominator is an amount. lead: the share minus that of `less`, paired. mean: numerator / denominator.
            perplexity: exp of the mean. correlation: Pearson's, of the sums that `numerator` names. zero: what a
            student explains that does not react.
        numerator: The quantity that is summed, as in `quantities.py`.
        denominator: The quantity that counts the cases, or is the amount that is to be explained.
        counted: The quantity that counts the cases, if the denominator is an amount.
        less: Of a lead, the numerator that is subtracted.
        unit: What the denominator counts, as in `12 changed cases`; without the plural.
        higher_is_better: Whether more of it is better; None if neither is.
        regions: The regions that it is measured in; empty if it is of runs without interventions.
        floor: The measure that gives what a student scores that does not react; empty if there is none. Only a
            measure with a floor can be judged. What explains an effect has the floor 0.
        over_floor: The quantity by which the numerator exceeds that of the floor, case by case.
        scored: The score in words, with `{basis}`, `{student}`, `{estimate}` and `{outside}` (see `InputWords`).
        untested: Why there may be no case, with `{outside}`.
    """

    name: str
    title: str
    caption: str
    kind: Kind
    numerator: str
    denominator: str
    counted: str = ""
    less: str = ""
    unit: str = "case"
    higher_is_better: bool | None = True
    regions: tuple[Region, ...] = REGIONS
    floor: str = ""
    over_floor: str = ""
    scored: str = ""
    untested: str = ""

    @property
    def units(self) -> str:
        """What the denominator counts, in the plural."""
        return f"{self.unit}s"


OF_INTERVENTIONS = (
    Measure(
        name="effect_r2",
        title="effect R²",
        caption="1 - sum |dp of the student - dp of the teacher|^2 / sum |dp of the teacher|^2, where dp is what the "
        "intervention changes of a model's probabilities. 1: as the teacher. 0: as if ignored. Below 0: wrong.",
        kind="explained",
        numerator="explained",
        denominator="effect_size",
        counted="affected",
        unit="affected case",
        scored="of what the intervention changes in the teacher's probabilities{outside} ({basis}), "
        "{student} reproduces {estimate} (effect R²)",
        untested="no intervention changed the teacher's probabilities{outside}",
    ),
    Measure(
        name="kl_recovered",
        title="KL recovered",
        caption="1 - sum KL(teacher intervened || student intervened) / sum KL(teacher intervened || student). "
        "1: moves as the teacher. 0: as if it ignored the swap. Below 0: moves wrongly.",
        kind="explained",
        numerator="recovered",
        denominator="kl_ignored",
        counted="affected",
        unit="affected case",
        scored="of the divergence from the intervened teacher that {student} has without the intervention{outside} "
        "({basis}), the intervention in {student} removes {estimate} (KL recovered)",
        untested="no intervention changed the teacher's probabilities{outside}",
    ),
    Measure(
        name="iia",
        title="IIA",
        caption="Share of cases in which student and teacher, both intervened, give the same answer.",
        kind="share",
        numerator="hits",
        denominator="cases",
        floor="floor",
        over_floor="hits_above_floor",
        scored="with the intervention in both, {student} gives its teacher's answer{outside} ({basis}) "
        "at a rate of {estimate}",
        untested="every evaluated token is at a swapped position",
    ),
    Measure(
        name="effective_iia",
        title="effective IIA",
        caption="IIA where the intervention changes the teacher's own answer.",
        kind="share",
        numerator="effective",
        denominator="changed",
        unit="changed case",
        floor="effective_floor",
        over_floor="above_floor",
        scored="where the intervention changes the teacher's answer{outside} ({basis}), {student} gives "
        "the same new answer at a rate of {estimate}",
        untested="no intervention changed the teacher's answer{outside}",
    ),
    Measure(
        name="changed",
        title="changed",
        caption="Share of cases in which the intervention changes the teacher's own answer.",
        kind="share",
        numerator="changed",
        denominator="cases",
        higher_is_better=None,
    ),
    Measure(
        name="base_agreement",
        title="base agreement",
        caption="Share of cases with the same answer without intervention.",
        kind="share",
        numerator="agree",
        denominator="cases",
        regions=("all",),
    ),
    Measure(
        name="floor",
        title="floor of IIA",
        caption="Share of cases in which the student's answer without intervention is the teacher's answer with it.",
        kind="share",
        numerator="floor",
        denominator="cases",
        higher_is_better=None,
    ),
    Measure(
        name="effective_floor",
        title="floor",
        caption="The floor where the intervention changes the teacher's own answer.",
        kind="share",
        numerator="effective_floor",
        denominator="changed",
        unit="changed case",
        higher_is_better=None,
    ),
    Measure(
        name="margin",
        title="above floor",
        caption="Effective IIA minus its floor, paired.",
        kind="lead",
        numerator="effective",
        less="effective_floor",
        denominator="changed",
        unit="changed case",
        regions=("outside",),
    ),
    Measure(
        name="effect_correlation",
        title="effect correlation",
        caption="Correlation of the teacher's and the student's changes of log-probability.",
        kind="correlation",
        numerator="effect",
        denominator="effect_cases",
    ),
)
OF_BEHAVIOUR = (
    Measure(
        name="top1_agreement",
        title="top-1 agreement",
        caption="Share of cases in which student and teacher give the same answer.",
        kind="share",
        numerator="agree",
        denominator="cases",
        regions=(),
    ),
    Measure(
        name="kl",
        title="KL to the teacher (nats)",
        caption="Mean KL(teacher || student), in nats.",
        kind="mean",
        numerator="kl",
        denominator="cases",
        higher_is_better=False,
        regions=(),
    ),
    Measure(
        name="kl_counterfactual",
        title="KL to the teacher, both with the intervention (nats)",
        caption="The same between counterfactual runs, over all variables.",
        kind="mean",
        numerator="kl_cf",
        denominator="cf_cases",
        higher_is_better=False,
        regions=(),
    ),
    Measure(
        name="student_perplexity",
        title="perplexity",
        caption="exp of the mean negative log-likelihood of the gold tokens.",
        kind="perplexity",
        numerator="student_nll",
        denominator="gold",
        unit="gold answer",
        higher_is_better=False,
        regions=(),
    ),
    Measure(
        name="teacher_perplexity",
        title="perplexity of the teacher",
        caption="The teacher's, on the same tokens.",
        kind="perplexity",
        numerator="teacher_nll",
        denominator="gold",
        unit="gold answer",
        higher_is_better=None,
        regions=(),
    ),
)
MEASURES = {one.name: one for one in (*OF_INTERVENTIONS, *OF_BEHAVIOUR)}
JUDGED = tuple(name for name, one in MEASURES.items() if one.floor or one.kind == "explained")
"""Names of the measures that verdict and gate can rest on."""
DEFAULT_MEASURE = "effect_r2"


def judged_measure(name: str) -> Measure:
    """Return a measure that a verdict can rest on.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in JUDGED:
        raise UserError(f'measure: no verdict rests on "{name}", {did_you_mean(name, JUDGED)}')
    return MEASURES[name]


@dataclass(frozen=True)
class Score:
    """What is estimated: a measure of one student in one region.

    Attributes:
        measure: The measure.
        student: The student, as in the outcomes table.
        region: Where; None if the measure is of runs without interventions.
    """

    measure: Measure
    student: str
    region: Region | None = "outside"

    @property
    def floor(self) -> Score:
        """What the same student scores without reacting."""
        if self.measure.kind == "explained":
            return replace(self, measure=replace(self.measure, kind="zero"))
        return replace(self, measure=MEASURES[self.measure.floor])

    @property
    def over_floor(self) -> Score:
        """How far the student lies above its floor, as a mean over cases."""
        if self.measure.kind == "explained":
            return self
        return replace(self, measure=replace(self.measure, kind="mean", numerator=self.measure.over_floor))

    @property
    def parts(self) -> tuple[str, str]:
        """Numerator and denominator, as `Resampled` names them."""
        return self._named(self.measure.numerator), self._named(self.measure.denominator)

    @property
    def counted(self) -> str:
        """The quantity that counts the cases, if the denominator is an amount."""
        return self._named(self.measure.counted)

    @property
    def less(self) -> tuple[str, str]:
        """Of a lead, numerator and denominator of what is subtracted."""
        return self._named(self.measure.less), self._named(self.measure.denominator)

    def _named(self, quantity: str) -> str:
        return f"{self.student}/{quantity}" + (f"/{self.region}" if self.region else "")


def estimate(resampled: Resampled, score: Score, *, level: float | None = None) -> Estimate:
    """Return a score with its interval.

    Args:
        resampled: What `resample_variable` returns, or `resample_behaviour` for measures without regions.
        score: What is estimated.
        level: Coverage of the interval of what is explained, if another than that of all intervals.
    """
    numerator, denominator = score.parts
    match score.measure.kind:
        case "share":
            return resampled.share(numerator, denominator)
        case "explained":
            return resampled.explained(numerator, denominator, score.counted, level=level)
        case "zero":
            found = resampled.explained(numerator, denominator, score.counted)
            return found if found.value is None else replace(found, value=0.0, low=0.0, high=0.0)
        case "lead":
            return resampled.lead(score.parts, score.less)
        case "mean":
            return resampled.ratio(numerator, denominator)
        case "perplexity":
            return resampled.ratio(numerator, denominator).mapped(math.exp)
        case "correlation":
            return resampled.correlation(f"{numerator}/", denominator)


def lead(resampled: Resampled, score: Score, rival: Score, *, level: float | None = None) -> Estimate:
    """Return a score minus a rival's, both over the same resamples.

    Args:
        resampled: What both are estimated from.
        score: A share, a mean or what is explained.
        rival: Another of the same kind, or its floor.
        level: Coverage of the interval, if another than that of all intervals.
    """
    if rival.measure.kind == "zero":
        return estimate(resampled, score, level=level)
    if score.measure.kind == "explained":
        return resampled.explained_lead(score.parts, rival.parts, score.counted, level=level)
    compare = resampled.lead if score.measure.kind == "share" else resampled.difference
    return compare(score.parts, rival.parts, level=level)
