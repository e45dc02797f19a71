"""The side of whatever an alignment is about: a model of transformers, another module, or a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, ResolvedSite, resolve
from iit_toolkit.alignment.resolve import SideName
from iit_toolkit.data.batch import Batch
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError, listed
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.engine import InterchangeModel
from iit_toolkit.interchange.learned import LearnedSubspaces, SitesWithActivations, subspaces_at
from iit_toolkit.interchange.network import NetworkSide
from iit_toolkit.interchange.program_side import ProgramSide, program_sites

SitedSide: TypeAlias = InterchangeModel | NetworkSide | ProgramSide
Teacher: TypeAlias = nn.Module | CausalModel


def side_of(
    model: Teacher,
    alignment: Alignment | None,
    name: SideName,
    device: torch.device | None = None,
    *,
    share_prefix: bool = True,
    subspaces: LearnedSubspaces | None = None,
) -> SitedSide:
    """Return the side of a model under an alignment.

    Args:
        model: A model of transformers, any other module, or a program.
        alignment: The alignment; without one, no variable can be swapped.
        name: Whether it is the teacher's side or the student's.
        device: Where a program reads its inputs; models know it.
        share_prefix: Whether counterfactual runs of a model of transformers restart from the base run.
        subspaces: Those of the alignment's sites that are learned, of both sides.

    Raises:
        UserError: If the alignment does not fit the model, or subspaces are not those of the alignment.
    """
    if isinstance(model, CausalModel):
        return ProgramSide(model, {} if alignment is None else program_sites(alignment, model), device)
    sites = {} if alignment is None else resolve(alignment, model, name)
    _refuse_other_subspaces(alignment, sites, subspaces, name)
    if isinstance(model, PreTrainedModel):
        return InterchangeModel(model, sites, share_prefix=share_prefix, subspaces=subspaces)
    return NetworkSide(model, sites, subspaces)


def _refuse_other_subspaces(
    alignment: Alignment | None,
    sites: Mapping[str, Sequence[ResolvedSite]],
    subspaces: LearnedSubspaces | None,
    name: SideName,
) -> None:
    if alignment is None or not alignment.learns:
        if subspaces is not None:
            raise UserError("subspaces are given, but no site has a `subspace`; leave them out")
    elif subspaces is None:
        if alignment.learns_in(name):
            raise UserError(
                f"the alignment has learned subspaces of the {name}, but none are given; give those that were trained "
                "with it as `subspaces`"
            )
    elif not subspaces.fits(sites, name):
        raise UserError(
            f"subspaces are those of {_told(subspaces)}, which are not the alignment's; give those that were trained "
            "with it"
        )


def _told(subspaces: LearnedSubspaces) -> str:
    return listed(f"{key} (rank {place.rank} of {place.component})" for key, place in subspaces.places.items())


@torch.no_grad()
def new_subspaces(
    model: nn.Module,
    alignment: Alignment,
    rows: TensorRows | Batch | None = None,
    seed: int = 0,
    *,
    teacher: Teacher | None = None,
) -> LearnedSubspaces:
    """Return random subspaces of an alignment's sites, to be trained with the student or alone.

    Args:
        model: The student: a model of transformers, or any other module. It is run once, on two rows.
        alignment: The alignment; its sites with a `subspace` get one each.
        rows: What the models can be run on; needed unless they are models of texts of transformers.
        seed: Of the start.
        teacher: The teacher, run likewise; needed if one of its sites has a `subspace`.

    Returns:
        Subspaces that are not trained yet, on the student's device.

    Raises:
        UserError: If no site has a `subspace`, a rank is not between 1 and the site's neurons less 1, the ranks of
            those that share a rotation are more than these neurons in all, a model cannot be run, or the teacher is
            needed.
    """
    if not alignment.learns:
        raise UserError("no site has a `subspace`; declare one, such as Site.learned(1, rank=16)")
    sides = [_measured(model, alignment, "student", rows)]
    if alignment.learns_in("teacher"):
        if not isinstance(teacher, nn.Module):
            raise UserError("a site of the teacher has a `subspace`; give the model as `teacher`")
        sides.append(_measured(teacher, alignment, "teacher", rows))
    return subspaces_at(*sides, seed=seed)


def _measured(
    model: nn.Module, alignment: Alignment, name: SideName, rows: TensorRows | Batch | None
) -> SitesWithActivations:
    """Run a model on two rows, and return its sites with what they hold."""
    sites = resolve(alignment, model, name)
    side = InterchangeModel(model, sites) if isinstance(model, PreTrainedModel) else NetworkSide(model, sites)
    batch = rows.batch(torch.arange(min(2, len(rows)))) if isinstance(rows, TensorRows) else rows
    if batch is None and isinstance(model, PreTrainedModel) and model.main_input_name == "input_ids":
        batch = {"input_ids": torch.zeros(1, 2, dtype=torch.long)}
    if batch is None:
        raise UserError(f"subspaces of a {type(model).__name__} need rows that it can be run on; give `rows`")
    modes = [(module, module.training) for module in model.modules()]
    try:
        side.eval()
        run = side.base_run({name: value[:2].to(side.device) for name, value in side.reads(batch).items()}, sites)
    finally:
        for module, mode in modes:
            module.training = mode
    return sites, run.activations
