"""The figure of a search: teacher layers against student layers, as SVG and PNG, with its data as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from iit_toolkit.analysis.report.figures.cells import (
    above_floor,
    add_scale,
    colours_in_words,
    draw_cell,
    frame_cell,
    scale_of,
)
from iit_toolkit.analysis.report.figures.style import STYLE, Drawing, Plot, save
from iit_toolkit.analysis.statistics.layer_matrix import Matrix
from iit_toolkit.analysis.statistics.numbers import first_upper

NAME = "layers"
_REGIONS = ("outside", "inside")


def write_heatmap(matrix: Matrix, chosen: Mapping[int, int], folder: Path) -> Plot:
    """Draws the matrix and writes `folder/layers.svg`, `.png` and `.csv`.

    Args:
        matrix: Of the search.
        chosen: The map, teacher layer by student layer; its cells are framed.
        folder: Made where it does not exist.
    """
    table = _table(matrix, chosen)
    norm = scale_of(table["above_floor"])
    with matplotlib.rc_context(STYLE):
        height = 1.3 + 0.42 * matrix.teacher_layers
        figure = Figure(figsize=(2 * (2.1 + 0.95 * matrix.student_layers), height), layout="constrained")
        panels = list(figure.subplots(1, len(_REGIONS), squeeze=False)[0])
        for axes, region in zip(panels, _REGIONS, strict=True):
            _draw(axes, matrix, chosen, region, norm)
        add_scale(figure, panels, norm, matrix.measured)
        caption = f"{described(matrix)} {matrix.measured.caption} Single cells are exploratory."
        return save(folder, Drawing(NAME, figure, caption, _alt(matrix, chosen), table))


def described(matrix: Matrix) -> str:
    """Say what the cells hold, and what the colours and frames mean."""
    title = first_upper(matrix.measured.title)
    return f"{title} with a teacher layer and a student layer swapped. {colours_in_words(matrix.measured)}"


def _draw(axes: Axes, matrix: Matrix, chosen: Mapping[int, int], region: str, norm: TwoSlopeNorm) -> None:
    for cell in matrix.cells:
        draw_cell(axes, (cell.student_layer, cell.teacher_layer), getattr(cell, region), norm, matrix.measured)
    for place in chosen.items():
        frame_cell(axes, place)
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
    return f"{first_upper(above_floor(matrix.measured))}, outside. {'; '.join(values)}. Chosen: {layers}."
