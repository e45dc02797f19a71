"""Rows of numbers: vectors or images with a class each, without tokens and without positions.

In a batch, each row counts as one position, which is never padding and may be swapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from iit_toolkit.data.batch import Row
from iit_toolkit.errors import UserError


class TensorRows(Sequence[Row]):
    """Rows as columns of tensors.

    Args:
        columns: (N, ...) tensors: `inputs`, what networks read; `labels` (N,), the numbers of classes; and whatever
            else a program reads. Rows without an `example_id` get their place, and sources (`source_inputs`) without a
            `source_example_id` a number above all places.

    Raises:
        UserError: If `inputs` or `labels` are missing, columns are unequally long, or `inputs` are not finite.
    """

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        """Check the columns, and keep them."""
        for name in ("inputs", "labels"):
            if name not in columns:
                raise UserError(f"rows lack the column `{name}`; they have {', '.join(columns) or 'none'}")
        count = len(columns["inputs"])
        for name, column in columns.items():
            if len(column) != count:
                raise UserError(f"column {name!r} has {len(column)} rows, `inputs` has {count}; give equally many")
        if columns["labels"].dim() != 1 or columns["labels"].is_floating_point():
            shape, kind = list(columns["labels"].shape), columns["labels"].dtype
            raise UserError(f"labels are {kind} of shape {shape}; give one whole number per row, its class")
        inputs = columns["inputs"]
        if inputs.is_floating_point() and not bool(inputs.isfinite().all()):
            row = int((~inputs.isfinite()).reshape(count, -1).any(1).nonzero()[0])
            raise UserError(f"column 'inputs' holds NaN or infinity, first in row {row}; give finite numbers")
        numbers = {"example_id": torch.arange(count)}
        if "source_inputs" in columns:
            numbers["source_example_id"] = count + torch.arange(count)
        self.columns = {**numbers, **columns}

    def __len__(self) -> int:
        """How many there are."""
        return len(self.columns["labels"])

    def __getitem__(self, index: int) -> Row:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices are taken
        """Return one row."""
        return {name: column[index] for name, column in self.columns.items()}

    def pairs(self, base: Tensor, source: Tensor) -> TensorRows:
        """Return rows that have sources of their own, for sources `paired`.

        Args:
            base: (N,) numbers of the rows.
            source: (N,) numbers of their sources.
        """
        bases, sources = (
            {name: column[numbers] for name, column in self.columns.items()} for numbers in (base, source)
        )
        return TensorRows({**bases, **{f"source_{name}": column for name, column in sources.items()}})

    def batch(self, numbers: Tensor) -> dict[str, Tensor]:
        """Return the batch of some rows, by their numbers (B,)."""
        return _with_one_position({name: column[numbers] for name, column in self.columns.items()})


def tensor_batch(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Make a batch of rows of tensors or numbers: the collator of `TensorRows`."""
    return _with_one_position({name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]})


def _with_one_position(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    one = torch.ones(len(batch["labels"]), 1, dtype=torch.long, device=batch["labels"].device)
    for side in ("", "source_") if "source_inputs" in batch else ("",):
        batch |= {f"{side}attention_mask": one, f"{side}special_tokens_mask": torch.zeros_like(one)}
    return batch
