"""Batches whose masks follow from each row alone: not from other rows, the batch size, or the padding."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from iit_toolkit.data.batch import Collator, Row
from iit_toolkit.errors import NothingToPredictError

_DRAWN = {f"{side}{name}": f"{side}attention_mask" for side in ("", "source_") for name in ("input_ids", "labels")}


def collated_alone(collator: Collator, row: Row) -> dict[str, Tensor] | None:
    """Make a batch of one row; `None` if the row holds nothing to predict.

    A collator that draws from torch's own generator finds it in a state that follows from the row.
    """
    ids = torch.as_tensor(row.get("input_ids", 0)).numpy().tobytes()  # without tokens, nothing is drawn
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(zlib.crc32(ids))
        try:
            return collator([row])
        except NothingToPredictError:
            return None


def collated_together(
    collator: Collator, rows: Sequence[Row], alone: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Make a batch of rows, in which every row has the tokens and labels that it has alone.

    Args:
        collator: Pads the rows.
        rows: The rows.
        alone: What `collated_alone` made of each.
    """
    batch = collator(rows)
    for name, mask in _DRAWN.items():
        if name in batch and batch[name].dim() == 2:
            drawn = torch.cat([one[name][one[mask].bool()] for one in alone])
            batch[name] = batch[name].masked_scatter(batch[mask].bool(), drawn)
    return batch


def first_real(batch: Mapping[str, Tensor]) -> Tensor:
    """Return, for every row, its first position that is no padding (B,)."""
    return batch["attention_mask"].int().argmax(1)
