"""The arms that train a smaller network by the network that a program trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arms import Task
from torch import nn

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.networks import train_network

STUDENT_ARMS = (
    "causal", "causal-strict", "plain", "plain-compute", "aligned-mse", "aligned-mse-compute",
    "aligned-mse-100-compute", "layer-mse-100-compute", "wrong-map", "untrained",
)  # fmt: skip
"""The arms, in the order of the tables; those with `-compute` have the compute of `causal`."""


@dataclass(frozen=True)
class Lesson:
    """What a trained network teaches.

    Attributes:
        task: The task that trains the teacher.
        teacher: The arm of the task that trains it.
        student: Makes an untrained student, by a seed. It has the teacher's aligned layers.
        layers: Every aligned layer as a whole, for the arm that fits all its neurons.
    """

    task: Task
    teacher: str
    student: Callable[[int], nn.Module]
    layers: Sequence[Sequence[iit.Site]]

    def alignment(self, *, crossed: bool = False) -> iit.Alignment:
        """Return the alignment of both networks' neurons; crossed, with the next variable's in the student."""
        students = self.task.students_sites(crossed=crossed)
        pairs = {name: (list(sites), students[name]) for name, sites in self.task.sites.items()}
        return iit.Alignment.pairs("gallery", positions="all", **pairs)

    def whole_layers(self) -> iit.Alignment:
        """Return an alignment of all neurons of every aligned layer."""
        pairs = {f"layer_{place}": (list(layer), list(layer)) for place, layer in enumerate(self.layers)}
        return iit.Alignment.pairs("layers", positions="all", **pairs)


def train_by_network(lesson: Lesson, arm: str, teacher: nn.Module, seed: int) -> nn.Module:
    """Return the network of an arm, distilled from a network."""
    student, rows = lesson.student(1000 + seed), TensorRows(lesson.task.columns(seed))
    right = lesson.alignment()
    settings: dict[str, tuple[iit.Alignment | None, dict[str, float], int]] = {
        "causal": (right, {"ce": 1.0, "causal_ce": 1.0}, 1),
        "causal-strict": (right, {"ce": 1.0, "causal_ce": 1.0, "strict": 1.0}, 1),
        "wrong-map": (lesson.alignment(crossed=True), {"ce": 1.0, "causal_ce": 1.0}, 1),
        "plain": (None, {"ce": 1.0}, 1),
        "plain-compute": (None, {"ce": 1.0}, 2),  # a counterfactual run costs what a base run does
        "aligned-mse": (right, {"ce": 1.0, "aligned_mse": 1.0}, 1),
        "aligned-mse-compute": (right, {"ce": 1.0, "aligned_mse": 1.0}, 2),
        "aligned-mse-100-compute": (right, {"ce": 1.0, "aligned_mse": 100.0}, 2),
        "layer-mse-100-compute": (lesson.whole_layers(), {"ce": 1.0, "aligned_mse": 100.0}, 2),
    }
    if arm in settings:
        aligned, weights, times = settings[arm]
        training = {**lesson.task.training, "steps": times * lesson.task.training["steps"]}
        train_network(student, teacher, aligned, rows, weights=weights, seed=seed, **training)
    return student.eval()
