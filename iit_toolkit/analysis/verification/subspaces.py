"""Distributed alignment search: low-rank subspaces of a teacher's and a student's layer that swap alike.

After Geiger et al., "Finding Alignments Between Interpretable Causal Variables and Distributed Neural Representations"
(arXiv 2303.02536), where a rotation of one network is learned against a symbolic model. Here both sides are networks,
and learning both rotations against each other would have a trivial optimum: two subspaces whose swap changes nothing
agree perfectly. So they are learned one after the other, each with a target that does change:

1. the teacher's, to give the answers that swapping the *whole* vector of its layer gives: KL(whole || subspace);
2. the student's, to give the answers that swapping the teacher's learned subspace gives, which is now fixed:
   KL(teacher's subspace || student's subspace).

Only answers outside the swapped positions are learned from, since the claim is about those. What is reported comes
from other pairs, with a random subspace of the same rank as control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment.positions import Positions, SpanPositions
from iit_toolkit.alignment.resolve import ResolvedSite, ResolvedSubspace, resolve_site
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.verification.cases import DrawnPairs, Pairs, draw_pairs
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.analysis.verification.search import block_output
from iit_toolkit.analysis.verification.verify import Verification, tabulate
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Collator
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, SubspaceInterchange

WHOLE = "whole"
LEARNED, RANDOM = "learned subspace", "random subspace"
_KEY = "subspace"


@dataclass(frozen=True)
class Sites:
    """A teacher's layer and a student's, with what is swapped of them.

    Attributes:
        teacher: The teacher.
        teacher_layer: Its block, whose output is swapped.
        student: The student.
        student_layer: Its block.
        rank: Dimensions of the subspaces.
    """

    teacher: PreTrainedModel
    teacher_layer: int
    student: PreTrainedModel
    student_layer: int
    rank: int

    @property
    def variable(self) -> str:
        """The name of the variable in the outcomes."""
        return f"teacher-{self.teacher_layer}-student-{self.student_layer}-rank-{self.rank}"

    def side(self, model: PreTrainedModel, subspace: SubspaceInterchange) -> InterchangeModel:
        """One of the two models, of whose layer a subspace is swapped, or (as variable `whole`) all of it."""
        layer = self.teacher_layer if model is self.teacher else self.student_layer
        whole = resolve_site(block_output(layer), model)
        sites = {self.variable: (_learned(whole, subspace),), WHOLE: (whole,)}
        return InterchangeModel(model.eval(), sites, subspaces={_KEY: subspace})

    def new_subspace(self, model: PreTrainedModel, seed: int) -> SubspaceInterchange:
        """Return a random subspace of one of the two models' layers.

        Raises:
            UserError: If the rank is not between 1 and the width minus 1.
        """
        width: int = model.config.hidden_size
        if not 1 <= self.rank < width:
            raise UserError(
                f"a subspace of rank {self.rank}: {type(model).__name__} is {width} wide; choose a rank of 1 to "
                f"{width - 1}"
            )
        return SubspaceInterchange(width, self.rank, seed).to(model.device)


@dataclass(frozen=True)
class Subspaces:
    """The learned subspaces, with the mean loss (nats) of each pass over the pairs while they were learned."""

    teacher: SubspaceInterchange
    student: SubspaceInterchange
    teacher_losses: list[float]
    student_losses: list[float]


def learn_subspaces(
    sites: Sites,
    rows: Sequence[Mapping[str, Any]],
    collator: Collator,
    *,
    task: Task,
    positions: Positions | None = None,
    sources: Sources | None = None,
    batch_size: int = 16,
    passes: int = 20,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> Subspaces:
    """Learn the teacher's subspace, then the student's to it; see the module. The models are not changed.

    Args:
        sites: Where.
        rows: Examples with `input_ids` and `example_id`; at least two.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do.
        task: What is answered.
        positions: Which positions are swapped; spans by default.
        sources: Where sources come from; the batch by default.
        batch_size: Rows per batch.
        passes: Over the rows, each with swaps of its own.
        learning_rate: Of Adam.
        seed: Of the start, and of sources, positions and evaluated tokens.

    Raises:
        UserError: If a layer does not exist, the rank is not below the width, or swapping the teacher's whole layer
            changes none of its answers outside.
    """

    def batches() -> Iterable[Iterable[Pairs]]:
        for index in range(passes):
            yield draw_pairs(
                rows,
                collator,
                positions or SpanPositions(),
                sources or Sources(),
                task=task,
                pairs=len(rows),
                batch_size=batch_size,
                seed=seed + index,
                what=f"learning, pass {index + 1} of {passes}",
            )

    teacher_subspace = sites.new_subspace(sites.teacher, seed)
    student_subspace = sites.new_subspace(sites.student, seed)
    teacher, student = sites.side(sites.teacher, teacher_subspace), sites.side(sites.student, student_subspace)

    def whole(pairs: Pairs) -> Tensor:
        return Runs(teacher, pairs, [WHOLE], "teacher").counterfactual(WHOLE)

    def part(pairs: Pairs) -> Tensor:
        return Runs(teacher, pairs, [sites.variable], "teacher").counterfactual(sites.variable)

    _refuse_idle(teacher, next(iter(batches())), sites.teacher_layer)
    teacher_losses = _learn("teacher", teacher, sites.variable, teacher_subspace, whole, batches(), learning_rate)
    student_losses = _learn("student", student, sites.variable, student_subspace, part, batches(), learning_rate)
    return Subspaces(teacher_subspace, student_subspace, teacher_losses, student_losses)


def verify_subspaces(sites: Sites, learned: Subspaces, drawn: DrawnPairs, seed: int, top_k: int = 10) -> Verification:
    """Swap the teacher's learned subspace, and the student's: learned, and a random one of the same rank.

    Args:
        sites: Where.
        learned: Both subspaces.
        drawn: Pairs that had no part in learning.
        seed: Of the random subspace.
        top_k: As for `verify`.

    Returns:
        Outcomes of the students `learned subspace` and `random subspace`, which are one student with two subspaces.
    """
    subspaces = {LEARNED: learned.student, RANDOM: sites.new_subspace(sites.student, seed)}
    students = {name: sites.side(sites.student, subspace) for name, subspace in subspaces.items()}
    return tabulate(sites.side(sites.teacher, learned.teacher), students, [sites.variable], drawn, top_k)


def verify_teacher_subspace(
    sites: Sites, learned: Subspaces, drawn: DrawnPairs, seed: int, top_k: int = 10
) -> Verification:
    """Hold the teacher's subspaces, learned and random, against its whole layer: how much of the swap is in them?

    Returns:
        Outcomes of the variable `whole`, in which the swap of the whole vector stands as the teacher, and the swaps
        of the subspaces as the students `learned subspace` and `random subspace`.
    """
    layer = resolve_site(block_output(sites.teacher_layer), sites.teacher)
    subspaces = {LEARNED: learned.teacher, RANDOM: sites.new_subspace(sites.teacher, seed)}
    students = {
        name: InterchangeModel(sites.teacher, {WHOLE: (_learned(layer, subspace),)}, subspaces={_KEY: subspace})
        for name, subspace in subspaces.items()
    }
    return tabulate(InterchangeModel(sites.teacher, {WHOLE: (layer,)}), students, [WHOLE], drawn, top_k)


def _learned(site: ResolvedSite, subspace: SubspaceInterchange) -> ResolvedSite:
    return replace(site, subspace=ResolvedSubspace(_KEY, subspace.basis().shape[1]))


def _learn(
    what: str,
    side: InterchangeModel,
    variable: str,
    subspace: SubspaceInterchange,
    target: Callable[[Pairs], Tensor],
    passes: Iterable[Iterable[Pairs]],
    learning_rate: float,
) -> list[float]:
    """Fit one subspace to a target's answers; return the mean loss of each pass."""
    parameters = list(subspace.parameters())
    optimizer = torch.optim.Adam(parameters, learning_rate)
    losses: list[float] = []
    for batches in passes:
        total, cases = 0.0, 0
        for pairs in batches:
            outside = ~pairs.cases.inside
            if not outside.any():
                continue
            with torch.no_grad():
                wanted = _log_probabilities(target(pairs), outside)
                runs = Runs(side, pairs, [variable], what)
            given = _log_probabilities(runs.counterfactual(variable), outside)
            loss = (wanted.exp() * (wanted - given)).sum(-1).mean()
            optimizer.zero_grad()
            if not bool(loss.isfinite()):
                raise UserError(
                    f"{what}: the loss of its subspace is not finite, as where a model forbids answers by -inf; give a "
                    "model that forbids none, or a lower learning rate"
                )
            loss.backward(inputs=parameters)
            optimizer.step()
            total, cases = total + loss.item() * int(outside.sum()), cases + int(outside.sum())
        losses.append(total / max(1, cases))
    return losses


def _log_probabilities(logits: Tensor, chosen: Tensor) -> Tensor:
    return logits[chosen.to(logits.device)].float().log_softmax(-1)


@torch.no_grad()
def _refuse_idle(teacher: InterchangeModel, batches: Iterable[Pairs], layer: int) -> None:
    for pairs in batches:
        runs = Runs(teacher, pairs, [WHOLE], "teacher")
        changed = (runs.base().argmax(-1) != runs.counterfactual(WHOLE).argmax(-1)).cpu()
        if (changed & ~pairs.cases.inside).any():
            return
    raise UserError(
        f"swapping the output of teacher layer {layer} changes no answer outside the swapped positions, so no subspace "
        "of it can be found; choose a lower layer or other positions"
    )
