"""The words of a verdict: what was measured, what decides, and what else to know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from iit_toolkit.analysis.statistics.control_words import describe_control
from iit_toolkit.analysis.statistics.decision import MINIMUM_EQUAL_TEXTS
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import InputWords
from iit_toolkit.analysis.statistics.leak import Leak
from iit_toolkit.analysis.statistics.measures import MEASURES, Measure, Score
from iit_toolkit.analysis.statistics.numbers import basis, count, decimal, first_upper, interval
from iit_toolkit.analysis.statistics.outcomes import SHUFFLED_SOURCES
from iit_toolkit.analysis.statistics.power import POWER

NOT_RUN = "The other controls were not run for this student, so nothing is supported. Verify the student to run them."


class Asked(Protocol):
    """A control that was asked."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def level(self) -> Estimate:
        """What it scores."""
        ...

    @property
    def score(self) -> Estimate | None:
        """What the student scores in the distinguishing cases, if only these are asked."""
        ...

    @property
    def difference(self) -> Estimate:
        """The student's score minus the control's."""
        ...

    @property
    def passed(self) -> bool | None:
        """Whether it was passed."""
        ...


def untested(measure: Measure, own: Estimate, tested: int, words: InputWords) -> str:
    """Return why a variable is not judged.

    Args:
        measure: What was asked.
        own: What it came to.
        tested: How many cases there were in all.
        words: For the inputs.
    """
    if own.cases:
        return f"too few inputs have {measure.units}{words.outside} ({few(own, measure, words)})."
    why = measure.untested.format(outside=words.outside)
    return f"{why} (0 of {count(tested, 'case')}), so nothing was tested: there is nothing to explain."


def few(estimate: Estimate, measure: Measure, words: InputWords) -> str:
    """Return on what an estimate rests that rests on too little, and what would be enough."""
    equal = estimate.equal_texts
    uneven = "" if equal is None or equal >= MINIMUM_EQUAL_TEXTS else f", which count as {equal:.3g} of equal weight"
    return f"{basis(estimate, measure.unit)}{uneven}; {words.enough}"


def sentence(
    score: Score,
    label: str,
    own: Estimate,
    controls: Sequence[Asked],
    margin: float,
    level: float,
    words: InputWords,
) -> str:
    """Return what a variable scores, and which control decides."""
    measure = score.measure
    decides = _deciding(controls, label)
    which = "best control" if decides is best(controls) else "control that decides"
    end = {
        "SUPPORTED": f"is above the margin of {decimal(margin, 2)}.",
        "NOT SUPPORTED": f"is below the margin of {decimal(margin, 2)}.",
        "INCONCLUSIVE": f"contains the margin of {decimal(margin, 2)}: more cases, of more {words.texts}, could "
        "decide.",
    }[label]
    if label == "INCONCLUSIVE" and decides.passed is False:
        end = (
            f"is below the margin of {decimal(margin, 2)}: the learned map succeeds on a random network, too, so its "
            "score says nothing about this one."
        )
    given = {"student": score.student, "estimate": interval(own), "outside": words.outside}
    facts = measure.scored.format(basis=basis(own, measure.unit), **given)
    if decides.difference.value is None:
        return f"{facts}. The {which}, the {describe_control(decides.name)}, is open: too few cases tell it apart."
    there = ""
    if decides.score is not None:
        cases = count(decides.score.cases, "case")
        there = f" in the {cases} in which the teacher does otherwise there, against {interval(decides.score)}"
    return (
        f"{facts}. The {which}, the {describe_control(decides.name)}, reaches {interval(decides.level)}{there}. "
        f"The difference, {interval(decides.difference, signed=True)} ({100 * level:.3g}% interval), {end}"
    )


