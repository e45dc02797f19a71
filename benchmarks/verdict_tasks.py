"""Two tasks of four objects of 16 kinds, and what networks for them share.

* `equality`: V1 = (a == b), V2 = (c == d), and the answer is whether V1 equals V2.
* `sum`: eight answers, V1 = a + b, V2 = c + d, and the answer is V1 + V2, all modulo 8.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

OBJECTS, BITS, ANSWERS = 16, 4, 8
GAP = 3.0
"""Between the logits of the right answer and of others."""
V1, V2 = "V1", "V2"
READ = 18
"""The first neuron of four, in layer 0 of a program, that hold the objects: a wrong layer must not hold V1 or V2."""


def bits(objects: Tensor) -> Tensor:
    """Return the bits (B, 16) of four objects (B, 4)."""
    return (objects[:, :, None] >> torch.arange(BITS) & 1).flatten(1).float()


def one_hot(numbers: Tensor) -> Tensor:
    """Return numbers (B, N), modulo 8, as (B, 8 N), one of eight each."""
    return torch.nn.functional.one_hot(numbers.long() % ANSWERS, ANSWERS).flatten(1).float()


def equal(objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return V1, V2 and whether they differ, each (B,) of 0 and 1."""
    one, two = objects[:, 0] == objects[:, 1], objects[:, 2] == objects[:, 3]
    return one.float(), two.float(), (one != two).float()


def right_answer(task: str, objects: Tensor) -> Tensor:
    """Return the right answers (B,)."""
    return 1 - equal(objects)[2].long() if task == "equality" else objects.sum(1) % ANSWERS


def columns(width: int, held: Mapping[int, Tensor]) -> Tensor:
    """Return a state (B, W) that is zero but for some neurons (B,)."""
    state = torch.zeros(len(next(iter(held.values()))), width)
    for neuron, values in held.items():
        state[:, neuron] = values
    return state


def numbered(objects: Tensor) -> Tensor:
    """Return the numbers (B,) of rows of objects, in no order that means anything."""
    order = torch.randperm(OBJECTS**4, generator=torch.Generator().manual_seed(3))
    return order[(objects * OBJECTS ** torch.arange(4)).sum(1)]
