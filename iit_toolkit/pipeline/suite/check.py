"""What can be said about a suite before it spends anything; each of its runs checks the rest when it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.config.run_config import RunConfig, StudentConfig
from iit_toolkit.downstream.finetune import require_finetuning
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.pipeline.networks.learned import require_learner
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.pipeline.suite.pieces import Piece
from iit_toolkit.pipeline.suite.shared import require_shared_inputs


def require_sound(config: SuiteConfig, todo: Sequence[Piece]) -> None:
    """Check now what would otherwise stop the runs and fine-tunings when their turn comes.

    Args:
        config: The suite.
        todo: The pieces that are to be done.

    Raises:
        UserError: If an arm's settings, weights or alignment are wrong, or arms would be verified by different
            alignments. If means are over a variable that is not verified, or a task's settings or examples can't be
            used. If the teacher or the rows of networks depend on the seed.
    """
    seeds = {piece.arm: piece.seed for piece in todo if piece.stage == "run" and piece.seed is not None}
    for arm, seed in seeds.items():
        run = config.run_config(arm, seed)
        known = _checked_arm(run, arm) if isinstance(run, RunConfig) else _checked_arm_of_networks(run, arm)
        for name in config.variables or []:
            if name not in known:
                raise UserError(f'variables: the runs are not verified on "{name}", {did_you_mean(name, known)}')
    if seeds and not isinstance(config.run, RunConfig):
        require_shared_inputs(config)
    if seeds and config.arm_students:
        _require_one_alignment(config)
    if any(piece.stage == "finetune" for piece in todo):
        require_finetuning(config.finetune_config(Prepared(config.texts).teacher_path))


def _checked_arm(run: RunConfig, arm: str) -> list[str]:
    """Check an arm of models of transformers; return the variables that it is verified on."""
    prepared = Prepared(run)
    prepared.arm_training(arm, Path("unused"))
    student = prepared.new_student()
    prepared.arm_alignment(arm, student)
    return [variable.name for variable in prepared.verified_alignment(student).variables]


def _checked_arm_of_networks(run: NetworkRunConfig, arm: str) -> list[str]:
    """Check an arm of networks; return the variables that it is verified on."""
    prepared = PreparedNetworks(run)
    prepared.arm_alignment(arm)
    prepared.new_student()
    verified = prepared.verified_alignment()
    require_learner(prepared, verified)
    return [variable.name for variable in verified.variables]


def _require_one_alignment(config: SuiteConfig) -> None:
    """Refuse students, made already or not, whose alignments in verification differ, as presets do by depth."""
    first: tuple[str, dict[str, Any]] | None = None
    known: list[StudentConfig] = []
    for arm in sorted(config.run.arms, key=lambda arm: arm in config.arm_students):
        if config.student_of(arm) in known:
            continue
        known.append(config.student_of(arm))
        run = config.run_config(arm, config.seeds_of(arm)[0])
        assert isinstance(run, RunConfig)  # others have no students by arm
        prepared = Prepared(run)
        verified = prepared.verified_alignment(prepared.new_student()).to_dict()
        first = first or (arm, verified)
        if verified != first[1]:
            raise UserError(
                f"arm_students.{arm}: its runs would be verified by another alignment than those of {first[0]}; give "
                "run.verification.alignment as a file that fits both, or the arm a suite of its own"
            )
