"""How many tokens a model can read."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def readable_tokens(model: PreTrainedModel) -> int | None:
    """Returns the most tokens that a model reads; None where its config has no limit.

    Models of the RoBERTa family count positions from `padding_idx + 1`, so so many of theirs can't be used.
    """
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    if limit is None:
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return limit - module.padding_idx - 1
    return limit
