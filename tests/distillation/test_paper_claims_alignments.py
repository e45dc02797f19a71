"""The alignment files of the paper-claims experiment: controls and variants of `diito/full`."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM

from iit_toolkit.alignment import Alignment, preset, resolve
from iit_toolkit.alignment.positions import MaskedPositions, Positions, RandomPositions, SpanPositions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.distillation.cost import StepCost
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.interchange import Interchange, InterchangeModel, Swap
from tests.distillation.test_cost import counted, step_flops
from tests.distillation.test_objective import bert, make_batch, other_swap, terms_by_hand
from tests.distillation.test_trainer import trainer

FILES = Path(__file__).parents[2] / "experiments" / "paper-claims"
AUGMENT = Alignment.from_yaml(FILES / "data-augment.yaml")


@pytest.mark.parametrize(
    ("name", "positions", "sources"),
    [
        ("full-random", RandomPositions(fraction=0.3), Sources()),
        ("full-masked", MaskedPositions(), Sources()),
        ("full-fixed", SpanPositions(fraction=0.3), Sources(kind="fixed")),
    ],
)
def test_variants_are_the_preset_but_for_what_their_name_says(
    name: str, positions: Positions, sources: Sources
) -> None:
    changed = {"name": name, "positions": positions, "sources": sources}
    assert Alignment.from_yaml(FILES / f"{name}.yaml") == preset("diito/full", 6, 3).model_copy(update=changed)


def test_the_random_map_is_the_draw_that_it_says() -> None:
    alignment, full = Alignment.from_yaml(FILES / "random-map.yaml"), preset("diito/full", 6, 3)
    generator = random.Random(42)
    drawn = [generator.sample(range(6), 3) for _ in range(4)]
    shares = [{site.layer for site in variable.teacher} for variable in full.variables]
    wrong = [not any(block in share for block, share in zip(one, shares, strict=True)) for one in drawn]
    assert wrong == [False, False, False, True]
    blocks = [[site.layer for site in (*variable.teacher, *variable.student)] for variable in alignment.variables]
    assert blocks == [[block, index] for index, block in enumerate(drawn[-1])]
    assert (alignment.positions, alignment.sources) == (full.positions, full.sources)


def sides_of(*models: BertForMaskedLM) -> list[InterchangeModel]:
    return [
        InterchangeModel(model, resolve(AUGMENT, model, side))
        for model, side in zip(models, ("teacher", "student"), strict=True)
    ]


def exchanged(ids: torch.Tensor, swap: Swap) -> torch.Tensor:
    """Input ids with the source's tokens at the swapped positions, one after another."""
    changed = ids.clone()
    for row, position in swap.mask.nonzero().tolist():
        changed[row, position] = ids[swap.source[row], swap.source_position[row, position]]
    assert (changed != ids).any()
    return changed


def test_swapped_embeddings_are_swapped_tokens_bit_for_bit() -> None:
    """Of both models: the counterfactual run is a plain run on exchanged input ids, with the base's attention mask."""
    batch = make_batch()
    inputs, swap = {name: batch[name] for name in ("input_ids", "attention_mask")}, other_swap(batch)
    for side in sides_of(bert(4, seed=1).eval(), bert(2, width=12, seed=2).eval()):
        base = side.base_run(inputs, ["tokens"])
        counterfactual = side.counterfactual_run(base, "tokens", swap)
        plain = side.model(exchanged(inputs["input_ids"], swap), inputs["attention_mask"], output_hidden_states=True)
        assert torch.equal(counterfactual.hidden, plain.hidden_states[-1])
        assert torch.equal(side.logits(counterfactual), plain.logits.flatten(0, 1))
        assert not torch.equal(side.logits(counterfactual), side.logits(base))


def test_the_loss_and_its_gradient_are_those_of_exchanged_tokens() -> None:
    teacher, student, batch = bert(4, seed=1).eval().requires_grad_(False), bert(2, seed=2), make_batch()
    swap = other_swap(batch)
    loss = Objective(*sides_of(teacher, student), ObjectiveWeights(causal_ce=1.0), "masked_lm")(
        batch, [Interchange("tokens", swap)]
    )
    runs = [
        model(exchanged(batch["input_ids"], swap), batch["attention_mask"], output_hidden_states=True)
        for model in (student, teacher)
    ]
    plain = terms_by_hand(*((run.logits, run.hidden_states[-1]) for run in runs), batch, 2.0, None)["ce"]
    assert math.isclose(float(loss.total.detach()), float(plain.detach()), rel_tol=1e-9)
    parameters = list(student.parameters())
    found, expected = (torch.autograd.grad(one, parameters, allow_unused=True) for one in (loss.total, plain))
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_the_ledger_counts_both_models_once_more() -> None:
    batch, sides = make_batch(), sides_of(bert(4, seed=1).eval().requires_grad_(False), bert(2, seed=2))
    for side in sides:
        side.model.set_attn_implementation("eager")  # torch does not count its fused attention on a CPU
    objective = Objective(*sides, ObjectiveWeights.causal(), "masked_lm")
    cost = StepCost(objective, batch)
    found = counted(objective, batch, [Interchange("tokens", other_swap(batch))])
    assert step_flops(cost, "tokens") == pytest.approx(found, rel=0.02)
    ledger = cost.counterfactual("tokens")
    for name in ("teacher", "student"):
        assert ledger[f"{name}, counterfactual"] == cost.plain()[f"{name}, base"]


def test_a_student_with_tied_embeddings_learns_from_swapped_tokens(tmp_path: Path) -> None:
    one = trainer(tmp_path, alignment=AUGMENT, weights=ObjectiveWeights.causal(), max_steps=40, logging_steps=10)
    words = one.objective.student.model.get_input_embeddings().weight
    assert words is one.objective.student.model.get_output_embeddings().weight  # pyright: ignore
    one.train()
    lines = [line for line in one.state.log_history if "loss" in line]
    assert lines[-1]["loss/causal_ce"] < lines[0]["loss/causal_ce"]
    assert all(line["effect_size"] > 0 and line["gradient_share/causal_ce"] > 0 for line in lines)
