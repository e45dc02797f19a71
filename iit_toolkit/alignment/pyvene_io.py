"""Alignments as pyvene configs, and back.

One `IntervenableConfig` per side holds every site as a `VanillaIntervention`, or, if it is a learned subspace, as a
`LowRankRotatedSpaceIntervention` with its weights. The sites of a variable share a
`group_key` (the variable's index), so stock pyvene swaps a variable if given a source for its group only.
A neuron range or a set of heads becomes the `subspace_partition`, and stock pyvene is set to swap every part of it.

pyvene 0.1.8 cannot write a config that was not run yet, and what it writes loads any class that the file names. So
`to_json` writes plain data: the keyword arguments of each `RepresentationConfig`, from which the config is built.
"""

from __future__ import annotations

import itertools
import json
from importlib.metadata import version
from operator import index
from typing import Any, Protocol, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from iit_toolkit.alignment.resolve import SideName, resolve
from iit_toolkit.alignment.spec import Alignment
from iit_toolkit.errors import UserError, listed, shown


class Learned(Protocol):
    """Learned subspaces by key, as `iit_toolkit.LearnedSubspaces` holds them."""

    def __getitem__(self, key: str, /) -> nn.Module:
        """Return a subspace, whose state is that of a `pyvene.LowRankRotatedSpaceIntervention`."""
        ...

    def basis(self, key: str) -> torch.Tensor:
        """Return the directions of it that are swapped, (D, k)."""
        ...

    def decided(self) -> Learned:
        """Return the same with just these directions in each."""
        ...


def to_pyvene(alignment: Alignment, model: PreTrainedModel, side: SideName, subspaces: Learned | None = None) -> Any:
    """Return the `pyvene.IntervenableConfig` of one side of an alignment, for stock pyvene.

    Args:
        alignment: The alignment.
        model: The teacher or the student.
        side: Which of them.
        subspaces: Those of the side's learned sites; the weights of the directions that are swapped are copied.

    Raises:
        UserError: If a site does not exist in the model, or reads elsewhere than it writes: pyvene cannot do that. If a
            site is learned, and no subspaces are given.
    """
    import pyvene as pv

    decided = None if subspaces is None else subspaces.decided()
    representations: list[Any] = []
    for number, sites in enumerate(resolve(alignment, model, side).values()):
        for site in sites:
            if site.read != site.write:
                raise UserError(
                    f"{site.write} reads from {site.read}: pyvene reads and writes the same place; export an "
                    "alignment without `read`"
                )
            partition = None if site.ranges is None else [list(span) for span in site.ranges]
            intervention: Any = pv.VanillaIntervention(subspace_partition=partition)
            rank = None
            if site.subspace is not None:
                intervention, rank = _rotated(site.subspace.key, site.write, decided)
            representations.append(
                pv.RepresentationConfig(
                    component=site.write,
                    unit="pos",
                    max_number_of_units=1,
                    low_rank_dimension=rank,
                    intervention=intervention,
                    subspace_partition=partition,
                    group_key=number,
                )
            )
    return pv.IntervenableConfig(representations)


def _rotated(key: str, where: str, subspaces: Learned | None) -> tuple[Any, int]:
    """Return pyvene's own intervention with the weights of a learned subspace, and its rank."""
    import pyvene as pv

    if subspaces is None:
        raise UserError(f"site {where} swaps a learned subspace, but none was given; give `subspaces`")
    basis = subspaces.basis(key)
    width, rank = basis.shape
    found = pv.LowRankRotatedSpaceIntervention(embed_dim=width, low_rank_dimension=rank, keep_last_dim=True)
    found.to(basis.device, basis.dtype).load_state_dict(subspaces[key].state_dict())
    return found, rank


