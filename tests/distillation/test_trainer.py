"""The trainer: what it logs, saves and resumes, and that it stops where it must."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, TrainerCallback, TrainingArguments

from iit_toolkit.alignment import Alignment, preset
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.distillation.config import CausalDistillationConfig, training_config
from iit_toolkit.distillation.students import student_from_teacher
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainer import CausalDistillationTrainer, NonFiniteLossError
from iit_toolkit.errors import UserError
from tests.forked import two_processes

WORDS, LENGTH = 30, 12


def bert(layers: int, width: int = 16, dropout: float = 0.1) -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=LENGTH, hidden_dropout_prob=dropout,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return model


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, count: int = 64) -> None:
        self.ids = torch.randint(3, WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[index]}


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    ids = torch.stack([row["input_ids"] for row in rows])
    masked = (ids + torch.arange(LENGTH)) % 5 == 0
    return {
        "input_ids": ids.masked_fill(masked, 1),
        "attention_mask": torch.ones_like(ids),
        "labels": ids.masked_fill(~masked, -100),
        "special_tokens_mask": torch.zeros_like(ids, dtype=torch.bool),
    }


def trainer(
    folder: Path,
    *,
    student: BertForMaskedLM | None = None,
    alignment: Alignment | None | str = "diito/middle",
    weights: ObjectiveWeights | None = None,
    **settings: Any,
) -> CausalDistillationTrainer:
    teacher = bert(4)
    student = student or student_from_teacher(teacher, (0, 2))  # pyright: ignore
    defaults = {"max_steps": 6, "per_device_train_batch_size": 8, "logging_steps": 2, "disable_tqdm": True}
    weights = weights or ObjectiveWeights.causal_with_cosine()
    return CausalDistillationTrainer(
        student,
        teacher,
        preset(alignment, 4, 2) if isinstance(alignment, str) else alignment,
        training_config(str(folder), {**defaults, "weights": weights.model_dump(), **settings}),
        train_dataset=Rows(),
        data_collator=collate,
    )


def test_training_learns_logs_every_term_and_saves_a_plain_student(tmp_path: Path) -> None:
    trained = trainer(tmp_path, max_steps=40, logging_steps=10)
    trained.train()
    lines = [line for line in trained.state.log_history if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]
    terms = {"task", "ce", "cos", "causal_ce", "causal_cos"}
    for line in lines:
        assert {f"loss/{term}" for term in terms} <= set(line)
        shares = [line[f"gradient_share/{term}"] for term in terms]
        assert sum(shares) == pytest.approx(1.0) and min(shares) > 0
        assert 0 < line["effect_size"] <= 1
    assert lines[0]["loss"] == pytest.approx(sum(0.2 * lines[0][f"loss/{term}"] for term in terms), rel=1e-4)
    assert lines[-1]["loss/causal_ce"] < lines[0]["loss/causal_ce"]
    trained.save_model(str(tmp_path / "student"))
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "student").eval()
    batch = collate([Rows()[index] for index in range(4)])
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    assert torch.equal(loaded(**inputs).logits, trained.student.eval()(**inputs).logits)


@pytest.mark.parametrize("share_prefix", [True, False])
def test_without_dropout_a_student_learns_as_one_that_has_none(tmp_path: Path, share_prefix: bool) -> None:
    def trained(folder: str, probability: float, **settings: Any) -> dict[str, torch.Tensor]:
        student = bert(2, dropout=probability)
        student.config.attention_probs_dropout_prob = probability
        student = BertForMaskedLM(student.config)
        student.load_state_dict(bert(2).state_dict())
        one = trainer(
            tmp_path / folder, student=student, share_prefix=share_prefix, max_steps=2, gradient_accumulation_steps=2,
            **settings,
        )  # fmt: skip
        one.train()
        assert one.student.config.hidden_dropout_prob == probability  # what is saved is as it was
        return one.student.state_dict()

    without, silenced, noisy = trained("a", 0.0), trained("b", 0.3, dropout=False), trained("c", 0.3)
    assert all(torch.equal(without[name], silenced[name]) for name in without)
    assert not all(torch.equal(without[name], noisy[name]) for name in without)


def test_a_row_that_is_left_alone_in_the_last_batch_ends_nothing(tmp_path: Path) -> None:
    one = trainer(tmp_path, max_steps=4, per_device_train_batch_size=4)
    one.train_dataset = Rows(13)  # pyright: ignore
    one.train()
    assert one.state.global_step == 4


def test_only_a_first_batch_that_cannot_be_swapped_ends_a_training(tmp_path: Path) -> None:
    """Later ones are without interchange: their causal terms compare the base runs, or nothing."""

    def made(empty: int, **settings: Any) -> CausalDistillationTrainer:
        one = trainer(tmp_path, max_steps=4, logging_steps=1, **settings)
        batches = iter(range(100))

        def some(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
            batch = collate(rows)
            return batch | {"special_tokens_mask": torch.full_like(batch["input_ids"], next(batches) == empty)}

        one.data_collator = some
        return one

    with pytest.raises(UserError, match="no position can be swapped"):
        made(0).train()
    for tokens in ("all", "swapped"):
        one = made(1, counterfactual_tokens=tokens)
        one.train()
        sizes = [line["effect_size"] for line in one.state.log_history if "effect_size" in line]
        shares = ["gradient_share/ce" in line for line in one.state.log_history if "effect_size" in line]
        assert len(sizes) == 4 and sizes[1] == 0 and min(sizes[0], *sizes[2:]) > 0
        assert shares == [True, False, True, True]


@pytest.mark.parametrize("cost_aware_draw", [False, True])
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path, cost_aware_draw: bool) -> None:
    def make(**settings: Any) -> CausalDistillationTrainer:
        student = student_from_teacher(bert(4, dropout=0.1), (0, 2))
        settings |= {"cost_aware_draw": cost_aware_draw}
        return trainer(tmp_path / "whole", student=student, alignment=two_variables(), **settings)  # pyright: ignore

    whole = make(save_strategy="steps", save_steps=3)
    whole.train()
    resumed = make(save_strategy="no")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    for (name, one), other in zip(
        whole.student.state_dict().items(), resumed.student.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_rows_of_like_length_come_in_the_same_order_again(tmp_path: Path) -> None:
    """Resumed in its second epoch, a training sees the rows that it would have seen."""
    settings = {"train_sampling_strategy": "group_by_length", "max_steps": 14, "save_strategy": "steps"}
    whole = trainer(tmp_path, **settings, save_steps=11)
    whole.train()
    resumed = trainer(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-11"))
    for (name, one), other in zip(
        whole.student.state_dict().items(), resumed.student.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_students_of_another_width_train_a_projection_that_is_resumed(tmp_path: Path) -> None:
    def narrow() -> CausalDistillationTrainer:
        return trainer(tmp_path, student=bert(2, width=12), save_strategy="steps", save_steps=3)

    whole = narrow()
    before = whole.projection.linear.weight.detach().clone()  # pyright: ignore
    whole.train()
    assert not torch.equal(before, whole.projection.linear.weight)  # pyright: ignore
    resumed = narrow()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert torch.equal(whole.projection.linear.weight, resumed.projection.linear.weight)  # pyright: ignore


def test_a_projection_is_clipped_with_the_student(tmp_path: Path) -> None:
    """One step of plain gradient descent at rate 1 moves all weights by the norm that gradients are clipped to."""
    settings = {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant"}
    narrow = trainer(tmp_path, student=bert(2, width=12), max_grad_norm=0.01, **settings)
    assert narrow.projection is not None
    weights = [*narrow.student.parameters(), *narrow.projection.parameters()]
    before = [weight.detach().clone() for weight in weights]
    narrow.train()
    moved = torch.cat([(weight - old).flatten() for weight, old in zip(weights, before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert not torch.equal(before[-1], weights[-1])
    assert all(weight.grad is None for weight in weights)


def test_a_step_that_is_skipped_leaves_no_gradient_of_the_projection(tmp_path: Path) -> None:
    """As in mixed precision, where a step whose gradients overflow is skipped, hooks of the optimizer included."""
    narrow = trainer(tmp_path, student=bert(2, width=12), max_steps=1)
    narrow.create_optimizer()
    assert narrow.optimizer is not None and narrow.projection is not None
    narrow.optimizer.step = lambda *_, **__: None  # pyright: ignore
    narrow.train()
    assert all(weight.grad is None for weight in narrow.projection.parameters())


def test_an_optimizer_that_would_not_train_the_projection_is_refused(tmp_path: Path) -> None:
    student = bert(2, width=12)
    settings = training_config(str(tmp_path), {"weights": ObjectiveWeights.causal_with_cosine().model_dump()})
    own = torch.optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(UserError, match="would not train the projection between the unequal widths"):
        CausalDistillationTrainer(student, bert(4), preset("diito/middle", 4, 2), settings, optimizers=(own, None))


def test_batches_that_do_not_say_which_tokens_are_special_are_refused(tmp_path: Path) -> None:
    causal, plain = trainer(tmp_path), trainer(tmp_path, alignment=None, weights=ObjectiveWeights.standard())
    for one in (causal, plain):
        one.data_collator = lambda rows: {  # pyright: ignore
            name: value for name, value in collate(rows).items() if name != "special_tokens_mask"
        }
    plain.train()
    with pytest.raises(UserError, match="batches lack special_tokens_mask, so special tokens would be swapped"):
        causal.train()


def test_a_nan_stops_training_names_the_weight_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    broken = trainer(tmp_path, save_strategy="steps", save_steps=2)

    def poisoned(rows: Any) -> dict[str, torch.Tensor]:
        if broken.state.global_step == 4:
            broken.student.bert.embeddings.LayerNorm.bias.data[0] = torch.nan  # pyright: ignore
        return collate(rows)

    broken.data_collator = poisoned
    with pytest.raises(
        NonFiniteLossError, match=r"student after 4 steps: 1 of 16 values of bert.embeddings.LayerNorm.bias are NaN"
    ):
        broken.train()
    kept = AutoModelForMaskedLM.from_pretrained(tmp_path / "checkpoint-4")
    assert all(torch.isfinite(parameter).all() for parameter in kept.parameters())


def test_mixed_precision_leaves_a_plain_float_student(tmp_path: Path) -> None:
    trained = trainer(tmp_path, bf16=True, loss_dtype="bfloat16")
    trained.train()
    batch = collate([Rows()[index] for index in range(4)])
    logits = trained.student(batch["input_ids"], batch["attention_mask"]).logits
    assert logits.dtype == torch.float32 and torch.isfinite(logits).all()


def test_sources_from_the_data_set_and_full_recomputation_train_too(tmp_path: Path) -> None:
    alignment = Alignment.from_dict({**preset("diito/full", 4, 2).to_dict(), "sources": {"kind": "dataset"}})
    trained = trainer(tmp_path, alignment=alignment, share_prefix=False)
    trained.train()
    assert trained.state.global_step == 6


def test_plain_distillation_needs_no_alignment_but_causal_terms_do(tmp_path: Path) -> None:
    trainer(tmp_path, alignment=None, weights=ObjectiveWeights.standard()).train()
    with pytest.raises(UserError, match="alignment"):
        trainer(tmp_path, alignment=None)


def test_aligned_activations_are_learned_without_interchanges(tmp_path: Path) -> None:
    weights = ObjectiveWeights(task=0.25, ce=0.25, cos=0.25, aligned_mse=0.25)
    one = trainer(tmp_path, student=bert(2, width=12), alignment="diito/full", weights=weights, max_steps=20)
    one.train()
    lines = [line for line in one.state.log_history if "loss" in line]
    assert lines[-1]["loss/aligned_mse"] < lines[0]["loss/aligned_mse"]
    assert min(line["gradient_share/aligned_mse"] for line in lines) > 0 and "effect_size" not in lines[0]
    with pytest.raises(UserError, match="strict and aligned_mse loss weights need an alignment"):
        trainer(tmp_path, alignment=None, weights=weights)


def test_equal_seeds_draw_equal_interchanges_and_steps_draw_other_ones(tmp_path: Path) -> None:
    batch = collate([Rows()[index] for index in range(8)])
    one, two = trainer(tmp_path), trainer(tmp_path)
    [first] = one.draw_interchanges(batch)
    assert torch.equal(first.swap.mask, two.draw_interchanges(batch)[0].swap.mask)
    assert not torch.equal(first.swap.mask, one.draw_interchanges(batch)[0].swap.mask)
    other_seed = trainer(tmp_path, seed=7).draw_interchanges(batch)[0]
    assert not torch.equal(first.swap.mask, other_seed.swap.mask)


def test_two_processes_stay_one_student(tmp_path: Path) -> None:
    """Under DDP gradients are averaged: after training students and projections are equal, bit for bit."""

    def work(rank: int) -> None:
        settings = {"max_steps": 3, "ddp_backend": "gloo", "gradient_accumulation_steps": 2}
        trained = trainer(tmp_path, student=bert(2, width=12), **settings)
        weights = [*trained.student.parameters(), *trained.projection.parameters()]
        before = [parameter.detach().clone() for parameter in weights]
        trained.train()
        moved = not any(torch.equal(weights[index], before[index]) for index in (0, -1))
        digest = hashlib.sha256(b"".join(parameter.detach().numpy().tobytes() for parameter in weights))
        world = torch.distributed.get_world_size()
        (tmp_path / f"rank{rank}.json").write_text(json.dumps([world, moved, digest.hexdigest()]))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()

    ended = two_processes(work, tmp_path)
    assert [one.code for one in ended] == [0, 0], ended[0].stderr[-3000:] + ended[1].stderr[-3000:]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0][:2] == [2, True]


def two_variables() -> Alignment:
    return Alignment.from_dict(
        {
            "name": "two",
            "variables": [
                {
                    "name": f"at {student}",
                    "teacher": [{"layer": teacher, "component": "block_output"}],
                    "student": [{"layer": student, "component": "block_output"}],
                }
                for teacher, student in ((0, 0), (2, 1))
            ],
        }
    )


def test_first_rows_that_cannot_be_swapped_cost_the_shares_and_nothing_else(tmp_path: Path) -> None:
    def short_first(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        batch["special_tokens_mask"][:4] = True
        return batch

    trained = trainer(tmp_path, max_steps=2, logging_steps=1)
    trained.data_collator = short_first
    trained.train()
    first = trained.state.log_history[0]
    assert first["loss/causal_ce"] > 0 and not [name for name in first if name.startswith("gradient_share")]


def test_a_batch_of_one_row_with_a_source_of_its_own_has_shares(tmp_path: Path) -> None:
    alignment = preset("diito/middle", 4, 2).model_copy(update={"sources": Sources(kind="dataset")})
    trained = trainer(tmp_path, alignment=alignment, max_steps=1, logging_steps=1, per_device_train_batch_size=1)
    trained.train()
    assert trained.state.log_history[0]["gradient_share/causal_ce"] > 0


def test_several_interchanges_per_step_are_drawn_apart(tmp_path: Path) -> None:
    one = trainer(tmp_path, alignment=two_variables(), interchanges=8)
    drawn = one.draw_interchanges(collate([Rows()[index] for index in range(8)]))
    assert len(drawn) == 8 and {interchange.variable for interchange in drawn} == {"at 0", "at 1"}
    assert len({tuple(interchange.swap.source_position.flatten().tolist()) for interchange in drawn}) == 8
    assert {interchange.weight for interchange in drawn} == {1.0}
    one.train()
    assert one.state.global_step == 6


def test_a_cost_aware_draw_keeps_the_expected_loss(tmp_path: Path) -> None:
    one = trainer(tmp_path, alignment=two_variables(), interchanges=4000, cost_aware_draw=True)
    drawn = one.draw_interchanges(collate([Rows()[index] for index in range(8)]))
    early, late = ([one for one in drawn if one.variable == name] for name in ("at 0", "at 1"))
    assert len(early) < len(late) and early[0].weight > 1 > late[0].weight
    shares = [len(some) * some[0].weight / len(drawn) for some in (early, late)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.03)  # what the alignment says, on average


def test_sources_of_the_data_set_are_drawn_and_trained_with(tmp_path: Path) -> None:
    alignment = preset("diito/middle", 4, 2).model_copy(update={"sources": Sources(kind="dataset")})
    one = trainer(tmp_path, alignment=alignment)
    [drawn] = one.draw_interchanges(collate([Rows()[index] for index in range(8)]))
    assert drawn.source is not None and len(drawn.source["input_ids"]) == 8
    one.train()
    assert all(line["loss/causal_ce"] > 0 for line in one.state.log_history if "loss" in line)


def test_the_log_has_the_time_of_a_step(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    one.train()
    times = [line["step_seconds"] for line in one.state.log_history if "loss" in line]
    assert len(times) == 3 and all(0 < time < 60 for time in times)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"base_tokens": "swapped"}, "training.base_tokens: should be 'all' or 'labelled', not 'swapped'"),
        ({"teacher_dtype": "float16"}, "training.teacher_dtype: should be 'float32' or 'bfloat16', not 'float16'"),
        ({"dropout": 0.1}, "training.dropout: should be a valid boolean, not 0.1"),
        (
            {"dropout": False, "gradient_checkpointing": True},
            "training.gradient_checkpointing: needs a student with dropout; leave one of the two as it is",
        ),
        ({"interchanges": 0}, "training.interchanges: should be 1 or more, not 0"),
    ],
)
def test_unusable_options_are_named(tmp_path: Path, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        training_config(str(tmp_path), setting)


def test_rows_of_like_length_can_share_batches(tmp_path: Path) -> None:
    rows = [{"input_ids": torch.full((4 if index % 2 else LENGTH,), 5)} for index in range(512)]

    def padded(some: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        lengths.append({len(row["input_ids"]) for row in some})
        return collate([{"input_ids": torch.full((LENGTH,), 5)} for _ in some])

    lengths: list[set[int]] = []
    one = trainer(tmp_path, train_sampling_strategy="group_by_length", max_steps=16)
    one.train_dataset, one.data_collator = rows, padded  # pyright: ignore
    one.train()
    assert len(lengths) >= 16 and sum(len(one) > 1 for one in lengths[:16]) <= 1  # one batch of 128 rows may be mixed


@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_weights_that_the_last_update_spoilt_are_neither_saved_nor_returned(tmp_path: Path, strategy: str) -> None:
    class Spoiling(TrainerCallback):
        def on_step_end(self, *_: Any, model: Any, **__: Any) -> None:
            model.bert.embeddings.LayerNorm.bias.data[0] = torch.inf

    spoilt = trainer(tmp_path, max_steps=1, save_strategy=strategy, save_steps=1)
    spoilt.add_callback(Spoiling)
    with pytest.raises(NonFiniteLossError, match=r"student after 1 steps: .* are NaN or infinite.*lower learning_rate"):
        spoilt.train()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_gradient_that_is_not_finite_stops_training_before_the_update(tmp_path: Path) -> None:
    broken = trainer(tmp_path, max_steps=2)
    student = broken.objective.student.model
    before = {name: value.clone() for name, value in student.state_dict().items()}
    weight = student.get_parameter("bert.encoder.layer.0.output.dense.weight")
    weight.register_hook(lambda gradient: torch.full_like(gradient, float("nan")))
    with pytest.raises(NonFiniteLossError, match="the gradient is not finite at step 0"):
        broken.train()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_a_teacher_without_an_answer_is_blamed_itself(tmp_path: Path) -> None:
    spoilt = trainer(tmp_path)
    spoilt.objective.teacher.model.get_parameter("bert.encoder.layer.1.output.dense.bias").data[0] = float("nan")
    with pytest.raises(
        UserError, match=r"teacher, in training: .* of 8 rows.*bert.encoder.layer.1.output.dense.bias is"
    ):
        spoilt.train()


def test_a_teacher_that_a_callback_set_to_training_answers_as_before(tmp_path: Path) -> None:
    class Trains(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            disturbed.objective.teacher.model.train()

    plain = trainer(tmp_path / "plain")
    plain.train()
    disturbed = trainer(tmp_path / "disturbed")
    disturbed.add_callback(Trains())
    disturbed.train()
    losses = [[entry["loss"] for entry in one.state.log_history if "loss" in entry] for one in (plain, disturbed)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_one_row_alone_has_no_other_row_as_its_source(tmp_path: Path) -> None:
    alone = trainer(tmp_path)
    alone.train_dataset = Rows(1)
    with pytest.raises(UserError, match="in-batch sources are other rows, but train_dataset has only one; give more"):
        alone.train()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"base_tokens": "label"}, "args.base_tokens: should be 'all' or 'labelled', not 'label'"),
        ({"temperature": "2"}, "args.temperature: should be a valid number, not '2'"),
        ({"temperature": 0.0}, "args.temperature: should be from 0.001 to 1000, not 0.0"),
        ({"weights": [1]}, "args.weights: should be a valid dictionary"),
        ({"interchanges": 0}, "args.interchanges: should be 1 or more, not 0"),
        ({"interchanges": 1.5}, "args.interchanges: should be a valid integer"),
        ({"loss_dtype": "float61"}, "args.loss_dtype: should be 'float32' or 'bfloat16', not 'float61'"),
        ({"both_directions": "no"}, "args.both_directions: should be a valid boolean, not 'no'"),
    ],
)
def test_settings_from_python_are_checked_as_those_of_a_config(
    tmp_path: Path, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        CausalDistillationConfig(str(tmp_path), **setting)


def test_what_cannot_be_trained_is_told_when_the_trainer_is_made(tmp_path: Path) -> None:
    teacher, args = bert(4), training_config(str(tmp_path), {"weights": {"ce": 1.0, "causal_ce": 1.0}})

    def made(
        student: Any = None, alignment: Any = None, args: Any = args, rows: Any = None
    ) -> CausalDistillationTrainer:
        alignment = preset("diito/middle", 4, 2) if alignment is None else alignment
        rows = Rows() if rows is None else rows
        return CausalDistillationTrainer(
            student or bert(2), teacher, alignment, args, train_dataset=rows, data_collator=collate
        )

    frozen = bert(2).requires_grad_(False)
    for wrong, message in (
        ({"alignment": "diito/middle"}, "the alignment is 'diito/middle'; give an iit.Alignment"),
        ({"args": TrainingArguments(str(tmp_path))}, "args are TrainingArguments; give a CausalDistillationConfig"),
        ({"student": teacher}, "student and teacher are one model, and a teacher does not learn; give a copy"),
        ({"student": frozen}, "all of the student is frozen, as a teacher is; call student.requires_grad_.True."),
        ({"rows": Rows(0)}, "train_dataset holds no rows; give some"),
        ({"student": "bert"}, "the student is a str; give a loaded model of transformers"),
    ):
        with pytest.raises(UserError, match=message):
            made(**wrong)
    assert made()


def test_batches_need_labels(tmp_path: Path) -> None:
    one = trainer(tmp_path)
    one.data_collator = lambda rows: {name: value for name, value in collate(rows).items() if name != "labels"}
    with pytest.raises(UserError, match="batches have no labels; give the tokenizer .processing_class., or a collator"):
        one.train()
