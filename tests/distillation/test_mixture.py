"""Further data in every step: what is added to the loss, what is swapped, and what the draw depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iit_toolkit.alignment import preset
from iit_toolkit.alignment.positions import SpanPositions
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.cost import expected_cost
from iit_toolkit.distillation.mixture import Mixed
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.students import student_from_teacher
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from tests.distillation.test_trainer import Rows, bert, collate


def paired(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A batch of pairs whose third word differs."""
    batch = collate(rows)
    batch["swapped"] = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    batch["swapped"][:, 2] = True
    batch["swapped_from"] = torch.where(batch["swapped"], 2, 0)
    source = batch["input_ids"].clone()
    source[:, 2] = 3 + (source[:, 2] + 5) % 20
    return (
        batch
        | {f"source_{name}": batch[name] for name in ("attention_mask", "special_tokens_mask")}
        | {"source_input_ids": source}
    )


def trainer(folder: Path, mixture: list[Mixed], alignment: Any = "diito/middle", **settings: Any) -> Any:
    teacher = bert(4, dropout=0.0)
    teacher.config.attention_probs_dropout_prob = 0.0
    student = student_from_teacher(teacher, (0, 2))
    defaults = {"max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1, "disable_tqdm": True}
    weights = ObjectiveWeights(task=0.5, ce=0.5, causal_ce=1.0 if alignment else 0.0).model_dump()
    return CausalDistillationTrainer(
        student,
        teacher,
        preset(alignment, 4, 2) if alignment else None,
        training_config(str(folder), {**defaults, "weights": weights, "dropout": False, **settings}),
        mixture,
        train_dataset=Rows(),
        data_collator=collate,
    )


def mixed(name: str = "text", **options: Any) -> Mixed:
    return Mixed(name, **{"rows": Rows(20), "collator": collate, "batch_size": 5, "weight": 0.25, **options})  # pyright: ignore


def without_labels(rows: Any) -> dict[str, Tensor]:
    return {name: value for name, value in collate(rows).items() if name != "labels"}


KINDS = {
    "nothing is swapped": mixed(),
    "spans": mixed(positions=SpanPositions()),
    "pairs": mixed(collator=paired),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alignment", ["diito/middle", None])
def test_the_loss_is_the_sum_of_what_each_data_set_gives(tmp_path: Path, kind: str, alignment: str | None) -> None:
    one = trainer(tmp_path, [KINDS[kind]], alignment)
    batch = collate([Rows()[index] for index in range(4)])
    interchanges, [further] = one.draw_interchanges(batch), one.draw_mixture()
    assert bool(further.interchanges) == (kind != "nothing is swapped" and alignment is not None)
    if kind == "pairs" and alignment:
        [drawn] = further.interchanges
        assert drawn.swap.mask.equal(further.batch["swapped"]) and drawn.source is not None
    objective: Objective = one.objective
    total, terms = one.model(batch, interchanges, [further])
    each = 1.0 if alignment else 0.5  # without swaps, the terms of base runs take the weight of causal_ce, too
    weights = objective.weights if further.interchanges else ObjectiveWeights(task=each, ce=each)
    own, other = objective(batch, interchanges), objective(further.batch, further.interchanges, weights)
    torch.testing.assert_close(total, own.total + 0.25 * other.total)
    assert set(terms) == set(own.terms) | {f"text/{name}" for name in other.terms}
    assert terms["text/ce"] == other.terms["ce"] != terms["ce"]


def test_terms_of_further_data_are_logged_by_its_name(tmp_path: Path) -> None:
    one = trainer(tmp_path, [mixed("a"), mixed("b", positions=SpanPositions())])
    one.train()
    line = one.state.log_history[0]
    assert {"loss/ce", "loss/causal_ce", "loss/a/ce", "loss/b/causal_ce"} <= set(
        line
    ) and "loss/a/causal_ce" not in line
    parts = {name: 0.5 * line[f"loss/{name}task"] + 0.5 * line[f"loss/{name}ce"] for name in ("", "a/", "b/")}
    whole = parts[""] + line["loss/causal_ce"] + 0.25 * (2 * parts["a/"] + parts["b/"] + line["loss/b/causal_ce"])
    assert line["loss"] == pytest.approx(whole, rel=1e-4)


def test_a_batch_depends_on_seed_step_name_and_nothing_else() -> None:
    def drawn(name: str = "text", seed: int = 1, step: int = 2, micro: int = 0, process: int = 0) -> list[list[int]]:
        return mixed(name).draw(seed, step, micro, process)[0]["input_ids"].tolist()

    first = drawn()
    assert drawn() == first and len(first) == 5 and len(set(map(tuple, first))) == 5
    others = [drawn("other"), drawn(seed=2), drawn(step=3), drawn(micro=1), drawn(process=1)]
    assert all(other != first for other in others)


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    mixture = [mixed(positions=SpanPositions()), mixed("pairs", collator=paired)]

    def make(**settings: Any) -> Any:
        return trainer(tmp_path / "whole", mixture, gradient_accumulation_steps=2, **settings)

    whole = make(save_strategy="steps", save_steps=2)
    whole.train()
    resumed = make()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    other = trainer(tmp_path / "other", [], gradient_accumulation_steps=2)
    other.train()
    states = [one.student.state_dict() for one in (whole, resumed, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_the_cost_of_a_step_is_that_of_all_its_batches(tmp_path: Path) -> None:
    one = trainer(tmp_path, [])
    batch = collate([Rows()[index] for index in range(4)])
    objective, alignment, args = one.objective, one.alignment, one.settings
    alone = expected_cost(objective, batch, alignment, args)
    plain = expected_cost(objective, batch, alignment, args, [(batch, None)])
    twice = expected_cost(
        objective, batch, alignment, args, [(batch, mixed(positions=SpanPositions()).sampler(batch, "masked_lm"))]
    )
    assert plain.flops == alone.flops + alone.plain_flops and plain.plain_flops == 2 * alone.plain_flops
    assert twice.flops == 2 * alone.flops and twice.plain_flops == 2 * alone.plain_flops


def test_mistakes_are_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mixture.text holds no rows"):
        trainer(tmp_path, [mixed(rows=Rows(0))])
    with pytest.raises(UserError, match="mixture.text: sources are other rows of its batch, so give batch_size 2"):
        trainer(tmp_path, [mixed(positions=SpanPositions(), batch_size=1)])
    with pytest.raises(UserError, match="mixture.text: sources are other rows, but there is only one; give more"):
        trainer(tmp_path, [mixed(positions=SpanPositions(), rows=Rows(1))])
    unlabelled = trainer(tmp_path, [mixed(collator=without_labels)])
    with pytest.raises(UserError, match="batches have no labels; give the tokenizer .processing_class., or a collator"):
        unlabelled.train()
    with pytest.raises(UserError, match="data without swaps need a term of base runs; give one, such as ce"):
        trainer(tmp_path, [mixed()], weights={"causal_ce": 1.0})
