"""The figure of a trace: a teacher's blocks against components, for every kind of positions."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from iit_toolkit.analysis.report.figures.style import INK, STYLE, Drawing, Plot, save
from iit_toolkit.analysis.statistics.teacher_trace import ENOUGH, POSITIONS, Trace

NAME = "trace"
_MOST_COLUMNS = 20
"""Components and heads side by side, over all panels of a line: more make a picture too wide to read."""
_COLOURS = "Blues"  # light to dark, for any reader; 0 is nearly white
CAPTION = (
    "Percentage of cases in which the teacher's answer changes if one component of one block is swapped. Framed: the "
    "place to swap."
)


def write_trace_figure(found: Trace, folder: Path) -> Plot:
    """Draw the trace, and write `folder/trace.svg`, `.png` and, with all numbers, `.csv`.

    Args:
        found: The trace.
        folder: Made if it does not exist.
    """
    values = [cell.changed.value or 0.0 for cell in found.cells]
    norm = Normalize(0, max([5 * ENOUGH, *values]))
    with matplotlib.rc_context(STYLE):
        across = max(1, min(len(found.positions), _MOST_COLUMNS // len(found.parts)))
        down = -(-len(found.positions) // across)
        size = (1.4 + across * (0.4 + 0.55 * len(found.parts)), 0.7 + down * (1.2 + 0.36 * found.layers))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        panels = list(grid.flat)
        for axes in panels[len(found.positions) :]:
            axes.remove()
        panels = panels[: len(found.positions)]
        for axes, positions in zip(panels, found.positions, strict=True):
            _draw(axes, found, positions, norm)
        for axes in panels[::across]:
            axes.set_ylabel("teacher's block")
        bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=panels, shrink=0.9, aspect=20 * down)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
        bar.set_label("answers that change")
        meanings = " ".join(f"{kind.capitalize()}: {POSITIONS[kind]}." for kind in found.positions)
        return save(folder, Drawing(NAME, figure, f"{CAPTION} {meanings}", _alt(found), found.frame()))


def _draw(axes: Axes, found: Trace, positions: str, norm: Normalize) -> None:
    colours = matplotlib.colormaps[_COLOURS]
    parts = list(dict.fromkeys(cell.place.part for cell in found.cells if cell.place.positions == positions))
    for column, part in enumerate(parts):
        for cell in found.row(part, positions):
            value = cell.changed.value or 0.0
            place = (column - 0.5, cell.place.layer - 0.5)
            axes.add_patch(Rectangle(place, 1, 1, facecolor=colours(norm(value)), edgecolor="white", lw=1))
            ink = "white" if norm(value) > 0.6 else INK
            text = f"{100 * value:.0f}"
            axes.text(column, cell.place.layer, text, ha="center", va="center", fontsize=7.5, color=ink)
        last = found.held_until(part, positions)
        if last is not None and (part, positions) == (found.main_part, found.positions[0]):
            axes.add_patch(Rectangle((column - 0.47, last - 0.46), 0.94, 0.92, fill=False, edgecolor=INK, lw=1.8))
    axes.set_title(positions)
    axes.set_xlim(-0.5, len(parts) - 0.5)
    axes.set_ylim(-0.5, found.layers - 0.5)
    axes.set_xticks(range(len(parts)), labels=[part.replace("_", "\n") for part in parts], fontsize=7.5)
    axes.set_yticks(range(found.layers))
    axes.tick_params(length=0)
    axes.grid(False)


def _alt(found: Trace) -> str:
    part, positions = found.main_part, found.positions[0]
    shares = ", ".join(f"{cell.changed.value or 0.0:.1%}" for cell in found.row(part, positions))
    return f"Share of answers that change if {part} is swapped at {positions} positions, from block 0 up: {shares}."
