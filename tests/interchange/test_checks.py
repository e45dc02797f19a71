"""Whatever a model raises becomes one line of a failed check."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from iit_toolkit.errors import UserError
from iit_toolkit.interchange.checks import attempt
from tests.families import make_model


def raising(error: BaseException) -> Any:
    def check() -> str:
        raise error

    return check


@pytest.mark.parametrize(
    "error", [KeyError("sliding_attention"), ZeroDivisionError("by\nzero"), RuntimeError("x" * 9999), AssertionError()]
)
def test_whatever_is_raised_is_said_in_one_line(error: Exception) -> None:
    check = attempt("teacher: padding", make_model("bert"), raising(error))
    assert not check.passed
    assert check.detail.startswith(f"BertForMaskedLM cannot be run ({type(error).__name__}: ")
    assert "\n" not in check.detail and len(check.detail) < 300
    assert check.detail.endswith("use another model, or a student of other layers")


def test_a_users_mistake_is_said_as_it_is() -> None:
    check = attempt("teacher: padding", make_model("bert"), raising(UserError("wrong; do this")))
    assert (check.passed, check.detail) == (False, "wrong; do this")


def test_memory_that_runs_out_says_nothing_about_the_model() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        attempt("teacher: padding", make_model("bert"), raising(torch.OutOfMemoryError("full")))
