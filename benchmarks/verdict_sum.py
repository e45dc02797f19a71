"""A teacher of `sum` and students whose truth is known.

The teacher's layers hold: pairs of objects (0), V1 and V2 as one of eight neurons (1), pairs of these (2), the answer
(3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from benchmarks.verdict_networks import Dense, Network, Site, Stage, wired
from benchmarks.verdict_tasks import ANSWERS, GAP, READ, V1, V2, columns, numbered, one_hot

WIDE = 144
SITES = {V1: Site(1, tuple(range(8))), V2: Site(1, tuple(range(8, 16)))}


def _pairs_of(width: int, one: int, two: int, start: int, shares: Iterable[tuple[int, float]] = ((0, 1.0),)) -> Dense:
    """Return a stage whose neurons from `start` on are the 64 pairs of two groups of eight neurons.

    Args:
        width: Neurons of the old layer.
        one: The first neuron of the first group.
        two: The first neuron of the second group.
        start: The first new neuron.
        shares: Copies of the groups: how much further on, and what share is read there.
    """
    weights: dict[tuple[int, int], float] = {}
    for pair in range(64):
        for further, share in shares:
            weights[start + pair, one + further + pair // 8] = share
            weights[start + pair, two + further + pair % 8] = share
    return wired((WIDE, width), weights, dict.fromkeys(range(start, start + 64), -1.0))


def _summed(groups: Mapping[int, int]) -> Dense:
    """Return a stage that adds, modulo 8, the two numbers of 64 pairs.

    Args:
        groups: The first of eight new neurons, and the first of the pairs it is made of.
    """
    weights = {(new + (pair // 8 + pair % 8) % 8, old + pair): 1.0 for new, old in groups.items() for pair in range(64)}
    return wired((WIDE, WIDE), weights)


_SUM_LOGITS = wired((ANSWERS, WIDE), {(answer, answer): GAP + 1 for answer in range(ANSWERS)}, relu=False)


def sum_paths(share: float = 1.0) -> Network:
    """Return a network that holds V1 and V2 at the aligned neurons, and at others, and reads a mixture.

    Args:
        share: What it reads from the aligned neurons.
    """
    first, second = _pairs_of(32, 0, 8, 0), _pairs_of(32, 16, 24, 64)
    pairs = Dense(first.weight + second.weight, first.bias + second.bias)
    stages: tuple[Stage, ...] = (
        lambda objects: pairs(one_hot(objects)),
        _summed({0: 0, 8: 64, 16: 0, 24: 64}),
        _pairs_of(WIDE, 0, 8, 0, ((0, share), (16, 1 - share))),
        _summed({0: 0}),
        _SUM_LOGITS,
    )
    return Network(stages, SITES)


def _sum_program(second: Callable[[Tensor], Tensor], third: Callable[[Tensor], Tensor]) -> Network:
    """Return a network of plain functions.

    Args:
        second: Returns what layer 1 holds first, of the objects (B, 4).
        third: Returns the answer (B,), of the state of layer 1.
    """

    def padded(state: Tensor) -> Tensor:
        return torch.nn.functional.pad(state, (0, WIDE - state.shape[1]))

    stages: tuple[Stage, ...] = (
        lambda objects: columns(WIDE, dict(zip(range(READ, READ + 4), objects.T, strict=True))),
        lambda state: padded(second(state[:, READ : READ + 4].long())),
        lambda state: padded(one_hot(third(state)[:, None])),
        lambda state: state,
        _SUM_LOGITS,
    )
    return Network(stages, SITES)


def _total(state: Tensor) -> Tensor:
    return state[:, :8].argmax(1) + state[:, 8:16].argmax(1)


def sum_of_others() -> Network:
    """Return a network that adds two other numbers, 2a + b and c + d - a."""
    mixture = torch.tensor([[2, 1, 0, 0], [-1, 0, 1, 1]])
    return _sum_program(lambda objects: one_hot(objects @ mixture.T), _total)


def sum_early() -> Network:
    """Return a network that has its answer where V1 should be."""
    return _sum_program(
        lambda objects: one_hot(torch.stack([objects.sum(1), torch.zeros(len(objects))], 1)),
        _total,
    )


def sum_at_random() -> Network:
    """Return a network that gives another answer at any swap, whatever it brings."""

    def second(objects: Tensor) -> Tensor:
        number = numbered(objects).float()[:, None]
        apart = torch.zeros(len(objects), 7)
        return torch.cat([number, apart, number, apart, number, objects.sum(1)[:, None]], 1)

    def third(state: Tensor) -> Tensor:
        moved = [
            torch.where(state[:, site] != state[:, 16], 1 + (state[:, site] + 3 * state[:, 16]).long() % 7, 0)
            for site in (0, 8)
        ]
        return state[:, 17].long() + moved[0] + moved[1]

    return _sum_program(second, third)
