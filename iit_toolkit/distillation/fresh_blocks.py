"""Students that share nothing with their teacher but its embeddings and head."""

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
    fresh = cast(Any, type(student))(deepcopy(student.config))
    blocks(student).load_state_dict(blocks(fresh).state_dict())
    return student
