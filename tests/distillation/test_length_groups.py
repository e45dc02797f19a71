"""The order of rows of like length: a function of seed and epoch, whatever else is drawn."""

from __future__ import annotations

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

from iit_toolkit.distillation.length_groups import SeededLengthGroups

LENGTHS = [4 + index % 7 for index in range(64)]


def order(seed: int, epoch: int) -> list[int]:
    torch.rand(1)  # moves the global generator, as dropout does
    return list(SeededLengthGroups(LengthGroupedSampler(4, lengths=LENGTHS), seed, lambda: epoch))


def test_the_order_follows_from_seed_and_epoch() -> None:
    first = order(seed=1, epoch=0)
    assert sorted(first) == list(range(64))
    assert order(seed=1, epoch=0) == first
    assert order(seed=1, epoch=1) != first != order(seed=9, epoch=0)


def test_rows_of_like_length_stand_together() -> None:
    ordered = [LENGTHS[row] for row in order(seed=1, epoch=0)]
    spread = [max(ordered[at : at + 4]) - min(ordered[at : at + 4]) for at in range(0, 64, 4)]
    assert sum(spread) / len(spread) < 3
