"""What one model's swaps do to its own answers, and which variables move a teacher too little to be followed.

Legend of shapes: N cases, V words or classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from iit_toolkit.analysis.statistics.teacher_trace import ENOUGH
from iit_toolkit.analysis.verification.cases import DrawnPairs
from iit_toolkit.analysis.verification.measured_runs import Runs, groups
from iit_toolkit.interchange import Side, Swap

_ELEMENTS = 2**24  # of the probabilities after a swap that are held at once
_SURE = 3  # changed cases that are no accident
_CASES = 50  # of fewer, no share of 2% can be told


class OwnEffects:
    """A model's answers on a batch of pairs, and how its swaps change them.

    Args:
        runs: The model's runs.
    """

    def __init__(self, runs: Runs) -> None:
        """Hold the answers of the base run."""
        self._runs = runs
        logits_NV = runs.base().float()
        self._chances_NV, self._answers_N = logits_NV.softmax(-1), logits_NV.argmax(-1)

    def of(self, variable: str, swap: Swap | None = None) -> dict[str, NDArray[np.float64]]:
        """Return (N,) per case whether the answer changes (`changed`), sum |dp| / 2 (`moved`), |dp|^2 (`effect`).

        Args:
            variable: The variable that is swapped.
            swap: Which activations go where, if not as the pairs say.
        """
        read = self._runs.unread(variable, swap)
        cases, words = self._chances_NV.shape
        some = max(1, _ELEMENTS // words)
        parts: dict[str, list[torch.Tensor]] = {"changed": [], "moved": [], "effect": []}
        for start in range(0, cases, some):
            chunk = slice(start, start + some)
            logits_NV = read(chunk).float()
            change_NV = logits_NV.softmax(-1).sub_(self._chances_NV[chunk])
            parts["changed"].append(logits_NV.argmax(-1) != self._answers_N[chunk])
            parts["moved"].append(change_NV.abs().sum(-1) / 2)
            parts["effect"].append(change_NV.square_().sum(-1))
        return {name: torch.cat(some).cpu().double().numpy() for name, some in parts.items()}


@torch.no_grad()
def weak_variables(teacher: Side, drawn: DrawnPairs) -> dict[str, float]:
    """Find the variables whose swaps change the teacher's answer in fewer than 2% of cases.

    A variable is left alone as soon as it changes enough answers, which most do in the first batch.

    Args:
        teacher: The teacher with its variables.
        drawn: The pairs.

    Returns:
        The share of each such variable; none if there are fewer than 50 cases.
    """
    changed = dict.fromkeys(teacher.variables, 0.0)
    left, cases = list(teacher.variables), 0
    for pairs in drawn.first(len(drawn.order)):
        cases += len(pairs.cases.base)
        for group in groups(left, [(teacher, {name: [name] for name in left})]):
            effects = OwnEffects(Runs(teacher, pairs, group, "teacher"))
            for name in group:
                changed[name] += float(effects.of(name)["changed"].sum())
        left = [name for name in left if changed[name] < max(_SURE, ENOUGH * cases)]
        if not left:
            break
    return {name: changed[name] / cases for name in left if cases >= _CASES and changed[name] < ENOUGH * cases}
