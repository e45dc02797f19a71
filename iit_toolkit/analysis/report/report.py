"""The report of a run folder, written from its results.json and its tables alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from iit_toolkit.analysis.report.examples import Answers, read_answers, read_examples
from iit_toolkit.analysis.report.figures.aligned import NAME as ALIGNMENT
from iit_toolkit.analysis.report.figures.controls import NAME as CONTROLS
from iit_toolkit.analysis.report.figures.of_run import write_figures
from iit_toolkit.analysis.report.figures.regions import NAME as MAP
from iit_toolkit.analysis.report.figures.style import Plot
from iit_toolkit.analysis.report.formats import find_browser, print_pdf, to_document, to_latex
from iit_toolkit.analysis.report.region_words import map_title, map_words
from iit_toolkit.analysis.report.rendering import render
from iit_toolkit.analysis.report.shown_cases import ShownCase, shown_cases
from iit_toolkit.analysis.report.shown_variables import most_shown, telling
from iit_toolkit.analysis.report.stored_search import FOLDER, read_stored_search
from iit_toolkit.analysis.report.tables import (
    SPLITS,
    changed_cases,
    chart_ends,
    columns,
    control_legend,
    control_rows,
    cost_cells,
    directions,
    interventions,
    student_rows,
)
from iit_toolkit.analysis.statistics import leak
from iit_toolkit.analysis.statistics.candidates import Inputs
from iit_toolkit.analysis.statistics.comparison import Comparison, compare
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import NETWORKS, words_for
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import EVALUATED, inputs
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.analysis.statistics.regions import RegionMap, map_regions
from iit_toolkit.analysis.statistics.results_layout import Evaluated
from iit_toolkit.analysis.statistics.stored_results import StoredResults, read_stored, refuse_other_cases
from iit_toolkit.analysis.statistics.summary import Summary, summarise
from iit_toolkit.analysis.statistics.verdict import Verdict, judge, without_controls
from iit_toolkit.analysis.statistics.verdict_words import leak_sentence
from iit_toolkit.errors import UserError, listed
from iit_toolkit.files.plain_files import is_there, read_plain, refuse_links_out
from iit_toolkit.files.text_files import MAX_BYTES
from iit_toolkit.runs.folder import RunFolder, write_atomically, write_json

Format = Literal["html", "md", "latex", "json", "pdf"]

FILES: dict[Format, str] = {
    "html": "report.html",
    "md": "report.md",
    "latex": "report.tex",
    "json": "report.json",
    "pdf": "report.pdf",
}
_THIRDS = ("above_floor", "effects", "cases", "by_position", "by_frequency", "reliability")
"""Figures that stand three in a line."""
_TITLES = {
    ALIGNMENT: "What is aligned",
    CONTROLS: "How far the student is ahead of each control",
    "accuracy": "How often student and teacher answer alike under the swap",
    "above_floor": "How far effective IIA lies above its floor",
    "effects": "How much of the teacher's effect each student reproduces",
    "cases": "How much the swaps do, and agreement without them",
    "by_position": "By position in the input",
    "by_frequency": "By frequency of the word",
    "reliability": "With fewer inputs",
    "effect_scatter": "Teacher's change against student's, case by case",
    "training": "Loss terms of training",
    "balance": "How the terms share the gradient",
    MAP: "Where it holds, by region",
}
"""What figures show, in a few words."""
_SHOWN_CONFIG = 2**18  # characters of a config, which the page shows
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Report:
    """What a report says, whatever its form."""

    stored: StoredResults
    summary: Summary
    verdict: Verdict
    comparison: Comparison | None
    cases: list[ShownCase] | None
    regions: RegionMap
    config: str | None
    choices: Summary | None


def write_report(folder: Path, form: Format | None = None) -> Path:
    """Write the report of a run folder; no model is loaded.

    Every number is computed anew from the outcomes; results.json gives what cannot be: names, training,
    provenance, and which student is judged and compared.

    Args:
        folder: A run folder with results.json and outcomes.parquet.
        form: The form to write. `html`, `md` and `pdf` write `figures/`, too, and `pdf` writes report.html; by
            default report.html, report.md and `figures/` are written.

    Returns:
        The path of what was written; by default of report.html.

    Raises:
        UserError: If one of the two files is absent, unreadable or of another schema; for `pdf`, if there is no
            browser to print with.
    """
    browser = find_browser() if form == "pdf" else None
    report, plots = _read(folder, figures=form not in ("latex", "json"))
    if form == "latex":
        rows = student_rows(report.summary, report.verdict.student, report.verdict.measure)
        document = report.stored.document
        table = to_latex(document["name"], rows, report.summary, report.verdict, words_for(document["task"]))
        write_atomically(folder / FILES[form], table)
    elif form == "json":
        controls = control_rows(report.stored.controls, report.verdict, report.comparison)
        summary, verdict = report.summary, report.verdict
        found = report.cases or [], report.regions, report.choices
        document = to_document(report.stored.document, summary, verdict, report.comparison, controls, *found)
        write_json(folder / FILES[form], document)
    else:
        context = _context(report, plots)
        for name in (FILES["md"],) if form == "md" else (FILES["html"],) if form else (FILES["md"], FILES["html"]):
            write_atomically(folder / name, render(name, context))
    if browser is not None:
        write_atomically(folder / FILES["pdf"], print_pdf(browser, folder / FILES["html"]))
    return folder / FILES[form or "html"]


def _read(folder: Path, *, figures: bool) -> tuple[_Report, list[Plot]]:
    """Read and compute what a report says, and write the figures."""
    run = RunFolder(folder)
    read_too = (run.config, run.results, run.outcomes, run.controls, run.choices, run.examples, run.answers)
    refuse_links_out(run.path, *read_too, run.figures, run.path / FOLDER / "search.json")
    read = read_stored(run.path)
    results = read.document
    outcomes = read_outcomes(run.outcomes)
    refuse_other_cases(read, outcomes, run.outcomes)
    examples, answers = read_examples(run.examples), read_answers(run.answers)
    settings = {name: getattr(read.summary, name) for name in ("resamples", "seed", "level")}
    summary = summarise(outcomes, **settings)
    controls = None if read.controls.absent is None else read_outcomes(run.controls)
    verdict = judge(
        outcomes,
        read.verdict.student,
        controls=controls,
        learned=read.learned,
        measure=read.verdict.measure,
        margin=read.verdict.margin,
        **settings,
    )
    verdict = without_controls(verdict) if controls is None else verdict
    _refuse_other_controls(read, verdict, run)
    pair = results.get("comparison")
    comparison = (
        compare(outcomes, pair["treatment"], pair["baseline"], measure=pair["measure"], **settings) if pair else None
    )
    histories = {arm: details["history"] for arm, details in results["arms"].items()}
    cases = None
    if examples is not None and answers is not None:
        cases = shown_cases(outcomes, examples, answers, verdict.student, summary.seed)
    known = Inputs(examples, *_read_as(answers))
    regions = map_regions(outcomes, verdict.student, known, measure=verdict.measure, margin=verdict.margin, **settings)
    what = (results.get("alignment"), results.get("blocks"))
    drawn = (outcomes, answers, summary, verdict, histories, run.figures, regions, *what)
    plots = write_figures(*drawn) if figures else []
    config = _config(run.config) if is_there(run.config) else None
    choices = _choices(read, run, settings) if results.get("choices") else None
    report = _Report(read, summary, verdict, comparison, cases, regions, config, choices)
    return report, [*plots, *read_stored_search(run)]


def _read_as(answers: Answers | None) -> tuple[dict[int, str], dict[int, float]]:
    """Return what answers read as, and how often they occur in a million tokens."""
    return ({}, {}) if answers is None else ({one: answers.read(one) for one in answers.texts}, answers.per_million)


def _choices(read: StoredResults, run: RunFolder, settings: Mapping[str, Any]) -> Summary:
    """Return what was measured among candidates, of the students and variables of the results."""
    choices = read_outcomes(run.choices)
    refuse_other_cases(read, choices, run.choices)
    return summarise(choices, **settings)


def _config(path: Path) -> str:
    """Return a config to be shown, its beginning if it is long."""
    text = read_plain(path, MAX_BYTES).decode(errors="replace")
    return text if len(text) <= _SHOWN_CONFIG else f"{text[:_SHOWN_CONFIG]}\n[...: {len(text):,} characters in all]"


def _refuse_other_controls(stored: StoredResults, verdict: Verdict, run: RunFolder) -> None:
    """Refuses tables without a control that the run's own verdict was held against: the new one would be easier."""
    for name, one in stored.verdict.variables.items():
        stored_names, found = ({control.name for control in each.controls} for each in (one, verdict.variables[name]))
        if stored_names != found:
            raise UserError(
                f'{run.controls}: variable "{name:.60}" has the controls {listed(sorted(found))}, but in {stored.path} '
                f"{listed(sorted(stored_names))}; verify the run again"
            )


