"""The objective of one training step: base runs, counterfactual runs, and the active terms on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.data.batch import IGNORE_INDEX, gold_answers, real_tokens
from iit_toolkit.distillation.comparison import Comparison, RunPair, Sum
from iit_toolkit.distillation.losses import HiddenProjection, distillation_loss
from iit_toolkit.distillation.shifts import answer_shifts
from iit_toolkit.distillation.terms import COUNTERFACTUAL, ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, Run, Side, Swap
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.left_out import left_out_side, whole_side

BaseTokens = Literal["all", "labelled"]
CounterfactualTokens = Literal["all", "labelled", "swapped"]
Weighting = Literal["equal", "effect"]


@dataclass(frozen=True)
class Losses:
    """What the objective returns.

    Attributes:
        total: Weighted sum of the terms, for the backward pass.
        terms: Each active term's value, unweighted and without graph.
    """

    total: Tensor
    terms: dict[str, Tensor]


def _evaluated(labels: Tensor, compared: Tensor | None, *, on_compared: bool, on_labelled: bool) -> Tensor | None:
    """Return (B, S) the tokens whose logits are needed; `None` if labels are of rows, which leaves no choice."""
    if labels.dim() == 1:
        return None
    assert compared is not None
    labelled = labels != IGNORE_INDEX
    if on_compared:
        return compared | labelled if on_labelled else compared
    return labelled if on_labelled else torch.zeros_like(labelled)


class Objective:
    """The weighted sum of distillation terms on base runs and, with `causal_*` weights, on counterfactual runs.

    Terms follow arXiv 2112.02505: L_MLM (here `task`), L_CE, L_Cos and their counterfactual forms; MSE forms of both
    are added, an MSE of the aligned activations, `strict`, which is that of arXiv 2407.14494, and two for learned
    subspaces: `whole`, for those of the teacher, and `boundary`. A term of weight 0 costs nothing: what only it needs
    is not computed.

    Args:
        teacher: The teacher's side, of any kind; without gradients but those of its learned subspaces.
        student: The student's side, of any kind that has weights.
        weights: The weight of each term.
        task: What `labels` mean.
        temperature: Temperature of `ce` and `causal_ce`.
        projection: Maps the student's hidden states to the teacher's width, if these differ.
        subspaces: The learned subspaces of the alignment's sites, if some are.
        loss_dtype: Precision of the vocabulary's matrix products.
        teacher_dtype: Precision of the teacher's matrix products: bfloat16 runs it under autocast.
        base_tokens: Tokens that the distillation terms of the base runs compare: all but padding, as in the paper, or
            only the labelled ones, which is cheaper but another objective.
        counterfactual_tokens: The same for the counterfactual runs; `swapped`: only the swapped positions.
        aligned_tokens: The same for `aligned_mse`; `None`: those of `base_tokens`.
        counterfactual_weighting: How much each token counts in `causal_ce`: all the same, or as much as the
            intervention shifts the teacher's answer there (`answer_shifts`).

    Raises:
        UserError: If tokens are chosen where labels are of rows (sequence classification). If subspaces are those of a
            file, whose boundaries and shared rotations can't be trained any more.
    """

    def __init__(
        self,
        teacher: Side,
        student: Side,
        weights: ObjectiveWeights,
        task: Task,
        *,
        temperature: float = 2.0,
        projection: HiddenProjection | None = None,
        subspaces: LearnedSubspaces | None = None,
        loss_dtype: torch.dtype = torch.float32,
        teacher_dtype: torch.dtype = torch.float32,
        base_tokens: BaseTokens = "all",
        counterfactual_tokens: CounterfactualTokens = "all",
        aligned_tokens: BaseTokens | None = None,
        counterfactual_weighting: Weighting = "equal",
    ) -> None:
        if not FACTS[task].at_tokens and (base_tokens, counterfactual_tokens) != ("all", "all"):
            raise UserError("base_tokens and counterfactual_tokens must be `all` in classification of whole rows")
        if subspaces is not None:
            subspaces.refuse_decided()
        self.teacher = teacher
        self.student = student
        self.subspaces = subspaces
        self.weights = weights
        self.task: Task = task
        self.projection = projection
        self.base_tokens: BaseTokens = base_tokens
        self.counterfactual_tokens: CounterfactualTokens = counterfactual_tokens
        self.aligned_tokens: BaseTokens = aligned_tokens or base_tokens
        self.counterfactual_weighting: Weighting = counterfactual_weighting
        self._comparison = Comparison(teacher, student, temperature, projection, loss_dtype, teacher_dtype)
        self._left_out: dict[str, Side] = {}
        self._whole: dict[str, Side | None] = {}

    def __call__(
        self,
        batch: Mapping[str, Tensor],
        interchanges: Sequence[Interchange] = (),
        weights: ObjectiveWeights | None = None,
    ) -> Losses:
        """Compute the step's losses.

        Args:
            batch: `input_ids` (B, S) or `pixel_values`, `attention_mask` (B, S), `labels` (B, S) or (B,).
            interchanges: The interventions; `causal_*` terms and `strict` need at least one, and are means over them.
                All share one base run. `strict` swaps the same rows and positions at the neurons that the alignment
                leaves out at the variable's places.
            weights: Other weights than the objective's own, to look at single terms.

        Raises:
            UserError: If there are `causal_*` terms or `strict` and no intervention, or `aligned_mse` and no alignment
                or one whose sites cannot be compared. If there is `strict`, and the alignment leaves nothing out.
        """
        weights = weights or self.weights
        labels = gold_answers(batch, self.task)
        if not weights.interchange:
            interchanges = ()
        elif not interchanges:
            raise UserError(
                "causal loss terms and strict need an alignment to intervene on; give one or set their weights to 0"
            )
        aligned = weights.compares("activations")
        if aligned and not self.student.variables:
            raise UserError("aligned_mse needs an alignment whose sites it compares; give one or set its weight to 0")
        read = self.student.variables if aligned else (one.variable for one in interchanges)
        variables = tuple(dict.fromkeys(read))
        compared = self._compared(batch, labels, self.base_tokens)
        on_compared, on_labelled = weights.compares("logits"), weights.compares("labels")
        tokens = _evaluated(labels, compared, on_compared=on_compared, on_labelled=on_labelled)
        student = self.student.base_run(self.student.reads(batch), variables, tokens)
        beside = self._beside(batch, labels, interchanges, weights)
        teacher = self._teacher_base(batch, variables, tokens, beside, weights)
        sum_ = Sum()
        base_labels = labels if tokens is None else labels[tokens]
        aligned_at = self._compared(batch, labels, self.aligned_tokens)
        at_base = None if teacher is None else teacher.at(tokens)
        pair = RunPair(student, at_base, base_labels, compared, aligned_at)
        self._comparison.add_terms(sum_, pair, weights.of_runs(counterfactual=False))
        for one in interchanges:
            assert teacher is not None
            source = self._source(self.student, one)
            runs = _Swapped(one, student, source, teacher, len(interchanges))
            if weights.of_runs(counterfactual=True) or weights.whole:
                self._add_counterfactual_terms(sum_, batch, labels, runs, weights)
            if weights.strict:
                self._add_strict(sum_, batch, labels, runs, weights)
        if weights.boundary:
            assert self.subspaces is not None
            sum_.add("boundary", weights.boundary, self.subspaces.share())
        return Losses(torch.stack(sum_.weighted).sum(), sum_.values)

    def task_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the student's own loss on a batch, without the teacher."""
        return self(batch, weights=ObjectiveWeights(task=1.0)).total

    @torch.no_grad()
    def effect_size(self, batch: Mapping[str, Tensor], interchanged: Interchange) -> Tensor:
        """Return the share of labelled tokens (or examples) at which the swap changes the teacher's answer."""
        labels = gold_answers(batch, self.task)
        tokens = labels != IGNORE_INDEX if FACTS[self.task].at_tokens else None
        names = (interchanged.variable,)
        self.teacher.eval()
        base = self.teacher.base_run(self.teacher.reads(batch), names, tokens)
        source = self._source(self.teacher, interchanged)
        counterfactual = self.teacher.counterfactual_run(
            base, interchanged.variable, interchanged.swap, source=source, tokens=tokens
        )
        changed = self.teacher.logits(base).argmax(-1) != self.teacher.logits(counterfactual).argmax(-1)
        return changed.float().mean()

    def _compared(
        self,
        batch: Mapping[str, Tensor],
        labels: Tensor,
        which: CounterfactualTokens,
        swap: Swap | None = None,
    ) -> Tensor | None:
        """Return (B, S) the tokens that distillation terms compare; `None` in classification of images."""
        real = real_tokens(batch)
        if which == "all" or real is None:
            return real
        if which == "labelled":
            return labels != IGNORE_INDEX
        assert swap is not None
        return swap.mask & real

    @torch.no_grad()
    def _teacher_base(
        self,
        batch: Mapping[str, Tensor],
        variables: tuple[str, ...],
        tokens: Tensor | None,
        beside: Tensor | None,
        weights: ObjectiveWeights,
    ) -> _Evaluated | None:
        if not weights.needs_teacher:
            return None
        self.teacher.eval()  # whatever a callback left it in
        needed = tokens if weights.compares("logits") or tokens is None else tokens & False
        if needed is not None and beside is not None:
            needed = needed | beside
        with self._comparison.teachers_precision():
            return _Evaluated(self.teacher.base_run(self.teacher.reads(batch), variables, needed), needed)

    def _beside(
        self,
        batch: Mapping[str, Tensor],
        labels: Tensor,
        interchanges: Sequence[Interchange],
        weights: ObjectiveWeights,
    ) -> Tensor | None:
        """Return (B, S) the tokens where terms of swaps need the teacher's answers without a swap, if any do."""
        by_effect = self.counterfactual_weighting == "effect" and weights.causal_ce
        if not interchanges or not (by_effect or weights.strict) or labels.dim() == 1:
            return None
        swaps = [one.swap.to(labels.device) for one in interchanges]
        found = [self._compared(batch, labels, self.counterfactual_tokens, swap) for swap in swaps]
        return torch.stack([one for one in found if one is not None]).any(0)

    def _add_counterfactual_terms(
        self, sum_: Sum, batch: Mapping[str, Tensor], labels: Tensor, runs: _Swapped, weights: ObjectiveWeights
    ) -> None:
        """Add the terms of one counterfactual run."""
        name, swap = runs.drawn.variable, runs.drawn.swap.to(runs.student.hidden.device)
        compared = self._compared(batch, labels, self.counterfactual_tokens, swap)
        whole = self._whole_side(name)
        on_compared = weights.compares("logits", counterfactual=True) or weights.whole > 0
        tokens = _evaluated(labels, compared, on_compared=on_compared, on_labelled=False)
        learning = torch.is_grad_enabled() and whole is not None
        with torch.no_grad(), self._comparison.teachers_precision():
            source = self._source(self.teacher, runs.drawn)
            with torch.set_grad_enabled(learning):
                teacher = self.teacher.counterfactual_run(runs.teacher.run, name, swap, source=source, tokens=tokens)
            row_weights = None
            if self.counterfactual_weighting == "effect" and weights.causal_ce:
                row_weights = answer_shifts(self.teacher, runs.teacher.at(tokens), teacher)
        one = Sum()
        if whole is not None and weights.whole:
            with torch.no_grad(), self._comparison.teachers_precision():
                swapped = whole.counterfactual_run(runs.teacher.run, name, swap, source=source, tokens=tokens)
                target = whole.logits(swapped)
            with self._comparison.teachers_precision():
                given = self.teacher.logits(teacher)
            one.add("whole", weights.whole, distillation_loss(given, target, self._comparison.temperature))
        student = self.student.counterfactual_run(runs.student, name, swap, source=runs.source, tokens=tokens)
        pair = RunPair(student, teacher, compared=compared, row_weights=row_weights)
        self._comparison.add_terms(one, pair, weights.of_runs(counterfactual=True), COUNTERFACTUAL)
        sum_.add_share(one, runs.drawn.weight, runs.count)

    def _whole_side(self, variable: str) -> Side | None:
        """Return the teacher's side that swaps all of a variable's sites; `None` if it learns no subspace of them."""
        if variable not in self._whole:
            self._whole[variable] = whole_side(self.teacher, variable) if self.subspaces is not None else None
        return self._whole[variable]

    def _add_strict(
        self, sum_: Sum, batch: Mapping[str, Tensor], labels: Tensor, runs: _Swapped, weights: ObjectiveWeights
    ) -> None:
        """Add the term of one run in which what the alignment leaves out is swapped, and nothing else."""
        name, swap = runs.drawn.variable, runs.drawn.swap.to(runs.student.hidden.device)
        side = self._left_out.get(name)
        if side is None:
            side = self._left_out[name] = left_out_side(self.student, runs.student, name)
        compared = self._compared(batch, labels, self.counterfactual_tokens, swap)
        tokens = _evaluated(labels, compared, on_compared=True, on_labelled=False)
        student = side.counterfactual_run(runs.student, name, swap, source=runs.source, tokens=tokens)
        one = Sum()
        self._comparison.add_vocabulary_terms(one, RunPair(student, runs.teacher.at(tokens)), {"ce": weights.strict})
        sum_.add_share(Sum(one.weighted, {"strict": one.values["ce"]}), runs.drawn.weight, runs.count)

    def _source(self, side: Side, interchanged: Interchange) -> Run | None:
        """Run the source batch if there is one."""
        if interchanged.source is None:
            return None
        return side.source_run(side.reads(interchanged.source), (interchanged.variable,))


@dataclass(frozen=True)
class _Evaluated:
    """A base run, and (B, S) the tokens that it is evaluated at; `None` if labels are of rows."""

    run: Run
    tokens: Tensor | None

    def at(self, tokens: Tensor | None) -> Run:
        """Return the run evaluated at some of its tokens."""
        if tokens is None or self.tokens is None or tokens is self.tokens:
            return self.run
        return self.run.at(tokens[self.tokens])


@dataclass(frozen=True)
class _Swapped:
    """What one of `count` interventions of a step runs from."""

    drawn: Interchange
    student: Run
    source: Run | None
    teacher: _Evaluated
    count: int
