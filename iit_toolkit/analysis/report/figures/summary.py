"""Figures of a run's summary: accuracy, distance from the floor, correlation of effects, what was tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iit_toolkit.analysis.report.figures.style import GREY, INK, Drawing, hover, legend, student_colour
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import TOKENS, InputWords
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import interval
from iit_toolkit.analysis.statistics.quantities import Region
from iit_toolkit.analysis.statistics.summary import Summary, VariableSummary

Pick = Callable[[VariableSummary], Estimate]
_LEAST_SHOWN = -1.0  # a measure may be far below 0
_REGIONS: tuple[Region, ...] = ("outside", "inside")


def accuracy(summary: Summary, words: InputWords = TOKENS) -> Drawing:
    """IIA and effective IIA of every student with its floor, outside and inside."""
    regions: list[Region] = [r for r in _REGIONS if any(one.estimate("iia", r).cases for _, _, one in _rows(summary))]
    figure, panels = _panels(summary, regions, width=10.4)

    for (variable, region), axes in panels.items():
        draw_accuracy(axes, summary, variable, region, words)
    legend(
        figure,
        [
            Line2D([], [], color=GREY, marker="o", label="effective IIA (changed cases)"),
            Line2D([], [], color=GREY, marker="o", mfc="white", label="IIA (all cases)"),
            Line2D([], [], color=INK, marker="|", ms=11, mew=1.6, lw=0, label="floor of the changed cases"),
        ],
    )
    where = ", outside and inside the swapped positions" if words.region else ""
    caption = (
        f"Interchange intervention accuracy per student{where}, with {summary.level:.0%} intervals. "
        "A student that does not react scores its floor."
    )
    alt = _alt(summary, f"Effective IIA{words.region}", lambda one: one.effective_iia.outside)
    measures = _picked(("effective_iia", "effective_floor", "iia"), regions, words)
    return Drawing("accuracy", figure, caption, alt, _data(summary, measures))


def draw_accuracy(
    axes: Axes, summary: Summary, variable: str, region: Region = "outside", words: InputWords = TOKENS
) -> Axes:
    """Draw IIA (hollow) and effective IIA of a variable on given axes, with each student's floor; return the axes."""
    rows = _of(summary, variable)
    for place, (student, one) in enumerate(rows):
        colour = student_colour(list(summary.students), student)
        floor = one.estimate("effective_floor", region).value
        if floor is not None:
            axes.plot([floor] * 2, [place - 0.34, place + 0.34], color=INK, lw=1.6, zorder=2)
        for name, shift in (("iia", 0.16), ("effective_iia", -0.16)):
            label = f"{student}, {MEASURES[name].title}{f' {region}' if words.region else ''}"
            _point(axes, one.estimate(name, region), place + shift, colour, label, hollow=name == "iia")
    axes.set_xlim(-0.02, 1.02)
    changed, cases = (rows[0][1].estimate(name, region).cases for name in ("effective_iia", "iia"))
    axes.set_title(f"{variable}{f', {region}' if words.region else ''}: n = {changed:,} changed of {cases:,}")
    _label_students(axes, [student for student, _ in rows])
    return axes


def above_floor(summary: Summary, margin: float, words: InputWords = TOKENS) -> Drawing:
    """Effective IIA minus its floor, with the margin of the verdict."""
    figure, panels = _panels(summary, ["outside"])
    for (variable, _), axes in panels.items():
        draw_above_floor(axes, summary, variable, margin)
    legend(figure, [Line2D([], [], color=GREY, ls=(0, (4, 3)), label=f"margin of the verdict ({margin:g})")])
    caption = f"Effective IIA minus its own no-intervention floor{words.aside} (paired)."
    alt = _alt(summary, "Margin over the floor", lambda one: one.margin)
    return Drawing("above_floor", figure, caption, alt, _data(summary, {"above floor": lambda one: one.margin}))


def draw_above_floor(axes: Axes, summary: Summary, variable: str, margin: float) -> Axes:
    """Draw effective IIA minus its floor on given axes; all variables have one scale. Return the axes."""
    rows = _of(summary, variable)
    axes.axvline(0, color=INK, lw=1)
    axes.axvline(margin, color=GREY, lw=1, ls=(0, (4, 3)))
    for place, (student, one) in enumerate(rows):
        _point(axes, one.margin, place, student_colour(list(summary.students), student), f"{student}, above floor")
    axes.set_title(f"{variable}: n = {rows[0][1].margin.cases:,} changed cases")
    _label_students(axes, [student for student, _ in rows])
    ends = [end for _, _, one in _rows(summary) for end in (one.margin.low, one.margin.high) if end is not None]
    axes.set_xlim(min([*ends, 0.0]) - 0.02, max([*ends, margin]) + 0.02)
    return axes


def effects(summary: Summary, words: InputWords = TOKENS) -> Drawing:
    """Effect R² and KL recovered of every student, outside."""
    figure, panels = _panels(summary, ["outside"])
    for (variable, _), axes in panels.items():
        draw_effects(axes, summary, variable)
    legend(
        figure,
        [
            Line2D([], [], color=GREY, marker="o", label="effect R²"),
            Line2D([], [], color=GREY, marker="o", mfc="white", label="KL recovered"),
        ],
    )
    caption = (
        f"How much of the teacher's effect each student reproduces{words.aside}. "
        "1 is all of it, 0 is what a student scores that does not react."
    )
    alt = _alt(summary, "Effect R²", lambda one: one.estimate("effect_r2"))
    measures = _picked(("effect_r2", "kl_recovered"), ["outside"], words)
    return Drawing("effects", figure, caption, alt, _data(summary, measures))