def _context(report: _Report, plots: Sequence[Plot]) -> dict[str, Any]:
    results, summary, verdict = report.stored.document, report.summary, report.verdict
    rows = student_rows(summary, verdict.student, verdict.measure)
    words = words_for(results["task"])
    accuracies = next(iter(_evaluated(report.stored.evaluation, "accuracy").values()), {})
    shown = telling(verdict, list(dict.fromkeys(row.variable for row in rows)), most_shown(len(summary.students)))
    return {
        "results": results,
        "summary": summary,
        "verdict": verdict,
        "comparison": report.comparison,
        "several": len({row.variable for row in rows}) > 1,
        "rows": rows,
        "columns": columns(verdict.measure, words),
        "words": words,
        "regions": ("outside", "inside", "all") if words.region else ("all",),
        "choice_rows": [] if report.choices is None else student_rows(report.choices, verdict.student, verdict.measure),
        "title": MEASURES[verdict.measure].title,
        "units": MEASURES[verdict.measure].units,
        "splits": SPLITS,
        "changed_cases": changed_cases,
        "split_rows": [row for row in rows if row.variable in shown],
        "controls": control_rows(report.stored.controls, verdict, report.comparison),
        "legend": control_legend(verdict),
        "leaks": verdict.leaks,
        "leak": leak,
        "leak_sentence": " ".join(leak_sentence(verdict.leaks)),
        "arms": results["arms"],
        "costs": {arm: cost_cells(details["cost"]) for arm, details in results["arms"].items()},
        "interventions": interventions(results.get("alignment")),
        "directions": directions(results.get("subspaces", {})),
        "evaluation": {
            measure: sets for measure in EVALUATED if (sets := _evaluated(report.stored.evaluation, measure))
        },
        "digits": EVALUATED,
        "of_text": results["task"] != NETWORKS,
        "has_perplexity": results["task"] != NETWORKS and not accuracies,
        "accuracies": accuracies,
        "program": results.get("program"),
        "chain": report.stored.chain,
        "plots": [plot for plot in plots if plot.name not in (MAP, ALIGNMENT, CONTROLS)],
        "alignment_plots": [plot for plot in plots if plot.name == ALIGNMENT],
        "control_plots": [plot for plot in plots if plot.name == CONTROLS],
        "figure_titles": _TITLES,
        "map_plots": [plot for plot in plots if plot.name == MAP],
        "map_rows": [one for one in report.regions.told if one.variable in shown],
        "map_words": map_words(report.regions, shown, words),
        "map_title": map_title(report.regions),
        "map_units": MEASURES[report.regions.measure].units,
        "thirds": _THIRDS,
        "cases": report.cases,
        "config": report.config,
        "ends": chart_ends(summary, verdict.measure),
        "warnings": _warnings(report),
        "judged": summary.students[verdict.student],
        "tested": inputs(max((row.measured.iia.all for row in rows), key=lambda one: one.clusters)),
    }


