"""The mean squared difference of aligned activations equals its formula on hand-written forward hooks, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from iit_toolkit.alignment import Alignment, preset, resolve
from iit_toolkit.distillation.cost import StepCost
from iit_toolkit.distillation.losses import HiddenProjection
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, InterchangeModel
from tests.distillation.test_cost import counted, step_flops
from tests.distillation.test_objective import bert, by_hand, make_batch, other_swap, terms_by_hand

Pair = tuple[str, str, slice]
HIDDEN = slice(None)
FULL: list[Pair] = [("encoder.layer.1", "encoder.layer.0", HIDDEN), ("encoder.layer.3", "encoder.layer.1", HIDDEN)]
"""Per variable: the last block of the teacher's share, the student's block, and which neurons are compared."""
PARTS: list[Pair] = [
    ("encoder.layer.2.intermediate", "encoder.layer.1.intermediate", slice(3, 9)),
    ("encoder.layer.0", "encoder.layer.0", HIDDEN),
]


def parts() -> Alignment:
    """One variable of neurons, whose highest teacher site is not the last one named, and one of a whole vector."""
    inner = {"component": "mlp_activation", "neurons": [3, 9]}
    whole = {"layer": 0, "component": "block_output"}
    variables: list[dict[str, Any]] = [
        {"name": "neurons", "teacher": [{"layer": 2, **inner}, whole], "student": [{"layer": 1, **inner}]},
        {"name": "whole", "teacher": [whole], "student": [whole]},
    ]
    return Alignment.from_dict({"name": "parts", "variables": variables})


CASES = {"full": (preset("diito/full", 4, 2), FULL), "parts": (parts(), PARTS)}


def setup(alignment: Alignment, width: int = 16) -> tuple[Any, Any, list[InterchangeModel], HiddenProjection | None]:
    teacher, student = bert(4, seed=1).eval().requires_grad_(False), bert(2, width, seed=2)
    sides = [
        InterchangeModel(model, resolve(alignment, model, side))
        for model, side in ((teacher, "teacher"), (student, "student"))
    ]
    torch.manual_seed(5)
    return teacher, student, sides, HiddenProjection(width, 16).double() if width != 16 else None


def held(model: Any, path: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a module puts out in a plain forward pass."""
    kept: list[torch.Tensor] = []
    handle = model.bert.get_submodule(path).register_forward_hook(lambda _m, _a, output: kept.append(output))
    model(batch["input_ids"], batch["attention_mask"])
    handle.remove()
    return kept[0]


def aligned_by_hand(student: Any, teacher: Any, pairs: list[Pair], projection: Any, batch: Any) -> torch.Tensor:
    real = batch["attention_mask"].bool()
    losses: list[torch.Tensor] = []
    for theirs, ours, neurons in pairs:
        x, y = held(student, ours, batch)[real][:, neurons], held(teacher, theirs, batch)[real][:, neurons]
        x = x if x.shape == y.shape else projection(x)
        losses.append(((x - y) ** 2).sum() / y.numel())
    return sum(losses, torch.zeros((), dtype=torch.float64)) / len(losses)


