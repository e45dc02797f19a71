"""What an alignment file says: variables, their sites, positions and sources, and how a variable is drawn per step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from iit_toolkit.alignment.faults import PROGRAM_VARIABLE, SITE, explain
from iit_toolkit.alignment.fields import Label, Strict
from iit_toolkit.alignment.positions import DifferingPositions, Positions, SpanPositions
from iit_toolkit.alignment.sites import Site, Subspace
from iit_toolkit.config.yaml_files import dump_yaml, read_yaml
from iit_toolkit.errors import UserError, did_you_mean, listed, shown
from iit_toolkit.pictures.alignment import ascii_stacks, draw_alignment
from iit_toolkit.pictures.axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Aligned = int | Site | Sequence[int | Site]
"""What a variable is in one model: a block's number, a site, or several of either."""


def _sites(given: Aligned, where: str) -> list[Site]:
    several = given if isinstance(given, Sequence) else [given]
    for one in several:
        if isinstance(one, bool) or not isinstance(one, int | Site):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UserError(f"{where}: {shown(one)} is neither the number of a block nor a Site; give (3, 1), say")
    return [one if isinstance(one, Site) else Site.block(one) for one in several]


class ProgramVariable(Strict):
    """A variable of a program (`iit_toolkit.CausalModel`), in the place of a teacher's site: `{variable: left}`."""

    variable: Label


def _kind(given: object) -> str:
    of_program = isinstance(given, ProgramVariable) or (isinstance(given, Mapping) and "variable" in given)
    return PROGRAM_VARIABLE if of_program else SITE


TeacherPart = Annotated[
    Annotated[Site, Tag(SITE)] | Annotated[ProgramVariable, Tag(PROGRAM_VARIABLE)], Discriminator(_kind)
]