def _evaluated(evaluation: dict[str, Evaluated], measure: str) -> dict[str, dict[str, Estimate]]:
    """One measure of every model, by held-out set."""
    measured = {name: getattr(found, measure) for name, found in evaluation.items()}
    return {name: models for name, models in measured.items() if models}


def _warnings(report: _Report) -> list[str]:
    warnings: list[str] = []
    label, again = report.stored.verdict.label, report.stored.controls.ceiling
    if report.stored.controls.self_swap.changed:
        warnings.append("The self-swap control failed: no number on this page can be trusted.")
    if again.same != again.cases:
        warnings.append("The teacher does not agree with itself: runs are not deterministic.")
    if label != report.verdict.label:
        warnings.append(
            f"results.json says {label}; the outcomes table, shown here, gives {report.verdict.label}. "
            "One of the two files is stale: verify the run again."
        )
    elif (differs := _differs(report.stored.summary, report.summary, report.verdict.measure)) is not None:
        title = f"{MEASURES[report.verdict.measure].title}{words_for(report.stored.document['task']).region}"
        warnings.append(
            f"results.json has another {title} than the outcomes table, shown here, first of {differs}. "
            "One of the two files is stale: verify the run again."
        )
    return warnings


def _differs(stored: Summary, found: Summary, measure: str) -> str | None:
    """Return the first student and variable of which a measure outside is not the same in two summaries."""
    for student, one in stored.students.items():
        for variable, measured in one.variables.items():
            again = found.students[student].variables[variable]
            values = [each.estimate(measure).value for each in (measured, again)]
            if None in values and values != [None, None]:
                return f"{student}, {variable}"
            if None not in values and abs(cast(float, values[0]) - cast(float, values[1])) > _ROUNDING:
                return f"{student}, {variable}"
    return None
