"""What two models answer to the cases of a batch and variable, as rows of the outcomes table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from iit_toolkit.analysis.statistics.outcomes import NO_GOLD
from iit_toolkit.analysis.verification.cases import Cases
from iit_toolkit.errors import UserError

_DIVERGENCES = ("kl", "kl_cf", "kl_ignored")
_EFFECTS = ("teacher_effect", "student_effect", "effect_error", "teacher_moved", "student_moved")
_ELEMENTS = 2**21  # of one tensor of probabilities: graded measures look at so many at a time


@dataclass(frozen=True)
class Answers:
    """One model's log-probabilities (N, V) in its base run, and in the counterfactual run of one variable."""

    base: Tensor
    counterfactual: Tensor


def log_probabilities(logits: Tensor) -> Tensor:
    """Return logits (N, V) as log-probabilities in float32, on the CPU."""
    return logits.float().log_softmax(-1).cpu()


def tabulated(student: str, variable: str, cases: Cases, truth: Answers, run: Answers, top_k: int) -> pd.DataFrame:
    """Tabulate one student's cases of one batch and variable.

    Args:
        student: What stands in the column of students.
        variable: What stands in the column of variables.
        cases: The cases.
        truth: The teacher's answers.
        run: The student's.
        top_k: Tokens of each run that the effect correlation looks at.

    Raises:
        UserError: If a compared answer is impossible to a model: its logit is -inf.
    """
    teacher, teacher_cf = truth.base, truth.counterfactual
    base, counterfactual = run.base, run.counterfactual
    gold = cases.gold.clamp(min=0)[:, None]
    unknown = cases.gold == NO_GOLD
    columns: dict[str, Any] = {
        "student": student,
        "variable": variable,
        "base": cases.base,
        "source": cases.source,
        "base_text": cases.base_text,
        "source_text": cases.source_text,
        "position": cases.position,
        "inside": cases.inside,
        "gold": cases.gold,
        "teacher_base": teacher.argmax(-1),
        "teacher_cf": teacher_cf.argmax(-1),
        "student_base": base.argmax(-1),
        "student_cf": counterfactual.argmax(-1),
        **_graded(truth, run),
        "teacher_nll": -teacher.gather(1, gold)[:, 0].masked_fill(unknown, torch.nan),
        "student_nll": -base.gather(1, gold)[:, 0].masked_fill(unknown, torch.nan),
        **_effects((teacher, teacher_cf), (base, counterfactual), top_k),
    }
    _refuse_impossible(columns)
    return pd.DataFrame(
        {name: value.numpy() if isinstance(value, Tensor) else value for name, value in columns.items()}
    )


def _refuse_impossible(columns: Mapping[str, Any]) -> None:
    """Refuse a student or teacher to which a compared answer is impossible: means over cases would be infinite."""
    for name in (*_DIVERGENCES, "teacher_nll", "student_nll"):
        bad = columns["base"][columns[name].isinf()].unique()
        if len(bad):
            who = "teacher" if name == "teacher_nll" else f"student {columns['student']}"
            answers = "the teacher's answers" if name.startswith("kl") else "the right answers"
            raise UserError(
                f"{who}: its logits are -inf for some of {answers}, e.g. in row {int(bad[0])}, which makes the mean "
                "over cases infinite; give models that forbid no answer that the other or the data give"
            )


def _graded(truth: Answers, run: Answers) -> dict[str, Tensor]:
    """Return the sums of each case (N,) that graded measures are made of, over the whole vocabulary.

    With p the probabilities of a run, and dp = p(counterfactual) - p(base): `teacher_effect` and `student_effect` are
    the squared lengths of the two models' dp, `effect_error` that of their difference, and `teacher_moved` and
    `student_moved` how much probability goes from some answers to others: sum |dp| / 2. Cases are taken some at a time,
    so that the probabilities of all of them are never held at once.
    """
    cases, words = truth.base.shape
    some = max(1, _ELEMENTS // words)
    parts = [_graded_some(*(one[start : start + some] for one in _four(truth, run))) for start in range(0, cases, some)]
    return {name: torch.cat([part[name] for part in parts]).double() for name in (*_DIVERGENCES, *_EFFECTS)}


def _four(truth: Answers, run: Answers) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return truth.base, truth.counterfactual, run.base, run.counterfactual


def _graded_some(teacher: Tensor, teacher_cf: Tensor, student: Tensor, student_cf: Tensor) -> dict[str, Tensor]:
    before, after = teacher.exp(), teacher_cf.exp()
    effect, student_effect = after - before, student_cf.exp().sub_(student.exp())
    return {
        "kl": _kl(before, teacher, student),
        "kl_cf": _kl(after, teacher_cf, student_cf),
        "kl_ignored": _kl(after, teacher_cf, student),
        "teacher_effect": effect.square().sum(-1),
        "student_effect": student_effect.square().sum(-1),
        "teacher_moved": effect.abs().sum(-1) / 2,
        "student_moved": student_effect.abs().sum(-1) / 2,
        "effect_error": student_effect.sub_(effect).square_().sum(-1),
    }


def _kl(chances: Tensor, teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(teacher || student) of each case; classes that the teacher forbids (-inf) add nothing."""
    return (chances * (teacher - student)).masked_fill_(chances == 0, 0.0).sum(-1)


def _effects(teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor], top_k: int) -> dict[str, Tensor]:
    """Sufficient statistics of the two models' changes of log-probability.

    They are taken over the union of the `top_k` tokens of all four runs.

    Args:
        teacher: (N, V) log-probabilities of base and counterfactual run.
        student: The same.
        top_k: Tokens of each run.
    """
    k = min(top_k, teacher[0].shape[-1])
    tokens = torch.cat([run.topk(k, -1).indices for run in (*teacher, *student)], 1).sort(1).values
    first = torch.ones_like(tokens, dtype=torch.float64)
    first[:, 1:] = (tokens[:, 1:] != tokens[:, :-1]).double()
    x, y = ((side[1].gather(1, tokens) - side[0].gather(1, tokens)).double() for side in (teacher, student))
    forbidden = ~(x.isfinite() & y.isfinite())  # by -inf in a run
    first, x, y = (one.masked_fill(forbidden, 0.0) for one in (first, x, y))
    values = {
        "n": first,
        "x": x * first,
        "y": y * first,
        "xx": x * x * first,
        "yy": y * y * first,
        "xy": x * y * first,
    }
    return {f"effect_{name}": value.sum(1) for name, value in values.items()}
