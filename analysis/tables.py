"""The tables of a report: who was measured, by which controls, where, and at what cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from iit_toolkit.analysis.metrics import Behaviour, Summary, VariableSummary
from iit_toolkit.analysis.numbers import count, interval
from iit_toolkit.analysis.verdict import FLOOR, Verdict


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
    """One line of the table of controls."""

    name: str
    variable: str
    result: str
    passed: bool | None
    meaning: str


def student_rows(summary: Summary, judged: str) -> list[Row]:
    """The table of students: one line per variable and student."""
    end = ceiling(summary)
    return [
        Row(
            student=name,
            variable=variable,
            judged=name == judged,
            measured=measured,
            behaviour=student.behaviour,
            strip=_strip(measured, end),
        )
        for variable in dict.fromkeys(v for one in summary.students.values() for v in one.variables)
        for name, student in summary.students.items()
        if (measured := student.variables.get(variable)) is not None
    ]


def ceiling(summary: Summary) -> float:
    """Right end of the small charts in the table: the same for all rows, a multiple of 0.1."""
    split = [one for student in summary.students.values() for one in student.variables.values()]
    ends = [e for one in split for e in (one.effective_iia.outside.high, one.effective_floor.outside.value)]
    ends += [one.effective_iia.outside.value for one in split]
    return max(0.1, math.ceil(10 * max((end for end in ends if end is not None), default=1.0)) / 10)


def _strip(measured: VariableSummary, ceiling: float) -> dict[str, float] | None:
    """Per cent of the width at which the interval, the value and the floor lie."""
    effective, floor = measured.effective_iia.outside, measured.effective_floor.outside.value
    if effective.value is None or floor is None:
        return None
    ends = {
        "low": effective.value if effective.low is None else effective.low,
        "value": effective.value,
        "high": effective.value if effective.high is None else effective.high,
        "floor": floor,
    }
    return {name: 2 + 96 * end / ceiling for name, end in ends.items()}


def control_rows(results: dict[str, Any], verdict: Verdict) -> list[ControlRow]:
    """The table of controls: the self-swap, then what the verdict was held against."""
    rows: list[ControlRow] = []
    swap = (results.get("controls") or {}).get("self_swap")
    if swap:
        rows.append(_self_swap(swap))
    for variable, judged in verdict.variables.items():
        for control in judged.controls:
            kind = control.name if control.name == FLOOR else f"{control.name} student"
            result = f"reaches {interval(control.level, of='changed cases')}"
            if control.difference.value is not None:
                result += f"; {verdict.student} less that: {interval(control.difference, signed=True)}"
            rows.append(ControlRow(kind, variable, result, control.passed, control.meaning))
    return rows


def _self_swap(swap: dict[str, Any]) -> ControlRow:
    if not swap["cases"]:
        meaning = "Every variable reads elsewhere than it writes, so swapping with itself is meant to change answers."
        return ControlRow("self-swap", "", "not applicable", None, meaning)
    exact = swap["changed"] == 0
    return ControlRow(
        name="self-swap",
        variable="",
        result=f"{swap['changed']:,} of {count(swap['cases'], 'case')} changed, "
        f"largest difference {swap['max_difference']:.2g}",
        passed=exact,
        meaning="Activations swapped for themselves change no answer: what is measured is the swap."
        if exact
        else "Swapping activations for themselves changes answers: the interventions are not exact.",
    )


def interventions(alignment: dict[str, Any] | None) -> dict[str, Any] | None:
    """What was intervened on, in words: sites per variable, positions and sources."""
    if not alignment:
        return None

    def words(options: dict[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in options.items())

    variables = {
        one["name"]: {side: "; ".join(words(site) for site in one[side]) for side in ("teacher", "student")}
        for one in alignment["variables"]
    }
    rest = {name: words(alignment[name]) for name in ("positions", "sources")}
    return {"name": alignment["name"], "variables": variables, **rest}


def cost_cells(cost: dict[str, Any] | None) -> list[str]:
    """A step's operations, their ratio to a plain step's, its time, and how near that is to the floor."""
    if cost is None:  # a run of a version that did not count them
        return ["n/a"] * 4
    cells = [f"{cost['flops'] / 1e9:,.3g} GFLOP", f"{cost['flops'] / cost['plain_flops']:.2f} times"]
    if not cost["step_seconds"]:
        return [*cells, "n/a", "n/a"]
    return [*cells, f"{cost['step_seconds']:.3g} s", f"{cost['floor_seconds'] / cost['step_seconds']:.0%}"]
