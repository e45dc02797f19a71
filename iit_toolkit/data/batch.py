"""What models are trained for, and what they can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_MODEL_INPUTS = ("input_ids", "pixel_values", "attention_mask", "token_type_ids", "position_ids")


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what of a batch goes into a model."""
    return {name: batch[name] for name in _MODEL_INPUTS if name in batch}


def readable_tokens(model: PreTrainedModel) -> int | None:
    """Return the most tokens that a model reads; None where its config has no limit.

    Models of the RoBERTa family count positions from `padding_idx + 1`, so so many of theirs can't be used.
    """
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    if limit is None:
        return None
    for name, module in model.named_modules():
        unused = getattr(module, "padding_idx", None) if name.endswith("position_embeddings") else None
        if isinstance(unused, int):
            return limit - unused - 1
    return limit
