"""The figure of what an alignment aligns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from iit_toolkit.analysis.report.figures.style import Drawing
from iit_toolkit.pictures.alignment import DrawnVariable, draw_alignment, draw_places, drawn_variables

NAME = "alignment"


_MOST_BLOCKS = 100


def aligned(alignment: Mapping[str, Any], blocks: Mapping[str, int], student: str) -> list[Drawing]:
    """Draw both stacks of blocks, and the places that each variable aligns; nothing of models too deep for a page.

    Args:
        alignment: Of results.json.
        blocks: How many blocks each model has; of a model that is not there, blocks up to the highest aligned one.
        student: The student that is drawn.
    """
    variables = drawn_variables(alignment)
    if not blocks and not any(site.block is not None for one in variables for site in (*one.teacher, *one.student)):
        return [_places(alignment, variables, student)]
    depths = [
        blocks.get(name, _highest(variables, side) + 1) for side, name in (("teacher", "teacher"), ("student", student))
    ]
    if max(depths) > _MOST_BLOCKS:
        return []
    figure = Figure(figsize=(5.6, 0.4 * max(depths) + 0.7), layout="constrained")
    draw_alignment(alignment, depths[0], depths[1], figure.subplots())
    caption = (
        f"Alignment {alignment['name']}: what is swapped in the teacher, and in {student} at the same time. "
        "Inputs enter below block 0."
    )
    if len({"teacher", student} & set(blocks)) < 2:
        caption += " Blocks above the highest aligned one are not drawn."
    return [_drawing(figure, caption, variables)]


def _places(alignment: Mapping[str, Any], variables: list[DrawnVariable], student: str) -> Drawing:
    """Draw what each variable aligns in a program or in networks without blocks."""
    figure = Figure(figsize=(6.4, 0.5 * len(variables) + 0.6), layout="constrained")
    draw_places(alignment, figure.subplots())
    caption = f"Alignment {alignment['name']}: what is swapped in the teacher, and in {student} at the same time."
    return _drawing(figure, caption, variables)


def _drawing(figure: Figure, caption: str, variables: list[DrawnVariable]) -> Drawing:
    rows = [
        {"variable": one.name, "side": side, "block": site.block, "part": site.part}
        for one in variables
        for side in ("teacher", "student")
        for site in one.sites(side)
    ]
    alt = "; ".join(
        f"{one.name}: teacher {_blocks(one, 'teacher')}, student {_blocks(one, 'student')}" for one in variables
    )
    return Drawing(NAME, figure, caption, f"What is aligned. {alt}.", pd.DataFrame(rows))


def _highest(variables: list[DrawnVariable], side: str) -> int:
    return max((site.block or 0 for one in variables for site in one.sites(side)), default=0)


def _blocks(variable: DrawnVariable, side: str) -> str:
    return ", ".join(site.part if site.block is None else f"block {site.block}" for site in variable.sites(side))
