"""What models are trained for, and what they read of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["masked_lm", "causal_lm", "sequence_classification"]

_MODEL_INPUTS = ("input_ids", "pixel_values", "attention_mask", "token_type_ids", "position_ids")


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what of a batch goes into a model."""
    return {name: batch[name] for name in _MODEL_INPUTS if name in batch}
