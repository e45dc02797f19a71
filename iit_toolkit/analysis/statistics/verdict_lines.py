"""A verdict in one line per variable, and what to do next if it is not SUPPORTED."""

from __future__ import annotations

from dataclasses import dataclass

from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.decision import too_few
from iit_toolkit.analysis.statistics.leak import Leak
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import count, decimal, interval
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED
from iit_toolkit.analysis.statistics.variable_verdict import Control, Label, VariableVerdict
from iit_toolkit.analysis.statistics.verdict import Verdict

LEAKS = "leak check"

_MORE = "more data or a larger verification.pairs could decide; `iit-toolkit verify --plan` says how many"
_TRACE = " (of models of text, `iit-toolkit trace` says where)"
_FAILED = {
    FLOOR: "the student ignores the swap: train it with interchanges, where its teacher shows an effect" + _TRACE,
    UNTRAINED: "training did not cause the score: train longer, or swap where the teacher shows an effect" + _TRACE,
}
_WRONGLY = (
    "swaps move the student, but not as they move its teacher: train it with interchanges, where its teacher shows an "
    "effect" + _TRACE
)
_FLEXIBLE = "the learned map succeeds on a random network, too: give its subspaces a lower rank"
_ELSEWHERE = "the score does not single out these sites: `iit-toolkit search` finds those that correspond"


@dataclass(frozen=True)
class VerdictLine:
    """One variable of a verdict, or the leak check.

    Attributes:
        label: The verdict on it.
        name: The variable.
        facts: What it rests on.
        next: What to do if it is not SUPPORTED; empty if it is.
    """

    label: Label
    name: str
    facts: str
    next: str


def verdict_lines(verdict: Verdict) -> list[VerdictLine]:
    """Return a line per variable, and one for the leak check if it is not passed."""
    lines = [_line(verdict, name, one) for name, one in verdict.variables.items()]
    return [*lines, *(_leak(one) for one in verdict.leaks if one.decides and one.passed is not True)]


def _line(verdict: Verdict, name: str, one: VariableVerdict) -> VerdictLine:
    measure = MEASURES[verdict.measure]
    score = f"{measure.title} {interval(one.score)} in {count(one.score.cases, measure.unit)}"
    if too_few(one.score):
        return VerdictLine(one.label, name, f"{score}: too few, or of too few inputs", _MORE)
    control = _deciding(one)
    if control.difference.value is None:
        return VerdictLine(one.label, name, f"{score}; undecided control: {control.name}", _MORE)
    rival = f"{control.name} {decimal(control.level.value or 0.0)}"
    lead = f"lead {interval(control.difference, signed=True)}, needed > {decimal(verdict.margin, 2)}"
    facts = f"{score}; hardest control: {rival}; {lead}"
    return VerdictLine(one.label, name, facts, _next(one.label, control))


def _deciding(one: VariableVerdict) -> Control:
    """Return the control that the label rests on: a failed one, an open one, or that of the smallest lead."""
    asked = [control for control in one.controls if control.applies]
    for passed in (False, None):
        found = [control for control in asked if control.passed is passed]
        if found and one.label != "SUPPORTED":
            return found[0]
    return min(asked, key=lambda control: control.difference.value or 0.0)


def _next(label: Label, control: Control) -> str:
    if label == "SUPPORTED":
        return ""
    if label == "INCONCLUSIVE" and control.passed is False:
        return _FLEXIBLE
    if label != "INCONCLUSIVE" and control.name == FLOOR and (control.difference.high or 0.0) < 0:
        return _WRONGLY
    return _MORE if label == "INCONCLUSIVE" else _FAILED.get(control.name, _ELSEWHERE)


def _leak(one: Leak) -> VerdictLine:
    label: Label = "INCONCLUSIVE" if one.passed is None else "NOT SUPPORTED"
    following = (
        _MORE
        if one.passed is None
        else "what the alignment leaves out moves the answer, too: align it, or train with `strict`"
    )
    return VerdictLine(label, LEAKS, f"at {one.site}", following)
