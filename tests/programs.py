"""Programs that tests and the gallery's documents share: hierarchical equality, in tensors and in plain Python."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from iit_toolkit.interchange.causal_model import CausalModel

WIDTH = 4


def equality() -> CausalModel:
    """Return whether (a = b) is the same as (c = d), of four vectors side by side in `inputs` (B, 16)."""

    def equal(first: int) -> Callable[[Tensor], Tensor]:
        low, middle, high = (WIDTH * place for place in (first, first + 1, first + 2))

        def function(inputs: Tensor) -> Tensor:
            return (inputs[:, low:middle] == inputs[:, middle:high]).all(1)

        return function

    return CausalModel(
        parents={"inputs": (), "left": ("inputs",), "right": ("inputs",), "same": ("left", "right")},
        functions={"left": equal(0), "right": equal(2), "same": torch.eq},
        domains={"left": (False, True), "right": (False, True), "same": (False, True)},
        answer="same",
    )


def equality_rows(count: int, seed: int = 0) -> dict[str, Tensor]:
    """Return inputs (N, 16) of the four patterns, equally often, with their labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    vectors = (torch.rand(count, 4, WIDTH, generator=generator) * 200 - 100).round() / 100
    pattern = torch.arange(count) % 4
    left, right = pattern % 2 == 1, pattern >= 2
    vectors[left, 1] = vectors[left, 0]
    vectors[right, 3] = vectors[right, 2]
    order = torch.randperm(count, generator=generator)
    return {"inputs": vectors.flatten(1)[order], "labels": (left == right).long()[order]}
