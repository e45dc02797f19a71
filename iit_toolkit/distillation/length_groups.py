"""Rows of similar length in one batch, in an order that can be drawn again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class SeededLengthGroups(Sampler[int]):
    """The order of rows of `group_by_length`, as a function of seed and epoch.

    The sampler of transformers draws from torch's global generator, as dropout does. After the first epoch, each of
    several processes would go through the rows in an order of its own, and so would a resumed run.

    Args:
        groups: The sampler of transformers.
        seed: The seed of the training.
        epoch: Returns the epoch that begins or, if training is resumed, continues.
    """

    def __init__(self, groups: LengthGroupedSampler, seed: int, epoch: Callable[[], int]) -> None:
        self._groups = groups
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self._groups)

    def __iter__(self) -> Iterator[int]:
        """Yield the rows of the epoch that the training is in."""
        self._groups.generator = torch.Generator().manual_seed(self._seed + self._epoch())
        return iter(self._groups)
