"""MNIST-PVR: of four digits in an image, the first says which of the others is the answer.

After Zhang et al. 2021 (arXiv 2107.12580), block style, at less than half the size: digits are scaled down to 14 x 14,
and lie in cells of 16 x 16, shifted at random. 0 to 3 points to the top right, 4 to 6 to the bottom left, 7 to 9 to the
bottom right.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from arms import EVERY_VARIABLE, Columns, Task
from digits import TRAINING, all_digits
from torch import Tensor, nn

import iit_toolkit as iit

CELL, DIGIT, PART = 16, 14, 32
ROWS, TEST_ROWS = 40_000, 1000
HELD_OUT = ((1, 2, 3), (4, 5, 6), (7, 8, 9, 0))
"""The digits that training never has at the top right, bottom left and bottom right; the adversarial test has others
nowhere there."""
NAMES = ("pointer", "top_right", "bottom_left", "bottom_right")
SITES = {name: [iit.Site.module("8.output", (PART * place, PART * (place + 1)))] for place, name in enumerate(NAMES)}


def program() -> iit.CausalModel:
    """Return the program: `digits` (B, 4) are those of the image, row by row."""
    return iit.CausalModel(
        parents={"digits": (), **dict.fromkeys(NAMES, ("digits",)), "answer": NAMES},
        functions={
            "pointer": lambda digits: (digits[:, 0] >= 4).long() + (digits[:, 0] >= 7).long(),
            "top_right": lambda digits: digits[:, 1],
            "bottom_left": lambda digits: digits[:, 2],
            "bottom_right": lambda digits: digits[:, 3],
            "answer": lambda pointer, *values: torch.stack(values, 1).gather(1, pointer[:, None])[:, 0],
        },
        domains={"pointer": range(3), **dict.fromkeys(NAMES[1:], range(10)), "answer": range(10)},
        answer="answer",
    )


def _grids(count: int, seed: int, *, train: bool, held_out: bool) -> dict[str, Tensor]:
    """Return images (N, 32, 32), their digits (N, 4) and labels; held out, only of what training never has."""
    generator = torch.Generator().manual_seed(seed)
    images, classes = all_digits()
    usable = torch.arange(len(images)) < TRAINING
    usable = usable if train else ~usable
    canvas = torch.zeros(count, 2 * CELL, 2 * CELL)
    digits = torch.empty(count, 4, dtype=torch.long)
    for cell in range(4):
        allowed = usable
        if cell:
            held = torch.isin(classes, torch.tensor(HELD_OUT[cell - 1]))
            allowed = usable & (held if held_out else ~held)
        numbers = allowed.nonzero()[:, 0]
        chosen = numbers[torch.randint(len(numbers), (count,), generator=generator)]
        digits[:, cell] = classes[chosen]
        shift = torch.randint(CELL - DIGIT + 1, (count, 2), generator=generator)
        top, left = (CELL * place for place in divmod(cell, 2))
        rows = top + shift[:, 0, None, None] + torch.arange(DIGIT)[:, None]
        across = left + shift[:, 1, None, None] + torch.arange(DIGIT)
        canvas[torch.arange(count)[:, None, None], rows, across] = images[chosen]
    model = program()
    return {"inputs": canvas, "digits": digits, "labels": model.answers(model.run({"digits": digits}))}


def columns(seed: int) -> Columns:
    """Return training rows."""
    return _grids(ROWS, seed, train=True, held_out=False)


def tests() -> Mapping[str, Columns]:
    """Return test rows of other digits, of the kinds that training has and of those that it never has."""
    return {
        "test": _grids(TEST_ROWS, 10_000, train=False, held_out=False),
        "adversarial": _grids(TEST_ROWS, 20_000, train=False, held_out=True),
    }


def augmented(rows: Columns) -> Columns:
    """Return counterfactual images: one cell of another image in the place of an image's."""
    count = len(rows["inputs"])
    generator = torch.Generator().manual_seed(0)
    other, cell = torch.randperm(count, generator=generator), torch.randint(4, (count,), generator=generator)
    cells = torch.arange(2 * CELL) // CELL
    places = (2 * cells[:, None] + cells)[None] == cell[:, None, None]
    images = torch.where(places, rows["inputs"][other], rows["inputs"])
    digits = torch.where(torch.arange(4)[None] == cell[:, None], rows["digits"][other], rows["digits"])
    model = program()
    return {"inputs": images, "digits": digits, "labels": model.answers(model.run({"digits": digits}))}


def network(seed: int) -> nn.Sequential:
    """Return an untrained CNN. The four variables have 32 neurons each of a layer of 160."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, 2 * CELL)),
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 6 * 6, 5 * PART),
        nn.BatchNorm1d(5 * PART),
        nn.ReLU(),
        nn.Linear(5 * PART, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


TASK = Task(
    program=program(),
    network=network,
    columns=columns,
    augmented=augmented,
    tests=tests,
    sites=SITES,
    training={"steps": 800, "batch_size": 256, "learning_rate": 0.003},
    arms=EVERY_VARIABLE,
    settings={"rows": ROWS, "test_rows": TEST_ROWS},
)
