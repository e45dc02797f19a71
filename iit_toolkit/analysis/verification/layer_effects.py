"""What swaps at every layer of two models do to their answers, from one batch of pairs.

A graded measure of teacher layer t against student layer s needs, of each case, |dp_T|^2, |dp_S|^2 and
|dp_S - dp_T|^2, where dp is what the swap changes of a model's probabilities. The last is the sum of the first two
minus twice the inner product of dp_T and dp_S. So T + S runs give all T x S cells by products of matrices. Likewise
KL(T || S) is the teacher's negative entropy minus the inner product of its probabilities and the student's
log-probabilities.

Legend of shapes: N cases, T and S layers of teacher and student, V words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.errors import UserError

_ELEMENTS = 2**25  # of all probabilities that are held at once: a few cases of every layer
Columns = dict[str, NDArray[Any]]
Read = Callable[[slice], Tensor]


def compare_layers(
    teacher: Runs, student: Runs, layers: tuple[Sequence[str], Sequence[str]], rows: Tensor
) -> list[Columns]:
    """Swap every layer of both models on one batch of pairs, and compare the answers, a few cases at a time.

    Args:
        teacher: The teacher's runs.
        student: The student's.
        layers: The names of the teacher's layers, and of the student's.
        rows: (N,) which example each case belongs to.

    Returns:
        Per chunk of cases what `search.LayerAnswers` holds of answers and effects, cases last.

    Raises:
        UserError: If answers of the teacher are impossible to the student: its logit is -inf.
    """
    before = teacher.unread(), student.unread()
    teachers, students = (
        [side.unread(one) for one in names] for side, names in zip((teacher, student), layers, strict=True)
    )
    words = before[0](slice(0, 1)).shape[-1]
    some = max(1, _ELEMENTS // (words * (2 * len(students) + 6)))
    chunks = [slice(start, min(start + some, len(rows))) for start in range(0, len(rows), some)]
    found = [_compared(before, teachers, students, chunk) for chunk in chunks]
    for chunk, one in zip(chunks, found, strict=True):
        if not (np.isfinite(one["kl_cf"]).all() and np.isfinite(one["kl_ignored"]).all()):
            raise UserError(
                "student: its logits are -inf for some of the teacher's answers, e.g. in a row from "
                f"{int(rows[chunk][0])} on, which makes the mean over cases infinite; give a student that forbids no "
                "answer that its teacher gives"
            )
    return found


def _compared(before: tuple[Read, Read], teachers: Sequence[Read], students: Sequence[Read], chunk: slice) -> Columns:
    """Hold the student's answers of all layers, and let the teacher's pass by, one layer at a time."""
    teacher_base, base = (_log_probabilities(read(chunk)) for read in before)
    logs_SNV = torch.stack([_log_probabilities(read(chunk)) for read in students])
    answers = {
        "teacher_base": [teacher_base.argmax(-1)],
        "student_base": [base.argmax(-1)],
        "student": list(logs_SNV.argmax(-1)),
    }
    probabilities, effects_SNV = teacher_base.exp(), logs_SNV.exp() - base.exp()
    columns: dict[str, list[Tensor]] = {"student_effect": list(_exact(effects_SNV.square().sum(-1)))}
    forbidden = _Forbidden(logs_SNV), _Forbidden(base[None])
    for read in teachers:
        after_NV = _log_probabilities(read(chunk))
        answers.setdefault("teacher", []).append(after_NV.argmax(-1))
        chances_NV = after_NV.exp()
        entropy_N = (chances_NV * after_NV).masked_fill_(chances_NV == 0, 0.0).sum(-1)
        columns.setdefault("kl_cf", []).append(_exact(entropy_N - forbidden[0].products(chances_NV)))
        columns.setdefault("kl_ignored", []).append(_exact(entropy_N - forbidden[1].products(chances_NV)[0]))
        effect_NV = chances_NV.sub_(probabilities)
        size_N = _exact(effect_NV.square().sum(-1))
        product_SN = _exact(_products(effect_NV, effects_SNV))
        error_SN = size_N + torch.stack(columns["student_effect"]) - 2 * product_SN
        columns.setdefault("teacher_effect", []).append(size_N)
        columns.setdefault("effect_error", []).append(error_SN.clamp_(min=0))
    every = {**answers, **columns}
    arrays = {name: torch.stack(parts).cpu().numpy() for name, parts in every.items()}
    return arrays | {name: arrays[name][0] for name in ("teacher_base", "student_base")}


class _Forbidden:
    """Log-probabilities (S, N, V) of which some may be -inf."""

    def __init__(self, logs_SNV: Tensor) -> None:
        never = logs_SNV.isneginf()
        self._never = never.to(logs_SNV.dtype) if bool(never.any()) else None
        self._logs = logs_SNV if self._never is None else logs_SNV.masked_fill(never, 0.0)

    def products(self, chances_NV: Tensor) -> Tensor:
        """Return (S, N) the sums of chances times log-probabilities: -inf where anything forbidden has a chance."""
        found = _products(chances_NV, self._logs)
        if self._never is None:
            return found
        return found.masked_fill(_products(chances_NV, self._never) > 0, -torch.inf)


def _products(one_NV: Tensor, others_SNV: Tensor) -> Tensor:
    """Return (S, N) the inner products over words."""
    return torch.einsum("nv,snv->sn", one_NV, others_SNV)


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)


def _exact(sums: Tensor) -> Tensor:
    """Return sums over words in double precision, on the CPU: not every device has it."""
    return sums.cpu().double()
