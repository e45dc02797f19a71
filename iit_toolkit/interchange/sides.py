"""The side of whatever an alignment is about: a model of transformers, another module, or a program."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.alignment.resolve import SideName
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.engine import InterchangeModel
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
) -> SitedSide:
    """Return the side of a model under an alignment.

    Args:
        model: A model of transformers, any other module, or a program.
        alignment: The alignment; without one, no variable can be swapped.
        name: Whether it is the teacher's side or the student's.
        device: Where a program reads its inputs; models know it.
        share_prefix: Whether counterfactual runs of a model of transformers restart from the base run.

    Raises:
        UserError: If the alignment does not fit the model.
    """
    if isinstance(model, CausalModel):
        return ProgramSide(model, {} if alignment is None else program_sites(alignment, model), device)
    sites = {} if alignment is None else resolve(alignment, model, name)
    if isinstance(model, PreTrainedModel):
        return InterchangeModel(model, sites, share_prefix=share_prefix)
    return NetworkSide(model, sites)
