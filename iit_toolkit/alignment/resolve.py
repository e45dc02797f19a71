"""From declared sites to module paths of one live model."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.alignment.architectures import COMPONENTS, blocks, blocks_path, component_path
from iit_toolkit.alignment.sites import Place, Site
from iit_toolkit.alignment.spec import Alignment, ProgramVariable
from iit_toolkit.errors import UserError, did_you_mean, listed, shown

SideName = Literal["teacher", "student"]
OF_TEACHER = "teacher-"
"""What stands before the number of a teacher's site in the keys of learned subspaces."""


@dataclass(frozen=True)
class ResolvedSubspace:
    """The learned subspace of a site.

    Attributes:
        key: What it is called among those of an alignment: the variable's name and the site's number in it, `left/0`;
            in a teacher's, after `OF_TEACHER`, `left/teacher-0`.
        rank: How many directions it has; at most, if the boundary is learned.
        boundary: Whether training learns how many of the directions are swapped.
        shared: Whether they are orthogonal to those of the other sites of the place that say so, by one rotation.
    """

    key: str
    rank: int
    boundary: bool = False
    shared: bool = False


@dataclass(frozen=True)
class ResolvedSite:
    """One site of one live model.

    Attributes:
        write: Component, in pyvene's module-path form, whose activation is overwritten.
        read: Component whose activation is taken from the source; the same as `write` unless declared otherwise.
        ranges: Neuron ranges `[low, high)` that are swapped; `None` for the whole vector.
        restart_block: Index of the last block whose output in the base run is still good for the counterfactual run.
            The run therefore restarts just after it; `None` if it must start at the beginning.
        last_read_block: Index of the block that `read` is in, or at the input or output of. A source run need not go
            further; `None` if it is at no block.
        inside_block: Whether reading or writing happens inside a block rather than at its input or output; true if
            the model's blocks are not known.
        subspace: The learned subspace that is swapped alone, if it is one; `ranges` are `None` then.
        without: The keys of learned subspaces whose directions are not swapped, while all others are.
    """

    write: str
    read: str
    ranges: tuple[tuple[int, int], ...] | None
    restart_block: int | None
    last_read_block: int | None
    inside_block: bool
    subspace: ResolvedSubspace | None = None
    without: tuple[str, ...] = ()

    def neurons(self, width: int, device: torch.device | None = None) -> Tensor:
        """Return which of so many neurons are swapped: (D,) boolean.

        Raises:
            UserError: If a range reaches beyond them.
        """
        swapped = torch.zeros(width, dtype=torch.bool, device=device)
        for low, high in ((0, width),) if self.ranges is None else self.ranges:
            if high > width:
                raise UserError(f"site {self.write}: neurons [{low}, {high}] reach beyond its {width} neurons")
            swapped[low:high] = True
        return swapped


def split_component(component: str) -> tuple[str, str]:
    """Split a module-path component into module path (dotted) and hook kind, `input` or `output`."""
    path, _, kind = component.rpartition(".")
    return re.sub(r"\[(\d+)\]", r".\1", path), kind


def get_module(model: nn.Module, component: str) -> nn.Module:
    """Return the module a component names.

    Raises:
        UserError: If the model has no such module, naming the nearest part that exists.
    """
    path, _ = split_component(component)
    module: nn.Module = model
    walked: list[str] = []
    for part in path.split("."):
        children = dict(module.named_children())
        if part not in children:
            where = ".".join(walked) or type(model).__name__
            offered = listed(children) if children else "no submodules"
            raise UserError(f"module path {shown(component)}: {where} has no {shown(part)}; it has {offered}")
        module = children[part]
        walked.append(part)
    return module


def resolve(alignment: Alignment, model: nn.Module, side: SideName) -> dict[str, tuple[ResolvedSite, ...]]:
    """Find every site of one side of an alignment in a live model.

    Args:
        alignment: The alignment.
        model: The teacher or the student.
        side: `teacher` or `student`.

    Returns:
        The resolved sites of each variable, by name, in the declared order.

    Raises:
        UserError: If there is no such side, or a layer, component, module path or head does not exist in the model. If
            two sites of one variable write the same neurons.
    """
    if side not in get_args(SideName):
        raise UserError(f"side {side!r}: {did_you_mean(side, get_args(SideName))}")
    resolved: dict[str, tuple[ResolvedSite, ...]] = {}
    for variable in alignment.variables:
        sites = variable.teacher if side == "teacher" else variable.student
        try:
            resolved[variable.name] = tuple(
                _named(resolve_site(_site_of(one, model), model), _key(variable.name, number, side))
                for number, one in enumerate(sites)
            )
        except UserError as error:
            raise UserError(f"variable {variable.name!r}, {side}: {error}") from None
        _refuse_overlaps(resolved[variable.name], f"variable {variable.name!r}, {side}")
    return resolved


