"""The tables of a report: who was measured, by which controls, where, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from iit_toolkit.analysis.statistics.comparison import Comparison
from iit_toolkit.analysis.statistics.control_results import (
    NATURAL,
    Absent,
    Ceiling,
    ControlResults,
    OffManifold,
    SelfSwap,
)
from iit_toolkit.analysis.statistics.control_words import control_meanings, describe_control
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import InputWords
from iit_toolkit.analysis.statistics.measures import MEASURES, Measure
from iit_toolkit.analysis.statistics.numbers import count, decimal, interval
from iit_toolkit.analysis.statistics.quantities import Region
from iit_toolkit.analysis.statistics.summary import Behaviour, Summary, VariableSummary
from iit_toolkit.analysis.statistics.variable_verdict import Control
from iit_toolkit.analysis.statistics.verdict import Verdict

_SELF_SWAP = (
    "Activations swapped for themselves change no answer: what is measured is the swap.",
    "Swapping activations for themselves changes answers: the interventions are not exact.",
)
_OFF_MANIFOLD = (
    f"Share of swapped states, read where answers are, that lie farther from natural states of other inputs than "
    f"{1 - NATURAL:.0%} of natural states do. Natural states come to {decimal(NATURAL, 2)}. Far above it, answers come "
    "from states that no input leads to."
)
_CEILING = (
    "The same model with the same swaps gives the same answers: a perfect student would score 1.",
    "The teacher does not agree with itself: runs are not deterministic, and no student can score 1.",
)


@dataclass(frozen=True)
class Row:
    """One line of the table of students."""

    student: str
    variable: str
    judged: bool
    measured: VariableSummary
    behaviour: Behaviour
    strip: dict[str, float] | None


@dataclass(frozen=True)
class ControlRow:
    """One line of the table of controls.

    Attributes:
        name: The control.
        variable: The variable, or empty for all.
        result: What came out.
        passed: Whether it was passed; `None` where that is open, or `mark` says why it is not asked.
        meaning: What that means.
        mark: What stands in the place of a mark where passing is not asked.
    """

    name: str
    variable: str
    result: str
    passed: bool | None
    meaning: str
    mark: str = "UNDECIDED"


@dataclass(frozen=True)
class Column:
    """One measure in the table of students.

    Attributes:
        measure: Which one.
        region: In which region.
        heading: What stands above it.
    """

    measure: Measure
    region: Region
    heading: str

    @property
    def signed(self) -> bool:
        """Whether positive numbers have a sign."""
        return self.measure.kind == "lead"

    def cell(self, measured: VariableSummary) -> str:
        """Return the measure with its interval."""
        return interval(self.estimate(measured), signed=self.signed, of=self.measure.units)

    def estimate(self, measured: VariableSummary) -> Estimate:
        """Return the measure of one student on one variable."""
        return measured.estimate(self.measure.name, self.region)


COLUMNS = (
    Column(MEASURES["effect_r2"], "outside", "effect R², outside"),
    Column(MEASURES["kl_recovered"], "outside", "KL recovered, outside"),
    Column(MEASURES["effective_iia"], "outside", "effective IIA, outside"),
    Column(MEASURES["effective_floor"], "outside", "its floor"),
    Column(MEASURES["iia"], "all", "IIA, all cases"),
    Column(MEASURES["base_agreement"], "all", "base agreement"),
)
"""The table of students."""
LEAST_CHARTED = -1.0
"""The small charts in the table reach no further: a measure may be far below 0."""
SPLITS = tuple(
    MEASURES[name]
    for name in (
        "effect_r2",
        "kl_recovered",
        "changed",
        "effective_iia",
        "effective_floor",
        "iia",
        "floor",
        "effect_correlation",
    )
)
"""The table of all splits: each in every region."""


def columns(measure: str, words: InputWords) -> list[Column]:
    """Return the columns of the table of students, the measure of the verdict first; the small charts show that one."""
    return sorted(headed(COLUMNS, words), key=lambda column: column.measure.name != measure)


def headed(columns: Sequence[Column], words: InputWords) -> list[Column]:
    """Return columns whose headings name a region only if there are several."""
    return [replace(one, heading=one.heading if words.region else one.heading.split(",")[0]) for one in columns]


def changed_cases(measured: VariableSummary) -> str:
    """`491 of 600`: over how many cases outside effective IIA is taken."""
    return f"{measured.estimate('effective_iia').cases:,} of {measured.estimate('iia').cases:,}"


def student_rows(summary: Summary, judged: str, measure: str) -> list[Row]:
    """Return the table of students: one line per variable and student.

    Args:
        summary: All that was measured.
        judged: The student that the verdict is on.
        measure: The measure of the small charts.
    """
    low, high = chart_ends(summary, measure)
    return [
        Row(
            student=name,
            variable=variable,
            judged=name == judged,
            measured=measured,
            behaviour=student.behaviour,
            strip=_strip(measured, measure, low, high),
        )
        for variable in dict.fromkeys(v for one in summary.students.values() for v in one.variables)
        for name, student in summary.students.items()
        if (measured := student.variables.get(variable)) is not None
    ]


def chart_ends(summary: Summary, measure: str) -> tuple[float, float]:
    """Return both ends of the small charts in the table: the same for all rows, multiples of 0.1, at least 0 to 0.1."""
    measured = [one for student in summary.students.values() for one in student.variables.values()]
    ends = [
        end
        for one in measured
        for end in (*_ends(one.estimate(measure)).values(), _floor(one, measure))
        if end is not None
    ]
    least = max(LEAST_CHARTED, min(ends, default=0.0))
    return min(0.0, math.floor(10 * least) / 10), max(0.1, math.ceil(10 * max(ends, default=1.0)) / 10)


def _ends(estimate: Estimate) -> dict[str, float | None]:
    low, value, high = estimate.low, estimate.value, estimate.high
    return {"low": value if low is None else low, "value": value, "high": value if high is None else high}


def _floor(measured: VariableSummary, measure: str) -> float | None:
    name = MEASURES[measure].floor
    return measured.estimate(name).value if name else 0.0


def _strip(measured: VariableSummary, measure: str, low: float, high: float) -> dict[str, float] | None:
    """Per cent of the width at which the interval, the value and the floor lie."""
    places = {**_ends(measured.estimate(measure)), "floor": _floor(measured, measure)}
    found = {name: 2 + 96 * (max(end, low) - low) / (high - low) for name, end in places.items() if end is not None}
    return found if len(found) == len(places) else None


def control_rows(stored: ControlResults, verdict: Verdict, comparison: Comparison | None) -> list[ControlRow]:
    """Return the table of controls: exactness, those of the verdict, those that there are not, and the baseline."""
    rows = [_self_swap(stored.self_swap), _ceiling(stored.ceiling)]
    for variable, judged in verdict.variables.items():
        for control in judged.controls:
            rows.append(_of_verdict(control, variable, verdict))
    rows += _off_manifold(stored.off_manifold)
    for absent in (_not_run(verdict.student),) if stored.absent is None else stored.absent:
        meaning = f"{absent.reason[0].upper()}{absent.reason[1:]}."
        rows.append(ControlRow(absent.control, absent.variable, "none", None, meaning, "NOT AVAILABLE"))
    return rows if comparison is None else [*rows, *_baseline(comparison)]


def _of_verdict(control: Control, variable: str, verdict: Verdict) -> ControlRow:
    units = MEASURES[verdict.measure].units
    result = _reached(control.level, control.difference, verdict.student, units)
    if control.score is not None and control.difference.value is not None:
        result += f"; in the {count(control.score.cases, 'case')} in which the teacher does otherwise there"
    mark = "UNDECIDED" if control.applies else "NOT ASKED"
    return ControlRow(describe_control(control.name), variable, result, control.passed, control.meaning, mark)


def _off_manifold(found: Sequence[OffManifold]) -> list[ControlRow]:
    """Say, for each variable, how many swapped states are unlike natural ones."""
    rows: list[ControlRow] = []
    for variable in dict.fromkeys(one.variable for one in found):
        shares = [f"{one.model or 'teacher'} {interval(one.share)}" for one in found if one.variable == variable]
        rows.append(ControlRow("off-manifold share", variable, "; ".join(shares), None, _OFF_MANIFOLD, "MEASURED"))
    return rows


def _not_run(student: str) -> Absent:
    return Absent(
        "shuffled sites and sources, leak check", "", f"they were not run for {student}; verify it again to have them"
    )


def control_legend(verdict: Verdict) -> dict[str, tuple[str, str]]:
    """Return what it means that a control is passed, and that it is failed, by its name in the table of controls."""
    names = dict.fromkeys(control.name for judged in verdict.variables.values() for control in judged.controls)
    return {"self-swap": _SELF_SWAP, "teacher as its own student": _CEILING} | {
        describe_control(name): control_meanings(verdict.student, name) for name in names
    }


def _baseline(comparison: Comparison) -> list[ControlRow]:
    meaning = (
        "A comparison, not part of the verdict: a student trained for as many steps in another way may keep its "
        "teacher's structure, too."
    )
    return [
        ControlRow(
            name=f"{comparison.baseline} student",
            variable=variable,
            result=_reached(one.baseline, one.difference, comparison.treatment, MEASURES[comparison.measure].units),
            passed=None,
            meaning=meaning,
            mark="COMPARISON",
        )
        for variable, one in comparison.variables.items()
    ]


def _reached(level: Estimate, difference: Estimate, student: str, units: str) -> str:
    if level.value is None:
        return "none"
    result = f"reaches {interval(level, of=units)}"
    return result if difference.value is None else f"{result}; lead of {student}: {interval(difference, signed=True)}"


def _self_swap(swap: SelfSwap) -> ControlRow:
    if not swap.cases:
        meaning = (
            "Every variable reads and writes at different places, so a swap with itself is meant to change answers."
        )
        return ControlRow("self-swap", "", "none", None, meaning, "NOT AVAILABLE")
    exact = swap.changed == 0
    result = f"{swap.changed:,} of {count(swap.cases, 'case')} changed, largest difference {swap.max_difference:.2g}"
    return ControlRow("self-swap", "", result, exact, _SELF_SWAP[0 if exact else 1])


def _ceiling(found: Ceiling) -> ControlRow:
    exact = found.same == found.cases
    result = f"{found.same:,} of {count(found.cases, 'case')} the same"
    return ControlRow("teacher as its own student", "", result, exact, _CEILING[0 if exact else 1])


def interventions(alignment: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what was intervened on, in words: sites per variable, positions and sources."""
    if not alignment:
        return None

    def words(options: dict[str, Any]) -> str:
        return ", ".join(
            str(value) if name == "kind" else f"{name} {words(value) if isinstance(value, dict) else value}"
            for name, value in options.items()
        )

    variables = {
        one["name"]: {side: "; ".join(words(site) for site in one[side]) for side in ("teacher", "student")}
        for one in alignment["variables"]
    }
    rest = {name: words(alignment[name]) for name in ("positions", "sources")}
    return {"name": alignment["name"], "variables": variables, **rest}


def directions(subspaces: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return, by student, how many directions the swaps of its learned subspaces move, in words."""
    return {
        student: ", ".join(
            f"{key}: {one['directions']} of {one['neurons']} (at most {one['rank']})"
            if one["directions"] < one["rank"]
            else f"{key}: {one['directions']} of {one['neurons']}"
            for key, one in learned.items()
        )
        for student, learned in subspaces.items()
    }


def cost_cells(cost: dict[str, Any]) -> list[str]:
    """Return a step's operations, their ratio to a plain step's, and its time."""
    cells = [f"{cost['flops'] / 1e9:,.3g} GFLOP", f"{cost['flops'] / cost['plain_flops']:.2f} times"]
    return [*cells, f"{cost['step_seconds']:.3g} s" if cost["step_seconds"] else "n/a"]
