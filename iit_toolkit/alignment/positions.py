"""Position policies: the token positions of a batch that are swapped, and where in the source they come from.

A policy is a class with its own draw, and a member of `Positions`. Counts are taken among eligible positions (neither
padding nor special), and positions that count as adjacent are adjacent among them. The draws of a policy depend on the
generator, the eligible positions and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from iit_toolkit.alignment.fields import Index, Strict
from iit_toolkit.errors import UserError

Drawn = tuple[Tensor, Tensor]
"""What is drawn: (B, S) boolean, the base positions that are overwritten; and (B, S) long, the source position that
each of these takes, 0 elsewhere."""


@dataclass(frozen=True)
class Eligible:
    """Where a batch may be swapped, on the CPU.

    Attributes:
        base: (B, S) boolean; positions of each base that may be overwritten.
        source: (B, S') boolean; positions of its source that may be taken.
        predicted: (B, S) boolean; positions of the base whose token is predicted; None if the task has none.
    """

    base: Tensor
    source: Tensor
    predicted: Tensor | None = None

    @property
    def shared(self) -> Tensor:
        """How many positions both have, (B,)."""
        return torch.minimum(self.base.sum(1), self.source.sum(1))


class Policy(Strict, ABC):
    """What all policies have in common."""

    reads_predicted: ClassVar[bool] = False
    """Whether the draw asks for predicted positions."""

    @abstractmethod
    def draw(self, eligible: Eligible, generator: torch.Generator) -> Drawn:
        """Draw the positions; rows without a position to swap, possibly all, keep what they have.

        Args:
            eligible: Where the batch may be swapped.
            generator: A CPU generator.

        Raises:
            UserError: If the policy needs what the batch lacks.
        """

    def require_length(self, length: int) -> None:  # noqa: B027
        """Check that rows of this length have some of the positions that the policy names.

        Raises:
            UserError: If it has none.
        """


class SpanPositions(Policy):
    """One contiguous span in the base and one of equal length, placed independently, in the source.

    A row swaps `max(1, int(min(lengths) * fraction))` positions (arXiv 2112.02505; the official code's
    `interchange_prop`).
    """

    kind: Literal["span"] = "span"
    fraction: float = Field(default=0.3, strict=True, gt=0, le=1)

    @override
    def draw(self, eligible: Eligible, generator: torch.Generator) -> Drawn:
        """Draw where both spans begin."""
        count = _share(eligible, self.fraction)
        base_rank, source_rank = (_span_rank(one, count, generator) for one in (eligible.base, eligible.source))
        return _by_rank(eligible, base_rank, source_rank, count)


class RandomPositions(Policy):
    """Positions drawn one by one, independently in base and source; as many as with `span`."""

    kind: Literal["random"] = "random"
    fraction: float = Field(default=0.3, strict=True, gt=0, le=1)

    @override
    def draw(self, eligible: Eligible, generator: torch.Generator) -> Drawn:
        """Draw an order of each side's positions; the first ones count."""
        return _in_random_order(eligible, _share(eligible, self.fraction), generator)


class MaskedPositions(Policy):
    """The base's predicted (masked) positions, from positions drawn at random in the source."""

    kind: Literal["masked"] = "masked"
    reads_predicted: ClassVar[bool] = True

    @override
    def draw(self, eligible: Eligible, generator: torch.Generator) -> Drawn:
        """Draw an order of the predicted positions and of the source's."""
        if eligible.predicted is None:
            raise UserError(
                "positions `masked` needs masked tokens, or tagged ones; use it with task masked_lm or "
                "token_classification, or choose span"
            )
        masked = replace(eligible, base=eligible.base & eligible.predicted)
        return _in_random_order(masked, masked.shared, generator)


class AllPositions(Policy):
    """Every ordinary position that both have, in order."""

    kind: Literal["all"] = "all"

    @override
    def draw(self, eligible: Eligible, generator: torch.Generator) -> Drawn:
        """Return the positions: nothing is drawn."""
        return _by_rank(eligible, ranks(eligible.base), ranks(eligible.source), eligible.shared)


class FixedPositions(Policy):
    """The same listed positions in every example; the k-th of `source` goes to the k-th of `base`."""

    kind: Literal["fixed"] = "fixed"
    base: tuple[Index, ...] = Field(min_length=1)
    source: tuple[Index, ...] | None = None

    @model_validator(mode="after")
    def _lists_match(self) -> FixedPositions:
        if len(set(self.base)) != len(self.base) or min(self.base + (self.source or ())) < 0:
            raise ValueError("fixed positions must be 0 or more, and each base position may appear once")
        if self.source is not None and len(self.source) != len(self.base):
            raise ValueError("fixed positions: `base` and `source` must be equally long")
        return self

    @override
    def draw(self, eligible: Eligible, generator: torch.Generator) -> Drawn:
        """Return the listed positions that both have: nothing is drawn."""
        base, source = eligible.base, eligible.source
        both = zip(self.base, self.source or self.base, strict=True)
        inside = [pair for pair in both if pair[0] < base.shape[1] and pair[1] < source.shape[1]]
        base_index, source_index = torch.tensor(inside, dtype=torch.long).view(-1, 2).T
        mask = torch.zeros_like(base)
        mask[:, base_index] = base[:, base_index] & source[:, source_index]
        taken = torch.zeros(base.shape, dtype=torch.long)
        taken[:, base_index] = source_index
        return mask, taken

    @override
    def require_length(self, length: int) -> None:
        """Check that the first listed position is within rows of this length."""
        if min(self.base) >= length:
            raise UserError(
                f"fixed positions begin at {min(self.base)}, but the batch has {length} positions; choose smaller ones"
            )


class DifferingPositions(Policy):
    """The words in which base and source differ, or those that the data names; needs sources `paired`."""

    kind: Literal["differing"] = "differing"

    @override
    def draw(self, eligible: Eligible, generator: torch.Generator) -> Drawn:
        """Refuse to draw: paired data say which positions these are."""
        raise UserError("positions `differing` needs sources `paired`; choose span for other sources")


Positions = Annotated[
    SpanPositions | RandomPositions | MaskedPositions | AllPositions | FixedPositions | DifferingPositions,
    Field(discriminator="kind"),
]


def _share(eligible: Eligible, fraction: float) -> Tensor:
    """How many positions of each row are swapped, (B,): a share of those that both have, and at least one."""
    shared = eligible.shared
    return (shared.double() * fraction).long().clamp(min=1).minimum(shared)


def _in_random_order(eligible: Eligible, count: Tensor, generator: torch.Generator) -> Drawn:
    base_rank, source_rank = (_random_rank(one, generator) for one in (eligible.base, eligible.source))
    return _by_rank(eligible, base_rank, source_rank, count)


def _by_rank(eligible: Eligible, base_rank: Tensor, source_rank: Tensor, count: Tensor) -> Drawn:
    """Swap the positions of ranks 0 to `count`, each from the source position of the same rank."""
    mask = eligible.base & (base_rank >= 0) & (base_rank < count[:, None])
    length = source_rank.shape[1]
    keys = torch.where(eligible.source & (source_rank >= 0), source_rank, length)
    by_rank = keys.argsort(dim=1, stable=True)
    wanted = base_rank.clamp(0, length - 1)
    return mask, by_rank.gather(1, wanted).masked_fill(~mask, 0)


def ranks(eligible: Tensor) -> Tensor:
    """Return 0, 1, 2, ... over each row's eligible positions: (B, S) of (B, S)."""
    return eligible.long().cumsum(1) - 1


def _span_rank(eligible: Tensor, count: Tensor, generator: torch.Generator) -> Tensor:
    room = eligible.sum(1) - count + 1
    start = (torch.rand(len(count), generator=generator, dtype=torch.float64) * room).long()
    return ranks(eligible) - start[:, None]


def _random_rank(eligible: Tensor, generator: torch.Generator) -> Tensor:
    keys = torch.rand(eligible.shape, generator=generator, dtype=torch.float64)
    return keys.masked_fill(~eligible, 2.0).argsort(dim=1).argsort(dim=1)
