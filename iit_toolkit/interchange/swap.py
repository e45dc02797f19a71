"""Which activations go where: the positions and source rows of one batch of interchange interventions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iit_toolkit.alignment.spec import (
    AllPositions,
    DifferingPositions,
    FixedPositions,
    MaskedPositions,
    Positions,
    SpanPositions,
)
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
    rank = _rank(eligible)
    by_rank = torch.where(eligible, rank, eligible.shape[1]).argsort(dim=1, stable=True)
    wanted = rank[was].gather(1, swap.source_position) % eligible.sum(1)[source].clamp(min=1)[:, None]
    return Swap(source, swap.mask, by_rank[source].gather(1, wanted).masked_fill(~swap.mask, 0))


def draw_swap(
    positions: Positions,
    source: Tensor,
    base_eligible: Tensor,
    source_eligible: Tensor,
    generator: torch.Generator,
    predicted: Tensor | None = None,
) -> Swap:
    """Draw the swapped positions of a batch by a position policy.

    Counts are taken among eligible positions (neither padding nor special), and positions that count as adjacent are
    adjacent among them. With `span` and `random`, a row swaps `max(1, int(min(lengths) * fraction))` positions
    (arXiv 2112.02505; the official code's `interchange_prop`).

    Args:
        positions: The policy.
        source: (B,) source row of each base row.
        base_eligible: (B, S) boolean; positions of the base that may be overwritten.
        source_eligible: (B', S') boolean; positions of the source run that may be taken.
        generator: CPU generator; the draw depends on nothing else.
        predicted: (B, S) boolean; positions where the base's token is predicted, for `masked`.

    Returns:
        The swap; rows without a position to swap, which may be all, keep what they have: see `refuse_empty`.

    Raises:
        UserError: If `masked` is used without predicted positions, or `differing` without pairs.
    """
    if isinstance(positions, DifferingPositions):
        raise UserError("positions `differing` needs sources `paired`; choose span for other sources")
    base_ok, source_ok = base_eligible.cpu(), source_eligible.cpu()[source.cpu()]
    if isinstance(positions, FixedPositions):
        return _fixed(positions, source, base_ok, source_ok)
    if isinstance(positions, MaskedPositions):
        if predicted is None:
            raise UserError("positions `masked` needs masked tokens; use it with task masked_lm, or choose span")
        base_ok = base_ok & predicted.cpu()
    shared = torch.minimum(base_ok.sum(1), source_ok.sum(1))
    if isinstance(positions, MaskedPositions | AllPositions):
        count = shared
    else:
        count = (shared.double() * positions.fraction).long().clamp(min=1).minimum(shared)
    if isinstance(positions, SpanPositions):
        base_rank = _span_rank(base_ok, count, generator)
        source_rank = _span_rank(source_ok, count, generator)
    elif isinstance(positions, AllPositions):
        base_rank, source_rank = _rank(base_ok), _rank(source_ok)
    else:
        base_rank, source_rank = _random_rank(base_ok, generator), _random_rank(source_ok, generator)
    mask = base_ok & (base_rank >= 0) & (base_rank < count[:, None])
    return Swap(source.cpu(), mask, _position_of_rank(source_ok, source_rank, base_rank, mask))


def refuse_empty(swap: Swap, positions: Positions) -> None:
    """Refuse a swap of nothing, where it tells of a policy or data that never swap anything.

    Args:
        swap: The swap.
        positions: The policy that it was drawn by.

    Raises:
        UserError: If no row has a position to swap.
    """
    length = swap.mask.shape[1]
    if isinstance(positions, FixedPositions) and min(positions.base) >= length:
        raise UserError(
            f"fixed positions begin at {min(positions.base)}, but the batch has {length} positions; choose smaller ones"
        )
    if not swap.mask.any():
        raise UserError(
            "no position can be swapped: every position of the batch is padding, special, or excluded by the position "
            "policy; use longer texts or another policy"
        )


def _rank(eligible: Tensor) -> Tensor:
    """0, 1, 2, ... over each row's eligible positions."""
    return eligible.long().cumsum(1) - 1


def _span_rank(eligible: Tensor, count: Tensor, generator: torch.Generator) -> Tensor:
    room = eligible.sum(1) - count + 1
    start = (torch.rand(len(count), generator=generator, dtype=torch.float64) * room).long()
    return _rank(eligible) - start[:, None]


def _random_rank(eligible: Tensor, generator: torch.Generator) -> Tensor:
    keys = torch.rand(eligible.shape, generator=generator, dtype=torch.float64)
    return keys.masked_fill(~eligible, 2.0).argsort(dim=1).argsort(dim=1)


def _position_of_rank(source_ok: Tensor, source_rank: Tensor, base_rank: Tensor, mask: Tensor) -> Tensor:
    """For every swapped base position, the source position of the same rank."""
    length = source_rank.shape[1]
    keys = torch.where(source_ok & (source_rank >= 0), source_rank, length)
    by_rank = keys.argsort(dim=1, stable=True)
    wanted = base_rank.clamp(0, length - 1)
    return by_rank.gather(1, wanted).masked_fill(~mask, 0)


def _fixed(positions: FixedPositions, source: Tensor, base_ok: Tensor, source_ok: Tensor) -> Swap:
    taken = positions.source or positions.base
    both = zip(positions.base, taken, strict=True)
    inside = [pair for pair in both if pair[0] < base_ok.shape[1] and pair[1] < source_ok.shape[1]]
    base_index, source_index = torch.tensor(inside, dtype=torch.long).view(-1, 2).T
    mask = torch.zeros_like(base_ok)
    mask[:, base_index] = base_ok[:, base_index] & source_ok[:, source_index]
    source_position = torch.zeros(base_ok.shape, dtype=torch.long)
    source_position[:, base_index] = source_index
    return Swap(source.cpu(), mask, source_position)
