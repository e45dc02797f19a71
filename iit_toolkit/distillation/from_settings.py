"""The objective that the settings of a training describe, on live models."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.losses import HiddenProjection
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sides import new_subspaces, side_of
from iit_toolkit.models.task import task_of


def make_objective(
    student: PreTrainedModel,
    teacher: PreTrainedModel | CausalModel,
    alignment: Alignment | None,
    args: CausalDistillationConfig,
    subspaces: LearnedSubspaces | None = None,
) -> Objective:
    """Make the objective that settings describe, on the models' live sites.

    Hidden states of unequal widths are compared through a projection, on the settings' device. Learned sites get
    subspaces at random, if none are given.

    Raises:
        UserError: If weights ask for an alignment and there is none, or the alignment does not fit the models.
    """
    weights = args.objective_weights
    if weights.needs_alignment and alignment is None:
        raise UserError("causal_*, strict and aligned_mse loss weights need an alignment; give one, or set them to 0")
    widths = (student.config.hidden_size, 0 if isinstance(teacher, CausalModel) else teacher.config.hidden_size)
    if weights.compares_widths and not widths[1]:
        raise UserError("a program has no hidden states; set the weights of hidden states and aligned_mse to 0")
    projected = weights.compares_widths and widths[0] != widths[1]
    weights.require_learnable("weights", alignment, frozen=args.freeze_student)
    if alignment is not None and alignment.learns and subspaces is None:
        subspaces = new_subspaces(student, alignment, seed=args.seed, teacher=teacher)
    if args.freeze_student:
        if subspaces is None:
            raise UserError(
                "freeze_student trains learned subspaces alone, but there are none; give an alignment with a `subspace`"
            )
        weights = weights.of_counterfactual_runs()
    return Objective(
        side_of(teacher, alignment, "teacher", args.device, share_prefix=args.share_prefix, subspaces=subspaces),
        side_of(student, alignment, "student", share_prefix=args.share_prefix, subspaces=subspaces),
        weights,
        args.task or task_of(student),
        temperature=args.temperature,
        projection=HiddenProjection(*widths).to(args.device) if projected else None,
        subspaces=subspaces,
        loss_dtype=getattr(torch, args.loss_dtype),
        teacher_dtype=getattr(torch, args.teacher_dtype),
        base_tokens=args.base_tokens,
        counterfactual_tokens=args.counterfactual_tokens,
        aligned_tokens=args.aligned_tokens,
        counterfactual_weighting=args.counterfactual_weighting,
    )
