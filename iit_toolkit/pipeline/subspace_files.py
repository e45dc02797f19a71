"""Where the learned subspaces of a run's students are kept: beside a student, or in the run's folder `subspaces`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED
from iit_toolkit.errors import UserError
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sides import Teacher
from iit_toolkit.runs import processes
from iit_toolkit.runs.folder import RunFolder

SUBSPACES = "subspaces.safetensors"
"""The subspaces that were trained with a student, in its folder."""
_Student = TypeVar("_Student", bound=nn.Module)


def learner(trained: Iterable[tuple[str, Alignment | None]], alignment: Alignment) -> str | None:
    """Return the first arm that trains the learned sites of an alignment; `None` if none does.

    Args:
        trained: The arms, each with its alignment.
        alignment: The alignment.
    """
    return next((arm for arm, own in trained if own is not None and own.variables == alignment.variables), None)


def arm_that_learns(trained: Iterable[tuple[str, Alignment | None]], alignment: Alignment, student: str) -> str:
    """Return the arm as whose subspaces a student's are learned, which has none.

    Args:
        trained: The arms, each with its alignment.
        alignment: The alignment that is verified.
        student: The student's name.

    Raises:
        UserError: If no arm trains its learned sites.
    """
    arm = learner(trained, alignment)
    if arm is None:
        raise UserError(
            f"student {student}: its alignment has learned subspaces, but no {SUBSPACES} beside it fits, and no arm of "
            "the config trains them; give a student and a config that `run` or `export` wrote"
        )
    return arm


def kept_or_learned(
    alignment: Alignment,
    teacher: Teacher,
    students: Mapping[str, _Student],
    homes: Mapping[str, Path],
    folder: RunFolder,
    learn: Callable[[str, _Student], LearnedSubspaces],
) -> dict[str, LearnedSubspaces]:
    """Return the learned subspaces that students are verified by; those that are not kept are learned, and kept.

    All processes learn them together, and the main one writes.

    Args:
        alignment: The alignment that is verified.
        teacher: The teacher.
        students: The students by name.
        homes: Folders where the subspaces of students may be kept, by name.
        folder: The run folder; subspaces that are learned now are kept in it.
        learn: Learns those of a student, which stays as it is.

    Returns:
        Subspaces by student; none if the alignment has none.

    Raises:
        UserError: If a file with subspaces can't be read, or is a link that leads elsewhere, or as `learn` does.
    """
    found: dict[str, LearnedSubspaces] = {}
    for name, student in students.items() if alignment.learns else ():
        with processes.main_first():
            kept = kept_subspaces(alignment, teacher, student, name, homes.get(name, folder.path), folder.path)
        if kept is not None:
            found[name] = kept[0]
            continue
        found[name] = learn(name, student).decided()
        with processes.main_first():
            if processes.is_main():
                path = folder.path / _place(name)
                path.parent.mkdir(exist_ok=True)
                found[name].save(path)
    return found


def described_subspaces(subspaces: Mapping[str, LearnedSubspaces]) -> dict[str, Any]:
    """Return the entry of results that says what the subspaces of students are; empty if none are learned."""
    return {"subspaces": {name: one.described() for name, one in subspaces.items()}} if subspaces else {}


def kept_subspaces(
    alignment: Alignment, teacher: Teacher, student: nn.Module, name: str, *homes: Path
) -> tuple[LearnedSubspaces, str] | None:
    """Return the subspaces of a student that are kept in some folder, and the file's place in it; `None` if none fit.

    Args:
        alignment: The alignment that is verified.
        teacher: The teacher.
        student: The student.
        name: What the run calls it.
        homes: The student's folder, or a run folder.

    Raises:
        UserError: If a file with subspaces can't be read, or is a link that leads elsewhere.
    """
    for path, place in _files(name, homes):
        found = LearnedSubspaces.load(path)
        of_teacher = resolve(alignment, teacher, "teacher") if isinstance(teacher, nn.Module) else {}
        if found.fits(resolve(alignment, student, "student"), "student") and found.fits(of_teacher, "teacher"):
            device = next((weight.device for weight in student.parameters()), torch.device("cpu"))
            return found.to(device), place
    return None


def kept_places(alignment: Alignment, name: str, home: Path, folder: Path) -> list[str]:
    """Return where the subspaces of a student and of its control are kept, in their folders; none if none are learned.

    Args:
        alignment: The alignment that was verified.
        name: What the run calls the student.
        home: The student's folder.
        folder: The run folder.

    Raises:
        UserError: If they are not there.
    """
    if not alignment.learns:
        return []
    kept = [
        [place for _, place in _files(one, homes)] for one, homes in ((name, [home, folder]), (UNTRAINED, [folder]))
    ]
    if not all(kept):
        raise UserError(f"{folder}: the learned subspaces of {name} or of its control are not there; run it again")
    return [place for places in kept for place in places]


def _files(name: str, homes: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Return the files that may hold a student's subspaces, with their places in their folders."""
    places = [_place(name)] if name == UNTRAINED else [SUBSPACES, _place(name)]
    for home, place in itertools.product(homes, places):
        refuse_links_out(home, home / place)
        if (home / place).is_file():
            yield home / place, place


def _place(name: str) -> str:
    """Return where subspaces that were learned after a student's training are kept."""
    return f"subspaces/{name}.safetensors"
