"""An alignment as two stacks of blocks, with the places that each variable aligns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, distinct to colour-blind readers."""
SIDES = ("teacher", "student")
_INK, _GREY = "#22272e", "#b8bec6"
_MARK, _NOTHING = "■", "□"
_HEIGHT, _WIDTH = 0.62, 1.6
_MOST_NAMES = 3


@dataclass(frozen=True)
class DrawnSite:
    """Where a variable is, on one side.

    Attributes:
        block: The block; None of a module that is named by its path.
        part: What of it, in words; empty for the whole output of a block.
    """

    block: int | None
    part: str


@dataclass(frozen=True)
class DrawnVariable:
    """A variable, with its sites on both sides."""

    name: str
    teacher: tuple[DrawnSite, ...]
    student: tuple[DrawnSite, ...]

    def sites(self, side: str) -> tuple[DrawnSite, ...]:
        """Return the sites of `teacher` or `student`."""
        return self.teacher if side == "teacher" else self.student


def drawn_variables(alignment: Mapping[str, Any]) -> list[DrawnVariable]:
    """Return what is drawn of an alignment's plain data, as `Alignment.to_dict` gives it."""
    return [
        DrawnVariable(one["name"], *(tuple(_site(site) for site in one[side]) for side in SIDES))
        for one in alignment["variables"]
    ]


def ascii_stacks(alignment: Mapping[str, Any], teacher_blocks: int, student_blocks: int) -> list[str]:
    """Return the lines of two stacks of blocks, the lowest last.

    Args:
        alignment: Plain data of an alignment.
        teacher_blocks: How many blocks the teacher has.
        student_blocks: How many the student has.
    """
    variables, depths = drawn_variables(alignment), (teacher_blocks, student_blocks)
    columns = [_column(variables, side, depth) for side, depth in zip(SIDES, depths, strict=True)]
    height, width = max(map(len, columns)), max(map(len, [*columns[0], "teacher"]))
    padded = [[""] * (height - len(column)) + column for column in columns]
    rows = [list(SIDES), *zip(*padded, strict=True)]
    return [f"{left:{width}}   {right}".rstrip() for left, right in rows]


def draw_alignment(alignment: Mapping[str, Any], teacher_blocks: int, student_blocks: int, axes: Axes) -> Axes:
    """Draw two stacks of blocks, with a line between the places that a variable aligns.

    Args:
        alignment: Plain data of an alignment.
        teacher_blocks: How many blocks the teacher has.
        student_blocks: How many the student has.
        axes: Where to draw.

    Returns:
        The axes.
    """
    from matplotlib.patches import FancyBboxPatch

    places = {"teacher": 0.0, "student": 4.8}
    for (side, left), depth in zip(places.items(), (teacher_blocks, student_blocks), strict=True):
        for block in range(depth):
            shape = "round,pad=0,rounding_size=0.08"
            axes.add_patch(FancyBboxPatch((left, block), _WIDTH, _HEIGHT, boxstyle=shape, fc="white", ec=_GREY, lw=1))
            axes.text(left + _WIDTH / 2, block + _HEIGHT / 2, f"block {block}", ha="center", va="center", fontsize=8)
        axes.text(left + _WIDTH / 2, depth + 0.15, side, ha="center", va="bottom", fontsize=9, fontweight="bold")
    variables = drawn_variables(alignment)
    for number, variable in enumerate(variables):
        _draw_variable(axes, variable, COLOURS[number % len(COLOURS)], places, number)
    top = max(teacher_blocks, student_blocks)
    axes.set_xlim(-0.2, places["student"] + _WIDTH + 0.2)
    axes.set_ylim(-0.2 - 0.5 * any(_elsewhere(one) for one in variables), top + 0.9)
    axes.set_axis_off()
    return axes