def to_json(
    alignment: Alignment, model: PreTrainedModel, side: SideName, subspaces: Learned | None = None, weights: str = ""
) -> str:
    """Return one side as JSON; `representations` holds keyword arguments of `pyvene.RepresentationConfig`.

    Each representation also needs `intervention`: a `pyvene.VanillaIntervention` of its `subspace_partition`. If it has
    a `low_rank_dimension`, it needs a `pyvene.LowRankRotatedSpaceIntervention` instead, of its `embed_dim` and
    `low_rank_dimension` and with `keep_last_dim`. The state of that is in the file that `weights` names, under its
    `state` and a slash. `variables` names the variable of each `group_key`.

    Args:
        alignment: The alignment.
        model: The teacher or the student.
        side: Which of them.
        subspaces: Those of the side's learned sites.
        weights: The name of the file that `LearnedSubspaces.save` writes, if there are any.

    Raises:
        UserError: As for `to_pyvene`.
    """
    fields = ("component", "unit", "max_number_of_units", "subspace_partition", "group_key")
    sites = [site for several in resolve(alignment, model, side).values() for site in several]
    rotated = [
        {}
        if site.subspace is None or subspaces is None
        else {
            **dict(zip(("embed_dim", "low_rank_dimension"), subspaces.basis(site.subspace.key).shape, strict=True)),
            "state": site.subspace.key,
        }
        for site in sites
    ]
    document = {
        "schema": "iit_toolkit/pyvene/1",
        "pyvene": version("pyvene"),
        "side": side,
        "model": type(model).__name__,
        "intervention": "VanillaIntervention",
        "variables": [variable.name for variable in alignment.variables],
        "representations": [
            {name: getattr(representation, name) for name in fields} | more
            for representation, more in zip(
                to_pyvene(alignment, model, side, subspaces).representations, rotated, strict=True
            )
        ],
        **({"weights": weights} if any(rotated) else {}),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def from_pyvene(teacher: Any, student: Any, name: str = "pyvene", **rest: Any) -> Alignment:
    """Build an alignment from a teacher's and a student's `pyvene.IntervenableConfig`.

    Representations with the same `group_key` make one variable; without group keys, the k-th representation of the
    teacher is paired with the k-th of the student.

    Args:
        teacher: The teacher's config.
        student: The student's config.
        name: The alignment's name.
        **rest: `positions`, `sources` and `draw`, which pyvene configs do not hold.

    Raises:
        UserError: If the two do not pair up, or a representation is not a plain interchange at token positions.
    """
    sides = {"teacher": _groups(teacher, "teacher"), "student": _groups(student, "student")}
    if sides["teacher"].keys() != sides["student"].keys():
        raise UserError(
            f"pyvene configs: teacher has groups {listed(map(str, sides['teacher']))}, student "
            f"{listed(map(str, sides['student']))}; give both the same group_keys"
        )
    variables = [
        {"name": f"variable-{key}", "teacher": sites, "student": sides["student"][key]}
        for key, sites in sides["teacher"].items()
    ]
    return Alignment.from_dict({"name": name, "variables": variables, **rest}, "pyvene configs")


def _groups(config: Any, side: str) -> dict[int | str, list[dict[str, Any]]]:
    import pyvene as pv

    if not isinstance(config, pv.IntervenableConfig):
        raise UserError(f"pyvene config, {side}: {shown(config)} is none; give a pyvene.IntervenableConfig")
    groups: dict[int | str, list[dict[str, Any]]] = {}
    representations: list[Any] = config.representations
    types: Any = config.intervention_types
    if isinstance(types, list) and len(types) != len(representations):  # pyright: ignore[reportUnknownArgumentType]
        raise UserError(f"pyvene config, {side}: it needs as many intervention_types as representations, or one")
    for number, representation in enumerate(representations):
        key = number if representation.group_key is None else representation.group_key
        where = f"pyvene config, {side}, entry {number}"
        if not isinstance(key, int | str):
            raise UserError(f"{where}: group_key {shown(key)}; give a number or a text")
        sites = _sites(representation, where)
        _require_interchange(types[number] if isinstance(types, list) else types, where)
        groups.setdefault(key, []).extend(sites)
    return groups


def _require_interchange(intervention: Any, where: str) -> None:
    """Refuse anything but putting the source's activation in place of the base's."""
    import pyvene as pv

    kind = intervention if isinstance(intervention, type) else type(intervention)
    if kind is not pv.VanillaIntervention:
        raise UserError(f"{where}: intervention {kind.__name__}; only interchanges (VanillaIntervention) are aligned")


def _sites(representation: Any, where: str) -> list[dict[str, Any]]:
    if representation.unit != "pos":
        raise UserError(
            f"{where}: unit {representation.unit!r}; only interchanges at token positions (pos) are aligned"
        )
    if representation.low_rank_dimension is not None:
        raise UserError(f"{where}: learned rotations are not aligned yet; give neuron ranges")
    component = representation.component
    if not isinstance(component, str):
        raise UserError(f"{where}: component {shown(component)}; give a text, such as block_output")
    if component == "mlp_activation":  # there what leaves the activation function, here what enters the last layer
        raise UserError(
            f"{where}: component 'mlp_activation' of a gated MLP is before the gate in pyvene, and after it here; name "
            "the module instead, such as h[1].mlp.act.output (GPT-2) or model.layers[1].mlp.act_fn.output (Llama)"
        )
    place = {"component": component} if "." in component else {"component": component, "layer": representation.layer}
    partition = representation.subspace_partition
    if partition is None:
        return [place]
    if not isinstance(partition, list | tuple):
        raise UserError(f"{where}: subspace_partition {shown(partition)}; give a list of ranges [low, high)")
    parts = cast(list[Any], partition)
    return [{**place, "neurons": _bounds(part, where)} for part in parts]


def _bounds(part: Any, where: str) -> tuple[int, int]:
    try:
        values = [index(value) for value in part]
    except TypeError:
        values = []
    if len(values) == 2:
        return values[0], values[1]
    if not values or any(after - before != 1 for before, after in itertools.pairwise(values)):
        raise UserError(f"{where}: subspace {shown(part)} is not one range [low, high)")
    return values[0], values[-1] + 1


def stock_arguments(config: Any, variable: int, swap_positions: tuple[torch.Tensor, torch.Tensor]) -> dict[str, Any]:
    """Return the call arguments with which stock pyvene swaps one variable, at equal counts of positions per row.

    Args:
        config: What `to_pyvene` returned.
        variable: Index of the variable (its `group_key`).
        swap_positions: Source positions and base positions, each (B, k) long, without repeats.

    Returns:
        `unit_locations` and `subspaces` for `pyvene.IntervenableModel.forward`; pass as `sources` a list with the
        source inputs at index `variable` and `None` elsewhere.
    """
    source, base = (positions.tolist() for positions in swap_positions)
    entries = config.representations
    chosen = [entry.group_key == variable for entry in entries]
    subspaces = [
        None if entry.subspace_partition is None else [list(range(len(entry.subspace_partition)))] * len(base)
        for entry in entries
    ]
    return {
        "unit_locations": {
            "sources->base": (
                [source if mine else None for mine in chosen],
                [base if mine else None for mine in chosen],
            )
        },
        "subspaces": subspaces,
    }
