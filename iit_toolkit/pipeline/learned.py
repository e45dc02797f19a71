"""Learned subspaces of a run's students: kept beside them, and learned afterwards on students that have none.

An arm whose alignment has learned subspaces trains them with its student, and saves both in one folder. Students that
are verified by that alignment without having been trained by it are left as they are, and subspaces are learned on
them: by the arm's data, settings and steps, with as many rows in a step, and by the terms that reach subspaces. So the
untrained control, and arms without that alignment, have as much power to find directions as the arm has.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedModel
from transformers.trainer_utils import SaveStrategy

from iit_toolkit.alignment import Alignment
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.pipeline.arms import processes_of, training_settings
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.subspace_files import arm_that_learns, kept_or_learned
from iit_toolkit.runs import processes
from iit_toolkit.runs.folder import RunFolder
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.step_lines import say_steps


def subspaces_of(
    prepared: Prepared,
    folder: RunFolder,
    alignment: Alignment,
    students: Mapping[str, PreTrainedModel],
    homes: Mapping[str, Path],
) -> dict[str, LearnedSubspaces]:
    """Return the learned subspaces that students are verified by; those that are not kept are learned now.

    Args:
        prepared: The config with what it names.
        folder: The run folder; subspaces that are learned now are kept in it.
        alignment: The alignment that is verified.
        students: The students by name. They are not changed.
        homes: Folders where the subspaces of students may be kept, by name.

    Returns:
        Subspaces by student; none if the alignment has none.

    Raises:
        UserError: If the subspaces of a student are kept nowhere, and no arm trains such ones. If a file with subspaces
            can't be read, or is a link that leads elsewhere.
    """
    return kept_or_learned(
        alignment,
        prepared.teacher,
        students,
        homes,
        folder,
        lambda name, student: _learned_after(prepared, alignment, name, student, homes),
    )


def _learned_after(
    prepared: Prepared, alignment: Alignment, name: str, student: PreTrainedModel, homes: Mapping[str, Path]
) -> LearnedSubspaces:
    """Learn subspaces on a student that stays as it is, as the arm does that trains such ones."""
    trained = ((arm, prepared.arm_alignment(arm, student)) for arm in prepared.config.arms)
    arm = arm_that_learns(trained, alignment, name)
    with tempfile.TemporaryDirectory() as scratch:
        settings = training_settings(prepared, arm, Path(scratch))
        settings.save_strategy, settings.report_to, settings.freeze_student = SaveStrategy.NO, [], True
        settings.gradient_accumulation_steps = _micro_steps(settings, homes.get(arm, homes.get(name)))
        phase(f"learning the subspaces of {name}, which stays as it is, as long as {arm} learned its own")
        trainer = CausalDistillationTrainer(
            model=student,
            teacher=prepared.teacher,
            alignment=alignment,
            args=settings,
            mixture=[one for one in prepared.mixture(arm) if one.is_swapped],
            train_dataset=prepared.train_rows,
            data_collator=prepared.collator,
            processing_class=prepared.tokenizer,
        )
        say_steps(trainer, f"subspaces of {name}", None)
        with (
            processes.told_if_lost(),
            told_if_out_of_memory(f"subspaces of {name}", "lower training.per_device_train_batch_size"),
        ):
            trainer.train()
    assert trainer.subspaces is not None
    return trainer.subspaces


def _micro_steps(settings: CausalDistillationConfig, home: Path | None) -> int:
    """Return how many micro-steps give an update as many rows as one of the arm had, whose processes may be others."""
    before = None if home is None else processes_of(home)
    micro_batches = settings.gradient_accumulation_steps * (before or settings.world_size)
    return math.ceil(micro_batches / settings.world_size)