class Variable(Strict):
    """A named pair of what is aligned: sites of the teacher, or variables of a program, and sites of the student."""

    name: Label
    teacher: tuple[TeacherPart, ...] = Field(min_length=1)
    student: tuple[Site, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _teacher_is_one_kind(self) -> Variable:
        if len({type(one) for one in self.teacher}) > 1:
            raise ValueError("`teacher` names sites of a model or variables of a program, not both")
        return self


class Sources(Strict):
    """Where sources come from.

    Other rows of the base's own batch (`in_batch`), or rows drawn from the data set (`dataset`). One row of the data
    set for each row, drawn once when training begins (`fixed`). The source that the data gives with each base
    (`paired`).
    """

    kind: Literal["in_batch", "dataset", "fixed", "paired"] = "in_batch"


class Alignment(Strict):
    """The correspondence of neurons in teacher and student, and how they are swapped.

    Attributes:
        name: The alignment's name in reports.
        variables: The aligned variables; one is drawn per training step.
        positions: The token positions that are swapped.
        sources: Where source inputs come from.
        draw: `uniform`, or the probability of each variable by name.
    """

    name: Label
    variables: tuple[Variable, ...] = Field(min_length=1)
    positions: Positions = SpanPositions()
    sources: Sources = Sources()
    draw: Literal["uniform"] | dict[str, Annotated[float, Field(strict=True)]] = "uniform"

    @model_validator(mode="after")
    def _names_are_sound(self) -> Alignment:
        names = [variable.name for variable in self.variables]
        if len(set(names)) != len(names):
            twice = [name for name, count in Counter(names).items() if count > 1]
            raise ValueError(f"variable names must differ; given more than once: {listed(twice)}")
        if isinstance(self.draw, dict):
            for name in self.draw:
                if name not in names:
                    raise ValueError(f"draw names no variable {name!r}; {did_you_mean(name, names)}")
            if not all(one >= 0 for one in self.draw.values()) or not 0 < sum(self.draw.values()) < math.inf:
                raise ValueError("draw needs probabilities of 0 or more, at least one above 0")
        if isinstance(self.positions, DifferingPositions) and self.sources.kind != "paired":
            raise ValueError(
                "positions differing needs `sources: {kind: paired}`: other sources differ from their base everywhere"
            )
        return self

    @property
    def learns(self) -> bool:
        """Whether a site of either side is a learned subspace."""
        return self.learns_in("teacher") or self.learns_in("student")

    def learns_in(self, side: Literal["teacher", "student"]) -> bool:
        """Say whether a site of one side is a learned subspace."""
        return bool(self._subspaces(side))

    @property
    def learns_boundaries(self) -> bool:
        """Whether a site of either side is a learned subspace with a learned boundary."""
        found = [*self._subspaces("teacher"), *self._subspaces("student")]
        return any(one.boundary is not None for one in found)

    def _subspaces(self, side: Literal["teacher", "student"]) -> list[Subspace]:
        parts = [part for one in self.variables for part in (one.teacher if side == "teacher" else one.student)]
        return [part.subspace for part in parts if isinstance(part, Site) and part.subspace is not None]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probability of each variable, in order, summing to 1."""
        if self.draw == "uniform":
            return (1 / len(self.variables),) * len(self.variables)
        total = sum(self.draw.values())
        return tuple(self.draw.get(variable.name, 0.0) / total for variable in self.variables)

    @classmethod
    def pairs(
        cls,
        name: str = "aligned",
        /,
        *,
        positions: Positions | Mapping[str, Any] | str = "span",
        sources: str = "in_batch",
        draw: Mapping[str, float] | Literal["uniform"] = "uniform",
        **variables: tuple[Aligned | str, Aligned],
    ) -> Alignment:
        """Return the alignment of pairs of places, one pair per variable: `Alignment.pairs(middle=(3, 1))`.

        Args:
            name: The alignment's name in reports.
            positions: The token positions that are swapped: a policy, its fields, or its kind alone.
            sources: Where source inputs come from: `in_batch`, `dataset`, `fixed` or `paired`.
            draw: `uniform`, or the probability of each variable by name.
            **variables: Of each variable, what is aligned in teacher and student: the number of a block, a site, or
                several of either. If the teacher is a program, the name of its variable.

        Raises:
            UserError: If a variable is not such a pair, or does not fit.
        """
        rows: list[dict[str, Any]] = []
        for variable, pair in variables.items():
            if not isinstance(pair, tuple) or len(pair) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UserError(f"variable {variable}: give a pair, (teacher, student), such as {variable}=(3, 1)")
            where, (teacher, student) = f"variable {variable}", pair
            of_teacher = [{"variable": teacher}] if isinstance(teacher, str) else _sites(teacher, where)
            rows.append({"name": variable, "teacher": of_teacher, "student": _sites(student, where)})
        if not rows:
            raise UserError("an alignment needs a variable; give one, such as middle=(3, 1)")
        policy = {"kind": positions} if isinstance(positions, str) else positions
        content: dict[str, Any] = {"name": name, "variables": rows, "positions": policy, "sources": {"kind": sources}}
        return cls.from_dict({**content, "draw": dict(draw) if isinstance(draw, Mapping) else draw})

    @classmethod
    def from_dict(cls, content: Any, where: str = "alignment") -> Alignment:
        """Build an alignment from plain data.

        Raises:
            UserError: If the data does not fit, naming the place and what would be right.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(f"{where}: {explain(error, cls)}") from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Alignment:
        """Read an alignment file.

        Raises:
            UserError: If the file cannot be read, is not YAML, or does not fit.
        """
        return cls.from_dict(read_yaml(Path(path)), str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back, without entries of sites that are at their defaults."""
        content = self.model_dump(mode="json", by_alias=True)
        content["variables"] = [
            variable.model_dump(mode="json", by_alias=True, exclude_none=True) for variable in self.variables
        ]
        content["positions"] = self.positions.model_dump(mode="json", exclude_none=True)
        return content

    def to_yaml(self) -> str:
        """Return the alignment file's text, which `from_yaml` reads back as an equal alignment."""
        return dump_yaml(self.to_dict())

    def ascii(self, teacher: int, student: int) -> str:
        """Return a drawing of both stacks of blocks for a terminal.

        Args:
            teacher: How many blocks the teacher has.
            student: How many the student has.
        """
        return "\n".join(ascii_stacks(self.to_dict(), teacher, student))

    def plot(self, teacher: Any, student: Any, ax: Axes | None = None) -> Axes:
        """Draw both stacks of blocks, and what each variable aligns.

        Args:
            teacher: The teacher, or how many blocks it has. A program, or a network of torch, has none.
            student: The student, or how many blocks it has.
            ax: Where to draw; if absent, a new figure of pyplot, which a notebook shows.

        Returns:
            The axes.
        """
        of_teacher, of_student = map(_blocks, (teacher, student))
        axes = new_axes((5.2, 0.5 * max(of_teacher, of_student) + 0.8)) if ax is None else ax
        return draw_alignment(self.to_dict(), of_teacher, of_student, axes)


def _blocks(model: Any) -> int:
    """Return how many blocks a model has, or the number itself; none of what is no model of transformers."""
    return model if isinstance(model, int) else int(getattr(getattr(model, "config", None), "num_hidden_layers", 0))


def refuse_no_alignment(given: object) -> None:
    """Refuse what is no alignment, such as the name of a preset, which configs take.

    Raises:
        UserError: If it is none.
    """
    if not isinstance(given, Alignment):
        raise UserError(
            f"the alignment is {shown(given)}; give an iit.Alignment, such as iit.preset(name, teacher, student) or "
            "iit.Alignment.from_yaml(file)"
        )
