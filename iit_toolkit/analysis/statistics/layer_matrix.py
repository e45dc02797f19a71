"""Every teacher layer against every student layer: what a search measured, as its figure shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from iit_toolkit.analysis.statistics.measures import JUDGED, MEASURES, Measure
from iit_toolkit.analysis.statistics.ranges import Count
from iit_toolkit.errors import did_you_mean

SEARCH_SCHEMA = "iit_toolkit/search/2"
_AtMostOne = Annotated[float, Field(le=1, allow_inf_nan=False)]


def known_measure(name: str) -> str:
    """Return the name of a measure that a search can rest on.

    Raises:
        ValueError: If there is no such measure, or no verdict rests on it.
    """
    if name not in JUDGED:
        raise ValueError(f'no search rests on "{name}", {did_you_mean(name, JUDGED)}')
    return name


@dataclass(frozen=True)
class Region:
    """One cell's figures inside or outside the swapped positions; None if they come from too few bases.

    Attributes:
        cases: Evaluated cases.
        counted: Cases that the measure counts, such as those that the teacher's swap affects.
        bases: Base examples that these cases come from.
        score: The measure.
        floor: What a student scores that does not react; 0 if the measure explains an effect.
        above_floor: The difference.
    """

    cases: Count
    counted: Count
    bases: Count
    score: _AtMostOne | None
    floor: Annotated[float, Field(ge=0, le=1)] | None
    above_floor: _AtMostOne | None


@dataclass(frozen=True)
class Cell:
    """A teacher layer against a student layer.

    Attributes:
        teacher_layer: The teacher's block, from 0.
        student_layer: The student's.
        moved: Base examples in which the student's swap moves the student outside: it changes the answer or, for
            measures of effects, the probabilities.
        outside: At positions that are not swapped; in classification, all cases.
        inside: At swapped positions.
    """

    teacher_layer: int
    student_layer: int
    moved: Count
    outside: Region
    inside: Region


@dataclass(frozen=True)
class Matrix:
    """Every teacher layer against every student layer.

    Attributes:
        measure: What the cells hold, one of `measures.JUDGED`.
        teacher_layers: Number of blocks of the teacher.
        student_layers: Number of blocks of the student.
        minimum_bases: A cell's figures are undefined if its counted cases come from fewer base examples.
        cells: One per pair of layers, student layers varying fastest.
    """

    measure: Annotated[str, AfterValidator(known_measure)]
    teacher_layers: int
    student_layers: int
    minimum_bases: int
    cells: tuple[Cell, ...]

    @property
    def measured(self) -> Measure:
        """The measure itself."""
        return MEASURES[self.measure]

    def cell(self, teacher_layer: int, student_layer: int) -> Cell:
        """Return one cell."""
        return self.cells[teacher_layer * self.student_layers + student_layer]
