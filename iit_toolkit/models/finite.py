"""Numbers that are not finite: refused at the border of every run, so that none is saved or counts as an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn

from iit_toolkit.errors import UserError

_SQUARED = 1.8e19  # the square of more is no float32
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse_non_finite_weights(model: nn.Module, what: str, remedy: str) -> None:
    """Refuse a model that holds NaN or infinity.

    Buffers may hold -inf, since some models forbid positions with it; if their answers suffer,
    `refuse_non_finite_answers` says so. Buffers that forbid tokens or classes may not: their losses would be NaN.

    Args:
        model: The model.
        what: What the message calls it.
        remedy: The end of the message.

    Raises:
        UserError: Naming the first such weight, and how many of its values are not finite.
    """
    found = list(_non_finite(model, allow_mask=True))
    if found:
        (name, bad, values), others = found[0], len(found) - 1
        if bool(model.state_dict()[name].isneginf().sum() == bad) and name.endswith("bias"):
            raise UserError(
                f"{what}: {bad:,} of {values:,} values of {name} are -inf (banned tokens or classes), of which losses "
                "become NaN; use a large negative number, such as -1e9"
            )
        also = f", as are values of {others} other weight{'s' if others > 1 else ''}" if others else ""
        raise UserError(f"{what}: {bad:,} of {values:,} values of {name} are NaN or infinite{also}; {remedy}")


def non_finite_weight(model: nn.Module) -> str | None:
    """Return the name of the first weight with NaN or infinity; none if all are finite."""
    return next((name for name, _, _ in _non_finite(model, allow_mask=False)), None)


def largest_weight(model: nn.Module) -> str | None:
    """Say which weight has values whose square overflows, and the largest of these; none if no weight has."""
    for name, value in model.named_parameters():
        if value.numel() and (most := float(value.detach().abs().max())) > _SQUARED:
            return f"{name} had values up to {most:.0e}"
    return None


def refuse_non_finite_answers(logits: Tensor, rows: Tensor, what: str, model: nn.Module | None = None) -> Tensor:
    """Refuse logits that give no answer; see `non_finite_rows`.

    Args:
        logits: (N, C) logits.
        rows: (N,) numbers of the rows that they belong to, for the message.
        what: What the message calls the model.
        model: The model, in which the message names a weight that is not finite, if there is one.

    Returns:
        The logits.

    Raises:
        UserError: Naming the model, how many of these rows have no answer, and one of them.
    """
    if bad := non_finite_rows(logits, rows):
        refuse_rows(bad, len(rows.unique()), what, model)
    return logits


def non_finite_rows(logits: Tensor, rows: Tensor) -> list[int]:
    """Return the numbers of rows whose logits give no answer: with NaN, with +inf, or with -inf alone.

    Some classes of an answer may have -inf: models that forbid classes give it.

    Args:
        logits: (N, C) logits.
        rows: (N,) numbers of the rows that they belong to.
    """
    if len(logits) == 0:
        return []
    fine = logits.detach().amax(-1).isfinite().cpu()  # NaN counts as the maximum
    return [] if bool(fine.all()) else rows.cpu()[~fine].unique().tolist()


def refuse_rows(bad: Sequence[int], count: int, what: str, model: nn.Module | None = None) -> NoReturn:
    """Raise for rows without an answer.

    Args:
        bad: Their numbers.
        count: How many rows were looked at.
        what: What the message calls the model.
        model: As for `refuse_non_finite_answers`.

    Raises:
        UserError: Always.
    """
    weight = None if model is None else non_finite_weight(model)
    cause = "" if weight is None else f" (its weight {weight} is not finite)"
    raise UserError(
        f"{what}: answers are NaN or infinite in {len(bad):,} of {count:,} rows, e.g. in row {bad[0]}{cause}; give a "
        "model whose answers are finite, or data without such rows"
    )


def _non_finite(model: nn.Module, *, allow_mask: bool) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each tensor with values that are not finite, how many these are, and how many it has."""
    weights = {name for name, _ in model.named_parameters()}
    for name, value in model.state_dict().items():
        if value.dtype not in _DTYPES or value.is_meta or bool(value.sum().isfinite()):
            continue  # a sum of finite values can overflow, but a finite sum has finite values only
        bad = ~value.isfinite()
        if allow_mask and name not in weights and not name.endswith("logits_bias"):
            bad &= ~value.isneginf()
        if count := int(bad.sum()):
            yield name, count, value.numel()
