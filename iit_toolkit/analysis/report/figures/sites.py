"""The figure of a search in a network: its sites against the variables, as SVG and PNG, with its data as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import pandas as pd
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
from iit_toolkit.analysis.statistics.numbers import first_upper
from iit_toolkit.analysis.statistics.site_matrix import SearchedSite, SiteMatrix

NAME = "sites"
MOST_SITES = 40
"""Rows of a figure that can be read; the data have all."""
_LONGEST = 32  # characters of a label


def write_site_figure(matrix: SiteMatrix, chosen: Mapping[str, SearchedSite], folder: Path) -> Plot:
    """Draws the matrix and writes `folder/sites.svg`, `.png` and `.csv`.

    Of many sites, those are shown that are best for any variable.

    Args:
        matrix: Of the search.
        chosen: The site of every variable, framed.
        folder: Made where it does not exist.
    """
    table = _table(matrix, chosen)
    shown = _shown(matrix, chosen)
    norm = scale_of(table["above_floor"])
    with matplotlib.rc_context(STYLE):
        size = 3.6 + 1.15 * len(matrix.variables), 1.4 + 0.27 * len(shown)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        for number, variable in enumerate(matrix.variables):
            cells = matrix.of_variable(number)
            for row, site in enumerate(shown):
                draw_cell(axes, (number, row), cells[site].figures, norm, matrix.measured)
                if chosen.get(variable) == matrix.sites[site]:
                    frame_cell(axes, (number, row))
        labels = [
            f"{_short(variable)}\nn = {matrix.of_variable(number)[0].figures.counted:,}"
            for number, variable in enumerate(matrix.variables)
        ]
        axes.set_xlim(-0.5, len(matrix.variables) - 0.5)
        axes.set_ylim(len(shown) - 0.5, -0.5)  # the first module on top
        axes.set_xticks(range(len(matrix.variables)), labels=labels)
        axes.set_yticks(range(len(shown)), labels=[_short(str(matrix.sites[site])) for site in shown])
        axes.tick_params(length=0)
        axes.grid(False)
        axes.set_xlabel("variable")
        axes.set_ylabel("site of the student")
        axes.set_title(f"{len(shown):,} of {len(matrix.sites):,} sites; n: {matrix.measured.units}")
        add_scale(figure, [axes], norm, matrix.measured)
        caption = f"{described(matrix)} {matrix.measured.caption} Single cells are exploratory."
        return save(folder, Drawing(NAME, figure, caption, _alt(matrix, chosen), table))


def described(matrix: SiteMatrix) -> str:
    """Say what the cells hold, and what the colours and frames mean."""
    title = first_upper(matrix.measured.title)
    return (
        f"{title} with a variable of the teacher and a site of the student swapped. {colours_in_words(matrix.measured)}"
    )


def _shown(matrix: SiteMatrix, chosen: Mapping[str, SearchedSite]) -> list[int]:
    """Return the sites that the figure shows, in their order."""
    held = {matrix.sites.index(site) for site in chosen.values()}

    def best(site: int) -> tuple[bool, float]:
        worths = [matrix.worth(matrix.of_variable(number)[site]) for number in range(len(matrix.variables))]
        return site in held, max((worth for worth in worths if worth is not None), default=float("-inf"))

    return sorted(sorted(range(len(matrix.sites)), key=best, reverse=True)[:MOST_SITES])


def _short(label: str) -> str:
    """Return a label without its middle, if it is long."""
    half = _LONGEST // 2
    return label if len(label) <= _LONGEST else f"{label[: half - 1]}…{label[-half:]}"


def _table(matrix: SiteMatrix, chosen: Mapping[str, SearchedSite]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "variable": matrix.variables[cell.variable],
                "component": matrix.sites[cell.site].component,
                "low": (matrix.sites[cell.site].neurons or (0, 0))[0],
                "high": (matrix.sites[cell.site].neurons or (0, matrix.sites[cell.site].width))[1],
                "moved": cell.moved,
                **vars(cell.figures),
                "chosen": chosen.get(matrix.variables[cell.variable]) == matrix.sites[cell.site],
            }
            for cell in matrix.cells
        ]
    )


def _alt(matrix: SiteMatrix, chosen: Mapping[str, SearchedSite]) -> str:
    best: list[str] = []
    for variable, site in chosen.items():
        cell = matrix.of_variable(matrix.variables.index(variable))[matrix.sites.index(site)]
        worth = cell.figures.above_floor
        best.append(f"{variable} at {site}: " + ("undefined" if worth is None else f"{worth:+.3f}"))
    return f"{first_upper(above_floor(matrix.measured))}. Chosen: {'; '.join(best)}."
