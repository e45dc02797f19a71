"""Where activations go: the positions and source rows of one batch of interchange interventions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iit_toolkit.alignment.positions import Eligible, Policy, ranks
from iit_toolkit.errors import UserError


@dataclass(frozen=True)
class Swap:
    """One batch of interchange interventions.

    Attributes:
        source: (B,) long; the row of the source run that each base row takes activations from.
        mask: (B, S) boolean; the base positions that are overwritten.
        source_position: (B, S) long; where `mask` is true, the position in the source that is taken.
    """

    source: Tensor
    mask: Tensor
    source_position: Tensor

    def to(self, device: torch.device | str) -> Swap:
        """Return the swap with its tensors on a device."""
        return Swap(self.source.to(device), self.mask.to(device), self.source_position.to(device))

    def take(self, activation: Tensor) -> Tensor:
        """Move a source activation (B', S', D) to the base's positions (B, S, D)."""
        length = activation.shape[1]
        rows = (self.source[:, None] * length + self.source_position).flatten()
        moved = activation.flatten(0, 1).index_select(0, rows)
        return moved.view(*self.mask.shape, activation.shape[-1])


def other_rows(count: int, generator: torch.Generator) -> Tensor:
    """Draw, for every row of a batch, another row as its source: a random cyclic permutation (B,)."""
    order = torch.randperm(count, generator=generator)
    source = torch.empty_like(order)
    source[order] = order.roll(-1)
    return source


def other_sources(swap: Swap, source: Tensor, source_eligible: Tensor) -> Swap:
    """Give every base row another source row, and leave what is overwritten as it is.

    The activations are taken at the same places, counted among eligible positions (from the first again, if the new
    source has fewer).

    Args:
        swap: The swap to change.
        source: (B,) new source row of each base row.
        source_eligible: (B', S') boolean; positions of the source run that may be taken.
    """
    eligible, was = source_eligible.cpu(), swap.source.cpu()
    rank = ranks(eligible)
    by_rank = torch.where(eligible, rank, eligible.shape[1]).argsort(dim=1, stable=True)
    wanted = rank[was].gather(1, swap.source_position) % eligible.sum(1)[source].clamp(min=1)[:, None]
    return Swap(source, swap.mask, by_rank[source].gather(1, wanted).masked_fill(~swap.mask, 0))


def draw_swap(
    positions: Policy,
    source: Tensor,
    base_eligible: Tensor,
    source_eligible: Tensor,
    generator: torch.Generator,
    predicted: Tensor | None = None,
) -> Swap:
    """Draw the swapped positions of a batch by a position policy.

    Args:
        positions: The policy.
        source: (B,) source row of each base row.
        base_eligible: (B, S) boolean; positions of the base that may be overwritten.
        source_eligible: (B', S') boolean; positions of the source run that may be taken.
        generator: CPU generator; the draw depends on nothing else.
        predicted: (B, S) boolean; positions where the base's token is predicted, for `masked`.

    Returns:
        The swap; rows without a position to swap, possibly all, keep what they have: see `refuse_empty`.

    Raises:
        UserError: If `masked` is used without predicted positions, or `differing` without pairs.
    """
    rows = source.cpu()
    known = None if predicted is None else predicted.cpu()
    mask, taken = positions.draw(Eligible(base_eligible.cpu(), source_eligible.cpu()[rows], known), generator)
    return Swap(rows, mask, taken)


def refuse_empty(swap: Swap, positions: Policy) -> None:
    """Refuse a swap of nothing, if policy or data never swap anything.

    Args:
        swap: The swap.
        positions: The policy that it was drawn by.

    Raises:
        UserError: If no row has a position to swap.
    """
    positions.require_length(swap.mask.shape[1])
    if not swap.mask.any():
        raise UserError(
            "no position can be swapped: every position of the batch is padding, special, or excluded by the position "
            "policy; use longer texts or another policy"
        )