def _key(variable: str, number: int, side: SideName) -> str:
    return f"{variable}/{OF_TEACHER if side == 'teacher' else ''}{number}"


def _named(site: ResolvedSite, key: str) -> ResolvedSite:
    """Return a site with the key of its learned subspace, if it is one."""
    return site if site.subspace is None else replace(site, subspace=replace(site.subspace, key=key))


def _site_of(given: Site | ProgramVariable, model: nn.Module) -> Site:
    if isinstance(given, ProgramVariable):
        raise UserError(
            f"{given.variable!r} is a variable of a program, but there is a {type(model).__name__}; give its sites"
        )
    return given


def resolve_site(site: Site, model: nn.Module) -> ResolvedSite:
    """Find one declared site in a live model.

    Raises:
        UserError: If the layer, component, module path or head does not exist in the model.
    """
    write = _component(site, model)
    read = write if site.read is None else _component(site.read, model)
    _, cut, write_inside = _locate(write, model)
    last, _, read_inside = _locate(read, model)
    return ResolvedSite(write, read, _ranges(site, model), cut, last, write_inside or read_inside, _subspace(site))


def block_of(component: str, model: object) -> tuple[int, str] | None:
    """Split a component of a block into the block's index and what follows, such as `.output`.

    Returns:
        Index and rest; `None` for a component outside the model's blocks, or if these are not found.
    """
    try:
        path = blocks_path(model)
    except UserError:
        return None
    match = re.fullmatch(re.escape(path) + r"\[(\d+)\](\..+)", component)
    return None if match is None else (int(match[1]), match[2])


def moved(site: ResolvedSite, model: object, by: int) -> ResolvedSite | None:
    """Find the same place some blocks further up (or down, if `by` is below 0).

    Args:
        site: A site of the model.
        model: The model.
        by: How many blocks further.

    Returns:
        The site there; `None` if the model has no such place.
    """
    if not isinstance(model, PreTrainedModel):
        return None
    places: list[str] = []
    for component in (site.write, site.read):
        found = block_of(component, model)
        if found is None or not 0 <= found[0] + by < len(blocks(model)):
            return None
        places.append(f"{blocks_path(model)}[{found[0] + by}]{found[1]}")
        try:
            get_module(model, places[-1])
        except UserError:
            return None
    write, read = places
    return replace(
        site, write=write, read=read, restart_block=_locate(write, model)[1], last_read_block=_locate(read, model)[0]
    )


def _subspace(site: Site) -> ResolvedSubspace | None:
    declared = site.subspace
    if declared is None:
        return None
    return ResolvedSubspace("", declared.rank, declared.boundary == "learned", declared.rotation == "shared")


def _component(place: Place, model: nn.Module) -> str:
    if place.component in COMPONENTS:
        assert place.layer is not None
        return component_path(model, place.layer, place.component)
    get_module(model, place.component)
    path, kind = split_component(place.component)
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path) + f".{kind}"


def _locate(component: str, model: nn.Module) -> tuple[int | None, int | None, bool]:
    """Return the component's block, the last block that need not run again, and whether it is inside its block."""
    path, kind = split_component(component)
    try:
        match = re.fullmatch(re.escape(blocks_path(model)) + r"\.(\d+)(\..+)?", path)
    except UserError:  # the blocks are not known: no run can restart in the middle, and any place may be inside one
        return None, None, True
    if match is None:
        return None, None, False
    index, below = int(match[1]), match[2]
    if below is None and kind == "output":
        return index, index, False
    return index, (index - 1 if index > 0 else None), below is not None


def _ranges(site: Site, model: nn.Module) -> tuple[tuple[int, int], ...] | None:
    if site.neuron_range is not None:
        return (site.neuron_range,)
    if site.head_indices is None:
        return None
    assert isinstance(model, PreTrainedModel)  # as heads need a component of a block
    count = model.config.num_attention_heads
    width = getattr(model.config, "head_dim", None) or model.config.hidden_size // count
    outside = [head for head in site.head_indices if not 0 <= head < count]
    if outside:
        raise UserError(f"head {outside[0]}: {type(model).__name__} has heads 0 to {count - 1}")
    return tuple((head * width, (head + 1) * width) for head in site.head_indices)


def _refuse_overlaps(sites: tuple[ResolvedSite, ...], where: str) -> None:
    written: dict[str, list[tuple[float, float]]] = {}
    for site in sites:
        spans = written.setdefault(site.write, [])
        for low, high in site.ranges or ((0, float("inf")),):
            if any(low < other_high and other_low < high for other_low, other_high in spans):
                learned = any(one.subspace is not None for one in sites if one.write == site.write)
                right = "a `subspace` is one of all neurons, so give one site" if learned else "give each its own range"
                raise UserError(f"{where}: two sites write the same neurons of {site.write}; {right}")
            spans.append((low, high))
