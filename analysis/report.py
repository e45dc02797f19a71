"""The report of a run folder, written from its results.json and outcomes.parquet alone."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from iit_toolkit.analysis.comparison import Comparison, compare
from iit_toolkit.analysis.metrics import Behaviour, Summary, VariableSummary, summarise
from iit_toolkit.analysis.numbers import count, decimal, duration, interval
from iit_toolkit.analysis.outcomes import read_outcomes
from iit_toolkit.analysis.plots import Plot, write_figures
from iit_toolkit.analysis.statistics import Estimate
from iit_toolkit.analysis.verdict import FLOOR, Verdict, judge
from iit_toolkit.errors import UserError

RESULTS_SCHEMA = "iit_toolkit/results/1"
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
    results = read_results(folder / "results.json")
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
        temporary = folder / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / name)
    return folder / "report.html"


def read_results(path: Path) -> dict[str, Any]:
    """Reads results.json.

    Raises:
        UserError: Where it is absent, not JSON, of another schema or without an entry the report needs.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read; give the folder of a run that has finished") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    found = cast(dict[str, Any], results).get("schema") if isinstance(results, dict) else None
    if found != RESULTS_SCHEMA:
        raise UserError(f"{path}: the schema is {found}; this version reads {RESULTS_SCHEMA}")
    missing = [name for name in _REQUIRED if name not in results]
    if missing:
        raise UserError(f"{path}: no {', '.join(missing)}; verify the run again")
    return results


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
        "plots": plots,
        "ceiling": _ceiling(summary),
        "warnings": _warnings(results, verdict),
        "judged": summary.students[verdict.student],
        "bases": max(row.measured.iia.all.clusters for row in rows),
    }


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
        exact = swap["changed"] == 0
        rows.append(
            ControlRow(
                name="self-swap",
                variable="",
                result=f"{swap['changed']:,} of {count(swap['cases'], 'case')} changed, "
                f"largest difference {swap['max_difference']:.2g}",
                passed=exact,
                meaning="Activations swapped for themselves change no answer: what is measured is the swap."
                if exact
                else "Swapping activations for themselves changes answers: the interventions are not exact.",
            )
        )
    for variable, judged in verdict.variables.items():
        for control in judged.controls:
            kind = control.name if control.name == FLOOR else f"{control.name} student"
            result = f"reaches {interval(control.level, of='changed cases')}"
            if control.difference.value is not None:
                result += f"; {verdict.student} less that: {interval(control.difference, signed=True)}"
            rows.append(ControlRow(kind, variable, result, control.passed, control.meaning))
    return rows


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
        base64=_base64,
    )
    return environment


def _cell(text: object) -> str:
    """Text that cannot break out of a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _bounds(estimate: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """Only the interval of an estimate, for the small print under its value; empty where it has none."""
    if estimate.value is None or estimate.low is None:
        return ""
    return interval(estimate, digits, signed=signed).split(" ", 1)[1]
