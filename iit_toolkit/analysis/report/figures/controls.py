"""The figure of the controls: how far the judged student is ahead of each, and the margin that decides."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iit_toolkit.analysis.report.figures.style import GREY, INK, PALETTE, Drawing, hover, legend
from iit_toolkit.analysis.statistics.control_words import describe_control
from iit_toolkit.analysis.statistics.input_words import InputWords
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import interval
from iit_toolkit.analysis.statistics.variable_verdict import Control
from iit_toolkit.analysis.statistics.verdict import Verdict

NAME = "controls"
_BAR = {True: PALETTE[2], False: PALETTE[1], None: GREY}
_WORDS = {True: "PASS", False: "FAIL", None: "UNDECIDED"}
_LEAST, _MOST = -1.0, 2.0
"""The axis reaches no further: a control may score far below 0."""


def controls(verdict: Verdict, names: Sequence[str], words: InputWords) -> list[Drawing]:
    """Draw the student's lead over every control as a bar with its interval, one panel per variable.

    Args:
        verdict: The verdict.
        names: The variables that are shown.
        words: For the inputs.

    Returns:
        The figure; nothing if no lead is defined.
    """
    shown = {name: found for name in names if (found := _with_leads(verdict, name))}
    if not shown:
        return []
    height = sum(0.42 * len(found) + 0.5 for found in shown.values()) + 0.6
    figure = Figure(figsize=(4.6, height), layout="constrained")
    ratios = [len(found) + 1 for found in shown.values()]
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, name in zip(panels, shown, strict=True):
        draw_controls(axes, verdict, name)
    title = MEASURES[verdict.measure].title
    panels[-1].set_xlabel(f"lead of {verdict.student} in {title}")
    legend(
        figure,
        [Line2D([], [], color=_BAR[one], lw=6, label=_WORDS[one]) for one in (True, False, None)]
        + [Line2D([], [], color=INK, lw=1, ls=(0, (4, 3)), label=f"margin ({verdict.margin:g})")],
    )
    caption = (
        f"How far {verdict.student} is ahead of each control in {title}{words.aside}{words.aside and ','} with the "
        "intervals that decide the verdict. A control is passed if its whole interval is right of the margin."
    )
    leads = [(name, control) for name, found in shown.items() for control in found]
    values = "; ".join(f"{name}, {_named(one)}: {interval(one.difference, signed=True)}" for name, one in leads)
    table = pd.DataFrame(
        {
            "variable": name,
            "control": _named(control),
            "control_scores": control.level.value,
            "lead": control.difference.value,
            "low": control.difference.low,
            "high": control.difference.high,
            "passed": _WORDS[control.passed],
        }
        for name, control in leads
    )
    return [Drawing(NAME, figure, caption, f"Lead of {verdict.student} over each control. {values}.", table)]


def draw_controls(axes: Axes, verdict: Verdict, variable: str) -> Axes:
    """Draw the student's lead over every control on given axes; all variables have one scale. Return the axes."""
    found = _with_leads(verdict, variable)
    axes.axvline(0, color=INK, lw=1)
    axes.axvline(verdict.margin, color=INK, lw=1, ls=(0, (4, 3)))
    for place, control in enumerate(found):
        lead = control.difference
        assert lead.value is not None
        shown = hover(f"{_named(control)}: {interval(lead, signed=True)}, {_WORDS[control.passed]}")
        axes.barh(place, lead.value, height=0.62, color=_BAR[control.passed], alpha=0.75, **shown)
        if lead.low is not None and lead.high is not None:
            axes.plot([lead.low, lead.high], [place, place], color=INK, lw=1.6)
    labels = [textwrap.fill(_named(control), 22) for control in found]
    axes.set_yticks(range(len(found)), labels=labels)
    axes.set_ylim(len(found) - 0.45, -0.55)
    axes.tick_params(length=0)
    judged = verdict.variables[variable]
    axes.set_title(f"{variable}: {judged.label}, n = {judged.score.cases:,}")
    leads = [one.difference for name in verdict.variables for one in _with_leads(verdict, name)]
    ends = [end for lead in leads for end in (lead.low, lead.high, lead.value) if end is not None]
    known = [0.0, verdict.margin, *ends]
    axes.set_xlim(max(_LEAST, min(known)) - 0.03, min(_MOST, max(known)) + 0.03)
    return axes


def _with_leads(verdict: Verdict, variable: str) -> list[Control]:
    """Return the controls of a variable over which the lead is defined."""
    return [one for one in verdict.variables[variable].controls if one.difference.value is not None]


def _named(control: Control) -> str:
    return describe_control(control.name)