def indistinct(there: Estimate, own: Estimate, name: str, words: InputWords, *, needed: bool) -> str:
    """Return what it means that a control cannot be told from the alignment.

    Args:
        there: What the student scores in the distinguishing cases.
        own: What it scores in all.
        name: The control.
        words: For the inputs.
        needed: Whether it stays open, and support is not possible.
    """
    facts = f"the teacher does otherwise there in {count(there.cases, 'case')}, against {own.cases:,} in all"
    if not needed:
        return f"Not asked: {facts}. If the teacher does the same at both places, so should the student."
    end = (
        "So the effect is not shown to depend on what is swapped in."
        if name == SHUFFLED_SOURCES
        else f"{words.enough}."
    )
    return f"Undecided: {facts}, of too few {words.texts}. {first_upper(end)}"


def leak_sentence(leaks: Sequence[Leak]) -> list[str]:
    """Return what the leak check comes to, if there is one."""
    leaks = [one for one in leaks if one.decides]
    for passed, words in ((False, "fails"), (None, "is undecided")):
        found = [one.site for one in leaks if one.passed is passed]
        if found:
            return [f"The leak check {words} at {', '.join(found)}."]
    return [f"The leak check passes at {', '.join(one.site for one in leaks)}."] if leaks else []


def power(detectable: Mapping[str, float | None]) -> str:
    """Return what this many cases can show, in one line.

    Args:
        detectable: By variable the smallest lead that would be SUPPORTED; None if none would.
    """
    leads = [
        ("none" if lead is None else decimal(lead, 2)) + (f' ("{name}")' if len(detectable) > 1 else "")
        for name, lead in detectable.items()
    ]
    return (
        f"Power: with as many cases, the smallest true lead over the best control that would be SUPPORTED in "
        f"{POWER:.0%} of repetitions is {', '.join(leads)}. "
        "One trained student says nothing about other training seeds."
    )


def beside(measure: str, label: str, other: str, other_label: str, scores: Mapping[str, Estimate]) -> str:
    """Return what another measure says, and why the two may disagree.

    Args:
        measure: What the verdict rests on.
        label: The verdict.
        other: The other measure.
        other_label: What the verdict would be.
        scores: The other measure by variable.
    """
    values = "; ".join(f"{interval(one)}{f' for {name}' if len(scores) > 1 else ''}" for name, one in scores.items())
    said = f"By {MEASURES[other].title} ({values}) the verdict would be {other_label}"
    if label == other_label:
        return f"{said}, too."
    graded = label if MEASURES[measure].kind == "explained" else other_label
    return f"{said}. {_why_other(label, other_label, graded)}"


def _why_other(label: str, other_label: str, graded: str) -> str:
    """Return why two measures may disagree; `graded` is the verdict of the graded one."""
    if other_label == "INCONCLUSIVE":
        return "Its cases do not suffice to decide."
    if graded == "SUPPORTED":
        return (
            "The student moves as its teacher does, but its top answer often differs before the swap, or does not "
            "change."
        )
    if "SUPPORTED" in (label, other_label):
        return "Top-1 answers do not show how far a student moves, nor how often it moves if its teacher does not."
    return "The two rest on different cases: those with an effect, and those whose top answer changes."


def collapsed(student: str, share: float, of_teacher: float) -> str:
    """Return that a student gives hardly any answer but one."""
    return (
        f"{student} has collapsed: it gives one answer in {share:.1%} of cases (its teacher in {of_teacher:.1%}). "
        "So its effective IIA is that of a constant."
    )


def best(controls: Sequence[Asked]) -> Asked:
    """Return the control that comes closest to the student."""
    return min(controls, key=lambda one: 0.0 if one.difference.value is None else one.difference.value)


def _deciding(controls: Sequence[Asked], label: str) -> Asked:
    """Return the control that brings the label about, by the bound of its interval that does."""
    if label == "NOT SUPPORTED":
        return min(controls, key=lambda one: math.inf if one.difference.high is None else one.difference.high)
    open_ones = [one for one in controls if one.passed is False] or [one for one in controls if not one.passed]
    open_ones = open_ones or controls
    return min(open_ones, key=lambda one: -math.inf if one.difference.low is None else one.difference.low)
