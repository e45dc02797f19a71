"""Search for subspaces of two layers that swap alike: learned on one half of the pairs, confirmed on the other."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from iit_toolkit.analysis.statistics.outcomes import write_outcomes
from iit_toolkit.analysis.verification.cases import DrawnPairs, draw_pairs
from iit_toolkit.analysis.verification.subspaces import (
    LEARNED,
    RANDOM,
    Sites,
    learn_subspaces,
    verify_subspaces,
    verify_teacher_subspace,
)
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.pipeline.search import SearchInputs, confirmation, search_inputs
from iit_toolkit.runs.folder import write_atomically, write_json
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.working import written_at_once

SUBSPACE_SCHEMA = "iit_toolkit/subspace/1"


@told_if_out_of_memory("search --subspace", "lower verification.batch_size or data.max_length")
def search_subspace(
    config: RunConfig, student: str, output: str | Path, *, rank: int, teacher_layer: int, student_layer: int
) -> Path:
    """Learn the subspaces of a teacher's and a student's layer that swap alike, and confirm them on other pairs.

    Args:
        config: As for `search`.
        student: Folder or Hub id of the student.
        output: The folder to write `subspace.json`, `subspaces.safetensors` and `outcomes.parquet` to; new or empty.
        rank: Dimensions of the subspaces.
        teacher_layer: The teacher's block, from 0.
        student_layer: The student's.

    Raises:
        UserError: As for `search`, or if a layer or the rank does not fit.
    """
    with written_at_once(output) as folder:
        inputs = search_inputs(config, student)
        sites = Sites(inputs.prepared.teacher, teacher_layer, inputs.student, student_layer, rank)
        phase(f"learning the subspaces on {len(inputs.choosing)} pairs, the teacher's and then the student's")
        learned = learn_subspaces(
            sites,
            inputs.choosing,  # pyright: ignore[reportArgumentType]
            inputs.prepared.collator,
            task=config.task,
            positions=inputs.positions,
            sources=inputs.sources,
            batch_size=config.verification.batch_size,
            seed=config.seed,
        )
        top_k, control_seed = config.verification.top_k, config.seed + 1
        phase(f"confirming the subspaces on {len(inputs.confirming)} other pairs")
        teacher = verify_teacher_subspace(sites, learned, _confirming(inputs), control_seed, top_k)
        both = verify_subspaces(sites, learned, _confirming(inputs), control_seed, top_k)
        phase("computing measures and intervals")
        inputs.prepared.refuse_changed_teacher()
        document = {
            **inputs.described(SUBSPACE_SCHEMA),
            "teacher_layer": teacher_layer,
            "student_layer": student_layer,
            "rank": rank,
            "losses": {"teacher": learned.teacher_losses, "student": learned.student_losses},
            "teacher_subspace": confirmation(config, teacher, LEARNED, RANDOM),
            "confirmation": confirmation(config, both, LEARNED, RANDOM),
        }
        bases = {
            "teacher": learned.teacher.basis().cpu().contiguous(),
            "student": learned.student.basis().cpu().contiguous(),
        }
        write_atomically(folder.path / "subspaces.safetensors", save(bases, {"schema": SUBSPACE_SCHEMA}))
        write_outcomes(both.outcomes, folder.outcomes)
        write_json(folder.path / "subspace.json", document)
    return folder.path


def _confirming(inputs: SearchInputs) -> DrawnPairs:
    config = inputs.prepared.config
    return draw_pairs(
        inputs.confirming,  # pyright: ignore[reportArgumentType]
        inputs.prepared.collator,
        inputs.positions,
        inputs.sources,
        task=config.task,
        pairs=len(inputs.confirming),
        batch_size=config.verification.batch_size,
        seed=config.seed,
        what="confirming",
    )
