"""What the controls of a verification swap: shuffled and unaligned sites.

Sites are shuffled per variable. The student is swapped there; so is the teacher, at its own such sites, to find the
cases in which the two ways of swapping can be told apart. At unaligned sites, both models are swapped: what
the alignment leaves out should matter to the student no more than it does to its teacher (in the spirit of strict
interchange intervention training, arXiv 2407.14494).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, ResolvedSite, Site, Variable
from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.alignment.resolve import block_of, moved, resolve_site
from iit_toolkit.analysis.statistics.control_results import Absent
from iit_toolkit.analysis.statistics.outcomes import OTHER_VARIABLE, RANDOM_NEURONS, UNALIGNED_NEURONS, WRONG_LAYER
from iit_toolkit.analysis.verification.cases import Pairs
from iit_toolkit.analysis.verification.measured_runs import Runs, groups
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.left_out import left_out, neuron_ranges
from iit_toolkit.interchange.sides import SitedSide

Sites = tuple[ResolvedSite, ...]
_Drawn = TypeVar("_Drawn")


@dataclass(frozen=True)
class Plan:
    """The swaps of the controls.

    Attributes:
        shuffled: Where the student is swapped, by control and variable.
        elsewhere: Where the teacher is, likewise, if it has such sites.
        teacher: The teacher's sites that correspond to the student's unaligned ones, by name.
        student: The student's unaligned sites, by the same names.
        absent: What there is not.
    """

    shuffled: dict[tuple[str, str], Sites] = field(default_factory=dict[tuple[str, str], Sites])
    elsewhere: dict[tuple[str, str], Sites] = field(default_factory=dict[tuple[str, str], Sites])
    teacher: dict[str, Sites] = field(default_factory=dict[str, Sites])
    student: dict[str, Sites] = field(default_factory=dict[str, Sites])
    absent: list[Absent] = field(default_factory=list[Absent])


class _Probed:
    """A model with its sites, and what runs on some pairs tell of it."""

    def __init__(self, side: SitedSide, batches: Sequence[Pairs]) -> None:
        self.side = side
        self._batches = batches

    @cached_property
    def widths(self) -> dict[str, int]:
        """How many neurons every place has that the variables read."""
        found: dict[str, int] = {}
        names = list(self.side.sites)
        for group in groups(names, [(self.side, {name: [name] for name in names})]):
            found |= Runs(self.side, self._batches[0], group).widths()
        return found

    def affects_unswapped_positions(self, sites: Sequence[ResolvedSite]) -> bool:
        """Say whether a swap at these sites changes hidden states outside the swapped positions of any pair."""
        side = self.side.with_sites({"probe": tuple(sites)})
        return any(Runs(side, pairs, ["probe"]).affects_unswapped_positions("probe") for pairs in self._batches)


def plan_controls(
    alignment: Alignment,
    teacher_side: SitedSide,
    student_side: SitedSide,
    batches: Sequence[Pairs],
    seed: int,
) -> Plan:
    """Choose the sites of the controls.

    * Wrong layer: the variable's sites, moved together to other blocks of the student, none onto one of its own. Of all
      such moves one is drawn. Places after which positions no longer mix (in the last block) are left out.
    * Random neurons, for sites that are neuron ranges or heads: as many other neurons (or heads) of the same places.
    * Other variable, for whole vectors: the student's sites of another variable that shares none with this one.
    * The teacher, in the same three ways: moved by the nearest number of blocks at the same relative depth, at other
      neurons, and at the sites of the same other variable.
    * Beside the alignment: every block's output, but the last, of a block that no variable is swapped in, against the
      teacher's nearest such block at the same relative depth; and, for neuron ranges and heads, the neurons of the
      same places that no variable holds, against those of the teacher's (none, where it swaps whole vectors, or is a
      program).

    Args:
        alignment: The alignment.
        teacher_side: The teacher with its sites.
        student_side: The student with its own.
        batches: Pairs, runs on which tell how wide sites are and where a swap is felt.
        seed: Of every draw.
    """
    generator = torch.Generator().manual_seed(seed)
    plan, teacher, student = Plan(), _Probed(teacher_side, batches), _Probed(student_side, batches)
    for variable in alignment.variables:
        _shuffle(plan, variable, teacher, student, generator)
    _add_blocks(plan, teacher, student)
    for variable in alignment.variables:
        _add_rest(plan, variable.name, teacher, student)
    return plan


def _shuffle(plan: Plan, variable: Variable, teacher: _Probed, student: _Probed, generator: torch.Generator) -> None:
    """Add the shuffled sites of one variable."""
    name = variable.name
    own = student.side.sites[name]
    moves = _wrong_layers(own, student)
    if moves:
        by = _drawn(list(moves), generator)
        plan.shuffled[WRONG_LAYER, name] = moves[by]
        if (there := _nearest_move(by, teacher.side.sites[name], teacher, student)) is not None:
            plan.elsewhere[WRONG_LAYER, name] = there
    else:
        reason = "the student has no other layer that these sites could be moved to and still be felt"
        plan.absent.append(Absent(WRONG_LAYER, name, reason))
    if all(site.ranges is not None for site in own):
        _shuffle_neurons(plan, variable, teacher, student, generator)
    elif len(student.side.sites) > 1:
        others = _other_variables(name, student)
        if others:
            other = _drawn(others, generator)
            plan.shuffled[OTHER_VARIABLE, name] = student.side.sites[other]
            plan.elsewhere[OTHER_VARIABLE, name] = teacher.side.sites[other]
        else:
            reason = "no other variable has sites of its own in the student that could be felt"
            plan.absent.append(Absent(OTHER_VARIABLE, name, reason))


def _shuffle_neurons(
    plan: Plan, variable: Variable, teacher: _Probed, student: _Probed, generator: torch.Generator
) -> None:
    """Add other neurons of the places of one variable, whose sites are neuron ranges or heads."""
    name, found = variable.name, dict[str, Sites | None]()
    for side, runs, sites in (("student", student, variable.student), ("teacher", teacher, variable.teacher)):
        own = runs.side.sites[name]
        if any(site.ranges is None for site in own):
            continue
        low, high = cast("tuple[tuple[int, int], ...]", own[0].ranges)[0]  # of a head, if it is heads
        unit = high - low if all(isinstance(site, Site) and site.head_indices for site in sites) else 1
        found[side] = _random_neurons(own, runs.widths, unit, generator)
    if (drawn := found["student"]) is None:
        plan.absent.append(Absent(RANDOM_NEURONS, name, "the sites leave out fewer neurons than they hold"))
        return
    plan.shuffled[RANDOM_NEURONS, name] = drawn
    if (there := found.get("teacher")) is not None:
        plan.elsewhere[RANDOM_NEURONS, name] = there


def _drawn(candidates: Sequence[_Drawn], generator: torch.Generator) -> _Drawn:
    return candidates[int(torch.randint(len(candidates), (), generator=generator))]


def _wrong_layers(own: Sites, runs: _Probed) -> dict[int, Sites]:
    """Return, by the number of blocks that sites are moved by, where they come to lie."""
    places, model = {site.write for site in own}, runs.side.model
    found: dict[int, Sites] = {}
    for by in range(-_depth(model), _depth(model) + 1):
        there = [site for one in own if (site := moved(one, model, by)) is not None]
        if len(there) == len(own) and not places & {site.write for site in there} and _affects_unswapped(there, runs):
            found[by] = tuple(there)
    return found


def _nearest_move(by: int, own: Sites, teacher: _Probed, student: _Probed) -> Sites | None:
    """Return the teacher's sites moved as far, and the same way, as the student's are; None if they cannot be."""
    moves = {one: sites for one, sites in _wrong_layers(own, teacher).items() if (one > 0) == (by > 0)}
    wanted = by * _depth(teacher.side.model) / _depth(student.side.model)
    return moves[min(moves, key=lambda one: abs(one - wanted))] if moves else None


def _random_neurons(own: Sites, widths: dict[str, int], unit: int, generator: torch.Generator) -> Sites | None:
    """Draw, at every place, as many other units of neurons as the variable holds there; None if there are too few."""
    drawn: list[ResolvedSite] = []
    for (write, read), held in _held(own, widths).items():
        units = held.view(-1, unit).any(1)
        others = (~units).nonzero()[:, 0]
        if len(others) < units.sum():
            return None
        chosen = torch.zeros_like(units)
        chosen[others[torch.randperm(len(others), generator=generator)[: int(units.sum())]]] = True
        site = next(site for site in own if (site.write, site.read) == (write, read))
        drawn.append(replace(site, ranges=neuron_ranges(chosen.repeat_interleave(unit))))
    return tuple(drawn)


def _other_variables(name: str, runs: _Probed) -> list[str]:
    """Return the variables that share no place with this one, and whose swap is felt."""
    places = {site.write for site in runs.side.sites[name]}
    return [
        other
        for other, sites in runs.side.sites.items()
        if not places & {site.write for site in sites} and _affects_unswapped(sites, runs)
    ]


def _affects_unswapped(sites: Sequence[ResolvedSite], runs: _Probed) -> bool:
    """Say whether a swap reaches other positions: in the last block, it does so before attention only."""
    model = runs.side.model
    found = [block_of(site.write, model) for site in sites]
    if any(one is None or one[0] < _depth(model) - 1 or one[1] == ".input" for one in found):
        return True
    return any(one is not None and one[1] != ".output" for one in found) and runs.affects_unswapped_positions(sites)


def _add_blocks(plan: Plan, teacher: _Probed, student: _Probed) -> None:
    """Add the unaligned blocks."""
    models = teacher.side.model, student.side.model
    of_teacher, of_student = (_free_blocks(runs) for runs in (teacher, student))
    if not of_student or not of_teacher:
        which, model = ("student", models[1]) if not of_student else ("teacher", models[0])
        reason = f"every block of the {which} is aligned" if _depth(model) else f"the {which} has no list of blocks"
        plan.absent.append(Absent("leak check of blocks", "", reason))
        return
    ratio = _depth(models[0]) / _depth(models[1])
    for block in of_student:
        nearest = min(of_teacher, key=lambda one: abs(one + 1 - (block + 1) * ratio))
        label = f"block {block} (in the teacher: block {nearest})"
        for sites, model, layer in ((plan.teacher, models[0], nearest), (plan.student, models[1], block)):
            assert isinstance(model, PreTrainedModel)  # it has blocks
            sites[label] = (resolve_site(Site(component="block_output", layer=layer), model),)


def _free_blocks(runs: _Probed) -> list[int]:
    """Blocks, but the last, whose output no variable swaps, in whole, in part, or by what it is made of."""
    found = [block_of(site.write, runs.side.model) for sites in runs.side.sites.values() for site in sites]
    taken = {index - 1 if rest == ".input" else index for index, rest in filter(None, found)}
    return [index for index in range(_depth(runs.side.model) - 1) if index not in taken]


def _add_rest(plan: Plan, variable: str, teacher: _Probed, student: _Probed) -> None:
    """Add the unaligned neurons at the places of a variable; those of variables at the same places are added once."""
    rest, teachers = (left_out(one.side, variable, one.widths) for one in (student, teacher))
    if not teachers:  # the teacher swaps whole vectors and leaves nothing over: a swap of no neurons
        teachers = (replace(teacher.side.sites[variable][0], ranges=()),)
    added = zip(plan.student.values(), plan.teacher.values(), strict=True)
    if rest and _affects_unswapped(rest, student) and (rest, teachers) not in added:
        label = f'{UNALIGNED_NEURONS} of "{variable}"'
        plan.student[label], plan.teacher[label] = rest, teachers


def _held(sites: Sites, widths: dict[str, int]) -> dict[tuple[str, str], Tensor]:
    """Return the neurons (D,) that sites hold, by place of writing and reading."""
    held: dict[tuple[str, str], Tensor] = {}
    for site in sites:
        mask = site.neurons(widths[site.read])
        key = site.write, site.read
        held[key] = held[key] | mask if key in held else mask
    return held


def _depth(model: object) -> int:
    """How many blocks a model has; 0 where they are not found."""
    try:
        return len(blocks(model))
    except UserError:
        return 0
