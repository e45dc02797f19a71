"""Stops a training whose numbers are no longer finite, and says what was spoilt first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from iit_toolkit.distillation.objective import Losses, Objective
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.sound import unanswered_rows
from iit_toolkit.models.finite import refuse_non_finite_weights, refuse_rows

_STOPPED = "training stopped, earlier checkpoints are kept; lower learning_rate"


class NonFiniteLossError(UserError):
    """A loss, gradient or weight became NaN or infinite; training has stopped, earlier checkpoints are as they were."""


def refuse_spoilt_losses(objective: Objective, losses: Losses, batch: Mapping[str, Tensor], step: int) -> None:
    """Refuse losses that are not finite.

    Raises:
        NonFiniteLossError: Naming a weight of the student or, if these are finite, the terms.
        UserError: If the teacher has no answer in some rows.
    """
    values = torch.stack([value.float() for value in losses.terms.values()])
    finite = torch.isfinite(values)
    if not finite.all():
        bad = [name for name, fine in zip(losses.terms, finite.tolist(), strict=True) if not fine]
        refuse_spoilt_weights(objective, step)
        if rows := unanswered_rows(objective.teacher, batch):
            refuse_rows(rows, len(batch["labels"]), "teacher, in training", objective.teacher.module)
        raise NonFiniteLossError(
            f"loss term {', '.join(bad)} is not finite at step {step}; {_STOPPED} or the term's weight"
        )


def refuse_spoilt_weights(objective: Objective, step: int) -> None:
    """Refuse a student, or what trains with it, that an update has spoilt; on all processes alike.

    Raises:
        NonFiniteLossError: Naming the first weight that is not finite.
    """
    trained = {
        "student": objective.student.module,
        "projection": objective.projection,
        "subspaces": objective.subspaces,
    }
    for what, module in trained.items():
        if module is not None:
            try:
                refuse_non_finite_weights(module, f"{what} after {step} steps", _STOPPED)
            except UserError as error:
                raise NonFiniteLossError(str(error)) from None


def refuse_spoilt_gradient(norm: Any, step: int) -> None:
    """Refuse a gradient whose norm is not finite: clipped by it, every weight would be NaN.

    Raises:
        NonFiniteLossError: If it is not.
    """
    if not math.isfinite(norm):
        raise NonFiniteLossError(f"the gradient is not finite at step {step}; {_STOPPED}")
