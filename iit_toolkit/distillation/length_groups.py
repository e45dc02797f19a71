"""Rows of like length in one batch, in an order that can be drawn again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class SeededLengthGroups(Sampler[int]):
    """The order of rows of `group_by_length`, as a function of seed and epoch.

    The sampler of transformers draws from torch's global generator, on which dropout draws too: after the first epoch,
    several processes would each go through the rows in an order of their own, and so would a resumed run.

    Args:
        groups: The sampler of transformers.
        seed: The seed of the training.
        epoch: Tells the epoch that begins or, where a training is resumed, goes on.
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
