"""The figure of a search: teacher layers against student layers, as SVG and PNG, with its data as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from iit_toolkit.analysis.report.figures.style import STYLE, Drawing, Plot, save
from iit_toolkit.analysis.statistics.layer_matrix import Matrix, Region
from iit_toolkit.analysis.statistics.numbers import first_upper

NAME = "layers"
_REGIONS = ("outside", "inside")
_COLOURS = "PuOr_r"  # a diverging map that colour-blind readers can tell apart (ColorBrewer); white is the floor
_UNDEFINED = "#d5d9de"


def write_heatmap(matrix: Matrix, chosen: Mapping[int, int], folder: Path) -> Plot:
    """Draws the matrix and writes `folder/layers.svg`, `.png` and `.csv`.

    Args:
        matrix: Of the search.
        chosen: The map, teacher layer by student layer; its cells are framed.
        folder: Made where it does not exist.
    """
    table = _table(matrix, chosen)
    values = [value for value in table["above_floor"] if value == value]
    limit = min(1.0, max([0.05, *map(abs, values)]))  # one scale for both panels, the floor in its middle
    with matplotlib.rc_context(STYLE):
        height = 1.3 + 0.42 * matrix.teacher_layers
        figure = Figure(figsize=(2 * (2.1 + 0.95 * matrix.student_layers), height), layout="constrained")
        panels = list(figure.subplots(1, len(_REGIONS), squeeze=False)[0])
        for axes, region in zip(panels, _REGIONS, strict=True):
            _draw(axes, matrix, chosen, region, TwoSlopeNorm(0, -limit, limit))
        mappable = ScalarMappable(TwoSlopeNorm(0, -limit, limit), _COLOURS)
        bar = figure.colorbar(mappable, ax=panels, shrink=0.9)
        bar.set_ticks(
            [-limit, 0, limit], labels=[f"{-limit:.2f}", "0" if _explains(matrix) else "floor (0)", f"+{limit:.2f}"]
        )
        bar.set_label(above_floor(matrix))
        caption = f"{described(matrix)} {matrix.measured.caption} Single cells are exploratory."
        return save(folder, Drawing(NAME, figure, caption, _alt(matrix, chosen), table))


def described(matrix: Matrix) -> str:
    """Say what the cells hold, and what the colours and frames mean."""
    colour = "0, the score of a student that ignores the swap," if _explains(matrix) else "its no-intervention floor"
    colour = f"Colour: how far it is above or below {colour}; that is white."
    title = first_upper(matrix.measured.title)
    return f"{title} with a teacher layer and a student layer swapped. {colour} Framed: the chosen map."


def above_floor(matrix: Matrix) -> str:
    """Return what the colours show, in a few words."""
    return matrix.measured.title if _explains(matrix) else f"{matrix.measured.title} minus its floor"


def _explains(matrix: Matrix) -> bool:
    return matrix.measured.kind == "explained"


def _draw(axes: Axes, matrix: Matrix, chosen: Mapping[int, int], region: str, norm: TwoSlopeNorm) -> None:
    colours = matplotlib.colormaps[_COLOURS]
    for cell in matrix.cells:
        one: Region = getattr(cell, region)
        place = (cell.student_layer - 0.5, cell.teacher_layer - 0.5)
        if one.score is None or one.floor is None or one.above_floor is None:
            axes.add_patch(Rectangle(place, 1, 1, facecolor=_UNDEFINED, edgecolor="white", hatch="///", lw=1))
            text, ink = "n/a", "#22272e"
        else:
            colour = colours(norm(one.above_floor))
            axes.add_patch(Rectangle(place, 1, 1, facecolor=colour, edgecolor="white", lw=1))
            text = f"{one.score:.2f}" if _explains(matrix) else f"{one.score:.2f} (floor {one.floor:.2f})"
            red, green, blue, _ = colour
            ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "#22272e"
        axes.text(cell.student_layer, cell.teacher_layer, text, ha="center", va="center", fontsize=7.5, color=ink)
    for student_layer, teacher_layer in chosen.items():
        place = (student_layer - 0.47, teacher_layer - 0.46)
        axes.add_patch(Rectangle(place, 0.94, 0.92, fill=False, edgecolor="#22272e", lw=2.2))
    counted: list[int] = [getattr(matrix.cell(layer, 0), region).counted for layer in range(matrix.teacher_layers)]
    cases: int = getattr(matrix.cells[0], region).cases
    axes.set_title(f"{region}: n = {min(counted):,} to {max(counted):,} {matrix.measured.units} of {cases:,}")
    axes.set_xlim(-0.5, matrix.student_layers - 0.5)
    axes.set_ylim(-0.5, matrix.teacher_layers - 0.5)
    axes.set_xticks(range(matrix.student_layers))
    axes.set_yticks(range(matrix.teacher_layers), labels=[f"{layer}\nn = {n:,}" for layer, n in enumerate(counted)])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_xlabel("student layer")
    axes.set_ylabel("teacher layer")


def _table(matrix: Matrix, chosen: Mapping[int, int]) -> pd.DataFrame:
    return pd.DataFrame(list(_rows(matrix, chosen)))


def _rows(matrix: Matrix, chosen: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    for cell in matrix.cells:
        for region in _REGIONS:
            yield {
                "teacher_layer": cell.teacher_layer,
                "student_layer": cell.student_layer,
                "region": region,
                **vars(getattr(cell, region)),
                "chosen": chosen.get(cell.student_layer) == cell.teacher_layer,
            }


def _alt(matrix: Matrix, chosen: Mapping[int, int]) -> str:
    values = (
        f"teacher {cell.teacher_layer}, student {cell.student_layer}: "
        + ("undefined" if cell.outside.above_floor is None else f"{cell.outside.above_floor:+.3f}")
        for cell in matrix.cells
    )
    layers = ", ".join(f"student {student} to teacher {teacher}" for student, teacher in chosen.items())
    return f"{first_upper(above_floor(matrix))}, outside. {'; '.join(values)}. Chosen: {layers}."
