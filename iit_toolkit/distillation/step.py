"""One training step as a module: the student and whatever trains with it. One forward pass gives the losses.

Trainer, clipping and `DistributedDataParallel` see this module alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.distillation.mixture import MixedBatch
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.interchange import Interchange


class DistillationStep(nn.Module):
    """The student, its companions and the objective that they are trained by.

    The teacher is no part of the module: it has no gradients, and is neither moved, wrapped nor saved with it.

    Args:
        objective: The objective, with both models.

    Attributes:
        student: The student, a plain model.
        companions: What is trained with the student but not part of it: a `projection` between unequal widths, and the
            learned `subspaces` of its sites.
    """

    def __init__(self, objective: Objective) -> None:
        """Hold what the objective trains."""
        super().__init__()
        student = objective.student.module
        assert isinstance(student, PreTrainedModel)
        self.student = student
        companions = {"projection": objective.projection, "subspaces": objective.subspaces}
        self.companions = nn.ModuleDict({name: one for name, one in companions.items() if one is not None})
        self.objective = objective

    def forward(
        self,
        batch: Mapping[str, Tensor],
        interchanges: Sequence[Interchange] = (),
        mixture: Sequence[MixedBatch] = (),
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the step's losses; see `Objective`.

        Args:
            batch: The step's own batch.
            interchanges: Its interventions.
            mixture: Batches of further data.

        Returns:
            The weighted sum of the terms, for the backward pass; and each term's value, unweighted and without graph.
            Terms of further data are called by the data's name, too.
        """
        losses = self.objective(batch, interchanges)
        total, terms = losses.total, dict(losses.terms)
        for one in mixture:
            added = self.objective(one.batch, one.interchanges, one.weights(self.objective.weights))
            total = total + one.weight * added.total
            terms |= {f"{one.name}/{name}": value for name, value in added.terms.items()}
        if self.objective.subspaces is not None:
            total = total + _reach(self.objective.subspaces).to(total.dtype)
        return total, terms

    # The student answers what transformers asks of a model that it trains.

    @property
    def config(self) -> Any:
        """The student's."""
        return self.student.config

    @property
    def generation_config(self) -> Any:
        """The student's, or `None`."""
        return getattr(self.student, "generation_config", None)

    @property
    def main_input_name(self) -> str:
        """The student's."""
        return self.student.main_input_name

    def num_parameters(self, *arguments: Any, **named: Any) -> int:
        """Return the student's."""
        return self.student.num_parameters(*arguments, **named)

    def activation_checkpointing_enable(self, *arguments: Any, **named: Any) -> None:
        """Compute the activations of the student's blocks again in its backward pass."""
        self.student.activation_checkpointing_enable(*arguments, **named)

    def get_input_embeddings(self) -> nn.Module:
        """Return the student's."""
        return self.student.get_input_embeddings()  # pyright: ignore[reportReturnType]


def pass_over_unreached(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Let an optimizer leave learned subspaces as they are that no process's losses have reached in this update.

    Their gradients are zero throughout. Momentum would move them all the same.

    Args:
        optimizer: It has the weights of subspaces in groups that are marked `learned`.
    """
    for group in optimizer.param_groups:
        for weight in group["params"] if group.get("learned") else ():
            if weight.grad is not None and not weight.grad.any():
                weight.grad = None


def _reach(subspaces: nn.Module) -> Tensor:
    """Return a loss of 0 that reaches all weights of the subspaces.

    Each process draws variables of its own, and so reaches some subspaces. DDP waits for the gradients of all.
    """
    return torch.stack([weight.sum() for weight in subspaces.parameters()]).sum() * 0
