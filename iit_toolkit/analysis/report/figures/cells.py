"""Cells of a search's matrix: coloured by how far a measure is above its floor, with the figure written in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from iit_toolkit.analysis.report.figures.style import INK
from iit_toolkit.analysis.statistics.layer_matrix import Region
from iit_toolkit.analysis.statistics.measures import Measure

_COLOURS = "PuOr_r"  # a diverging map that colour-blind readers can tell apart (ColorBrewer); white is the floor
_UNDEFINED = "#d5d9de"


def scale_of(values: Iterable[float]) -> TwoSlopeNorm:
    """Return one scale for all panels, with the floor in its middle; values that are undefined are NaN."""
    limit = min(1.0, max([0.05, *(abs(value) for value in values if value == value)]))
    return TwoSlopeNorm(0, -limit, limit)


def draw_cell(axes: Axes, place: tuple[int, int], one: Region, norm: TwoSlopeNorm, measure: Measure) -> None:
    """Draw a cell around its place, (x, y)."""
    x, y = place
    corner = (x - 0.5, y - 0.5)
    if one.score is None or one.floor is None or one.above_floor is None:
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=_UNDEFINED, edgecolor="white", hatch="///", lw=1))
        text, ink = "n/a", INK
    else:
        colour = matplotlib.colormaps[_COLOURS](norm(one.above_floor))
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", lw=1))
        text = f"{one.score:.2f}" if _explains(measure) else f"{one.score:.2f} (floor {one.floor:.2f})"
        red, green, blue, _ = colour
        ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK
    axes.text(x, y, text, ha="center", va="center", fontsize=7.5, color=ink)


def frame_cell(axes: Axes, place: tuple[int, int]) -> None:
    """Frame a cell: it is chosen."""
    x, y = place
    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, edgecolor=INK, lw=2.2))


def add_scale(figure: Figure, panels: Sequence[Axes], norm: TwoSlopeNorm, measure: Measure) -> None:
    """Add the scale of the colours beside the panels."""
    limit = float(norm.vmax or 0.0)
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=list(panels), shrink=0.9)
    bar.set_ticks(
        [-limit, 0, limit], labels=[f"{-limit:.2f}", "0" if _explains(measure) else "floor (0)", f"+{limit:.2f}"]
    )
    bar.set_label(above_floor(measure))


def above_floor(measure: Measure) -> str:
    """Return what the colours show, in a few words."""
    return measure.title if _explains(measure) else f"{measure.title} minus its floor"


def colours_in_words(measure: Measure) -> str:
    """Say what the colours and frames mean."""
    floor = "0, the score of a student that ignores the swap," if _explains(measure) else "its no-intervention floor"
    return f"Colour: how far it is above or below {floor}; that is white. Framed: the chosen map."


def _explains(measure: Measure) -> bool:
    return measure.kind == "explained"
