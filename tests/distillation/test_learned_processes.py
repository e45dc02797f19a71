"""Two processes train learned sites as one process does: on both sides, alone and with a student, also resumed."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.distillation import trainer as of_trainer
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sampling import step_generator
from iit_toolkit.interchange.sides import new_subspaces
from iit_toolkit.runs import processes
from tests.distillation.test_learned_trainer import Rows, collate, llama
from tests.forked import two_processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
STEPS = 10
LEARNED = Alignment.pairs(
    "learned on both sides, on one, and nowhere",
    positions="all",
    both=(Site.learned(0, 5), Site.learned(0, 4)),
    own=(Site.neurons(0, 0, 4), Site.learned(1, 3, boundary="learned", rotation="shared")),
    beside=(Site.neurons(0, 4, 8), Site.learned(1, 2, rotation="shared")),
    plain=(1, 1),
)
KEYS = ("both/0", "both/teacher-0", "own/0", "beside/0")
CASES: dict[str, dict[str, Any]] = {
    "with the student": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "alone": {"freeze_student": True},
    "alone, accumulated": {"freeze_student": True, "gradient_accumulation_steps": 2},
    "all gradients awaited": {"ddp_find_unused_parameters": False, "gradient_accumulation_steps": 2},
}


@contextmanager
def draws_of_one(count: int) -> Generator[None]:
    """Let each of several processes draw what one process draws for the same batch."""

    def of_one(seed: int, step: int, micro_step: int, process: int) -> torch.Generator:
        return step_generator(seed, step, micro_step * count + process, 0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(of_trainer, "step_generator", of_one)
        yield


def made(folder: Path, subspaces: LearnedSubspaces | None = None, **settings: Any) -> CausalDistillationTrainer:
    """Adam's divisors are so large here that they do not enlarge roundings."""
    every: dict[str, Any] = {
        "max_steps": STEPS, "per_device_train_batch_size": 4, "disable_tqdm": True, "task": "causal_lm",
        "weights": {"ce": 0.4, "causal_ce": 0.4, "whole": 0.2, "boundary": 0.2}, "subspace_learning_rate": 0.05,
        "learning_rate": 1e-2, "adam_epsilon": 1e-2, "dropout": False, "lr_scheduler_type": "constant",
        "save_strategy": "no", "gradient_shares": False, **settings,
    }  # fmt: skip
    return CausalDistillationTrainer(
        llama(1), llama(0), LEARNED, training_config(str(folder), every), subspaces=subspaces,
        train_dataset=Rows(72, 1), data_collator=collate,
    )  # fmt: skip


def weights_of(one: CausalDistillationTrainer) -> dict[str, Tensor]:
    assert one.subspaces is not None
    bases = {key: one.subspaces.basis(key) for key in KEYS}
    return {**one.student.state_dict(), **bases, "boundary": one.subspaces.share().detach()}


def trained(folder: Path, count: int, **settings: Any) -> dict[str, Tensor]:
    with draws_of_one(count):
        one = made(folder, **settings)
        one.train()
    assert one.subspaces is not None and one.subspaces.steps == STEPS
    return weights_of(one)


def not_averaged(folder: Path) -> dict[str, Tensor]:
    """Train with subspaces whose gradients each process keeps for itself."""
    with draws_of_one(2):
        one = made(folder)
        ignored = [name for name, _ in one.model.named_parameters() if name.startswith("companions.subspaces")]
        one.model._ddp_params_and_buffers_to_ignore = ignored  # pyright: ignore[reportArgumentType]
        one.train()
    return weights_of(one)


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """Also subspaces that one process or none has reached in an update; and from a checkpoint, bit for bit."""

    def work(rank: int) -> None:
        saving = {"save_strategy": "steps", "save_steps": STEPS // 2, "gradient_accumulation_steps": 2}
        checkpoints = tmp_path / "checkpoints"
        with processes.parting():
            with processes.main_first():
                pass
            found = {case: trained(tmp_path, 2, ddp_timeout=60, **settings) for case, settings in CASES.items()}
            found["saving"] = trained(checkpoints, 2, **saving)
            with draws_of_one(2):
                resumed = made(checkpoints, gradient_accumulation_steps=2)
                resumed.train(resume_from_checkpoint=str(checkpoints / f"checkpoint-{STEPS // 2}"))
            found["own starts"] = trained(
                tmp_path, 2, subspaces=new_subspaces(llama(1), LEARNED, seed=42 + rank, teacher=llama(0))
            )
            found["resumed"], found["not averaged"] = weights_of(resumed), not_averaged(tmp_path)
        torch.save(found, tmp_path / f"{rank}.pt")

    ended = two_processes(work, tmp_path)
    assert [one.code for one in ended] == [0, 0], ended[0].stderr[-3000:] + ended[1].stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    start = weights_of(made(tmp_path))
    expected: dict[str, dict[str, Tensor]] = {}
    for case, settings in CASES.items():
        doubled = {**settings, "gradient_accumulation_steps": 2 * settings.get("gradient_accumulation_steps", 1)}
        expected[case] = trained(tmp_path, 1, **doubled)
        assert min(float((expected[case][key] - start[key]).abs().max()) for key in KEYS) > 0.1
        assert apart(first[case], expected[case]) < 1e-5 and apart(first[case], second[case]) == 0, case
    for one in (first, second):
        assert apart(one["resumed"], one["saving"]) == apart(one["saving"], one["accumulated"]) == 0
        assert apart(one["own starts"], first["with the student"]) == 0  # that of the main process, whose seed is 42
        assert apart(one["not averaged"], expected["with the student"]) > 0.01
    assert apart(first["not averaged"], second["not averaged"]) > 0.01