def gradients(loss: torch.Tensor, *modules: torch.nn.Module | None) -> list[torch.Tensor]:
    parameters = [parameter for module in modules if module is not None for parameter in module.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("width", [16, 12])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("causal", [False, True])
def test_loss_and_gradients_equal_those_of_hand_written_hooks(case: str, width: int, causal: bool) -> None:
    alignment, pairs = CASES[case]
    teacher, student, sides, projection = setup(alignment, width)
    batch = make_batch()
    weights = ObjectiveWeights(task=0.3, ce=0.7, cos=0.2, aligned_mse=0.9, causal_ce=0.4 if causal else 0.0)
    assert weights.interchange == causal
    swap = other_swap(batch)
    name = alignment.variables[0].name if case == "full" else "whole"  # one whose swap `by_hand` can make
    interchanges = [Interchange(name, swap)] if causal else []
    found = Objective(*sides, weights, "masked_lm", projection=projection)(batch, interchanges)

    base = terms_by_hand(by_hand(student, 0, batch, None), by_hand(teacher, 1, batch, None), batch, 2.0, projection)
    expected = {name: base[name] for name in ("task", "ce", "cos")}
    expected["aligned_mse"] = aligned_by_hand(student, teacher, pairs, projection, batch)
    if causal and case == "parts":  # in `full`, the teacher is swapped in two blocks
        runs = by_hand(student, 0, batch, swap), by_hand(teacher, 0, batch, swap)
        expected["causal_ce"] = terms_by_hand(*runs, batch, 2.0, projection)["ce"]
    elif causal:
        alone = Objective(*sides, ObjectiveWeights(causal_ce=1.0), "masked_lm")(batch, interchanges)
        expected["causal_ce"] = alone.total
    assert set(found.terms) == set(expected)
    for term, value in expected.items():
        assert math.isclose(float(found.terms[term]), float(value.detach()), rel_tol=1e-6), term
    total = sum(getattr(weights, term) * value for term, value in expected.items())
    assert isinstance(total, torch.Tensor) and math.isclose(
        float(found.total.detach()), float(total.detach()), rel_tol=1e-9
    )
    ours, plain = (gradients(loss, student, projection) for loss in (found.total, total))
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("tokens", ["all", "labelled", None])
def test_its_tokens_are_chosen_by_themselves(tokens: Any) -> None:
    alignment, pairs = CASES["parts"]
    teacher, student, sides, projection = setup(alignment, 16)
    batch, weights = make_batch(), ObjectiveWeights(ce=1.0, aligned_mse=1.0)
    chosen = {"base_tokens": "labelled", "aligned_tokens": tokens}
    found = Objective(*sides, weights, "masked_lm", projection=projection, **chosen)(batch)  # pyright: ignore
    compared = batch if tokens == "all" else {**batch, "attention_mask": (batch["labels"] != -100).long()}
    real = compared["attention_mask"].bool()
    losses = [
        ((held(student, ours, batch)[real][:, n] - held(teacher, theirs, batch)[real][:, n]) ** 2).mean()
        for theirs, ours, n in pairs
    ]
    assert float(found.terms["aligned_mse"]) == pytest.approx(float(sum(losses).detach()) / len(losses), rel=1e-6)


def test_it_costs_no_counterfactual_run() -> None:
    teacher, student, sides, _ = setup(CASES["full"][0])
    calls = {"teacher": 0, "student": 0}
    objective = Objective(*sides, ObjectiveWeights(task=1, ce=1, cos=1, aligned_mse=1), "masked_lm")
    objective(make_batch())  # the first run also measures the heads
    for name, model in (("teacher", teacher), ("student", student)):
        model.bert.encoder.layer[0].register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    objective(make_batch(), [Interchange("full-0", other_swap(make_batch()))])
    assert calls == {"teacher": 1, "student": 1}


@pytest.mark.parametrize("width", [16, 12])
@pytest.mark.parametrize("others", [{"task": 1.0, "ce": 1.0, "cos": 1.0}, {}, {"causal_cos": 1.0}])
def test_the_ledger_counts_what_torch_counts(others: dict[str, float], width: int) -> None:
    _, _, sides, projection = setup(preset("diito/middle", 4, 2), width)
    objective = Objective(*sides, ObjectiveWeights(aligned_mse=1.0, **others), "masked_lm", projection=projection)
    for side in sides:
        side.model.set_attn_implementation("eager")  # torch does not count its fused attention on a CPU
    batch = make_batch()
    variable = "middle" if "causal_cos" in others else None
    interchanges = [] if variable is None else [Interchange(variable, other_swap(batch))]
    assert step_flops(StepCost(objective, batch), variable) == pytest.approx(
        counted(objective, batch, interchanges), rel=0.02
    )


def test_activations_of_unequal_widths_are_refused_where_no_projection_maps_them() -> None:
    inner = {"layer": 0, "component": "mlp_activation"}
    variable = {"name": "v", "teacher": [{"neurons": [0, 9], **inner}], "student": [{"neurons": [0, 8], **inner}]}
    for width in (16, 12):
        _, _, sides, projection = setup(Alignment.from_dict({"name": "x", "variables": [variable]}), width)
        objective = Objective(*sides, ObjectiveWeights(aligned_mse=1.0), "masked_lm", projection=projection)
        with pytest.raises(UserError, match="variable 'v': aligned_mse cannot compare 8 neurons .* with 9"):
            objective(make_batch())


def test_it_needs_an_alignment() -> None:
    sides = [InterchangeModel(bert(2), {}), InterchangeModel(bert(2), {})]
    with pytest.raises(UserError, match="aligned_mse needs an alignment"):
        Objective(*sides, ObjectiveWeights(aligned_mse=1.0), "masked_lm")(make_batch())
