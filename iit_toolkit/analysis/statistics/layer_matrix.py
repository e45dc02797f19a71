"""Every teacher layer against every student layer: what a search measured, as its figure shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from iit_toolkit.analysis.statistics.ranges import Count

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Region:
    """One cell's figures inside or outside the swapped positions; None where too few cases are changed.

    Attributes:
        cases: Evaluated cases.
        changed: Cases in which the teacher's swap changes its own answer.
        bases: Base examples that the changed cases come from.
        effective_iia: Share of the changed cases in which the swapped student gives the swapped teacher's answer.
        floor: Share in which the student's answer without intervention is that answer already.
        above_floor: The difference.
    """

    cases: Count
    changed: Count
    bases: Count
    effective_iia: _Share | None
    floor: _Share | None
    above_floor: Annotated[float, Field(ge=-1, le=1)] | None


@dataclass(frozen=True)
class Cell:
    """A teacher layer against a student layer.

    Attributes:
        teacher_layer: The teacher's block, from 0.
        student_layer: The student's.
        moved: Base examples in which the student's swap changes the student's own answer outside.
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
        teacher_layers: Number of blocks of the teacher.
        student_layers: Number of blocks of the student.
        minimum_bases: A cell's figures are undefined where its changed cases come from fewer base examples.
        cells: One per pair of layers, student layers varying fastest.
    """

    teacher_layers: int
    student_layers: int
    minimum_bases: int
    cells: tuple[Cell, ...]

    def cell(self, teacher_layer: int, student_layer: int) -> Cell:
        """Return one cell."""
        return self.cells[teacher_layer * self.student_layers + student_layer]
