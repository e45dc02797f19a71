"""The strict term equals its formula on hand-written hooks in float64, in value and gradient; a leak raises it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from iit_toolkit.alignment import Alignment, Site, resolve
from iit_toolkit.distillation.cost import StepCost
from iit_toolkit.distillation.networks import train_network
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, InterchangeModel
from iit_toolkit.interchange.network import NetworkSide
from tests.distillation.test_cost import counted, step_flops
from tests.distillation.test_networks import PARTS, SETTINGS, aligned, assert_same, by_hand, mlp, rows
from tests.distillation.test_objective import LENGTH, ROWS, bert, make_batch, other_swap
from tests.programs import equality

LEFT_OUT = [8, 9]
"""The neurons of ten that `PARTS` leaves out."""


def with_others(network: nn.Sequential, inputs: Tensor, source: Tensor) -> Tensor:
    """Return the logits with the neurons that no variable holds taken from other rows."""
    hidden = network[:2](inputs)
    columns = [hidden[source if neuron in LEFT_OUT else slice(None), neuron] for neuron in range(hidden.shape[1])]
    return network[2:](torch.stack(columns, 1))


def divergence(mine: Tensor, theirs: Tensor) -> Tensor:
    of_teacher = log_softmax(theirs, 1).detach()
    return (of_teacher.exp() * (of_teacher - log_softmax(mine, 1))).sum(1).mean()


@pytest.mark.parametrize("of_program", [True, False])
@pytest.mark.parametrize("others", [{}, {"task": 0.5}])
def test_networks_train_as_a_plain_loop_does(of_program: bool, others: dict[str, float]) -> None:
    start, teacher = mlp(), mlp(1)
    student, expected = copy.deepcopy(start), copy.deepcopy(start)

    def loss(batch: dict[str, Tensor], source: Tensor, _variable: str) -> Tensor:
        inputs, labels = batch["inputs"], batch["labels"]
        logits = with_others(expected, inputs, source)
        strict = cross_entropy(logits, labels) if of_program else divergence(logits, teacher(inputs))
        return 0.7 * strict + others.get("task", 0.0) * cross_entropy(expected(inputs), labels)

    by_hand(expected, loss)
    one: Any = equality() if of_program else teacher
    terms = train_network(student, one, aligned(of_program), rows(), weights={"strict": 0.7, **others}, **SETTINGS)
    assert_same(student, expected, start)
    assert terms.keys() == {"strict", *others}


def kept_words(name: str, low: int, high: int) -> dict[str, Any]:
    site = {"component": "block_output", "layer": 0, "neurons": [low, high]}
    return {"name": name, "teacher": [{"component": "block_output", "layer": 1}], "student": [site]}


ALIGNMENT = Alignment.from_dict({"name": "parts", "variables": [kept_words("a", 0, 5), kept_words("b", 9, 12)]})
OTHERS = [5, 6, 7, 8, 12, 13, 14, 15]


def setup() -> tuple[Any, Any, list[InterchangeModel]]:
    teacher, student = bert(4, seed=1).eval().requires_grad_(False), bert(2, seed=2)
    sides = [
        InterchangeModel(model, resolve(ALIGNMENT, model, side))
        for model, side in ((teacher, "teacher"), (student, "student"))
    ]
    return teacher, student, sides


def strict_by_hand(student: Any, teacher: Any, batch: Any, swap: Any, tokens: Tensor, temperature: float) -> Tensor:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    block, kept = student.bert.encoder.layer[0], []
    handle = block.register_forward_hook(lambda _m, _a, output: kept.append(output))
    student(**inputs)
    handle.remove()

    def put(_module: Any, _args: Any, output: Tensor) -> Tensor:
        changed = output.clone()
        for row in range(ROWS):
            for place in range(LENGTH):
                if swap.mask[row, place]:
                    taken = kept[0][swap.source[row], swap.source_position[row, place]]
                    for neuron in OTHERS:
                        changed[row, place, neuron] = taken[neuron]
        return changed

    handle = block.register_forward_hook(put)
    mine = student(**inputs).logits[tokens] / temperature
    handle.remove()
    return divergence(mine, teacher(**inputs).logits[tokens] / temperature) * temperature**2


@pytest.mark.parametrize("weights", [{"strict": 1.0}, {"strict": 0.6, "causal_ce": 0.4, "task": 0.3}])
@pytest.mark.parametrize("tokens", ["all", "swapped"])
def test_models_of_transformers_equal_hand_written_hooks(weights: dict[str, float], tokens: Any) -> None:
    teacher, student, sides = setup()
    batch = make_batch()
    drawn = [Interchange("b", other_swap(batch))]
    settings: Any = {"counterfactual_tokens": tokens, "base_tokens": "labelled"}
    found = Objective(*sides, ObjectiveWeights(**weights), "masked_lm", **settings)(batch, drawn)
    real = batch["attention_mask"].bool()
    compared = real & drawn[0].swap.mask if tokens == "swapped" else real
    strict = strict_by_hand(student, teacher, batch, drawn[0].swap, compared, 2.0)
    others = {name: weight for name, weight in weights.items() if name != "strict"}
    total = weights["strict"] * strict
    if others:
        total = total + Objective(*sides, ObjectiveWeights(**others), "masked_lm", **settings)(batch, drawn).total
    assert math.isclose(float(found.terms["strict"]), float(strict.detach()), rel_tol=1e-6)
    assert set(found.terms) == set(weights)
    ours, plain = (torch.autograd.grad(loss, list(student.bert.parameters())) for loss in (found.total, total))
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    assert any(float(one.abs().max()) > 1e-3 for one in ours)


@pytest.mark.parametrize("others", [{"task": 1.0}, {"causal_ce": 1.0, "ce": 1.0}])
def test_the_ledger_counts_what_torch_counts(others: dict[str, float]) -> None:
    _, _, sides = setup()
    for side in sides:
        side.model.set_attn_implementation("eager")  # torch does not count its fused attention on a CPU
    objective = Objective(*sides, ObjectiveWeights(strict=1.0, **others), "masked_lm")
    batch = make_batch()
    drawn = [Interchange("a", other_swap(batch))]
    assert step_flops(StepCost(objective, batch), "a") == pytest.approx(counted(objective, batch, drawn), rel=0.02)


def test_only_a_leak_costs() -> None:
    """A network that reads the last neurons pays; one that does not pays what it pays without a swap."""
    data, network = rows(), mlp()
    sites = resolve(aligned(True), network, "student")
    batch = data.batch(torch.arange(16))
    from iit_toolkit.interchange.sides import side_of
    from iit_toolkit.interchange.swap import Swap

    teacher = side_of(equality(), aligned(True), "teacher")
    swap = Swap(torch.arange(16).roll(1), torch.ones(16, 1, dtype=torch.bool), torch.zeros(16, 1, dtype=torch.long))

    def losses() -> tuple[float, float]:
        student = NetworkSide(network, sites)
        objective = Objective(
            teacher, student, ObjectiveWeights(ce=1.0, strict=1.0), "sequence_classification", temperature=1.0
        )
        terms = objective(batch, [Interchange("left", swap)]).terms
        return float(terms["strict"]), float(terms["ce"])

    strict, base = losses()
    assert abs(strict - base) > 1e-3
    network[2].weight.data[:, LEFT_OUT] = 0  # pyright: ignore
    strict, base = losses()
    assert strict == pytest.approx(base, rel=1e-12)


def test_what_leaves_nothing_out_is_refused() -> None:
    whole = Alignment.pairs(positions="all", left=("left", Site.module("1.output")))
    with pytest.raises(
        UserError, match="variable 'left': the `strict` term swaps .* leaves out no neurons of 1.output"
    ):
        train_network(mlp(), equality(), whole, rows(), weights={"strict": 1.0}, **SETTINGS)
    halves = {name: (name, Site.module("1.output", part)) for name, part in {"left": (0, 5), "right": (5, 10)}.items()}
    with pytest.raises(UserError, match="leaves out no neurons"):
        train_network(
            mlp(), equality(), Alignment.pairs(positions="all", **halves), rows(), weights={"strict": 1.0}, **SETTINGS
        )
    with pytest.raises(UserError, match="strict .* need an alignment"):
        train_network(mlp(), equality(), None, rows(), weights={"strict": 1.0}, **SETTINGS)
    assert PARTS["right"][1] == LEFT_OUT[0]
