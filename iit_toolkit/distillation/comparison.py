"""The terms on one run of the student and the same run of the teacher: a base run, or a counterfactual one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from iit_toolkit.distillation.aligned import aligned_activations
from iit_toolkit.distillation.losses import HiddenProjection, cross_entropy_to_labels, distillation_loss
from iit_toolkit.distillation.terms import Compared, Term
from iit_toolkit.distillation.vocabulary_loss import Head, vocabulary_losses
from iit_toolkit.interchange import Run, Side

_TOGETHER = ("task", "ce")
"""The terms over the vocabulary. They are computed together, and no logits of a large one are held."""


@dataclass(frozen=True)
class RunPair:
    """A run of the student and the same run of the teacher, both evaluated at N tokens (or rows).

    Attributes:
        student: The student's run.
        teacher: The teacher's; `None` if no term needs it.
        labels: (N,) what `task` compares the student with.
        compared: (B, S) the tokens whose hidden states are compared; `None`: all.
        aligned_at: (B, S) the tokens whose aligned activations are compared; `None`: all.
        row_weights: (N,) how much each counts in `ce`; `None`: all the same.
    """

    student: Run
    teacher: Run | None
    labels: Tensor | None = None
    compared: Tensor | None = None
    aligned_at: Tensor | None = None
    row_weights: Tensor | None = None


@dataclass
class Sum:
    """The terms gathered so far.

    Attributes:
        weighted: Each term times its weight, with graph.
        values: Each term's value by name, unweighted and without graph.
    """

    weighted: list[Tensor] = field(default_factory=list[Tensor])
    values: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def add(self, name: str, weight: float, loss: Tensor) -> None:
        """Add a term."""
        self.weighted.append(weight * loss)
        self.values[name] = loss.detach()

    def add_share(self, other: Sum, weight: float, count: int) -> None:
        """Add one of `count` equal parts: of the total with its weight, of the values without."""
        self.weighted += [term if weight == count == 1 else term * (weight / count) for term in other.weighted]
        for name, value in other.values.items():
            self.values[name] = self.values[name] + value / count if name in self.values else value / count


@dataclass(frozen=True)
class Comparison:
    """How runs of the student are compared with the teacher's.

    Attributes:
        teacher: The teacher's side.
        student: The student's side.
        temperature: Temperature of `ce`.
        projection: Maps the student's hidden states to the teacher's width, if these differ.
        loss_dtype: Precision of the vocabulary's matrix products.
        teacher_dtype: Precision of the teacher's matrix products: bfloat16 runs it under autocast.
    """

    teacher: Side
    student: Side
    temperature: float
    projection: HiddenProjection | None
    loss_dtype: torch.dtype
    teacher_dtype: torch.dtype

    def teachers_precision(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the teacher runs."""
        if self.teacher_dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.teacher.device.type, dtype=self.teacher_dtype)

    def add_terms(self, sum_: Sum, pair: RunPair, terms: Sequence[tuple[Term, float]], prefix: str = "") -> None:
        """Add the terms with their weights; `prefix` begins the names of their values."""
        self.add_vocabulary_terms(sum_, pair, {term.name: weight for term, weight in terms}, prefix)
        sides: dict[Compared, list[tuple[Tensor, Tensor]]] = {}
        for term, weight in terms:
            if term.name in _TOGETHER:
                continue
            if term.compares not in sides:
                sides[term.compares] = self._sides(term.compares, pair)
            losses = [term.loss(*both) for both in sides[term.compares]]
            sum_.add(f"{prefix}{term.name}", weight, losses[0] if len(losses) == 1 else torch.stack(losses).mean())

    def _sides(self, what: Compared, pair: RunPair) -> list[tuple[Tensor, Tensor]]:
        """Return what a term compares, of student and teacher: one pair, or one per variable."""
        student, teacher, at = pair.student, pair.teacher, pair.compared
        if what == "labels":
            assert pair.labels is not None
            return [(self.student.logits(student), pair.labels)]
        assert teacher is not None
        if what == "logits":
            learned = _carries_gradient(teacher)
            with torch.set_grad_enabled(learned and torch.is_grad_enabled()), self.teachers_precision():
                target = self.teacher.logits(teacher)
            return [(self.student.logits(student), target)]
        if what == "activations":
            aligned = aligned_activations(self.student, self.teacher, student, teacher, self.projection)
            at = pair.aligned_at
            return aligned if at is None else [(one[at], target[at]) for one, target in aligned]
        hidden, target = (run.hidden.flatten(0, 1) if at is None else run.hidden[at] for run in (student, teacher))
        return [(hidden if self.projection is None else self.projection(hidden), target)]

    def add_vocabulary_terms(self, sum_: Sum, pair: RunPair, weights: Mapping[str, float], prefix: str = "") -> None:
        """Add `task` and `ce`, by their weights: chunk by chunk if both logits are linear in the features.

        A teacher whose subspaces are learned is fitted to the student's answers, as the student is to the teacher's:
        KL(student || teacher), beside KL(teacher || student). The gradient of the latter vanishes where a teacher is
        sure of another answer.
        """
        student, task, ce = pair.student, *(weights.get(name, 0.0) for name in _TOGETHER)
        if not (ce or task):
            return
        compared = pair.teacher if ce else None
        if compared is not None and _carries_gradient(compared):
            with self.teachers_precision():
                fitted = self.teacher.logits(compared)
            target = self.student.logits(student).detach()
            sum_.weighted.append(ce * distillation_loss(fitted, target, self.temperature, pair.row_weights))
            compared = _without_gradient(compared)
        if student.features is not None and (compared is None or compared.features is not None):
            losses = vocabulary_losses(
                _head(self.student, student.features),
                None if compared is None else _head(self.teacher, compared.features),
                pair.labels if task else None,
                row_weights=pair.row_weights,
                ce_weight=ce,
                task_weight=task,
                temperature=self.temperature,
                dtype=self.loss_dtype,
            )
            sum_.weighted.append(losses.total)
            sum_.values |= {f"{prefix}task": losses.task} if task else {}
            sum_.values |= {f"{prefix}ce": losses.ce} if ce else {}
            return
        logits = self.student.logits(student)
        if task:
            assert pair.labels is not None
            sum_.add(f"{prefix}task", task, cross_entropy_to_labels(logits, pair.labels))
        if compared is not None:
            teacher_logits = self.teacher.logits(compared)
            sum_.add(f"{prefix}ce", ce, distillation_loss(logits, teacher_logits, self.temperature, pair.row_weights))


def _carries_gradient(run: Run) -> bool:
    """Say whether a run of the teacher was made with subspaces that are trained."""
    answers = run.logits if run.features is None else run.features
    return answers is not None and answers.requires_grad


def _without_gradient(run: Run) -> Run:
    features, logits = (None if given is None else given.detach() for given in (run.features, run.logits))
    return replace(run, features=features, logits=logits)


def _head(side: Side, features: Tensor | None) -> Head:
    assert features is not None and isinstance(side.head, nn.Module)
    return Head(features, side.head.get_parameter("weight"), getattr(side.head, "bias", None))
