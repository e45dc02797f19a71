"""Numbers that are not finite are named, and told from those that a model means."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from iit_toolkit.errors import UserError
from iit_toolkit.models.finite import largest_weight, refuse_non_finite_answers, refuse_non_finite_weights


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_weight_that_is_not_finite_is_named_with_its_count(value: float, dtype: torch.dtype) -> None:
    model = two_layers().to(dtype)
    refuse_non_finite_weights(model, "teacher x", "remedy")
    model[0].weight.data[1, :2] = value
    with pytest.raises(UserError, match=r"^teacher x: 2 of 12 values of 0\.weight are NaN or infinite; remedy$"):
        refuse_non_finite_weights(model, "teacher x", "remedy")


def test_buffers_are_looked_at_and_other_weights_are_counted() -> None:
    model: Any = two_layers()
    model[1].running_var[:] = math.inf
    model[0].bias.data[0] = math.nan
    with pytest.raises(
        UserError, match="1 of 4 values of 0.bias are NaN or infinite, as are values of 1 other weight;"
    ):
        refuse_non_finite_weights(model, "m", "r")


def test_what_forbids_tokens_by_minus_infinity_is_told_apart() -> None:
    """Losses of such logits are NaN; a large negative number forbids as well."""
    model: Any = two_layers()
    model.register_buffer("final_logits_bias", torch.zeros(1, 4))
    for name, tensor in (("0.bias", model[0].bias.data), ("final_logits_bias", model.final_logits_bias[0])):
        tensor[1:3] = -math.inf
        with pytest.raises(UserError, match=rf"^m: 2 of 4 values of {name} are -inf .banned tokens.* such as -1e9$"):
            refuse_non_finite_weights(model, "m", "r")
        tensor[1:3] = -1e9
        refuse_non_finite_weights(model, "m", "r")


def test_weights_whose_squares_overflow_are_named() -> None:
    model: Any = two_layers()
    assert largest_weight(model) is None
    model[1].bias.data[2] = -3e38
    assert largest_weight(model) == "1.bias had values up to 3e+38"


def test_large_finite_weights_and_masks_of_minus_infinity_pass() -> None:
    model: Any = two_layers()
    model[0].weight.data[:] = 3e38  # their sum overflows
    model.register_buffer("mask", torch.full((2, 2), -math.inf))
    refuse_non_finite_weights(model, "m", "r")
    model.mask[0, 0] = math.nan
    with pytest.raises(UserError, match="of mask are NaN"):
        refuse_non_finite_weights(model, "m", "r")


@pytest.mark.parametrize(
    ("answer", "fine"),
    [
        ([1.0, -math.inf, 0.0], True),
        ([math.nan, 1.0, 0.0], False),
        ([1.0, math.inf, 0.0], False),
        ([-math.inf] * 3, False),
        ([-math.inf, math.nan, 0.0], False),
    ],
)
def test_an_answer_needs_a_finite_largest_logit(answer: list[float], fine: bool) -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], answer, [3.0, 1.0, 2.0], answer])
    rows = torch.tensor([7, 9, 9, 12])
    if fine:
        assert refuse_non_finite_answers(logits, rows, "student a") is logits
        return
    with pytest.raises(UserError, match=r"student a: answers are NaN or infinite in 2 of 3 rows, e.g. in row 9; give"):
        refuse_non_finite_answers(logits, rows, "student a")


def test_no_answers_are_fine() -> None:
    assert refuse_non_finite_answers(torch.empty(0, 5), torch.empty(0, dtype=torch.long), "m").shape == (0, 5)
