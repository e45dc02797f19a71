"""Hierarchical equality: the program, its data, the networks, and what every arm trains.

Four vectors a, b, c, d; `left` is a = b, `right` is c = d, and the answer is whether these two are the same. The
program teaches a network (`TASK`), and the trained network teaches a smaller one (`LESSON`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from arms import Columns, Task
from lessons import Lesson
from torch import Tensor, nn

import iit_toolkit as iit

WIDTH = 4
NEURONS = 16
ROWS = 100_000
TEST_ROWS = 1000
SITES = {"left": [iit.Site.module("1.output", (0, 4))], "right": [iit.Site.module("1.output", (4, 8))]}
"""Where both variables are aligned: what the first hidden layer gives."""
TRAINING: dict[str, Any] = {"steps": 1800, "batch_size": 1024, "learning_rate": 0.01}


def program() -> iit.CausalModel:
    """Return the program: `inputs` (B, 16) hold the four vectors side by side."""

    def equal(first: int) -> Callable[[Tensor], Tensor]:
        low, middle, high = (WIDTH * place for place in (first, first + 1, first + 2))

        def function(inputs: Tensor) -> Tensor:
            return (inputs[:, low:middle] == inputs[:, middle:high]).all(1)

        return function

    return iit.CausalModel(
        parents={"inputs": (), "left": ("inputs",), "right": ("inputs",), "same": ("left", "right")},
        functions={"left": equal(0), "right": equal(2), "same": torch.eq},
        domains={"left": (False, True), "right": (False, True), "same": (False, True)},
        answer="same",
    )


def columns(count: int, seed: int) -> dict[str, Tensor]:
    """Return inputs (N, 16), uniform in [-1, 1] and rounded to .01, of the four patterns equally often, with labels."""
    generator = torch.Generator().manual_seed(seed)
    vectors = (torch.rand(count, 4, WIDTH, generator=generator) * 200 - 100).round() / 100
    pattern = torch.arange(count) % 4
    left, right = pattern % 2 == 1, pattern >= 2
    vectors[left, 1] = vectors[left, 0]
    vectors[right, 3] = vectors[right, 2]
    return {"inputs": vectors.flatten(1), "labels": (left == right).long()}


def network(seed: int, layers: int) -> nn.Sequential:
    """Return an MLP of so many hidden layers, 16 wide, with ReLU."""
    torch.manual_seed(seed)
    hidden = [part for _ in range(layers) for part in (nn.Linear(NEURONS, NEURONS), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(NEURONS, 2))


def augmented(rows: Columns) -> Columns:
    """Return counterfactual inputs: one pair of vectors of another row in the place of a row's."""
    inputs, half = rows["inputs"], 2 * WIDTH
    other = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))]
    replaces_left = (torch.arange(len(inputs)) % 2 == 0)[:, None]
    first_half = (torch.arange(inputs.shape[1]) < half)[None]
    mixed = torch.where(replaces_left == first_half, other, inputs)
    model = program()
    return {"inputs": mixed, "labels": model.answers(model.run({"inputs": mixed}))}


TASK = Task(
    program=program(),
    network=lambda seed: network(seed, layers=3),
    columns=lambda seed: columns(ROWS, seed),
    augmented=augmented,
    tests=lambda: {"test": columns(TEST_ROWS, 10_000)},
    sites=SITES,
    training=TRAINING,
    arms=(
        "iit", "strict", "iit-left", "strict-left", "task", "augmentation", "multi-task", "wrong-map", "untrained",
    ),
    settings={"rows": ROWS, "test_rows": TEST_ROWS},
)  # fmt: skip
LESSON = Lesson(
    task=TASK,
    teacher="iit",
    student=lambda seed: network(seed, layers=2),
    layers=[[iit.Site.module("1.output", (0, NEURONS))]],
)
"""The student has two hidden layers, and the teacher three."""
