"""The terms of the distillation objective as the paper writes them, one plain function each.

Sources: Sanh et al. 2019 (DistilBERT) for the standard terms, Wu et al. 2022 (DIITO, arXiv 2112.02505) for
their interchange twins. A twin is the same function on the outputs of the counterfactual runs. All are exact;
`iit_toolkit.distillation.vocabulary_loss` computes the two vocabulary terms without holding their logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iit_toolkit.data.batch import IGNORE_INDEX


def cross_entropy_to_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy in nats, averaged over the labelled rows (L_MLM; also causal LM and classification).

    Args:
        logits: (..., V) scores of the student.
        labels: (...) long gold answers, `IGNORE_INDEX` if there is none. For a causal language model the
            caller has shifted them already.

    Returns:
        A scalar; zero, still part of the graph, if nothing is labelled.
    """
    rows = _as_rows(logits)
    total = F.cross_entropy(rows, labels.reshape(-1), ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0, row_weights: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of the softened answers, in nats times temperature squared (L_CE, L_CE^DIITO).

    Args:
        student_logits: (..., V) scores of the student at the evaluated tokens.
        teacher_logits: (..., V) scores of the teacher at the same tokens.
        temperature: Divides both scores before the softmax; its square keeps the size of the gradient.
        row_weights: (N,) how much each row counts in the mean; all the same if absent.

    Returns:
        A scalar, the mean over rows; zero, still part of the graph, if there are none or all weights are zero.
    """
    student = F.log_softmax(_as_rows(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(_as_rows(teacher_logits) / temperature, dim=-1)
    divergences = F.kl_div(student, teacher, log_target=True, reduction="none")
    if row_weights is not None:
        divergences = divergences * mean_one(row_weights)[:, None]
    return divergences.sum() * temperature**2 / max(len(student), 1)


def mean_one(row_weights: Tensor) -> Tensor:
    """Scale (N,) weights to a mean of one; weights that are all zero stay zero."""
    return row_weights / row_weights.mean().clamp(min=torch.finfo(row_weights.dtype).tiny)


def cosine_loss(student_hidden: Tensor, teacher_hidden: Tensor) -> Tensor:
    """Mean over rows of 1 - cos(student, teacher), between 0 and 2 (L_Cos, L_Cos^DIITO).

    Args:
        student_hidden: (..., D) last hidden states of the student at the evaluated tokens.
        teacher_hidden: (..., D) last hidden states of the teacher at the same tokens.
    """
    student, teacher = _as_rows(student_hidden), _as_rows(teacher_hidden)
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).sum() / max(len(student), 1)


def logit_mse_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared difference of the scores, over all elements of two tensors (..., V)."""
    return _mean_squared_difference(student_logits, teacher_logits)


def hidden_mse_loss(student_hidden: Tensor, teacher_hidden: Tensor) -> Tensor:
    """Mean squared difference of the hidden states, over all elements of two tensors (..., D)."""
    return _mean_squared_difference(student_hidden, teacher_hidden)


class HiddenProjection(nn.Module):
    """A linear map, without bias, from the student's hidden states into the teacher's space.

    Hidden states of unequal widths are compared through it. It is trained with the student, not part of it.

    Args:
        student_width: Size of the student's hidden states.
        teacher_width: Size of the teacher's hidden states.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        """Draw the map at random, from torch's global generator."""
        super().__init__()
        self.linear = nn.Linear(student_width, teacher_width, bias=False)

    def forward(self, student_hidden: Tensor) -> Tensor:
        """Map (..., student_width) to (..., teacher_width)."""
        return self.linear(student_hidden)


def _as_rows(values: Tensor) -> Tensor:
    """Flatten to (rows, width), at least in float32: half precision cannot carry a softmax or a long sum."""
    rows = values.reshape(-1, values.shape[-1])
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _mean_squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    difference = _as_rows(student) - _as_rows(teacher)
    return difference.square().sum() / max(difference.numel(), 1)
