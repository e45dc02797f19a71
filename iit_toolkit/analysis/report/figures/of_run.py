"""Every figure of a run, in the order in which a report shows them.

Matplotlib is imported here, in the modules whose names end in `figures`, in `plots`, `heatmap` and `seeds_figure`
(never pyplot).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import matplotlib
import pandas as pd

from iit_toolkit.analysis.report.examples import Answers
from iit_toolkit.analysis.report.figures import cases as case_figures
from iit_toolkit.analysis.report.figures import summary as summary_figures
from iit_toolkit.analysis.report.figures.aligned import aligned
from iit_toolkit.analysis.report.figures.controls import controls
from iit_toolkit.analysis.report.figures.regions import where_it_holds
from iit_toolkit.analysis.report.figures.style import STYLE, Drawing, Plot, save
from iit_toolkit.analysis.report.figures.training import History, training
from iit_toolkit.analysis.report.shown_variables import left_out, most_shown, telling
from iit_toolkit.analysis.statistics.input_words import words_of
from iit_toolkit.analysis.statistics.regions import RegionMap
from iit_toolkit.analysis.statistics.subsets import Settings
from iit_toolkit.analysis.statistics.summary import Summary
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.runs.folder import remove

_NUMBERED = re.compile(r"-[0-9]+$")


def write_figures(
    outcomes: pd.DataFrame,
    answers: Answers | None,
    summary: Summary,
    verdict: Verdict,
    histories: Mapping[str, History],
    folder: Path,
    regions: RegionMap | None = None,
    alignment: Mapping[str, Any] | None = None,
    blocks: Mapping[str, int] | None = None,
) -> list[Plot]:
    """Draws every figure there is data for and writes each as `folder/{name}.svg`, `.png` and, its data, `.csv`.

    Of many variables, the first figure of a kind shows the most telling ones; `{name}-2.svg` and so on show the others.

    Args:
        outcomes: The outcomes table.
        answers: What is known of the answers; without, there is no figure by frequency.
        summary: Of the outcomes.
        verdict: Says which student is judged, and by which margin.
        histories: Per arm the logged steps of its training (`history` of results.json).
        folder: Made where it does not exist.
        regions: Where the judged student holds; without, there is no figure of it.
        alignment: What was aligned; without, there is no figure of it.
        blocks: How many blocks each model has, as far as it is known.

    Returns:
        The first figure of each kind, in the order in which a report shows them.
    """
    every = list(dict.fromkeys(name for one in summary.students.values() for name in one.variables))
    most = most_shown(len(summary.students))
    first = telling(verdict, every, most)
    rest = [name for name in every if name not in first]
    pages = [rest[start : start + most] for start in range(0, len(rest), most)]

    def drawn(names: Sequence[str]) -> Iterator[Drawing]:
        some = cast(pd.DataFrame, outcomes[outcomes["variable"].isin(names)]) if rest else outcomes
        yield from _drawn(some, answers, _only(summary, names), verdict)
        if regions is not None:
            yield from where_it_holds(regions, names, words_of(outcomes))

    others: dict[str, list[str]] = {}
    shown: list[Plot] = []
    with matplotlib.rc_context(STYLE):
        if alignment is not None:
            shown += [save(folder, one) for one in aligned(alignment, blocks or {}, verdict.student)]
        for number, names in enumerate(pages, start=2):
            for one in drawn(names):
                others.setdefault(one.name, []).append(save(folder, replace(one, name=f"{one.name}-{number}")).name)
        for one in drawn(first):
            note = left_out(others.get(one.name, ()), len(every), verdict.student, most)
            shown.append(save(folder, replace(one, caption=one.caption + note)))
        shown += [save(folder, one) for one in training(histories)]
    _remove_others(folder, {one.name for one in shown} | {name for names in others.values() for name in names})
    return shown


def _remove_others(folder: Path, written: set[str]) -> None:
    """Remove the figures that an earlier report of more variables wrote."""
    kinds = {_NUMBERED.sub("", name) for name in written}
    for path in folder.iterdir():
        if _NUMBERED.search(path.stem) and _NUMBERED.sub("", path.stem) in kinds and path.stem not in written:
            remove(path)


def _drawn(outcomes: pd.DataFrame, answers: Answers | None, summary: Summary, verdict: Verdict) -> Iterator[Drawing]:
    settings = Settings(resamples=summary.resamples, seed=summary.seed, level=summary.level)
    shown = dict.fromkeys(name for one in summary.students.values() for name in one.variables)
    words = words_of(outcomes)
    yield summary_figures.accuracy(summary, words)
    yield from controls(verdict, [name for name in shown if name in verdict.variables], words)
    yield summary_figures.above_floor(summary, verdict.margin, words)
    yield summary_figures.effects(summary, words)
    yield summary_figures.cases(summary, words)
    yield from case_figures.position(outcomes, verdict.measure, settings)
    if answers is not None:
        yield from case_figures.frequency(outcomes, verdict.measure, answers.per_million, answers.counted_in, settings)
    if (outcomes["student"] == verdict.student).any():
        yield case_figures.reliability(outcomes, verdict, settings)
    yield case_figures.scatter(outcomes)


def _only(summary: Summary, names: Sequence[str]) -> Summary:
    """Return the summary of some variables, and of the students that were measured on any of them."""
    students = {
        student: replace(one, variables={name: found for name, found in one.variables.items() if name in names})
        for student, one in summary.students.items()
    }
    return replace(summary, students={student: one for student, one in students.items() if one.variables})
