"""What results.json says of controls besides the verdict, which has those that decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from iit_toolkit.analysis.statistics.ranges import Count, Share


@dataclass(frozen=True)
class SelfSwap:
    """The self-swap control: every example swapped with itself, which must change nothing.

    Attributes:
        cases: Evaluated tokens (or examples) of the first 16 pairs, over models and variables.
        changed: How many answers changed.
        max_difference: Largest absolute change of a logit.
    """

    cases: Count
    changed: Count
    max_difference: Annotated[float, Field(ge=0)]

    def __post_init__(self) -> None:
        """Refuses more changes than cases."""
        if self.changed > self.cases:
            raise ValueError(f"{self.changed:,} of {self.cases:,} cases can't have changed")


@dataclass(frozen=True)
class Ceiling:
    """The teacher as its own student, run a second time: every answer must be the same.

    Attributes:
        cases: Evaluated tokens (or examples) of the first 16 pairs, over variables.
        same: How many answers of the two runs, both with the intervention, are equal.
    """

    cases: Count
    same: Count

    def __post_init__(self) -> None:
        """Refuses more equal answers than cases."""
        if self.same > self.cases:
            raise ValueError(f"{self.same:,} of {self.cases:,} answers can't be the same")


@dataclass(frozen=True)
class Absent:
    """A control that these models and this alignment do not allow.

    Attributes:
        control: Its name.
        variable: The variable that it is absent for; empty where it is for all.
        reason: Why.
    """

    control: str
    variable: str
    reason: Annotated[str, Field(min_length=1)]


NATURAL = 0.05
"""The share of natural states that lie off the others, by definition."""


@dataclass(frozen=True)
class OffManifold:
    """How many swapped states lie farther from natural ones than all but `NATURAL` of the natural ones do.

    Attributes:
        variable: The variable that is swapped.
        model: The student, or empty for the teacher.
        share: The share, with its interval.
    """

    variable: str
    model: str
    share: Share


@dataclass(frozen=True)
class ControlResults:
    """The entry `controls`.

    Attributes:
        self_swap: The self-swap control.
        ceiling: The teacher as its own student.
        absent: The controls that the judged student does not allow; `None` if its controls were not run.
        off_manifold: How natural the swapped states are, of teacher and judged student; empty if that was not measured.
    """

    self_swap: SelfSwap
    ceiling: Ceiling
    absent: list[Absent] | None
    off_manifold: list[OffManifold] = field(default_factory=list[OffManifold])
