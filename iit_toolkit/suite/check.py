"""What can be said of a suite before it spends anything; each of its runs checks the rest when it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iit_toolkit.downstream.finetune import check_finetuning
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.suite.config import SuiteConfig
from iit_toolkit.suite.pieces import Piece


def check(config: SuiteConfig, todo: Sequence[Piece]) -> None:
    """Checks what the runs and fine-tunings to be done would otherwise stop at when their turn comes.

    Args:
        config: The suite.
        todo: The pieces that are to be done.

    Raises:
        UserError: If an arm's settings, weights or alignment are wrong, a variable that means are over is none of the
            verification, or a task's settings or examples can't be used.
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
    if any(piece.stage == "finetune" for piece in todo):
        check_finetuning(config.finetune_config(Prepared(config.run).teacher_path))