def draw_effects(axes: Axes, summary: Summary, variable: str) -> Axes:
    """Draw effect R² and KL recovered (hollow) on given axes; all variables have one scale. Return the axes."""
    rows = _of(summary, variable)
    for place, (student, one) in enumerate(rows):
        colour = student_colour(list(summary.students), student)
        for name, shift in (("effect_r2", -0.16), ("kl_recovered", 0.16)):
            label = f"{student}, {MEASURES[name].title}"
            _point(axes, one.estimate(name), place + shift, colour, label, hollow=shift > 0)
    axes.axvline(0, color=INK, lw=1)
    axes.set_title(f"{variable}: n = {rows[0][1].estimate('effect_r2').cases:,} affected cases")
    _label_students(axes, [student for student, _ in rows])
    found = [one.estimate(name) for _, _, one in _rows(summary) for name in ("effect_r2", "kl_recovered")]
    least = min([0.0, *(end for one in found for end in (one.value, one.low) if end is not None)])
    axes.set_xlim(max(least, _LEAST_SHOWN) - 0.02, 1.02)
    return axes


def cases(summary: Summary, words: InputWords = TOKENS) -> Drawing:
    """How often the intervention changes the teacher's answer, and agreement without it."""
    figure, panels = _panels(summary, ["all"])
    for (variable, _), axes in panels.items():
        draw_cases(axes, summary, variable, words)
    caption = (
        "Share of cases in which the intervention changes the teacher's answer, "
        "and agreement of student and teacher without intervention."
    )
    alt = _alt(summary, "Base agreement", lambda one: one.base_agreement)
    measures = _picked(("changed",), ("inside", "outside") if words.region else ("outside",), words)
    measures["agreement"] = lambda one: one.base_agreement
    return Drawing("cases", figure, caption, alt, _data(summary, measures))


def draw_cases(axes: Axes, summary: Summary, variable: str, words: InputWords = TOKENS) -> Axes:
    """Draw how many answers change, and agreement without interventions, on given axes; return the axes."""
    rows = _of(summary, variable)
    changed = rows[0][1].changed
    bars = [("changed, inside", changed.inside, GREY)] if words.region else []
    bars.append(("changed, outside" if words.region else "changed", changed.outside, GREY))
    bars += [
        (f"agreement, {name}", one.base_agreement, student_colour(list(summary.students), name)) for name, one in rows
    ]
    for place, (label, estimate, colour) in enumerate(bars):
        shown = hover(f"{label}: {interval(estimate)}")
        axes.barh(place, estimate.value or 0.0, height=0.62, color=colour, alpha=0.8, **shown)
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=INK, lw=1.4)
    axes.set_xlim(0, 1.02)
    axes.set_title(f"{variable}: n = {rows[0][1].iia.all.cases:,} cases")
    _label_students(axes, [label for label, _, _ in bars])
    return axes


def _panels(
    summary: Summary, regions: Sequence[Region], *, width: float = 3.6
) -> tuple[Figure, dict[tuple[str, Region], Axes]]:
    names = list(dict.fromkeys(name for _, name, _ in _rows(summary)))
    height = (0.36 * len(summary.students) + 0.75) * len(names) + 0.35
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(len(names), len(regions), squeeze=False, sharey="row")
    return figure, {
        (name, region): grid[row, column] for row, name in enumerate(names) for column, region in enumerate(regions)
    }


def _point(axes: Axes, estimate: Estimate, place: float, colour: str, label: str, *, hollow: bool = False) -> None:
    if estimate.value is None:
        return
    label = f"{label}: {interval(estimate)}, n = {estimate.cases:,}"
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, lw=2.2, alpha=0.55, zorder=3)
    fill = "white" if hollow else colour
    axes.plot([estimate.value], [place], "o", color=colour, mfc=fill, ms=6, mew=1.5, zorder=4, **hover(label))


def _label_students(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), labels=list(names))
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(length=0)


def _rows(summary: Summary) -> list[tuple[str, str, VariableSummary]]:
    return [(name, v, one) for name, student in summary.students.items() for v, one in student.variables.items()]


def _of(summary: Summary, variable: str) -> list[tuple[str, VariableSummary]]:
    return [(student, one) for student, name, one in _rows(summary) if name == variable]


def _picked(names: Sequence[str], regions: Sequence[Region], words: InputWords) -> dict[str, Pick]:
    """Return measures in regions, by what the figure's table calls them."""

    def pick(name: str, region: Region) -> Pick:
        return lambda one: one.estimate(name, region)

    return {
        MEASURES[name].title + (f" {region}" if words.region else ""): pick(name, region)
        for region in regions
        for name in names
    }


def _data(summary: Summary, measures: Mapping[str, Pick]) -> pd.DataFrame:
    """One row per variable, student and measure."""
    rows = [
        {"variable": variable, "student": student, "measure": name, **asdict(pick(one))}
        for student, variable, one in _rows(summary)
        for name, pick in measures.items()
    ]
    return pd.DataFrame(rows).rename(columns={"clusters": "bases"})


def _alt(summary: Summary, what: str, pick: Pick) -> str:
    values = (
        f"{student}, {variable}: {'undefined' if pick(one).value is None else f'{pick(one).value:.3f}'}"
        for student, variable, one in _rows(summary)
    )
    return f"{what}. {'; '.join(values)}."