def draw_places(alignment: Mapping[str, Any], axes: Axes) -> Axes:
    """Draw the places of networks without blocks, and the variables of a program, as two columns with lines between.

    Args:
        alignment: Plain data of an alignment.
        axes: Where to draw.

    Returns:
        The axes.
    """
    places = {"teacher": (0.0, "right"), "student": (2.0, "left")}
    variables = drawn_variables(alignment)
    for number, variable in enumerate(variables):
        colour, row = COLOURS[number % len(COLOURS)], -float(number)
        box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": colour, "lw": 1.6}
        axes.plot([places["teacher"][0], places["student"][0]], [row, row], color=colour, lw=1.6, zorder=0)
        for side, (left, toward) in places.items():
            text = _listed([site.part for site in variable.sites(side)])
            axes.text(left, row, text, ha=toward, va="center", fontsize=8, color=_INK, bbox=box)
        axes.text(1.0, row, variable.name, ha="center", va="center", fontsize=8, color=_INK, bbox=box)
    for side, (left, toward) in places.items():
        axes.text(left, 0.7, side, ha=toward, va="bottom", fontsize=9, fontweight="bold")
    axes.set_xlim(-2.4, 4.4)
    axes.set_ylim(-len(variables) + 0.3, 1.2)
    axes.set_axis_off()
    return axes


def _draw_variable(axes: Axes, variable: DrawnVariable, colour: str, places: Mapping[str, float], number: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    ends: list[tuple[float, float]] = []
    for side, left in places.items():
        inner = left + _WIDTH if side == "teacher" else left
        for site in variable.sites(side):
            bottom = -0.7 if site.block is None else float(site.block)
            inset = 0.05 * (number % 3)
            axes.add_patch(
                FancyBboxPatch(
                    (left + inset, bottom + inset),
                    _WIDTH - 2 * inset,
                    _HEIGHT - 2 * inset,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    fc="none",
                    ec=colour,
                    lw=2,
                )
            )
            ends.append((inner, bottom + _HEIGHT / 2))
    middle = (sum(x for x, _ in ends) / len(ends), sum(y for _, y in ends) / len(ends))
    joint = ((places["teacher"] + _WIDTH + places["student"]) / 2, middle[1])
    for end in ends:
        axes.plot([end[0], joint[0]], [end[1], joint[1]], color=colour, lw=1.6, zorder=0)
    parts = sorted({site.part for side in places for site in variable.sites(side) if site.part})
    label = variable.name + (f"\n{_listed(parts)}" if parts else "")
    box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": colour, "lw": 1}
    axes.text(*joint, label, ha="center", va="center", fontsize=8, color=_INK, bbox=box)


def _site(site: Mapping[str, Any]) -> DrawnSite:
    if "variable" in site:
        return DrawnSite(None, f"{site['variable']} of the program")
    component, layer = str(site["component"]), site.get("layer")
    if layer is None:
        return DrawnSite(None, ", ".join([component, *_neurons(site)]))
    plain = component == "block_output" or site.get("heads") is not None  # heads are of one component
    parts = [] if plain else [component.replace("_", " ")]
    parts += _neurons(site)
    if site.get("heads") is not None:
        parts.append(f"head{'s' if len(site['heads']) > 1 else ''} {', '.join(map(str, site['heads']))}")
    return DrawnSite(int(layer), ", ".join(parts))


def _neurons(site: Mapping[str, Any]) -> list[str]:
    if site.get("subspace") is not None:
        most = " at most" if site["subspace"].get("boundary") else ""
        return [f"subspace of rank {site['subspace']['rank']}{most}"]
    if site.get("neurons") is None:
        return []
    low, high = site["neurons"]
    return [f"neurons {low} to {high - 1}"]


def _column(variables: Sequence[DrawnVariable], side: str, depth: int) -> list[str]:
    rows: list[str] = []
    for block in reversed(range(depth)):
        marks = [_marked(one, site) for one in variables for site in one.sites(side) if site.block == block]
        rows.append(f"block {block:<2} {_NOTHING}" if not marks else f"block {block:<2} {_MARK} {', '.join(marks)}")
    return [*rows, *(f"{site.part} {_MARK} {one.name}" for one in variables for site in _paths(one, side))]


def _marked(variable: DrawnVariable, site: DrawnSite) -> str:
    return f"{variable.name} ({site.part})" if site.part else variable.name


def _paths(variable: DrawnVariable, side: str) -> list[DrawnSite]:
    return [site for site in variable.sites(side) if site.block is None]


def _elsewhere(variable: DrawnVariable) -> bool:
    return any(_paths(variable, side) for side in SIDES)


def _listed(parts: Sequence[str]) -> str:
    return "\n".join([*parts[:_MOST_NAMES], *(["..."] if len(parts) > _MOST_NAMES else [])])
