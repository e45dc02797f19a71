"""The terms of the distillation objective as the paper writes them, one plain function each.

Sources: Sanh et al. 2019 (DistilBERT) for the standard terms, Wu et al. 2022 (DIITO, arXiv 2112.02505) for
their interchange twins. A twin is the same function on the outputs of the counterfactual runs. All are exact;
`iit_toolkit.distillation.vocabulary_loss` computes the two vocabulary terms without holding their logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from iit_toolkit.errors import UserError, did_you_mean

IGNORED_LABEL = -100
"""The label of a row without a gold answer, as in `torch.nn.functional.cross_entropy`."""


def cross_entropy_to_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy in nats, averaged over the labelled rows (L_MLM; also causal LM and classification).

    Args:
        logits: (..., V) scores of the student.
        labels: (...) long gold answers, `IGNORED_LABEL` where there is none. For a causal language model the
            caller has shifted them already.

    Returns:
        A scalar; zero, still part of the graph, when nothing is labelled.
    """
    rows = _as_rows(logits)
    total = F.cross_entropy(rows, labels.reshape(-1), ignore_index=IGNORED_LABEL, reduction="sum")
    return total / (labels != IGNORED_LABEL).sum().clamp(min=1)


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """KL(teacher || student) of the softened answers, in nats times temperature squared (L_CE, L_CE^DIITO).

    Args:
        student_logits: (..., V) scores of the student at the evaluated tokens.
        teacher_logits: (..., V) scores of the teacher at the same tokens.
        temperature: Divides both scores before the softmax; its square keeps the size of the gradient.

    Returns:
        A scalar, the mean over rows; zero, still part of the graph, when there are none.
    """
    student = F.log_softmax(_as_rows(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(_as_rows(teacher_logits) / temperature, dim=-1)
    total = F.kl_div(student, teacher, log_target=True, reduction="sum")
    return total * temperature**2 / max(len(student), 1)


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


class ObjectiveWeights(BaseModel):
    """How much each term counts in the total loss. A term of weight zero is not computed for training.

    Attributes:
        task: L_MLM, or the task's own cross entropy.
        ce: L_CE, the distillation loss of the base runs.
        cos: L_Cos, the cosine loss of the last hidden states of the base runs.
        logit_mse: Mean squared difference of the logits of the base runs.
        hidden_mse: Mean squared difference of the last hidden states of the base runs.
        aligned_mse: Mean squared difference of the aligned activations of the base runs, a mean over all variables.
        causal_ce: L_CE^DIITO, the distillation loss of the counterfactual runs.
        causal_cos: L_Cos^DIITO, the cosine loss of the counterfactual runs.
        causal_logit_mse: As `logit_mse`, of the counterfactual runs.
        causal_hidden_mse: As `hidden_mse`, of the counterfactual runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    ce: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    cos: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    logit_mse: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    hidden_mse: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    aligned_mse: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    causal_ce: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    causal_cos: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    causal_logit_mse: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    causal_hidden_mse: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _something_is_trained(self) -> ObjectiveWeights:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are zero; give at least one term, e.g. task, a weight above zero")
        return self

    @classmethod
    def from_dict(cls, given: Mapping[str, float], where: str) -> ObjectiveWeights:
        """Validate weights by term; `where` they were given is told.

        Raises:
            UserError: If a term is unknown, a weight is out of range, or all are zero.
        """
        for name in given:
            if name not in cls.model_fields:
                raise UserError(f"{where}.{name}: no such loss term, {did_you_mean(name, cls.model_fields)}")
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join([where, *map(str, first["loc"])])
            raise UserError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None

    @classmethod
    def standard(cls) -> ObjectiveWeights:
        """The paper's standard distillation: a third each of task, ce and cos."""
        return cls(task=0.33, ce=0.33, cos=0.33)

    @classmethod
    def causal(cls) -> ObjectiveWeights:
        """The paper's DIITO objective: a quarter each, with `causal_ce`."""
        return cls(task=0.25, ce=0.25, cos=0.25, causal_ce=0.25)

    @classmethod
    def causal_with_cosine(cls) -> ObjectiveWeights:
        """The paper's DIITO + Cos objective, that of its released models: a fifth each."""
        return cls(task=0.20, ce=0.20, cos=0.20, causal_ce=0.20, causal_cos=0.20)

    @property
    def interchange(self) -> bool:
        """Whether any term needs counterfactual runs."""
        return any(value > 0 for name, value in self.model_dump().items() if name.startswith("causal_"))

    @property
    def needs_alignment(self) -> bool:
        """Whether any term looks at the sites of an alignment."""
        return self.interchange or self.aligned_mse > 0

    @property
    def needs_teacher(self) -> bool:
        """Whether any term besides `task` counts."""
        return any(value > 0 for name, value in self.model_dump().items() if name != "task")


def _as_rows(values: Tensor) -> Tensor:
    """Flatten to (rows, width), at least in float32: half precision cannot carry a softmax or a long sum."""
    rows = values.reshape(-1, values.shape[-1])
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _mean_squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    difference = _as_rows(student) - _as_rows(teacher)
    return difference.square().sum() / max(difference.numel(), 1)
