"""How far an intervention shifts the teacher's answers: where a student has most to learn from it."""

from __future__ import annotations

import torch
from torch import Tensor

from iit_toolkit.interchange import Run, Side

_CHUNK = 512
_ROUNDING = 1e-4


@torch.no_grad()
def answer_shifts(teacher: Side, base: Run, counterfactual: Run) -> Tensor:
    """Return the total variation distance between two runs' answers, sum |p - q| / 2 over the vocabulary.

    Args:
        teacher: Whose runs they are.
        base: The base run, evaluated at N tokens (or B examples).
        counterfactual: The counterfactual run, evaluated at the same.

    Returns:
        (N,) between 0 (the same answer) and 1. What rounding alone can do, less than 1e-4, is 0.
    """
    count = len(_answers(base))
    if not count:
        return _answers(base).new_zeros(0)
    shifts: list[Tensor] = []
    for start in range(0, count, _CHUNK):
        before, after = (
            teacher.logits(run.at(slice(start, start + _CHUNK))).softmax(-1) for run in (base, counterfactual)
        )
        shifts.append((before - after).abs().sum(-1) / 2)
    found = torch.cat(shifts)
    return found.where(found >= _ROUNDING, 0.0)


def _answers(run: Run) -> Tensor:
    answers = run.logits if run.features is None else run.features
    assert answers is not None
    return answers
