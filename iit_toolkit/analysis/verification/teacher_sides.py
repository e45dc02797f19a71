"""The teacher's side of every student: one for all, unless subspaces of the teacher are learned.

Every student finds subspaces of its own in the teacher, so the teacher is swapped once for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from iit_toolkit.alignment import Alignment, ResolvedSite
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.pyvene_guard import SubspaceInterchange
from iit_toolkit.interchange.sides import SitedSide, Teacher, side_of


@dataclass(frozen=True)
class TeacherSides:
    """A teacher with what is swapped in it for every student.

    Attributes:
        side: The teacher with the sites of one student. It can swap those of the others, too.
        others: Sites of the other students, by names of their own; none if all share those of `side`.
        names: By student and variable, what the variable is called in `others`.
    """

    side: SitedSide
    others: dict[str, tuple[ResolvedSite, ...]] = field(default_factory=dict[str, tuple[ResolvedSite, ...]])
    names: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    @property
    def whole(self) -> SitedSide:
        """The teacher with the sites of all students."""
        return self.side.with_sites({**self.others, **self.side.sites}) if self.others else self.side


def teacher_sides(
    teacher: Teacher,
    alignment: Alignment,
    subspaces: Mapping[str, LearnedSubspaces | None],
    first: str | None,
    device: torch.device | None,
) -> TeacherSides:
    """Return a teacher's sides.

    Args:
        teacher: The teacher.
        alignment: The alignment.
        subspaces: The learned subspaces of every student.
        first: The student whose sites keep the names of the variables.
        device: Where a program reads its inputs.

    Raises:
        UserError: If the alignment does not fit the teacher, or subspaces are not those of the alignment.
    """
    own = None if first is None else subspaces.get(first)
    side = side_of(teacher, alignment, "teacher", device, subspaces=own)
    if not alignment.learns_in("teacher"):
        return TeacherSides(side)
    found = TeacherSides(side)
    assert own is not None  # or it was refused above
    swapped: dict[str, SubspaceInterchange] = {key: own[key] for key in own}
    for student, learned in subspaces.items():
        if student == first:
            continue
        if learned is None:
            raise UserError(f"student {student}: its learned subspaces are not given; give them in `subspaces`")
        renamed = {key: f"{student}, {key}" for key in learned}
        swapped |= {renamed[key]: learned[key] for key in learned}
        for variable, sites in side_of(teacher, alignment, "teacher", device, subspaces=learned).sites.items():
            name = found.names.setdefault(student, {})[variable] = f"{variable}, in the teacher of {student}"
            found.others[name] = tuple(
                site
                if site.subspace is None
                else replace(site, subspace=replace(site.subspace, key=renamed[site.subspace.key]))
                for site in sites
            )
    side.subspaces = swapped
    return found
