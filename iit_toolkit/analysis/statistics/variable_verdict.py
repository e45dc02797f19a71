"""The verdict on one variable: its controls, and which cases they are asked in; over variables, Holm's procedure.

`verdict.py` says what the labels mean and how often each is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from iit_toolkit.analysis.statistics import ranges, verdict_words
from iit_toolkit.analysis.statistics.control_words import TOO_FLEXIBLE, control_meanings
from iit_toolkit.analysis.statistics.decision import Decision, decide, too_few
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import TOKENS, InputWords
from iit_toolkit.analysis.statistics.judged_cases import Elsewhere
from iit_toolkit.analysis.statistics.measures import MEASURES, Score, estimate, lead
from iit_toolkit.analysis.statistics.outcomes import SHUFFLED_SOURCES
from iit_toolkit.analysis.statistics.power import detectable_lead
from iit_toolkit.analysis.statistics.resampling import Resampled

Label = Literal["SUPPORTED", "NOT SUPPORTED", "INCONCLUSIVE"]

Controls = Mapping[str, Score]
"""What each control scores, by its name."""

_PASSED: dict[Decision, bool | None] = {"above": True, "below": False, "undecided": None}


@dataclass(frozen=True)
class Control:
    """What could explain the student's score without any causal structure kept.

    Attributes:
        name: The floor, the student that serves as a control, or one of `outcomes.SHUFFLED`.
        level: What it scores on the same cases.
        difference: The judged student's score minus that, paired; its interval is that of the variable's level.
        passed: Whether the difference's interval lies above the margin (False: below it); None if it holds the
            margin, or too few cases changed.
        meaning: What passing or failing means, or why it is open, in words.
        score: The judged student's score in the distinguishing cases, if only these are asked.
        applies: Whether the teacher does otherwise there in enough cases to ask.
    """

    name: str
    level: ranges.Explained
    difference: ranges.Sound
    passed: bool | None
    meaning: str
    score: ranges.Explained | None = None
    applies: bool = True


@dataclass(frozen=True)
class VariableVerdict:
    """The verdict on one variable with what it rests on.

    Attributes:
        label: SUPPORTED, NOT SUPPORTED or INCONCLUSIVE.
        score: The measure outside the swapped positions.
        controls: All that apply must be passed.
        level: Of the intervals of the differences, adjusted to the number of variables.
        detectable: The smallest true lead over the best control that would be SUPPORTED in 80% of repetitions with
            as many cases; None if none would.
        sentence: The verdict in words.
    """

    label: Label
    score: ranges.Explained
    controls: list[Control]
    level: float
    detectable: float | None
    sentence: str


def judge_variables(
    resampled: Mapping[str, Resampled],
    score: Score,
    controls: Mapping[str, Controls],
    elsewhere: Elsewhere | None = None,
    *,
    margin: float,
    level: float,
    words: InputWords = TOKENS,
    flexible: str | None = None,
) -> dict[str, VariableVerdict]:
    """Give the verdict on each variable, by Holm's procedure.

    Args:
        resampled: Per variable the quantities of `iit_toolkit.analysis.statistics.quantities.resample_variable`.
        score: The measure of the student that is judged.
        controls: Per variable and control what the control scores.
        elsewhere: By variable and control, the distinguishing cases of controls that are asked in these only.
        margin: How far the score must lie above every control.
        level: Coverage of the interval for a single variable.
        words: For the inputs.
        flexible: The control on which subspaces were learned, too: to fail it alone decides nothing.
    """
    judged: dict[str, VariableVerdict] = {}
    left = list(resampled)
    while left:
        adjusted = 1 - (1 - level) / len(left)
        found = {
            name: _judged(
                name,
                resampled[name],
                score,
                controls[name],
                (elsewhere or {}).get(name, {}),
                margin,
                adjusted,
                words,
                flexible,
            )
            for name in left
        }
        supported = {name: one for name, one in found.items() if one.label == "SUPPORTED"}
        judged |= supported or found
        left = [name for name in left if name not in judged]
    return {name: judged[name] for name in resampled}


def _judged(
    variable: str,
    resampled: Resampled,
    score: Score,
    rivals: Controls,
    elsewhere: Mapping[str, Resampled | None],
    margin: float,
    level: float,
    words: InputWords,
    flexible: str | None,
) -> VariableVerdict:
    own = estimate(resampled, score)
    controls = [
        _control(resampled, own, score, name, rival, margin, level)
        if name not in elsewhere
        else _distinguished(elsewhere[name], own, score, name, rival, margin, level, words)
        for name, rival in rivals.items()
    ]
    controls = [
        replace(one, meaning=TOO_FLEXIBLE) if one.name == flexible and one.passed is False else one for one in controls
    ]
    asked = [one for one in controls if one.applies]
    label = _label(own, asked, flexible)
    if too_few(own):
        tested = estimate(resampled, Score(MEASURES["iia"], score.student)).cases
        sentence, detectable = verdict_words.untested(score.measure, own, tested, words), None
    else:
        sentence = verdict_words.sentence(score, label, own, asked, margin, level, words)
        share = own if score.measure.kind == "share" else None
        detectable = detectable_lead(verdict_words.best(asked).difference, share, margin, level)
    return VariableVerdict(label, own, controls, level, detectable, f'Variable "{variable}": {sentence}')


def _control(
    resampled: Resampled, own: Estimate, score: Score, name: str, rival: Score, margin: float, level: float
) -> Control:
    difference = lead(resampled, score, rival, level=level)
    passed = None if too_few(own) else _PASSED[decide(difference, margin)]
    if passed is not None:
        meaning = control_meanings(score.student, name)[0 if passed else 1]
    elif difference.low is None or too_few(own):
        meaning = f"Undecided: there are too few {score.measure.units}."
    else:
        meaning = "Undecided: the interval of the lead contains the margin. More cases could decide."
    return Control(name, estimate(resampled, rival), difference, passed, meaning)


def _distinguished(
    resampled: Resampled | None,
    own: Estimate,
    score: Score,
    name: str,
    rival: Score,
    margin: float,
    level: float,
    words: InputWords,
) -> Control:
    """Judge a control in the cases in which the teacher does otherwise there.

    If these are a smaller share than the margin, the teacher does the same at both places, and nothing is asked. If
    they are more, but of too few texts, the control stays open. So does a source that makes no difference: what does
    not depend on its source carries nothing over.
    """
    nothing = Estimate(None, None, None, 0, 0)
    score, rival = _all_counted(score), _all_counted(rival)
    there = nothing if resampled is None else estimate(resampled, score)
    if resampled is None or too_few(there):
        applies = name == SHUFFLED_SOURCES or there.cases >= margin * own.cases
        meaning = verdict_words.indistinct(there, own, name, words, needed=applies)
        return Control(name, nothing, nothing, None, meaning, there, applies)
    return replace(_control(resampled, there, score, name, rival, margin, level), score=there)


def _all_counted(score: Score) -> Score:
    """Count distinguishing cases without an effect, too: to react in them is an error."""
    if score.measure.kind != "explained":
        return score
    return replace(score, measure=replace(score.measure, counted="cases", unit="distinguishing case"))


def _label(own: Estimate, controls: list[Control], flexible: str | None) -> Label:
    if too_few(own):
        return "INCONCLUSIVE"
    if any(one.passed is False and one.name != flexible for one in controls):
        return "NOT SUPPORTED"
    return "SUPPORTED" if all(one.passed for one in controls) else "INCONCLUSIVE"
