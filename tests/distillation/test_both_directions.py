"""Both directions of every pair in one step: the same losses as each direction by itself, at less cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.data.batch import both_directions
from iit_toolkit.data.collate import CausalLanguageCollator, MaskedLanguageCollator
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.cost import StepCost, expected_cost, flops
from iit_toolkit.distillation.students import student_from_teacher
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from tests.data.test_pairs import WORDS, paired
from tests.distillation.test_trainer import LENGTH, Rows, bert, collate

ALIGNMENT = Alignment.pairs(words=(1, 0), positions="differing", sources="paired")


def shifted(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A batch of pairs: word 2 of the base is word 4 of the source, and all other words differ, too."""
    batch = collate(rows)
    other = collate([{"input_ids": 3 + (row["input_ids"] + 5) % 20} for row in rows])
    batch["swapped"] = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    batch["swapped"][:, 2] = True
    batch["swapped_from"] = torch.where(batch["swapped"], 4, 0)
    return batch | {f"source_{name}": value for name, value in other.items()}


def turned(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other direction of such a batch, by hand."""
    names = ("input_ids", "attention_mask", "special_tokens_mask", "labels")
    swapped = torch.zeros_like(batch["swapped"])
    swapped[:, 4] = True
    found = {name: batch[f"source_{name}"] for name in names} | {f"source_{name}": batch[name] for name in names}
    return found | {"swapped": swapped, "swapped_from": torch.where(swapped, 2, 0)}


def trainer(folder: Path, **settings: Any) -> CausalDistillationTrainer:
    teacher = bert(4, dropout=0.0)
    teacher.config.attention_probs_dropout_prob = 0.0
    weights = ObjectiveWeights(task=0.3, ce=0.5, causal_ce=1.0).model_dump()
    defaults = {"max_steps": 3, "per_device_train_batch_size": 4, "logging_steps": 1, "disable_tqdm": True}
    return CausalDistillationTrainer(
        student_from_teacher(teacher, (0, 2)),
        teacher,
        ALIGNMENT,
        training_config(str(folder), {**defaults, "weights": weights, "dropout": False, **settings}),
        train_dataset=Rows(),
        data_collator=shifted,
    )


def test_the_losses_are_the_means_of_those_of_the_two_directions(tmp_path: Path) -> None:
    one = trainer(tmp_path, both_directions=True)
    batch = shifted([Rows()[index] for index in range(4)])
    pair = both_directions(batch)
    [drawn] = one.draw_interchanges(pair)
    assert drawn.source is None and drawn.swap.source.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    both = one.objective(pair, [drawn])
    alone = [one.objective(single, one.draw_interchanges(single)) for single in (batch, turned(batch))]
    for name in ("ce", "causal_ce"):
        torch.testing.assert_close(both.terms[name], torch.stack([part.terms[name] for part in alone]).mean())
    counts = [int((pair["labels"][start::2] != -100).sum()) for start in (0, 1)]
    weighted = sum(part.terms["task"] * count for part, count in zip(alone, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(both.terms["task"], weighted)


def test_training_takes_both_directions_and_can_be_resumed(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", both_directions=True, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer(tmp_path / "whole", both_directions=True)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    other = trainer(tmp_path / "other")
    other.train()
    states = [one.student.state_dict() for one in (whole, resumed, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    line = whole.state.log_history[0]
    assert line["loss"] == pytest.approx(
        0.3 * line["loss/task"] + 0.5 * line["loss/ce"] + line["loss/causal_ce"], rel=1e-4
    )
    assert sum(line[f"gradient_share/{name}"] for name in ("task", "ce", "causal_ce")) == pytest.approx(1)


def test_sources_cost_no_runs_besides(tmp_path: Path) -> None:
    one = trainer(tmp_path, both_directions=True)
    batch = shifted([Rows()[index] for index in range(4)])
    both = expected_cost(one.objective, both_directions(batch), ALIGNMENT, one.settings)
    alone = expected_cost(one.objective, batch, ALIGNMENT, trainer(tmp_path).settings)
    assert not [name for name in both.parts if "source" in name] and any("source" in name for name in alone.parts)
    assert both.flops < 2 * alone.flops
    drawn = ALIGNMENT.model_copy(update={"sources": Sources(kind="dataset")})
    besides = expected_cost(one.objective, both_directions(batch), drawn, one.settings)
    assert [name for name in besides.parts if "source" in name]  # those of other rows are run as ever
    step = StepCost(one.objective, both_directions(batch))
    assert both.flops == flops(step.plain()) + flops(step.counterfactual("words"))


@pytest.mark.parametrize("answers", [(), ("sleep", "sleeps")])
def test_collators_say_what_is_predicted_of_sources(answers: tuple[str, ...]) -> None:
    columns = ("answer", "source_answer") if answers else ()
    rows = list(paired(("The cats see a dog sleep.", "The cat see a dog sleeps.", *answers), columns=columns).rows)
    if answers:
        batch = both_directions(MaskedLanguageCollator(WORDS)(rows))
        asked = [WORDS.convert_ids_to_tokens(row[row != -100].tolist()) for row in batch["labels"]]
        assert asked == [["sleep"], ["sleeps"]]
        assert batch["input_ids"][0].ne(batch["input_ids"][1]).equal(batch["swapped"][0])
        return
    batch = both_directions(CausalLanguageCollator(WORDS)(rows))
    assert batch["labels"].equal(batch["input_ids"]) and len(batch["labels"]) == 2
    masked = MaskedLanguageCollator(WORDS, 0.9)(rows)
    chosen, also = masked["labels"] != -100, masked["source_labels"] != -100
    assert also.equal(chosen & (masked["source_input_ids"] == masked["input_ids"])) and also.any()


def test_pairs_without_answers_in_the_source_are_refused() -> None:
    batch = shifted([Rows()[index] for index in range(2)])
    del batch["source_labels"]
    with pytest.raises(UserError, match=r"both_directions needs pairs whose sources have answers, too"):
        both_directions(batch)
    assert batch["swapped"].shape[1] == LENGTH
