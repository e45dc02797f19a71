"""Certification of two sides on a batch, if one is a program or a module that is no model of transformers."""

from __future__ import annotations

import torch
from torch import Tensor

from iit_toolkit.data.batch import Batch
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.certify_program import certify_program
from iit_toolkit.interchange.checks import Check
from iit_toolkit.interchange.program_side import ProgramSide
from iit_toolkit.interchange.side import Side
from iit_toolkit.interchange.sides import SitedSide
from iit_toolkit.interchange.swap import Swap


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
        UserError: If a site does not run once or does not hold what it should, or the program cannot be run.
    """
    checks: list[Check] = []
    if isinstance(teacher, ProgramSide):
        variables = dict.fromkeys(site.write for sites in teacher.sites.values() for site in sites)
        checks += certify_program(teacher.model, teacher.reads(batch), batch["labels"], list(variables))
    classes = [_self_swapped(side, batch, name) for side, name in ((teacher, "teacher"), (student, what))]
    detail = f"the teacher answers among {classes[0]} classes, {what} among {classes[1]}; give both the same"
    return [*checks, Check("same answers", classes[0] == classes[1], detail)]


def _self_swapped(side: Side, batch: Batch, what: str) -> int:
    """Swap every row with itself, and return the number of classes."""
    names = list(side.variables)
    base = side.base_run({name: value.to(side.device) for name, value in side.reads(batch).items()}, names)
    logits = side.logits(base)
    rows, length = batch["special_tokens_mask"].shape
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
    return logits.shape[-1]
