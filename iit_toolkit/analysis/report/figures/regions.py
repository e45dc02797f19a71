"""The figure of regions: where a student holds, in the half of the texts that finds and in the one that confirms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iit_toolkit.analysis.report.figures.style import GREY, INK, PALETTE, Drawing, hover, legend
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import InputWords
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import first_upper, interval
from iit_toolkit.analysis.statistics.regions import Label, MappedRegion, RegionMap

NAME = "where_it_holds"
_MARKS: dict[Label, tuple[str, str]] = {
    "HOLDS": (PALETTE[2], "o"),
    "FAILS": (PALETTE[1], "s"),
    "REFUTED": (PALETTE[3], "X"),
    "NOT CONFIRMED": (GREY, "D"),
    "OPEN": (GREY, "^"),
}
_LEAST = -1.0
"""The axis ends here, or where the lowest value is: ends of intervals may lie far below."""


def where_it_holds(found: RegionMap, names: Sequence[str], words: InputWords) -> list[Drawing]:
    """Return the score of every region in both halves; nothing if no region has enough texts.

    Args:
        found: The map.
        names: The variables that are shown.
        words: For the inputs.
    """
    shown = {name: rows for name in names if (rows := [one for one in found.regions if one.variable == name])}
    if not shown:
        return []
    title = MEASURES[found.measure].title + (" above its floor" if MEASURES[found.measure].floor else "")
    heights = [0.24 * len(rows) + 0.9 for rows in shown.values()]
    figure = Figure(figsize=(10.4, sum(heights) + 0.4), layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0])
    ends = [end for rows in shown.values() for one in rows for end in _ends(one)]
    values = [value for rows in shown.values() for one in rows for value in _values(one)]
    for axes, (variable, rows) in zip(panels, shown.items(), strict=True):
        axes.axvline(0, color=INK, lw=1)
        axes.axvline(found.margin, color=GREY, lw=1, ls=(0, (4, 3)))
        for place, one in enumerate(rows):
            colour, marker = _MARKS[one.label]
            for estimate, shift, half in ((one.finding, -0.16, "finding"), (one.confirming, 0.16, "confirming")):
                text = f"{one.kind}, {one.name}, {half} half: {interval(estimate)}, {one.label}, n = {estimate.cases:,}"
                _point(axes, estimate, place + shift, colour, marker, text, hollow=half == "finding")
        axes.set_yticks(range(len(rows)), labels=[_name(one) for one in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(max(min([*ends, 0.0]), min([*values, _LEAST])) - 0.03, max([*ends, found.margin]) + 0.03)
        axes.tick_params(length=0)
        axes.set_title(f"{variable}: {sum(one.label == 'HOLDS' for one in rows)} of {len(rows)} regions hold")
    panels[-1].set_xlabel(title)
    labels = dict.fromkeys(one.label for rows in shown.values() for one in rows)
    handles = [
        Line2D([], [], color=GREY, marker="o", mfc="white", lw=0, label="half that finds"),
        Line2D([], [], color=GREY, marker="o", lw=0, label="half that confirms"),
        *(
            Line2D([], [], color=colour, marker=marker, label=label.lower())
            for label, (colour, marker) in _MARKS.items()
            if label in labels
        ),
        Line2D([], [], color=GREY, lw=1, ls=(0, (4, 3)), label=f"margin ({found.margin:g})"),
    ]
    legend(figure, handles)
    caption = (
        f"{first_upper(title)} of {found.student} by region of inputs, on two halves of the {words.texts} that share "
        f"none. Intervals of the half that finds are of {found.level:.0%}. Those of the half that confirms are "
        "corrected for the number of regions that it is asked about."
    )
    parts = "; ".join(
        f"{one.variable}, {one.kind}, {one.name}: {interval(one.finding)} and {interval(one.confirming)}, {one.label}"
        for rows in shown.values()
        for one in rows
    )
    return [
        Drawing(NAME, figure, caption, f"{first_upper(title)} by region of inputs. {parts}.", _data(shown.values()))
    ]


def _point(axes: Axes, estimate: Estimate, place: float, colour: str, marker: str, text: str, *, hollow: bool) -> None:
    if estimate.value is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, lw=1.8, alpha=0.55, zorder=3)
    fill = "white" if hollow else colour
    axes.plot([estimate.value], [place], marker, color=colour, mfc=fill, ms=5, mew=1.3, zorder=4, **hover(text))


def _name(one: MappedRegion) -> str:
    return one.name if one.kind in ("all", "position", "distance") else f"{one.kind}: {one.name}"


def _values(one: MappedRegion) -> list[float]:
    return [half.value for half in (one.finding, one.confirming) if half.value is not None]


def _ends(one: MappedRegion) -> list[float]:
    halves = (one.finding, one.confirming)
    return [end for half in halves for end in (half.low, half.high) if end is not None]


def _data(shown: Iterable[list[MappedRegion]]) -> pd.DataFrame:
    """One row per region."""
    return pd.DataFrame(
        [
            {
                "variable": one.variable,
                "kind": one.kind,
                "region": one.name,
                "cases": one.cases,
                "share_of_effect": one.share,
                "finding": one.finding.value,
                "finding_low": one.finding.low,
                "finding_high": one.finding.high,
                "found": one.found,
                "confirming": one.confirming.value,
                "confirming_low": one.confirming.low,
                "confirming_high": one.confirming.high,
                "confirming_level": one.level,
                "label": one.label,
            }
            for rows in shown
            for one in rows
        ]
    )
