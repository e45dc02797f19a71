"""What every task of the gallery gives, and the arms that train a network by its program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.networks import train_network
from iit_toolkit.interchange.sampling import step_generator
from iit_toolkit.interchange.sides import side_of

Columns = Mapping[str, Tensor]
Sites = Mapping[str, Sequence[iit.Site]]
EVERY_VARIABLE = ("iit", "strict", "task", "augmentation", "multi-task", "wrong-map", "untrained")
"""The arms of which none is about one variable alone, in the order of the tables."""


@dataclass(frozen=True)
class Task:
    """A program, its data, and the networks that it trains.

    Attributes:
        program: The program.
        network: Makes an untrained network, by a seed.
        columns: Makes training rows, by a seed.
        augmented: Makes as many counterfactual rows of training rows, with the program's labels.
        tests: Makes the test rows, by the name of their set. The students are verified on the first set, and their
            accuracy is told on each.
        sites: Where every variable is aligned.
        training: Settings of `train_network`.
        arms: The arms, in the order of the table.
        settings: What else a result depends on.
    """

    program: iit.CausalModel
    network: Callable[[int], nn.Module]
    columns: Callable[[int], Columns]
    augmented: Callable[[Columns], Columns]
    tests: Callable[[], Mapping[str, Columns]]
    sites: Sites
    training: Mapping[str, Any]
    arms: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def students_sites(self, *, crossed: bool) -> dict[str, list[iit.Site]]:
        """Return every variable's sites in a student; crossed, those of the next one."""
        names = list(self.sites)
        taken = names[1:] + names[:1] if crossed else names
        return {name: list(self.sites[other]) for name, other in zip(names, taken, strict=True)}

    def alignment(self, *, crossed: bool = False, only: str | None = None) -> iit.Alignment:
        """Return the alignment of the variables with their sites.

        Args:
            crossed: Whether every variable gets the sites of the next one.
            only: The one variable that is ever swapped; all, if absent.
        """
        pairs = {name: (name, sites) for name, sites in self.students_sites(crossed=crossed).items()}
        draw = "uniform" if only is None else {only: 1.0}
        return iit.Alignment.pairs("gallery", positions="all", draw=draw, **pairs)


@dataclass(frozen=True)
class Arm:
    """How `train_network` trains an arm.

    Attributes:
        weights: The weights of the loss terms.
        crossed: Whether every variable gets the neurons of another.
        only: The one variable that is swapped.
    """

    weights: Mapping[str, float]
    crossed: bool = False
    only: str | None = None


_IIT = {"task": 1.0, "causal_ce": 1.0}
_STRICT = {**_IIT, "strict": 1.0}
_ARMS = {
    "iit": Arm(_IIT),
    "strict": Arm(_STRICT),
    "iit-left": Arm(_IIT, only="left"),
    "strict-left": Arm(_STRICT, only="left"),
    "task": Arm({"task": 1.0}),
    "wrong-map": Arm(_IIT, crossed=True),
}


def normalised_layer(inputs: int, outputs: int) -> nn.Sequential:
    """Return an untrained linear layer with batch normalisation and ReLU."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


def train(task: Task, arm: str, seed: int) -> nn.Module:
    """Return the network of an arm, trained by the task's program."""
    student, columns = task.network(seed), task.columns(seed)
    training = dict(task.training)
    if arm in _ARMS:
        one = _ARMS[arm]
        aligned = task.alignment(crossed=one.crossed, only=one.only)
        train_network(
            student, task.program, aligned, TensorRows(columns), weights=dict(one.weights), seed=seed, **training
        )
    elif arm == "augmentation":
        more = task.augmented(columns)
        rows = TensorRows({name: torch.cat([column, more[name]]) for name, column in columns.items()})
        training["batch_size"] *= 2
        train_network(student, task.program, None, rows, weights={"task": 1.0}, seed=seed, **training)
    elif arm == "multi-task":
        _train_multi_task(task, student, TensorRows(columns), seed)
    else:
        assert arm == "untrained", arm
    return student.eval()


def _train_multi_task(task: Task, student: nn.Module, rows: TensorRows, seed: int) -> None:
    """Train a network to answer, and linear layers to tell every variable from its neurons."""
    side = side_of(student, task.alignment(), "student")
    names, steps, size = list(task.sites), task.training["steps"], task.training["batch_size"]
    domains = {name: torch.tensor(task.program.domains[name]) for name in names}
    with torch.no_grad():
        few = side.base_run(side.reads(rows.batch(torch.arange(2))), names)
    widths = {name: side.aligned_activation(few, name).shape[-1] for name in names}
    probes = nn.ModuleDict({name: nn.Linear(widths[name], len(domains[name])) for name in names})
    optimizer = torch.optim.Adam([*student.parameters(), *probes.parameters()], task.training["learning_rate"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    student.train()
    for step in range(steps):
        batch = rows.batch(torch.randint(len(rows), (size,), generator=step_generator(seed, step, 0, 0)))
        run, values = side.base_run(side.reads(batch), names), task.program.run(batch)
        loss = cross_entropy(side.logits(run), batch["labels"])
        for name in names:
            wanted = (values[name][:, None] == domains[name]).long().argmax(1)
            loss = loss + cross_entropy(probes[name](side.aligned_activation(run, name)[:, 0]), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
