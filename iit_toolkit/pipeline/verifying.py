"""Verifies students that are in memory, as a config says."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from datasets import Dataset
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.config.loading import AnyRunConfig
from iit_toolkit.config.run_config import first_causal
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.pipeline.check import device
from iit_toolkit.pipeline.prepare import Prepared


def verified(
    prepared: Prepared,
    alignment: Alignment,
    students: dict[str, PreTrainedModel],
    pairs: int,
    subspaces: Mapping[str, LearnedSubspaces],
) -> Verification:
    """Verify students as the config says, with the controls of the one that is judged.

    Args:
        prepared: The config with what it names.
        alignment: The alignment.
        students: The students by name.
        pairs: Pairs of base and source.
        subspaces: The learned subspaces of students, by name.
    """
    judged = judged_student(prepared.config, students)
    return verified_on(prepared.eval_rows, prepared, alignment, students, pairs, judged, subspaces)


def verified_on(
    rows: Dataset,
    prepared: Prepared,
    alignment: Alignment,
    students: dict[str, PreTrainedModel],
    pairs: int,
    judged: str | None,
    subspaces: Mapping[str, LearnedSubspaces],
) -> Verification:
    """Verify students on given rows.

    Args:
        rows: The rows.
        prepared: The config with what it names.
        alignment: The alignment.
        students: The students by name.
        pairs: Pairs of base and source.
        judged: The student whose controls are run, if any are.
        subspaces: The learned subspaces of students, by name.
    """
    config = prepared.config
    for model in (prepared.teacher, *students.values()):
        model.to(device()).eval()  # pyright: ignore[reportArgumentType]
    return verify(
        prepared.teacher,
        students,
        alignment,
        rows,  # pyright: ignore[reportArgumentType]
        prepared.collator,
        task=config.task,
        pairs=pairs,
        batch_size=config.verification.batch_size,
        top_k=config.verification.top_k,
        seed=config.seed,
        judged=judged,
        subspaces={name: one.to(device()) for name, one in subspaces.items()},
    )


def judged_student(config: AnyRunConfig, students: Collection[str]) -> str:
    """Return the student that the verdict is on."""
    wanted = (config.verification.treatment, first_causal(config.arms), *students)
    return next(name for name in wanted if name is not None and name in students)


def baseline_arm(config: AnyRunConfig, judged: str) -> str | None:
    """Return the arm that the judged one is compared with: as configured, or the first other without an alignment."""
    others = (name for name, arm in config.arms.items() if arm.alignment is None and name != judged)
    return config.verification.baseline or next(others, None)
