"""Learned subspaces of a run's networks: trained with an arm's network, and learned afterwards on those that have none.

The control, and arms without learned sites, are left as they are, and subspaces are learned on them as
`pipeline.learned` does it for models of texts: by the rows, settings and steps of the arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.distillation.networks import train_network
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sides import new_subspaces
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.networks.rows import TRAIN
from iit_toolkit.pipeline.subspace_files import arm_that_learns, kept_or_learned, learner
from iit_toolkit.runs.folder import RunFolder
from iit_toolkit.runs.progress import phase


def fresh_subspaces(
    prepared: PreparedNetworks, alignment: Alignment | None, student: nn.Module
) -> LearnedSubspaces | None:
    """Return random subspaces of an alignment's learned sites; `None` if it has none."""
    if alignment is None or not alignment.learns:
        return None
    rows, seed = prepared.rows.drawn[TRAIN], prepared.config.seed
    return new_subspaces(student, alignment, rows, seed, teacher=prepared.teacher)


def network_subspaces(
    prepared: PreparedNetworks,
    folder: RunFolder,
    alignment: Alignment,
    students: Mapping[str, nn.Module],
    homes: Mapping[str, Path],
) -> dict[str, LearnedSubspaces]:
    """Return the learned subspaces that networks are verified by; those that are not kept are learned now.

    Args:
        prepared: What the config names.
        folder: The run folder; subspaces that are learned now are kept in it.
        alignment: The alignment that is verified.
        students: The networks by name. They are not changed.
        homes: Folders where the subspaces of networks may be kept, by name.

    Returns:
        Subspaces by network; none if the alignment has none.

    Raises:
        UserError: If the subspaces of a network are kept nowhere, and no arm trains such ones. If a file with subspaces
            can't be read, or is a link that leads elsewhere.
    """
    return kept_or_learned(
        alignment,
        prepared.teacher,
        students,
        homes,
        folder,
        lambda name, student: _learned_after(prepared, alignment, name, student),
    )


def require_learner(prepared: PreparedNetworks, alignment: Alignment) -> None:
    """Check that an arm trains the learned sites of an alignment.

    Raises:
        UserError: If none does.
    """
    if alignment.learns and learner(_trained(prepared), alignment) is None:
        raise UserError(
            "verification.alignment has learned subspaces, but no arm trains them; give an arm the same variables"
        )


def _trained(prepared: PreparedNetworks) -> list[tuple[str, Alignment | None]]:
    return [(arm, prepared.arm_alignment(arm)) for arm in prepared.config.arms]


def _learned_after(prepared: PreparedNetworks, alignment: Alignment, name: str, student: nn.Module) -> LearnedSubspaces:
    """Learn subspaces on a network that stays as it is, as the arm does that trains such ones."""
    arm = arm_that_learns(_trained(prepared), alignment, name)
    learned = fresh_subspaces(prepared, alignment, student)
    assert learned is not None
    phase(f"learning the subspaces of {name}, which stays as it is, as long as {arm} learned its own")
    settings = prepared.arm_training(arm).model_copy(update={"frozen": True}).model_dump()
    rows = prepared.rows.drawn[TRAIN]
    train_network(student, prepared.teacher, alignment, rows, subspaces=learned, **settings)
    return learned
