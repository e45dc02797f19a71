"""Every variable of a teacher against every tried site of a network: what a search measured, as its figure shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from iit_toolkit.analysis.statistics.layer_matrix import Matrix, Region, known_measure
from iit_toolkit.analysis.statistics.measures import MEASURES, Measure
from iit_toolkit.analysis.statistics.ranges import Count

SITE_SEARCH_SCHEMA = "iit_toolkit/site-search/1"


@dataclass(frozen=True)
class SearchedSite:
    """A site of a student that a search tries.

    Attributes:
        component: The path of a module, followed by `.output`.
        neurons: Range `[low, high)`; `None` for all.
        width: How many neurons the module has.
    """

    component: str
    neurons: tuple[Count, Count] | None
    width: Count

    @property
    def size(self) -> int:
        """How many neurons are swapped."""
        return self.width if self.neurons is None else self.neurons[1] - self.neurons[0]

    def __str__(self) -> str:
        """Return what tables call it, such as `1.output [0, 4)`."""
        return self.component if self.neurons is None else "{} [{}, {})".format(self.component, *self.neurons)


@dataclass(frozen=True)
class SiteCell:
    """A variable against a site.

    Attributes:
        variable: The variable's number in `SiteMatrix.variables`.
        site: The site's number in `SiteMatrix.sites`.
        moved: Base examples in which the swap of the site moves the student: it changes the answer or, for measures of
            effects, the probabilities.
        figures: The measure, over all cases.
    """

    variable: Count
    site: Count
    moved: Count
    figures: Region


@dataclass(frozen=True)
class SiteMatrix:
    """Every variable against every site.

    Attributes:
        measure: What the cells hold, one of `measures.JUDGED`.
        variables: The names of the variables.
        sites: The sites, in the order in which the modules run.
        minimum_bases: A cell's figures are undefined if its counted cases come from fewer base examples. A site whose
            swap moves the student in fewer is not eligible.
        cells: One per variable and site, sites varying fastest.
    """

    measure: Annotated[str, AfterValidator(known_measure)]
    variables: tuple[str, ...]
    sites: tuple[SearchedSite, ...]
    minimum_bases: Count
    cells: tuple[SiteCell, ...]

    @property
    def measured(self) -> Measure:
        """The measure itself."""
        return MEASURES[self.measure]

    def of_variable(self, number: int) -> tuple[SiteCell, ...]:
        """Return the cells of one variable, a site after the other."""
        return self.cells[number * len(self.sites) : (number + 1) * len(self.sites)]

    def worth(self, cell: SiteCell) -> float | None:
        """Return how far a cell is above its floor; `None` if it must not be chosen."""
        return None if cell.moved < self.minimum_bases else cell.figures.above_floor


def site_matrix(matrix: Matrix, variables: Sequence[str], sites: Sequence[SearchedSite]) -> SiteMatrix:
    """Return a matrix whose teacher layers are variables, and whose student layers are sites.

    Args:
        matrix: The matrix.
        variables: The names of its teacher layers.
        sites: What its student layers are.
    """
    cells = (SiteCell(one.teacher_layer, one.student_layer, one.moved, one.outside) for one in matrix.cells)
    return SiteMatrix(matrix.measure, tuple(variables), tuple(sites), matrix.minimum_bases, tuple(cells))
