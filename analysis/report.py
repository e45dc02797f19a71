"""The report of a run folder, written from its results.json and outcomes.parquet alone."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from iit_toolkit.analysis.comparison import Comparison, compare
from iit_toolkit.analysis.metrics import Behaviour, Summary, VariableSummary, summarise
from iit_toolkit.analysis.numbers import count, decimal, duration, interval
from iit_toolkit.analysis.outcomes import read_outcomes
from iit_toolkit.analysis.plots import Plot, write_figures
from iit_toolkit.analysis.statistics import Estimate
from iit_toolkit.analysis.verdict import FLOOR, Verdict, judge
from iit_toolkit.errors import UserError
from iit_toolkit.runs.folder import RunFolder, write_atomically

_REQUIRED = ("name", "created", "provenance", "seed", "data", "teacher", "arms", "summary", "verdict")


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


def write_report(folder: Path) -> Path:
    """Writes report.html, report.md and figures/ into a run folder; no model is loaded.

    Every number is computed anew from the outcomes; results.json gives what cannot be: names, training,
    provenance, and which student is judged and compared.

    Args:
        folder: A run folder with results.json and outcomes.parquet.

    Returns:
        The path of report.html.

    Raises:
        UserError: Where one of the two files is absent, unreadable or of another schema.
    """
    results = RunFolder(folder).read_results()
    missing = [name for name in _REQUIRED if name not in results]
    if missing:
        raise UserError(f"{folder / 'results.json'}: no {', '.join(missing)}; verify the run again")
    outcomes = read_outcomes(folder / "outcomes.parquet")
    settings = {name: results["summary"][name] for name in ("resamples", "seed", "level")}
    summary = summarise(outcomes, **settings)
    stored = results["verdict"]
    verdict = judge(outcomes, stored["student"], margin=stored["margin"], **settings)
    pair = results.get("comparison")
    comparison = compare(outcomes, pair["treatment"], pair["baseline"], **settings) if pair else None
    histories = {arm: details["history"] for arm, details in results["arms"].items()}
    plots = write_figures(summary, histories, verdict.margin, folder / "figures")
    context = _context(results, summary, verdict, comparison, plots)
    for name in ("report.md", "report.html"):
        text = _environment().get_template(f"{name}.j2").render(context)
        write_atomically(folder / name, text)
    return folder / "report.html"


def _context(
    results: dict[str, Any],
    summary: Summary,
    verdict: Verdict,
    comparison: Comparison | None,
    plots: Sequence[Plot],
) -> dict[str, Any]:
    rows = _rows(summary, verdict.student)
    return {
        "results": results,
        "summary": summary,
        "verdict": verdict,
        "comparison": comparison,
        "several": len({row.variable for row in rows}) > 1,
        "rows": rows,
        "controls": _controls(results, verdict),
        "arms": results["arms"],
        "costs": {arm: _cost_cells(details.get("cost")) for arm, details in results["arms"].items()},
        "interventions": _interventions(results.get("alignment")),
        "evaluation": {
            name: {model: Estimate(**one) for model, one in measured["perplexity"].items()}
            for name, measured in (results.get("evaluation") or {}).items()
        },
        "plots": plots,
        "ceiling": _ceiling(summary),
        "warnings": _warnings(results, verdict),
        "judged": summary.students[verdict.student],
        "bases": max(row.measured.iia.all.clusters for row in rows),
    }


def _interventions(alignment: dict[str, Any] | None) -> dict[str, Any] | None:
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


def _rows(summary: Summary, judged: str) -> list[Row]:
    ceiling = _ceiling(summary)
    return [
        Row(
            student=name,
            variable=variable,
            judged=name == judged,
            measured=measured,
            behaviour=student.behaviour,
            strip=_strip(measured, ceiling),
        )
        for variable in dict.fromkeys(v for one in summary.students.values() for v in one.variables)
        for name, student in summary.students.items()
        if (measured := student.variables.get(variable)) is not None
    ]


def _ceiling(summary: Summary) -> float:
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


def _controls(results: dict[str, Any], verdict: Verdict) -> list[ControlRow]:
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


def _warnings(results: dict[str, Any], verdict: Verdict) -> list[str]:
    warnings: list[str] = []
    swap = (results.get("controls") or {}).get("self_swap")
    if swap and swap["changed"]:
        warnings.append("The self-swap control failed: no number on this page can be trusted.")
    if results["verdict"].get("label") != verdict.label:
        warnings.append(
            f"results.json says {results['verdict'].get('label')}; the outcomes table, shown here, gives "
            f"{verdict.label}. One of the two files is stale: verify the run again."
        )
    return warnings


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("iit_toolkit.analysis", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        interval=interval,
        decimal=decimal,
        duration=duration,
        cell=_cell,
        bounds=_bounds,
        facts=_facts,
        base64=_base64,
    )
    return environment


def _cell(text: object) -> str:
    """Text that cannot break out of a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _facts(facts: dict[str, Any]) -> str:
    """`cores 2, cuda none` of a dictionary of facts; lists are spelt out."""
    spelt = {name: ", ".join(map(str, one)) if isinstance(one, list) else one for name, one in facts.items()}
    return "; ".join(f"{name} {'none' if one in (None, '') else one}" for name, one in spelt.items())


def _cost_cells(cost: dict[str, Any] | None) -> list[str]:
    """A step's operations, their ratio to a plain step's, its time, and how near that is to the floor."""
    if cost is None:  # a run of a version that did not count them
        return ["n/a"] * 4
    cells = [f"{cost['flops'] / 1e9:,.3g} GFLOP", f"{cost['flops'] / cost['plain_flops']:.2f} times"]
    if not cost["step_seconds"]:
        return [*cells, "n/a", "n/a"]
    return [*cells, f"{cost['step_seconds']:.3g} s", f"{cost['floor_seconds'] / cost['step_seconds']:.0%}"]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _bounds(estimate: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """Only the interval of an estimate, for the small print under its value; empty where it has none."""
    if estimate.value is None or estimate.low is None:
        return ""
    return interval(estimate, digits, signed=signed).split(" ", 1)[1]
