"""A gate for continuous integration: does the judged student still hold what it must?

The bound is asked of the interval, not of the value: a lucky small sample does not pass. What is
undefined, or rests on too few texts for the verdict, fails.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from iit_toolkit.analysis.report.markdown import markdown_cell, markdown_table
from iit_toolkit.analysis.statistics.decision import decide, reaches, too_few
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import InputWords, words_for
from iit_toolkit.analysis.statistics.measures import Measure, judged_measure
from iit_toolkit.analysis.statistics.numbers import basis, count, decimal, first_upper, interval
from iit_toolkit.analysis.statistics.stored_results import StoredResults, refuse_incomparable
from iit_toolkit.errors import UserError
from iit_toolkit.files.printable import printable


@dataclass(frozen=True)
class GateCheck:
    """One question that the gate asks.

    Attributes:
        name: `verdict`, `self-swap`, `lower bound` or `baseline`.
        variable: The variable it is about; empty where it is about all.
        passed: The answer.
        sentence: The answer in words, with the numbers behind it.
    """

    name: str
    variable: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Gate:
    """All checks of one student."""

    run: str
    student: str
    verdict: str
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def gate(
    results: StoredResults,
    min_lower: float,
    *,
    baseline: StoredResults | None = None,
    margin: float = 0.02,
    measure: str | None = None,
    supported: bool = False,
) -> Gate:
    """Check the judged student of a run.

    * verdict, if asked: it is SUPPORTED.
    * self-swap: swapping activations for themselves changed no answer.
    * lower bound, per variable: the lower end of the interval of the measure outside is at least `min_lower`.
    * baseline, per variable: the interval of the measure outside does not lie wholly below the value of the baseline's
      judged student minus `margin`.

    Args:
        results: Of the run that is checked.
        min_lower: At most 1. Of a measure that is a share, from 0.
        baseline: Of an earlier run on the same teacher, data and alignment.
        margin: How much lower than the baseline is tolerated; from 0 to 1.
        measure: What is asked, one of `measures.JUDGED`; by default, what the verdict of the run rests on.
        supported: Whether the verdict must be SUPPORTED.

    Raises:
        UserError: If a bound is out of range, no verdict rests on the measure, the two runs can't be compared, or the
            baseline has no value.
    """
    asked = judged_measure(measure or results.verdict.measure)
    _refuse_bounds(asked, min_lower, margin)
    measured = _measured(results, asked)
    if not measured:
        raise UserError(f"{results.path}: nothing was measured of {results.judged}; verify it again")
    label = results.verdict.label
    checks = [GateCheck("verdict", "", label == "SUPPORTED", f"The verdict is {label}.")] if supported else []
    checks += _self_swap(results)
    words = words_for(results.document["task"])
    checks += [_lower_bound(asked, variable, estimate, min_lower, words) for variable, estimate in measured.items()]
    if baseline is not None:
        refuse_incomparable(results, baseline)
        earlier = _measured(baseline, asked)
        for variable, estimate in measured.items():
            value = earlier[variable].value if variable in earlier else None
            if value is None:
                raise UserError(
                    f'{baseline.path}: {baseline.judged} has no {asked.title}{words.region} of variable "{variable}"; '
                    "give a baseline in which it was measured"
                )
            checks.append(_not_below(asked, variable, estimate, value, margin, words))
    return Gate(results.document["name"], results.judged, results.verdict.label, tuple(checks))


def _refuse_bounds(measure: Measure, min_lower: float, margin: float) -> None:
    if measure.kind == "explained":
        if not (math.isfinite(min_lower) and min_lower <= 1):
            raise UserError(
                f"--min-lower is {min_lower}; {measure.title} is at most 1 and may be negative, so give a number up to "
                "1"
            )
    elif not 0 <= min_lower <= 1:
        raise UserError(f"--min-lower is {min_lower}; {measure.title} is a share, so give a number from 0 to 1")
    if not 0 <= margin <= 1:
        raise UserError(f"--margin is {margin}; it is a difference of {measure.title}, so give a number from 0 to 1")


def _measured(results: StoredResults, measure: Measure) -> dict[str, Estimate]:
    """Return the measure of the judged student, by variable."""
    found = results.student(results.judged).variables
    try:
        return {name: one.estimate(measure.name) for name, one in found.items()}
    except UserError as error:
        raise UserError(f"{results.path}: {error}") from None


def _self_swap(results: StoredResults) -> list[GateCheck]:
    swap = results.controls.self_swap
    if not swap.cases:  # no variable reads where it writes
        return []
    sentence = f"{swap.changed:,} of {count(swap.cases, 'answer')} changed when activations were swapped for "
    sentence += "themselves" + ("." if swap.changed == 0 else ": no number of this run can be trusted.")
    return [GateCheck("self-swap", "", swap.changed == 0, sentence)]


def _lower_bound(measure: Measure, variable: str, estimate: Estimate, min_lower: float, words: InputWords) -> GateCheck:
    def check(passed: bool, sentence: str) -> GateCheck:
        return GateCheck("lower bound", variable, passed, sentence)

    if estimate.low is None or too_few(estimate):
        return check(False, _untested(measure, estimate, words))
    passed = reaches(estimate, min_lower)
    relation = "is at least" if passed else "is below"
    return check(passed, f"{_facts(measure, estimate, words)}: its lower end {relation} {min_lower:g}.")


def _not_below(
    measure: Measure, variable: str, estimate: Estimate, value: float, margin: float, words: InputWords
) -> GateCheck:
    def check(passed: bool, sentence: str) -> GateCheck:
        return GateCheck("baseline", variable, passed, sentence)

    if estimate.high is None or too_few(estimate):
        return check(False, _untested(measure, estimate, words))
    passed = decide(estimate, value - margin) != "below"
    relation = "does not lie" if passed else "lies"
    bound = f"{decimal(value - margin)} (the baseline's {decimal(value)} minus {margin:g})"
    return check(passed, f"{_facts(measure, estimate, words)}: the interval {relation} wholly below {bound}.")


def _facts(measure: Measure, estimate: Estimate, words: InputWords) -> str:
    return f"{first_upper(measure.title)}{words.region} is {interval(estimate)} ({basis(estimate, measure.unit)})"


def _untested(measure: Measure, estimate: Estimate, words: InputWords) -> str:
    if estimate.cases == 0:
        why = measure.untested.format(outside=words.outside)
        return f"{first_upper(measure.title)}{words.region} is undefined: {why}, so nothing was tested."
    return f"{_facts(measure, estimate, words)}: {words.enough}; verify more pairs, of more {words.texts}."


def to_markdown(checked: Gate) -> str:
    """Return a summary to paste into a pull request."""
    failed = sum(not check.passed for check in checked.checks)
    head = "passed" if checked.passed else f"FAILED ({count(failed, 'check')} of {len(checked.checks)})"
    rows = [
        [check.name, check.variable or "all", "yes" if check.passed else "NO", check.sentence]
        for check in checked.checks
    ]
    parts = [
        f"### Gate {head}: {markdown_cell(checked.student)} of {markdown_cell(checked.run)}",
        markdown_table(["check", "variable", "passed", "why"], rows),
        f"Verdict of the run: {markdown_cell(checked.verdict)}.",
    ]
    return "\n\n".join(parts) + "\n"


def to_junit(checked: Gate) -> str:
    """Return a JUnit XML document with one test case per check and variable."""
    failed = str(sum(not check.passed for check in checked.checks))
    counts = {"tests": str(len(checked.checks)), "failures": failed, "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": printable(f"gate of {checked.run}"), **counts})
    for check in checked.checks:
        name = check.name + (f", variable {check.variable}" if check.variable else "")
        attributes = {"classname": printable(f"gate.{checked.student}"), "name": printable(name), "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        text = printable(check.sentence)
        if check.passed:
            ElementTree.SubElement(case, "system-out").text = text
        else:
            ElementTree.SubElement(case, "failure", {"message": text, "type": check.name}).text = text
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'
