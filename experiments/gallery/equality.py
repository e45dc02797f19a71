"""Hierarchical equality: the program, its data, the networks, and what every arm trains.

Four vectors a, b, c, d; `left` is a = b, `right` is c = d, and the answer is whether these two are the same. The
program teaches a network (`program`), and the trained network teaches a smaller one (`student`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.networks import train_network

WIDTH = 4
NEURONS = 16
ROWS = 100_000
TEST_ROWS = 1000
PLACE = "1.output"
"""Where both variables are aligned: what the first hidden layer gives."""
PARTS = {"left": (0, 4), "right": (4, 8)}
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


def alignment(*variables: str, of_program: bool, crossed: bool = False) -> iit.Alignment:
    """Return the alignment of some variables with neurons of the first hidden layer; crossed, with the other's."""
    sites = {name: iit.Site.module(PLACE, neurons) for name, neurons in PARTS.items()}
    student = dict(zip(sites, reversed(sites.values()), strict=True)) if crossed else sites
    pairs = {name: (name if of_program else sites[name], student[name]) for name in variables}
    return iit.Alignment.pairs("hierarchical equality", positions="all", **pairs)


def augmented(rows: Mapping[str, Tensor]) -> TensorRows:
    """Return the rows, and as many counterfactual inputs: one pair of vectors of another row in the place of a row's.

    The program gives their labels.
    """
    inputs, half = rows["inputs"], 2 * WIDTH
    other = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))]
    replaces_left = (torch.arange(len(inputs)) % 2 == 0)[:, None]
    first_half = (torch.arange(inputs.shape[1]) < half)[None]
    mixed = torch.where(replaces_left == first_half, other, inputs)
    model = program()
    labels = model.answers(model.run({"inputs": mixed}))
    return TensorRows({"inputs": torch.cat([inputs, mixed]), "labels": torch.cat([rows["labels"], labels])})


class MultiTask(nn.Module):
    """A network that also answers what the variables are, by a linear layer on each one's neurons.

    The answer and both variables are one choice among 8, whose logits are sums of three. So its cross entropy is the
    sum of the three cross entropies.
    """

    def __init__(self, inner: nn.Sequential) -> None:
        """Add the layers."""
        super().__init__()
        self.inner = inner
        self.probes = nn.ModuleDict({name: nn.Linear(high - low, 2) for name, (low, high) in PARTS.items()})

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 8) of (same, left, right), a sum of three pairs of logits."""
        hidden = self.inner[:2](inputs)
        answers = self.inner[2:](hidden)
        left, right = (self.probes[name](hidden[:, low:high]) for name, (low, high) in PARTS.items())
        return (answers[:, :, None, None] + left[:, None, :, None] + right[:, None, None, :]).flatten(1)


def _all(same: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return 4 * same.long() + 2 * left.long() + right.long()


def train_multi_task(student: nn.Sequential, rows: Mapping[str, Tensor], seed: int) -> None:
    """Train a network, with the layers of `MultiTask`, to answer what all variables are."""
    one = program()
    every = iit.CausalModel(
        {**one.parents, "all": ("same", "left", "right")},
        {**one.functions, "all": _all},
        {**one.domains, "all": range(8)},
        "all",
    )
    answers = every.answers(every.run(rows))
    both = TensorRows({"inputs": rows["inputs"], "labels": answers})
    train_network(MultiTask(student), every, None, both, weights={"task": 1.0}, seed=seed, **TRAINING)


PROGRAM_ARMS = ("iit", "iit-left", "task", "augmentation", "multi-task", "wrong-map", "untrained")
STUDENT_ARMS = ("causal", "plain", "plain-compute", "aligned-mse", "aligned-mse-compute", "wrong-map", "untrained")


def train_by_program(arm: str, seed: int) -> nn.Sequential:
    """Return the network of an arm, trained by the program."""
    student, rows, model = network(seed, layers=3), columns(ROWS, seed), program()
    if arm in ("iit", "wrong-map"):
        aligned = alignment(*PARTS, of_program=True, crossed=arm == "wrong-map")
        train_network(student, model, aligned, TensorRows(rows), seed=seed, **TRAINING)
    elif arm == "iit-left":
        train_network(student, model, alignment("left", of_program=True), TensorRows(rows), seed=seed, **TRAINING)
    elif arm == "task":
        train_network(student, model, None, TensorRows(rows), weights={"task": 1.0}, seed=seed, **TRAINING)
    elif arm == "augmentation":
        doubled = {**TRAINING, "batch_size": 2 * TRAINING["batch_size"]}
        train_network(student, model, None, augmented(rows), weights={"task": 1.0}, seed=seed, **doubled)
    elif arm == "multi-task":
        train_multi_task(student, rows, seed)
    return student.eval()


def train_by_network(arm: str, teacher: nn.Sequential, seed: int) -> nn.Sequential:
    """Return the network of an arm, of two hidden layers, distilled from a network."""
    student, rows = network(1000 + seed, layers=2), TensorRows(columns(ROWS, seed))
    right = alignment(*PARTS, of_program=False)
    settings: dict[str, tuple[iit.Alignment | None, dict[str, float], int]] = {
        "causal": (right, {"ce": 1.0, "causal_ce": 1.0}, 1),
        "wrong-map": (alignment(*PARTS, of_program=False, crossed=True), {"ce": 1.0, "causal_ce": 1.0}, 1),
        "plain": (None, {"ce": 1.0}, 1),
        "plain-compute": (None, {"ce": 1.0}, 2),  # a counterfactual run costs what a base run does
        "aligned-mse": (right, {"ce": 1.0, "aligned_mse": 1.0}, 1),
        "aligned-mse-compute": (right, {"ce": 1.0, "aligned_mse": 1.0}, 2),
    }
    if arm in settings:
        aligned, weights, times = settings[arm]
        training = {**TRAINING, "steps": times * TRAINING["steps"]}
        train_network(student, teacher, aligned, rows, weights=weights, seed=seed, **training)
    return student.eval()
