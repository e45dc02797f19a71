"""Subspaces train with a student or alone: their rate, their checkpoints, planted directions, and refusals."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.checked import verify
from tests.distillation.test_trainer import trainer

WORDS, WIDTH, RANK, LENGTH = 20, 16, 4, 10
LEARNED = Alignment.pairs("learned", a=(0, Site.learned(0, 3)), b=(2, Site.learned(1, 5)))
BOUNDED = Alignment.pairs(
    "bounded",
    a=(0, Site.learned(1, 3, boundary="learned", rotation="shared")),
    b=(2, Site.learned(1, 5, rotation="shared")),
)
CAUSAL = ObjectiveWeights(ce=0.5, causal_ce=0.5)


def llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        head_dim=8, intermediate_size=32, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.5)
    return model


def rotated(teacher: LlamaForCausalLM) -> tuple[LlamaForCausalLM, Tensor]:
    """The same function with its residual stream turned by a known orthogonal matrix (D, D)."""
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3))).Q
    copied = copy.deepcopy(teacher)
    for name, weight in copied.named_parameters():
        if any(part in name for part in ("o_proj", "down_proj")):
            weight.data = turn @ weight.data
        elif "norm" not in name:
            weight.data = weight.data @ turn.T
    return copied, turn


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, count: int, seed: int) -> None:
        self.ids = torch.randint(3, WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index], "example_id": index}


def collate(rows: Any) -> dict[str, Tensor]:
    ids = torch.stack([row["input_ids"] for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids,
        "special_tokens_mask": torch.zeros_like(ids, dtype=torch.bool),
        "example_id": torch.tensor([row["example_id"] for row in rows]),
    }


def degrees(basis: Tensor, planted: Tensor) -> float:
    """The largest principal angle between two subspaces with the bases (D, r)."""
    cosines = torch.linalg.svdvals(basis.T @ planted)
    return math.degrees(math.acos(min(1.0, float(cosines.min()))))


def test_a_planted_rotation_is_found_on_a_frozen_student_where_fixed_neurons_fail(tmp_path: Path) -> None:
    teacher = llama(0).requires_grad_(False)
    student, turn = rotated(teacher)
    ids = Rows(4, 0).ids
    torch.testing.assert_close(student(input_ids=ids).logits, teacher(input_ids=ids).logits, rtol=1e-3, atol=1e-3)
    before = copy.deepcopy(student.state_dict())
    part = Site.neurons(0, 0, RANK)
    learned = Alignment.pairs(positions="all", part=(part, Site.learned(0, RANK)))
    settings = {
        "max_steps": 120, "per_device_train_batch_size": 32, "disable_tqdm": True, "freeze_student": True,
        "task": "causal_lm", "subspace_learning_rate": 0.1, "weights": {"causal_ce": 1.0}, "temperature": 1.0,
        "gradient_shares": False,
    }  # fmt: skip
    one = CausalDistillationTrainer(
        student, teacher, learned, training_config(str(tmp_path), settings), train_dataset=Rows(256, 1),
        data_collator=collate,
    )  # fmt: skip
    assert one.subspaces is not None
    planted, start = turn[:, :RANK], degrees(one.subspaces.basis("part/0"), turn[:, :RANK])
    one.train()
    assert degrees(one.subspaces.basis("part/0"), planted) < 10 < 60 < start
    assert all(torch.equal(student.state_dict()[name], value) for name, value in before.items())
    assert one.subspaces.steps == 120

    def agreement(alignment: Alignment, **subspaces: Any) -> float:
        check = verify(teacher, {"s": student}, alignment, Rows(64, 2), collate, task="causal_lm", **subspaces)  # pyright: ignore[reportArgumentType]
        return float((check.outcomes["student_cf"] == check.outcomes["teacher_cf"]).mean())

    found = agreement(learned, subspaces=one.subspaces)
    fixed = agreement(Alignment.pairs(positions="all", part=(part, part)))
    assert found > 0.9 > 0.7 > fixed


def test_subspaces_train_with_the_student_by_a_rate_of_their_own(tmp_path: Path) -> None:
    one = trainer(tmp_path, alignment=LEARNED, weights=CAUSAL, subspace_learning_rate=0.05)
    assert one.subspaces is not None
    before = {key: one.subspaces.basis(key) for key in one.subspaces}
    weights = copy.deepcopy(one.student.state_dict())
    one.train()
    assert one.optimizer is not None
    optimizer: Any = one.optimizer
    groups = optimizer.param_groups
    assert groups[-1]["initial_lr"] == 0.05 and groups[0]["initial_lr"] == 5e-4
    assert {id(weight) for weight in groups[-1]["params"]} == {id(weight) for weight in one.subspaces.parameters()}
    trained = [id(weight) for group in groups for weight in group["params"]]
    assert len(trained) == len(set(trained)) == len(list(one.model.parameters()))
    for key, basis in before.items():
        assert float((one.subspaces.basis(key) - basis).abs().max()) > 0.01
    assert not all(torch.equal(one.student.state_dict()[name], value) for name, value in weights.items())
    assert all("gradient_share/causal_ce" in line for line in one.state.log_history if "loss" in line)


def test_a_loss_is_computed_without_a_training(tmp_path: Path) -> None:
    one = trainer(tmp_path, alignment=BOUNDED, weights=CAUSAL.model_copy(update={"boundary": 0.1}))
    batch = next(iter(one.get_train_dataloader()))
    assert bool(one.compute_loss(one.model, batch).isfinite())


@pytest.mark.parametrize("alignment", [LEARNED, BOUNDED], ids=["own", "bounded and shared"])
def test_a_resumed_run_is_the_uninterrupted_run(alignment: Alignment, tmp_path: Path) -> None:
    def made(folder: str, **settings: Any) -> CausalDistillationTrainer:
        every: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6, **settings}
        weights = CAUSAL.model_copy(update={"boundary": 0.1 * alignment.learns_boundaries})
        return trainer(tmp_path / folder, alignment=alignment, weights=weights, **every)

    whole, resumed = made("whole"), made("whole", save_strategy="no")
    temperatures: list[float | None] = []

    class Noting(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            assert whole.subspaces is not None
            temperatures.append(whole.subspaces["a/0"].temperature)

    whole.add_callback(Noting())
    whole.train()
    assert temperatures == pytest.approx([0.1 ** (step / 6) for step in range(6)])
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert whole.subspaces is not None and resumed.subspaces is not None
    for mine, theirs in ((whole.student, resumed.student), (whole.subspaces, resumed.subspaces)):
        pairs = zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for (_, one), other in pairs)
    assert resumed.subspaces.steps == whole.subspaces.steps == 6
    assert all(whole.subspaces[key].temperature is None for key in whole.subspaces)  # for whole directions again
    if alignment is BOUNDED:
        assert all("loss/boundary" in line for line in whole.state.log_history if "loss" in line)
        assert abs(whole.subspaces.share().item() - 0.5) > 0.01
    again = made("again", save_strategy="no")
    again.load_companions(tmp_path / "whole" / "checkpoint-6")
    assert again.subspaces is not None
    assert torch.equal(again.subspaces.basis("b/0"), whole.subspaces.basis("b/0"))
    assert not torch.equal(made("new").subspaces.basis("b/0"), whole.subspaces.basis("b/0"))  # pyright: ignore[reportOptionalMemberAccess]


def test_a_variable_without_a_learned_site_moves_nothing_of_a_frozen_student(tmp_path: Path) -> None:
    alignment = Alignment.pairs(
        "mixed", draw={"plain": 1.0, "learned": 0.0}, plain=(0, 0), learned=(2, Site.learned(1, 5))
    )
    one = trainer(tmp_path, alignment=alignment, weights=CAUSAL, freeze_student=True)
    assert one.subspaces is not None
    before = one.subspaces.basis("learned/0")
    one.train()
    assert torch.equal(one.subspaces.basis("learned/0"), before)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": ObjectiveWeights(ce=1.0)}, "learned subspaces need a causal_"),
        ({"weights": ObjectiveWeights(causal_ce=1.0, aligned_mse=1.0)}, "aligned_mse: it is about neurons"),
        ({"alignment": "diito/middle", "freeze_student": True}, "there are none"),
        ({"alignment": Alignment.pairs(a=(0, Site.learned(0, 16)))}, "give a rank of 1 to 15"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        everything: dict[str, Any] = {"alignment": LEARNED, "weights": CAUSAL, **given}
        trainer(tmp_path, **everything)
    assert "\n" not in str(caught.value)


def test_an_update_passes_over_a_subspace_whose_variable_was_not_drawn(tmp_path: Path) -> None:
    """Adam has moved all of them before, and would go on."""
    one = trainer(tmp_path, alignment=LEARNED, weights=CAUSAL, max_steps=10)
    drawn: list[str] = []
    moved: list[list[str]] = []
    last: dict[str, Tensor] = {}
    draw = one.draw_interchanges

    def noted(batch: Any) -> Any:
        found = draw(batch)
        drawn.append(found[0].variable)
        return found

    class Noting(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            assert one.subspaces is not None
            now = {key: one.subspaces.basis(key) for key in one.subspaces}
            moved.append([key for key in now if key not in last or not torch.equal(now[key], last[key])])
            last.update(now)

    one.draw_interchanges = noted
    one.add_callback(Noting())
    one.settings.gradient_shares = False  # it draws, too
    one.train()
    assert moved[1:] == [[f"{name}/0"] for name in drawn[1:]] and set(drawn) == {"a", "b"}
