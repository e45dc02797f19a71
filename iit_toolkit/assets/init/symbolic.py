"""Hierarchical equality: a program, its rows, and the networks that it teaches.

Four vectors a, b, c, d: `left` is a = b, `right` is c = d, and the answer is whether these two are the same
(Geiger et al. 2022, arXiv 2112.00826). Any of these functions can be another of your own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import iit_toolkit as iit

WIDTH = 4  # numbers of a vector
NEURONS = 16


def left(inputs: Tensor) -> Tensor:
    """Return (B,) whether a = b; `inputs` (B, 16) hold the four vectors side by side."""
    return (inputs[:, :WIDTH] == inputs[:, WIDTH : 2 * WIDTH]).all(1)


def right(inputs: Tensor) -> Tensor:
    """Return (B,) whether c = d."""
    return (inputs[:, 2 * WIDTH : 3 * WIDTH] == inputs[:, 3 * WIDTH :]).all(1)


program = iit.CausalModel(
    parents={"inputs": (), "left": ("inputs",), "right": ("inputs",), "same": ("left", "right")},
    functions={"left": left, "right": right, "same": torch.eq},
    domains={"left": (False, True), "right": (False, True), "same": (False, True)},
    answer="same",
)


def rows() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return training rows and held-out rows. Without a column `labels`, labels are the program's answers."""
    return _some(50_000, seed=0), _some(1_000, seed=1)


def _some(count: int, seed: int) -> dict[str, Tensor]:
    """Draw vectors; a = b in half of the rows, c = d in half of them, and both in a quarter."""
    vectors = torch.rand(count, 4, WIDTH, generator=torch.Generator().manual_seed(seed)).mul(200).round() / 100 - 1
    pattern = torch.arange(count) % 4
    vectors[pattern % 2 == 1, 1] = vectors[pattern % 2 == 1, 0]
    vectors[pattern >= 2, 3] = vectors[pattern >= 2, 2]
    return {"inputs": vectors.flatten(1)}


def network() -> nn.Module:
    """Return an untrained network that reads `inputs` (B, 16) and gives the logits (B, 2) of false and true."""
    return _layers(3)


def smaller_network() -> nn.Module:
    """Return one with a hidden layer less, for a student of the trained network."""
    return _layers(2)


def _layers(hidden: int) -> nn.Module:
    parts = [part for _ in range(hidden) for part in (nn.Linear(NEURONS, NEURONS), nn.ReLU())]
    return nn.Sequential(*parts, nn.Linear(NEURONS, 2))
