"""Certification of two sides on a batch, if one is a program or a module that is no model of transformers."""

from __future__ import annotations

import torch
from torch import Tensor

from iit_toolkit.data.batch import Batch
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.certify_program import certify_program
from iit_toolkit.interchange.checks import Check
from iit_toolkit.interchange.network import NetworkSide
from iit_toolkit.interchange.program_side import ProgramSide
from iit_toolkit.interchange.side import Side
from iit_toolkit.interchange.sides import SitedSide
from iit_toolkit.interchange.swap import Swap
from iit_toolkit.models.finite import refuse_non_finite_answers

_ROUNDING = 0.01
"""More than this share of the largest logit is no rounding of another batch size."""


@torch.no_grad()
def certify_sides(teacher: SitedSide, student: SitedSide, batch: Batch, what: str = "student") -> list[Check]:
    """Check that both sides answer among the same classes, and that swapping an example with itself changes nothing.

    A program is also certified on the batch, as `certify_program` says.

    Args:
        teacher: The teacher, in eval mode.
        student: The student, in eval mode.
        batch: At least two rows with `labels` and `special_tokens_mask`.
        what: What messages call the student.

    Returns:
        All checks made, in order.

    Raises:
        UserError: If a site does not run once or does not hold what it should, the program cannot be run, or a network
            gives answers that are not finite.
    """
    checks: list[Check] = []
    if isinstance(teacher, ProgramSide):
        variables = dict.fromkeys(site.write for sites in teacher.sites.values() for site in sites)
        checks += certify_program(teacher.model, teacher.reads(batch), batch["labels"], list(variables))
    classes = [_self_swapped(side, batch, name) for side, name in ((teacher, "teacher"), (student, what))]
    detail = f"the teacher answers among {classes[0]} classes, {what} among {classes[1]}"
    same = classes[0] == classes[1]
    return [*checks, Check("same answers", same, detail if same else f"{detail}; give both the same")]


def _require_rows_alone(side: NetworkSide, batch: Batch, logits: Tensor, what: str) -> None:
    """Refuse a network whose answers depend on other rows of the batch, from which sources come, too."""
    half = len(logits) // 2
    inputs = {name: value[:half].to(side.device) for name, value in side.reads(batch).items()}
    alone = side.logits(side.base_run(inputs)) if half else logits[:0]
    if half and bool((alone - logits[:half]).abs().max() > _ROUNDING * logits.abs().max()):
        raise UserError(
            f"{what}: a row's answer depends on the other rows of its batch; give a network that computes every row "
            "from its own inputs alone in eval mode"
        )


def _self_swapped(side: Side, batch: Batch, what: str) -> int:
    """Swap every row with itself, and return the number of classes."""
    names = list(side.variables)
    base = side.base_run({name: value.to(side.device) for name, value in side.reads(batch).items()}, names)
    logits = side.logits(base)
    rows, length = batch["special_tokens_mask"].shape
    refuse_non_finite_answers(logits, torch.arange(rows), what, side.module)
    own = Swap(
        torch.arange(rows),
        torch.ones(rows, length, dtype=torch.bool),
        torch.arange(length).expand(rows, length),
    ).to(side.device)
    for name in names:
        swapped: Tensor = side.logits(side.counterfactual_run(base, name, own))
        if side.reads_what_it_writes(name) and not torch.equal(logits, swapped):
            raise UserError(
                f"{what}: an example swapped with itself changes the logits, at the sites of variable {name!r}; give a "
                "network that computes the same in every run"
            )
    if isinstance(side, NetworkSide):
        _require_rows_alone(side, batch, logits, what)
    return logits.shape[-1]
