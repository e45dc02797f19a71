"""A check: one thing that must hold on live models, tried by running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from iit_toolkit.errors import UserError, one_line

_SAID = 120
"""Characters of a model's own message that are repeated."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What was checked.
        passed: Whether it holds.
        detail: What was seen; if it failed, what is wrong and the remedy, in one line.
    """

    name: str
    passed: bool
    detail: str


def refuse_failed(checks: Sequence[Check]) -> None:
    """Raise for the first failed check.

    Raises:
        UserError: Naming the check and the remedy.
    """
    for check in checks:
        if not check.passed:
            raise UserError(f"{check.name}: {check.detail}")


def attempt(name: str, model: PreTrainedModel, check: Callable[[], str]) -> Check:
    """Check something by running a model; whatever it raises is a failure, said in one line.

    Args:
        name: What is checked.
        model: The model that is run.
        check: Returns what was seen; raises `UserError` if it does not hold.

    Raises:
        torch.OutOfMemoryError: As the model does: it says nothing about the model itself.
    """
    try:
        return Check(name, True, check())
    except UserError as error:
        return Check(name, False, str(error))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {one_line(error)[:_SAID]}"
        return Check(name, False, f"{type(model).__name__} cannot be run ({said}); {_remedy(model)}")


def _remedy(model: PreTrainedModel) -> str:
    if getattr(model.config, "is_encoder_decoder", False):
        return (
            "rows of text hold nothing for its decoder to begin with, so use a classifier of its kind, or one whose "
            "decoder needs no decoder_input_ids"
        )
    return "use another model, or a student of other layers"
