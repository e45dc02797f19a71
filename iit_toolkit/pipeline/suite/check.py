"""What can be said about a suite before it spends anything; each of its runs checks the rest when it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iit_toolkit.config.run_config import StudentConfig
from iit_toolkit.downstream.finetune import require_finetuning
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.pipeline.suite.pieces import Piece


def require_sound(config: SuiteConfig, todo: Sequence[Piece]) -> None:
    """Check now what would otherwise stop the runs and fine-tunings when their turn comes.

    Args:
        config: The suite.
        todo: The pieces that are to be done.

    Raises:
        UserError: If an arm's settings, weights or alignment are wrong, or arms would be verified by different
            alignments. If means are over a variable that is not verified, or a task's settings or examples can't be
            used.
    """
    seeds = {piece.arm: piece.seed for piece in todo if piece.stage == "run" and piece.seed is not None}
    for arm, seed in seeds.items():
        prepared = Prepared(config.run_config(arm, seed))
        prepared.arm_training(arm, Path("unused"))
        student = prepared.new_student()
        prepared.arm_alignment(arm, student)
        known = [variable.name for variable in prepared.verified_alignment(student).variables]
        for name in config.variables or []:
            if name not in known:
                raise UserError(f'variables: the runs are not verified on "{name}", {did_you_mean(name, known)}')
    if seeds and config.arm_students:
        _require_one_alignment(config)
    if any(piece.stage == "finetune" for piece in todo):
        require_finetuning(config.finetune_config(Prepared(config.run).teacher_path))


def _require_one_alignment(config: SuiteConfig) -> None:
    """Refuse students, made already or not, whose alignments in verification differ, as presets do by depth."""
    first: tuple[str, dict[str, Any]] | None = None
    known: list[StudentConfig] = []
    for arm in sorted(config.run.arms, key=lambda arm: arm in config.arm_students):
        if config.student_of(arm) in known:
            continue
        known.append(config.student_of(arm))
        prepared = Prepared(config.run_config(arm, config.seeds_of(arm)[0]))
        verified = prepared.verified_alignment(prepared.new_student()).to_dict()
        first = first or (arm, verified)
        if verified != first[1]:
            raise UserError(
                f"arm_students.{arm}: its runs would be verified by another alignment than those of {first[0]}; give "
                "run.verification.alignment as a file that fits both, or the arm a suite of its own"
            )
