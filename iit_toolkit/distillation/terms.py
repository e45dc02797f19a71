"""The terms of the distillation objective: what each compares, by which loss, and how much it counts.

A new term is a row in `TERMS` and a weight in `ObjectiveWeights`. A term that compares logits
or hidden states can have a twin on the counterfactual runs, with a weight of its own. `task` and `ce` are computed
together, by `vocabulary_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.distillation.losses import (
    cosine_loss,
    cross_entropy_to_labels,
    distillation_loss,
    hidden_mse_loss,
    logit_mse_loss,
)
from iit_toolkit.errors import UserError, did_you_mean, mistakes

Compared = Literal["labels", "logits", "hidden", "activations"]
"""What a term compares: the student's logits with the labels, or with the teacher's; last hidden states; or the
activations at an alignment's sites."""
COUNTERFACTUAL = "causal_"
"""How the weight of a term's counterfactual twin begins."""


@dataclass(frozen=True)
class Term:
    """One term of the objective.

    Attributes:
        name: What its weight and its value are called; its twin has `causal_` in front.
        compares: What it compares.
        loss: Takes the student's side and the other, and returns a scalar.
    """

    name: str
    compares: Compared
    loss: Callable[[Tensor, Tensor], Tensor]


TERMS = (
    Term("task", "labels", cross_entropy_to_labels),
    Term("ce", "logits", distillation_loss),
    Term("logit_mse", "logits", logit_mse_loss),
    Term("cos", "hidden", cosine_loss),
    Term("hidden_mse", "hidden", hidden_mse_loss),
    Term("aligned_mse", "activations", hidden_mse_loss),
)
"""The terms that compare the student's runs with the same runs of the teacher, in the order in which they are added.

`strict` and `whole` compare others: runs in which what the alignment leaves out is swapped with the teacher's base run,
and two counterfactual runs of the teacher. `boundary` compares nothing.
"""


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
        strict: L_SIIT of strict interchange intervention training (Gupta et al. 2024, arXiv 2407.14494): the
            distillation loss of runs in which what the alignment leaves out is swapped, to the teacher's answers
            without a swap.
        whole: The distillation loss of the teacher's counterfactual runs at its learned subspaces, to its own ones at
            the whole sites: the subspaces keep the effect of their sites (`search --subspace` learns them by it).
        boundary: The share of directions inside of learned boundaries, so that they hold no more than they need (Wu et
            al. 2023, arXiv 2305.08809).
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
    strict: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    whole: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    boundary: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _something_is_trained(self) -> ObjectiveWeights:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are zero; give at least one term, e.g. task, a weight above zero")
        return self

    @classmethod
    def from_dict(cls, given: Mapping[str, float], where: str) -> ObjectiveWeights:
        """Validate the weight of each loss term.

        Args:
            given: The weights by term.
            where: The config path that error messages name.

        Raises:
            UserError: If a term is unknown, a weight is out of range, or all are zero.
        """
        for name in given:
            if name not in cls.model_fields:
                raise UserError(f"{where}.{name}: no such loss term, {did_you_mean(name, cls.model_fields)}")
        try:
            return cls(**given)
        except ValidationError as error:
            first = mistakes(error)[0]
            raise UserError(f"{'.'.join([where, *filter(None, [first.place])])}: {first.message}") from None

    @classmethod
    def standard(cls) -> ObjectiveWeights:
        """Return the paper's standard distillation: a third each of task, ce and cos."""
        return cls(task=0.33, ce=0.33, cos=0.33)

    @classmethod
    def causal(cls) -> ObjectiveWeights:
        """Return the paper's DIITO objective: a quarter each, with `causal_ce`."""
        return cls(task=0.25, ce=0.25, cos=0.25, causal_ce=0.25)

    @classmethod
    def causal_with_cosine(cls) -> ObjectiveWeights:
        """Return the paper's DIITO + Cos objective, that of its released models: a fifth each."""
        return cls(task=0.20, ce=0.20, cos=0.20, causal_ce=0.20, causal_cos=0.20)

    def of_base_runs(self) -> ObjectiveWeights:
        """Return the weights of the terms of base runs, scaled to the sum of all weights but `boundary`.

        So rows in which nothing is swapped count as much as rows with swaps do.

        Raises:
            UserError: If all of them are zero.
        """
        weights: dict[str, float] = self.model_dump()
        kept = {term.name: weights[term.name] for term in TERMS}
        if not any(kept.values()):
            raise UserError("data without swaps need a term of base runs; give one, such as ce, a weight above zero")
        scale = (sum(weights.values()) - self.boundary) / sum(kept.values())
        return ObjectiveWeights(**{name: scale * weight for name, weight in kept.items()})

    def of_counterfactual_runs(self) -> ObjectiveWeights:
        """Return the weights of the terms that train learned subspaces: `causal_*`, `strict`, `whole`, `boundary`."""
        kept = {f"{COUNTERFACTUAL}{term.name}": weight for term, weight in self.of_runs(counterfactual=True)}
        return ObjectiveWeights(**kept, strict=self.strict, whole=self.whole, boundary=self.boundary)

    def require_learnable(self, where: str, alignment: Alignment | None, *, frozen: bool = False) -> None:
        """Check that the learned subspaces of an alignment can be trained.

        Args:
            where: The config path that error messages name.
            alignment: The alignment, if there is one.
            frozen: Whether the student's weights stay as they are.

        Raises:
            UserError: If no `causal_*` term reaches them, or a term compares neurons where they are. If both the
                teacher's subspaces and what is swapped in the student are learned, and nothing keeps them from
                directions that change nothing. If there is `whole`, and the teacher has none. If a boundary is learned
                without the term `boundary`, or there is this term, and none is learned.
        """
        learns_boundaries = alignment is not None and alignment.learns_boundaries
        if self.boundary and not learns_boundaries:
            raise UserError(
                f"{where}.boundary: it is about a `subspace` with `boundary: learned`, but there is none; set it to 0"
            )
        of_teacher = alignment is not None and alignment.learns_in("teacher")
        if self.whole and not of_teacher:
            raise UserError(f"{where}.whole: it is about a `subspace` of the teacher, but there is none; set it to 0")
        if alignment is None or not alignment.learns:
            return
        if not self.of_runs(counterfactual=True):
            raise UserError(f"{where}: learned subspaces need a causal_* term; give one, such as causal_ce")
        if self.aligned_mse:
            raise UserError(f"{where}.aligned_mse: it is about neurons, but subspaces are learned; set it to 0")
        if learns_boundaries and not self.boundary:
            raise UserError(
                f"{where}: nothing holds a learned boundary down; give the term `boundary` a weight, such as 0.1"
            )
        fixed = frozen and not alignment.learns_in("student")
        if of_teacher and not fixed and not self.whole:
            raise UserError(
                f"{where}: subspaces of the teacher that are learned with the student could agree with it on "
                "directions that change nothing; give the term `whole` a weight, too, or freeze the student"
            )

    def compares(self, what: Compared, *, counterfactual: bool = False) -> bool:
        """Say whether any weighted term compares this, in the base runs or in the counterfactual runs."""
        return any(term.compares == what for term, _ in self.of_runs(counterfactual=counterfactual))

    def of_runs(self, *, counterfactual: bool) -> list[tuple[Term, float]]:
        """Return the weighted terms of the base runs, or of the counterfactual runs, with their weights."""
        weights: dict[str, float] = self.model_dump()
        rows = [(term, weights.get(f"{COUNTERFACTUAL}{term.name}" if counterfactual else term.name)) for term in TERMS]
        return [(term, weight) for term, weight in rows if weight]

    @property
    def interchange(self) -> bool:
        """Whether any term needs swaps."""
        return bool(self.strict or self.whole or self.of_runs(counterfactual=True))

    @property
    def needs_alignment(self) -> bool:
        """Whether any term looks at the sites of an alignment."""
        return self.interchange or self.compares("activations")

    @property
    def needs_teacher(self) -> bool:
        """Whether any term is compared with the teacher."""
        return self.interchange or any(term.compares != "labels" for term, _ in self.of_runs(counterfactual=False))

    @property
    def compares_widths(self) -> bool:
        """Whether any term compares states that are as wide as the models."""
        runs = (False, True)
        return self.compares("activations") or any(self.compares("hidden", counterfactual=one) for one in runs)
