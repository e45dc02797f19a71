"""Random weights: students that share no more than embeddings and head with their teacher, or nothing."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from iit_toolkit.alignment.architectures import blocks


@torch.no_grad()
def draw_blocks_anew(student: PreTrainedModel) -> PreTrainedModel:
    """Give a student's blocks random weights, as its class draws them from torch's global generator.

    Args:
        student: Made of its teacher's layers; it is changed.

    Returns:
        The student.

    Raises:
        UserError: If its blocks are not found.
    """
    blocks(student).load_state_dict(blocks(drawn_anew(student)).state_dict())
    return student


def drawn_anew(model: PreTrainedModel) -> PreTrainedModel:
    """Make a model of the same class and configuration with random weights, drawn from torch's global generator."""
    return cast(Any, type(model))(deepcopy(model.config)).to(model.device)
