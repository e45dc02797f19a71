"""The figure of a search that was written into a run folder, as `search/`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from iit_toolkit.analysis.report.figures.layers import described, write_heatmap
from iit_toolkit.analysis.report.figures.sites import described as described_sites
from iit_toolkit.analysis.report.figures.sites import write_site_figure
from iit_toolkit.analysis.report.figures.style import Plot
from iit_toolkit.analysis.statistics.layer_matrix import SEARCH_SCHEMA, Matrix
from iit_toolkit.analysis.statistics.site_matrix import SITE_SEARCH_SCHEMA, SiteMatrix
from iit_toolkit.files.json_files import read_object, refuse_other_schema, validated
from iit_toolkit.files.plain_files import is_there
from iit_toolkit.runs.folder import RunFolder

FOLDER = "search"
MOST_LAYERS, MOST_CELLS = 200, 5000
"""Of a figure that can be read."""
_Layer = Annotated[int, Field(ge=0, lt=MOST_LAYERS)]


class _Chosen(BaseModel):
    student_layer: _Layer
    teacher_layer: _Layer


class _ChosenSite(BaseModel):
    variable: str
    site: Annotated[int, Field(ge=0)]


class Searched(BaseModel):
    """A search.json, as far as its figure needs it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    map: list[_Chosen]
    matrix: Matrix
    student: str
    teacher: str
    note: str

    @model_validator(mode="after")
    def _whole(self) -> Searched:
        teacher, student = self.matrix.teacher_layers, self.matrix.student_layers
        if not (0 < teacher <= MOST_LAYERS and 0 < student <= MOST_LAYERS and teacher * student <= MOST_CELLS):
            raise ValueError(f"matrix: it has 1 to {MOST_LAYERS} layers a side, and at most {MOST_CELLS:,} cells")
        places = [(cell.teacher_layer, cell.student_layer) for cell in self.matrix.cells]
        if places != [(t, s) for t in range(teacher) for s in range(student)]:
            raise ValueError("matrix.cells: there must be one for each two layers, in their order")
        if any(one.teacher_layer >= teacher or one.student_layer >= student for one in self.map):
            raise ValueError("map: it names a layer that there is not")
        return self


class SearchedSites(BaseModel):
    """A search.json of a search in a network, as far as its figure needs it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    map: list[_ChosenSite]
    matrix: SiteMatrix
    student: str
    teacher: str
    note: str

    @model_validator(mode="after")
    def _whole(self) -> SearchedSites:
        variables, sites = len(self.matrix.variables), len(self.matrix.sites)
        if not (0 < variables <= MOST_LAYERS and sites > 0 and variables * sites <= MOST_CELLS):
            raise ValueError(f"matrix: it has 1 to {MOST_LAYERS} variables, and at most {MOST_CELLS:,} cells")
        places = [(cell.variable, cell.site) for cell in self.matrix.cells]
        if places != [(variable, site) for variable in range(variables) for site in range(sites)]:
            raise ValueError("matrix.cells: there must be one for each variable and site, in their order")
        if any(one.site >= sites or one.variable not in self.matrix.variables for one in self.map):
            raise ValueError("map: it names a variable or site that there is not")
        return self


_SEARCHED = TypeAdapter(Searched)
_SEARCHED_SITES = TypeAdapter(SearchedSites)


def read_stored_search(run: RunFolder) -> list[Plot]:
    """Draws the figure of the search into the figures of the run, and returns it; nothing where there was no search.

    It is drawn from the numbers in search.json. The figures beside that file are never put into a page: anybody may
    have written them.

    Raises:
        UserError: If the search is not whole.
    """
    file = run.path / FOLDER / "search.json"
    if not is_there(file):
        return []
    document = read_object(file)
    if document.get("schema") == SITE_SEARCH_SCHEMA:
        sites = validated(file, document, _SEARCHED_SITES, "search again")
        chosen = {one.variable: sites.matrix.sites[one.site] for one in sites.map}
        plot = write_site_figure(sites.matrix, chosen, run.figures)
        return [_captioned(plot, sites, described_sites(sites.matrix))]
    refuse_other_schema(file, document, SEARCH_SCHEMA, "search again")
    found = validated(file, document, _SEARCHED, "search again")
    plot = write_heatmap(found.matrix, {one.student_layer: one.teacher_layer for one in found.map}, run.figures)
    return [_captioned(plot, found, described(found.matrix))]


def _captioned(plot: Plot, found: Searched | SearchedSites, words: str) -> Plot:
    who = f"Search of student {found.student} against teacher {found.teacher}."
    return replace(plot, caption=f"{who} {words} {found.note}")
