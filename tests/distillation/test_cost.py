"""The operations of a step, put together from runs, against torch's count of the whole step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf
from torch.utils.flop_counter import FlopCounterMode, addmm_flop
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    ElectraConfig,
    ElectraForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.config.task import Task
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.cost import (
    StepCost,
    cheapest_draw,
    count_flops,
    expected_cost,
    fastest_rate,
    flops,
)
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.interchange import Interchange, InterchangeModel, draw_swap, other_rows
from tests.families import HIDDEN, make_batch, make_model

ROWS, LENGTH, WORDS = 6, 40, 500
SIZES: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": LENGTH,
}  # fmt: skip
ALIGNMENT = Alignment.from_dict(
    {
        "name": "two",
        "variables": [
            {
                "name": "early",
                "teacher": [{"layer": 0, "component": "block_output"}],
                "student": [{"layer": 0, "component": "block_output"}],
            },
            {
                "name": "late",
                "teacher": [{"layer": 2, "component": "mlp_activation"}],
                "student": [{"layer": 1, "component": "mlp_activation"}],
            },
        ],
    }
)


def make(family: str, layers: int, attention: str = "eager") -> Any:
    """Make a model; with eager attention, since torch does not count its fused attention on a CPU."""
    torch.manual_seed(layers)
    sizes = {**SIZES, "num_hidden_layers": layers, "attn_implementation": attention}
    if family == "bert":
        return BertForMaskedLM(BertConfig(**sizes))
    if family == "classifier":
        return BertForSequenceClassification(BertConfig(**sizes, num_labels=3))
    if family == "electra":
        return ElectraForMaskedLM(ElectraConfig(**sizes, embedding_size=24))
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2))


TASKS: dict[str, Task] = {
    "bert": "masked_lm", "electra": "masked_lm", "llama": "causal_lm", "classifier": "sequence_classification",
}  # fmt: skip


def setup(family: str, weights: ObjectiveWeights, **settings: Any) -> tuple[Objective, dict[str, torch.Tensor]]:
    teacher, student = make(family, 4).eval().requires_grad_(False), make(family, 2)
    sides = [
        InterchangeModel(model, resolve(ALIGNMENT, model, side))
        for model, side in ((teacher, "teacher"), (student, "student"))
    ]
    objective = Objective(*sides, weights, TASKS[family], **settings)
    ids = torch.randint(5, WORDS, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    attention = torch.ones_like(ids)
    attention[::2, 25:] = 0
    labels = ids.masked_fill(attention == 0, -100)
    if family == "classifier":
        labels = torch.arange(ROWS) % 3
    elif family != "llama":
        labels = labels.masked_fill(torch.arange(LENGTH) % 7 != 0, -100)
    return objective, {"input_ids": ids, "attention_mask": attention, "labels": labels}


def interchanged(batch: dict[str, torch.Tensor], variable: str, source: Any = None) -> Interchange:
    generator = torch.Generator().manual_seed(1)
    real = batch["attention_mask"].bool()
    swap = draw_swap(ALIGNMENT.positions, other_rows(ROWS, generator), real, real, generator)
    return Interchange(variable, swap, source)


def in_place(_self: torch.Size, left: torch.Size, right: torch.Size, **_: Any) -> int:
    return addmm_flop(None, left, right)


def counted(objective: Objective, batch: dict[str, torch.Tensor], interchanges: list[Interchange]) -> int:
    """What torch counts in one forward and backward pass; it leaves out in-place products, if not told."""
    objective(batch, interchanges)  # the first run also measures the heads
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter:
        objective(batch, interchanges).total.backward()
    return counter.get_total_flops()


def step_flops(cost: StepCost, variable: str | None, own_source: bool = False) -> int:
    """What the ledger counts in a step with one counterfactual run, or none."""
    counterfactual = {} if variable is None else cost.counterfactual(variable, own_source=own_source)
    return flops(cost.plain()) + flops(counterfactual)


@pytest.mark.parametrize("variable", ["early", "late", None])
@pytest.mark.parametrize("family", TASKS)
def test_the_ledger_counts_what_torch_counts(family: str, variable: str | None) -> None:
    weights = ObjectiveWeights.standard() if variable is None else ObjectiveWeights.causal_with_cosine()
    objective, batch = setup(family, weights)
    cost = StepCost(objective, batch)
    interchanges = [] if variable is None else [interchanged(batch, variable)]
    assert step_flops(cost, variable) == pytest.approx(counted(objective, batch, interchanges), rel=0.02)


@pytest.mark.parametrize(
    ("weights", "settings"),
    [
        (ObjectiveWeights(task=1.0), {}),
        (ObjectiveWeights(cos=1.0), {}),
        (ObjectiveWeights(ce=1.0, causal_cos=1.0), {}),
        (ObjectiveWeights.causal(), {"base_tokens": "labelled", "counterfactual_tokens": "labelled"}),
        (ObjectiveWeights.causal(), {"base_tokens": "labelled", "counterfactual_weighting": "effect"}),
    ],
)
def test_the_ledger_leaves_out_what_no_term_needs(weights: ObjectiveWeights, settings: dict[str, Any]) -> None:
    objective, batch = setup("bert", weights, **settings)
    variable = "early" if weights.interchange else None
    interchanges = [] if variable is None else [interchanged(batch, variable)]
    cost = StepCost(objective, batch)
    assert step_flops(cost, variable) == pytest.approx(counted(objective, batch, interchanges), rel=0.02)


def test_sources_of_their_own_are_run_as_far_as_they_are_read() -> None:
    objective, batch = setup("bert", ObjectiveWeights.causal())
    cost = StepCost(objective, batch)
    for variable in ("early", "late"):
        one = interchanged(batch, variable, {name: value.flip(0) for name, value in batch.items()})
        expected = counted(objective, batch, [one])
        assert step_flops(cost, variable, own_source=True) == pytest.approx(expected, rel=0.02)
        assert step_flops(cost, variable) < 0.95 * expected


def test_shares_of_each_part_add_up_to_several_interchanges() -> None:
    objective, batch = setup("bert", ObjectiveWeights.causal())
    cost = StepCost(objective, batch)
    expected = counted(objective, batch, [interchanged(batch, "early"), interchanged(batch, "late")])
    found = step_flops(cost, "early") + flops(cost.counterfactual("late"))
    assert found == pytest.approx(expected, rel=0.02)


def test_every_linear_layer_counts_where_it_runs() -> None:
    model = make("electra", 3).eval()
    run = count_flops(model, {"input_ids": torch.ones(1, LENGTH, dtype=torch.long)})
    assert run.below == 2 * LENGTH * 24 * 48
    block = 2 * LENGTH * (4 * 48 * 48 + 2 * 48 * 96) + 2 * 2 * LENGTH * LENGTH * 48
    assert run.blocks == (block,) * 3
    assert run.above == 2 * LENGTH * 48 * 24
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_fused_attention_counts_as_the_products_that_it_fuses(family: str) -> None:
    inputs = {"input_ids": torch.ones(1, LENGTH, dtype=torch.long)}
    fused, eager = (count_flops(make(family, 2, kind).eval(), inputs) for kind in ("sdpa", "eager"))
    assert fused == eager


def test_patches_count_as_the_product_that_embeds_them() -> None:
    patches = 2 * 9 * (3 * 4 * 4) * HIDDEN
    inputs, _ = make_batch("vit")
    assert count_flops(make_model("vit"), {"pixel_values": inputs["pixel_values"][:1]}).below == patches


def test_a_parameter_that_a_model_hands_to_its_blocks_is_no_obstacle() -> None:
    model = tf.DebertaV2ForMaskedLM(tf.DebertaV2Config(**SIZES, num_hidden_layers=2, relative_attention=True))
    run = count_flops(model, {"input_ids": torch.ones(1, LENGTH, dtype=torch.long)})
    assert run.blocks[0] == run.blocks[1] > 2 * LENGTH * (4 * 48 * 48 + 2 * 48 * 96)


@pytest.mark.parametrize("interchanges", [1, 3])
@pytest.mark.parametrize("kind", ["in_batch", "dataset", "fixed", "paired"])
def test_the_cheapest_draw_has_the_least_variance_for_its_cost(kind: str, interchanges: int) -> None:
    objective, batch = setup("bert", ObjectiveWeights.causal())
    alignment = ALIGNMENT.model_copy(update={"sources": Sources(kind=kind)})  # pyright: ignore
    cost, own = StepCost(objective, batch), kind != "in_batch"
    declared = torch.tensor([0.7, 0.3]).double()
    best = cheapest_draw(declared, cost, alignment, training_config("unused", {"interchanges": interchanges}))
    costs = torch.tensor([flops(cost.counterfactual(name, own_source=own)) for name in ("early", "late")]).double()
    assert float(costs[0]) > float(costs[1]) or own

    def price(drawn: torch.Tensor) -> float:  # second moment of the weights, times the cost of all steps
        step = flops(cost.plain()) + interchanges * float((drawn * costs).sum())
        return float((declared**2 / drawn).sum()) / interchanges * step

    assert float(best.sum()) == pytest.approx(1)
    for share in torch.linspace(0.05, 0.95, 19).tolist():
        assert price(best) <= price(torch.tensor([share, 1 - share]).double()) * (1 + 1e-12)


def test_a_counterfactual_run_may_cost_nothing() -> None:
    objective, batch = setup("bert", ObjectiveWeights.causal())
    cost = StepCost(objective, batch)
    cost.counterfactual = lambda *_, **__: {}  # pyright: ignore
    assert cheapest_draw(
        torch.tensor([0.7, 0.3]).double(), cost, ALIGNMENT, training_config("unused", {})
    ).tolist() == pytest.approx([0.7, 0.3])


def test_the_fastest_rate_is_that_of_the_quickest_of_several_products(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([0.0, 9.0, 10.0, 12.0, 20.0, 20.5, 30.0, 33.0])
    monkeypatch.setattr("iit_toolkit.distillation.cost.time.perf_counter", lambda: next(ends))
    assert fastest_rate(torch.device("cpu"), torch.float32) == 2 * 1024**3 / 0.5


def test_the_expected_cost_is_the_mean_over_what_is_drawn() -> None:
    objective, batch = setup("bert", ObjectiveWeights.causal())
    cost = StepCost(objective, batch)
    alignment = ALIGNMENT.model_copy(update={"draw": {"early": 0.25, "late": 0.75}})
    args = training_config("unused", {"interchanges": 2})
    expected = expected_cost(objective, batch, alignment, args)
    early, late = (flops(cost.counterfactual(name)) for name in ("early", "late"))
    assert expected.plain_flops == flops(cost.plain())
    assert expected.flops == pytest.approx(expected.plain_flops + 2 * (0.25 * early + 0.75 * late))
    assert sum(expected.parts.values()) == pytest.approx(expected.flops)
    assert "teacher, source" not in expected.parts and "teacher, counterfactual" in expected.parts
    assert expected_cost(objective, batch, None, args).flops == expected.plain_flops
