"""Addition of two numbers of two digits, by a small transformer.

The program adds the ones, carries, and adds the tens. The network reads four tokens, and answers with the sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from arms import EVERY_VARIABLE, Columns, Task, normalised_layer
from lessons import Lesson
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import iit_toolkit as iit

WIDTH, HEADS = 32, 4
PART = 16
TEST_ROWS = 1000
SITES = {
    "carry": [iit.Site.module("lower.output", (0, PART))],
    "ones": [iit.Site.module("lower.output", (PART, 2 * PART)), iit.Site.module("upper.output", (PART, 2 * PART))],
    "digits": [iit.Site.module("lower.output", (2 * PART, 3 * PART))],
    "tens": [iit.Site.module("upper.output", (0, PART))],
}
"""The carry is known below, what it is added to beside it, and the tens further up."""


def program() -> iit.CausalModel:
    """Return the program: `inputs` (B, 4) are the digits of both numbers, tens first."""
    return iit.CausalModel(
        parents={
            "inputs": (),
            "carry": ("inputs",),
            "ones": ("inputs",),
            "digits": ("inputs",),
            "tens": ("digits", "carry"),
            "sum": ("tens", "ones"),
        },
        functions={
            "carry": lambda inputs: inputs[:, 1] + inputs[:, 3] >= 10,
            "ones": lambda inputs: (inputs[:, 1] + inputs[:, 3]) % 10,
            "digits": lambda inputs: inputs[:, 0] + inputs[:, 2],
            "tens": lambda digits, carry: digits + carry,
            "sum": lambda tens, ones: 10 * tens + ones,
        },
        domains={"carry": (False, True), "ones": range(10), "digits": range(19), "tens": range(20), "sum": range(200)},
        answer="sum",
    )


def _labelled(inputs: Tensor) -> dict[str, Tensor]:
    model = program()
    return {"inputs": inputs, "labels": model.answers(model.run({"inputs": inputs}))}


def _split() -> tuple[Tensor, Tensor]:
    """Return all pairs of numbers (N, 4), in a fixed order: those for training, and 1,000 for tests."""
    every = torch.cartesian_prod(*[torch.arange(10)] * 4)
    shuffled = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))]
    return shuffled[TEST_ROWS:], shuffled[:TEST_ROWS]


def columns(_seed: int) -> Columns:
    """Return the 9,000 pairs of numbers for training."""
    return _labelled(_split()[0])


def tests() -> Mapping[str, Columns]:
    """Return the 1,000 pairs of numbers that are not for training."""
    return {"test": _labelled(_split()[1])}


def augmented(rows: Columns) -> Columns:
    """Return counterfactual inputs: the ones, or the tens, of another pair of numbers in the place of a pair's."""
    inputs = rows["inputs"]
    other = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))]
    ones = (torch.arange(len(inputs)) % 2 == 0)[:, None]
    places = torch.tensor([False, True, False, True])[None]
    return _labelled(torch.where(ones == places, other, inputs))


class Adder(nn.Module):
    """One block of a transformer over four tokens, then two layers on its last one, and the logits of sums."""

    def __init__(self, width: int) -> None:
        """Make the layers; those that no variable is in have `width` neurons, or four times as many."""
        super().__init__()
        self.tokens, self.places = nn.Embedding(10, width), nn.Embedding(4, width)
        self.norm, self.mixed, self.joined = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU())
        self.lower, self.upper = normalised_layer(4 * width, 4 * PART), normalised_layer(4 * PART, 4 * PART)
        self.head = nn.Sequential(normalised_layer(4 * PART, 4 * width), nn.Linear(4 * width, 200))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 200) of digits (B, 4)."""
        state = self.tokens(inputs) + self.places.weight
        query, key, value = self.mixed(self.norm(state)).view(len(inputs), 4, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        heads = scaled_dot_product_attention(query[:, :, -1:], key, value)
        last = state[:, -1] + self.joined(heads.transpose(1, 2).flatten(1))
        return self.head(self.upper(self.lower(self.feed(last))))


def network(seed: int, width: int = WIDTH) -> Adder:
    """Return an untrained network."""
    torch.manual_seed(seed)
    return Adder(width)


TASK = Task(
    program=program(),
    network=network,
    columns=columns,
    augmented=augmented,
    tests=tests,
    sites=SITES,
    training={"steps": 1200, "batch_size": 512, "learning_rate": 0.004},
    arms=EVERY_VARIABLE,
    settings={"width": WIDTH, "part": PART},
)
LESSON = Lesson(
    task=TASK,
    teacher="strict",
    student=lambda seed: network(seed, WIDTH // 2),
    layers=[[iit.Site.module(f"{layer}.output", (0, 4 * PART))] for layer in ("lower", "upper")],
)
"""Apart from the aligned layers, the student is half as wide."""
