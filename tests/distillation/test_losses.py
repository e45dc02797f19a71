from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from iit_toolkit.distillation.losses import (
    HiddenProjection,
    cosine_loss,
    cross_entropy_to_labels,
    distillation_loss,
    hidden_mse_loss,
    logit_mse_loss,
)
from iit_toolkit.distillation.terms import ObjectiveWeights


def test_cross_entropy_is_the_mean_over_labelled_rows() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [5.0, -5.0]], [[math.log(3), 0.0], [1.0, 2.0]]])
    labels = torch.tensor([[1, -100], [1, -100]])
    expected = (-math.log(3 / 4) - math.log(1 / 4)) / 2
    assert cross_entropy_to_labels(logits, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("rows", [0, 3])
def test_cross_entropy_without_labels_is_zero_with_a_graph(rows: int) -> None:
    logits = torch.randn(rows, 5, requires_grad=True)
    loss = cross_entropy_to_labels(logits, torch.full((rows,), -100))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_distillation_loss_is_the_written_out_divergence() -> None:
    student = torch.tensor([[0.0, 0.0], [2 * math.log(3), 0.0]])
    teacher = torch.tensor([[2 * math.log(3), 0.0], [0.0, 0.0]])
    first = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    second = 1 / 2 * math.log(2 / 3) + 1 / 2 * math.log(2)
    expected = 4 * (first + second) / 2
    assert distillation_loss(student, teacher).item() == pytest.approx(expected)
    assert distillation_loss(student, teacher, temperature=1.0).item() != pytest.approx(expected)


def test_distillation_gradient_hardly_depends_on_the_temperature_when_logits_are_small() -> None:
    student, teacher = torch.randn(4, 7, dtype=torch.float64) * 1e-4, torch.zeros(4, 7, dtype=torch.float64)
    student.requires_grad_()
    gradients = [torch.autograd.grad(distillation_loss(student, teacher, t), student)[0] for t in (1.0, 4.0)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-9)


def test_distillation_loss_of_extreme_logits_is_finite_and_right() -> None:
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]])
    loss = distillation_loss(student, teacher, temperature=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(4 * 1e4 / 2)
    assert student.grad is not None and student.grad.isfinite().all()


def test_losses_of_no_rows_are_zero_with_a_graph() -> None:
    for loss in (distillation_loss, cosine_loss, logit_mse_loss, hidden_mse_loss):
        student = torch.zeros(0, 5, requires_grad=True)
        value = loss(student, torch.zeros(0, 5))
        value.backward()
        assert value.item() == 0 and student.grad is not None


def test_half_precision_logits_are_not_summed_in_half_precision() -> None:
    student, teacher = torch.randn(300, 50), torch.randn(300, 50)
    rounded = distillation_loss(student.bfloat16(), teacher.bfloat16())
    exact = distillation_loss(student.bfloat16().double(), teacher.bfloat16().double())
    assert rounded.item() == pytest.approx(exact.item(), rel=1e-5)


def test_cosine_loss_sees_directions_only() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    teacher = torch.tensor([[5.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    assert cosine_loss(student, teacher).item() == pytest.approx((0 + 2 + 1 - math.sqrt(0.5)) / 3)


def test_mean_squared_errors_are_means_over_elements() -> None:
    student, teacher = torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert logit_mse_loss(student, teacher).item() == pytest.approx(14 / 6)
    assert hidden_mse_loss(student, teacher).item() == pytest.approx(14 / 6)


def test_projection_maps_widths_and_has_no_bias() -> None:
    projection = HiddenProjection(3, 5)
    assert projection(torch.ones(2, 4, 3)).shape == (2, 4, 5)
    assert not projection(torch.zeros(2, 3)).any()
    assert sum(p.numel() for p in projection.parameters()) == 15


def test_preset_weights_are_those_of_the_paper() -> None:
    def nonzero(weights: ObjectiveWeights) -> dict[str, float]:
        return {name: value for name, value in weights.model_dump().items() if value}

    assert nonzero(ObjectiveWeights.standard()) == {"task": 0.33, "ce": 0.33, "cos": 0.33}
    assert nonzero(ObjectiveWeights.causal()) == dict.fromkeys(("task", "ce", "cos", "causal_ce"), 0.25)
    assert nonzero(ObjectiveWeights.causal_with_cosine()) == dict.fromkeys(
        ("task", "ce", "cos", "causal_ce", "causal_cos"), 0.2
    )


@pytest.mark.parametrize("name", list(ObjectiveWeights.model_fields))
def test_weights_say_what_they_need(name: str) -> None:
    weights = ObjectiveWeights(**{name: 1.0})
    assert weights.needs_teacher == (name not in ("task", "boundary"))
    assert weights.interchange == (name.startswith("causal_") or name in ("strict", "whole"))


@pytest.mark.parametrize(
    "bad", [{}, {"task": 0.0}, {"task": -0.1}, {"task": 1.0, "mlm": 1.0}, {"ce": float("nan")}, {"ce": "inf"}]
)
def test_senseless_weights_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ObjectiveWeights(**bad)
