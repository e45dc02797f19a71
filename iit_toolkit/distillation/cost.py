"""What a step costs: the operations of its matrix products by part, counted before anything runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.data.batch import IGNORE_INDEX, Batch, gold_answers, model_inputs, real_tokens
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.losses import HiddenProjection
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Sampler, Side
from iit_toolkit.interchange.hooks import called_with

Ledger = dict[str, int]
"""The multiplications and additions in the matrix products of a step, by part, in the order they run."""

_GRADIENTS = 2  # a product's gradients are two products of as many operations, one per operand
_SIDE_OF_A_LARGE_PRODUCT = {"cpu": 1024, "cuda": 8192}


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_gradients(_: torch.Size, *inputs: torch.Size, **__: Any) -> int:
    return _GRADIENTS * _attention(*inputs[:3])  # scores that a kernel computes again do not count


_ATTENTION = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
ATTENTION_RULES: dict[Any, Any] = {
    getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}{suffix}"): rule
    for kernel in _ATTENTION
    for suffix, rule in (("", _attention), ("_backward", _attention_gradients))
}
"""What torch's counter does not count, at least in some versions: the CPU's attention, and attention whose keys have
fewer heads than its queries."""


@dataclass(frozen=True)
class RunFlops:
    """The operations of a forward run, without the output embedding.

    Attributes:
        below: Those before the first block.
        blocks: Those of each block.
        above: Those after the last block.
    """

    below: int
    blocks: tuple[int, ...]
    above: int


def count_flops(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> RunFlops:
    """Run the model once, and count the operations of its matrix products by place.

    The random generators stay as they were, even if the model is in training mode.

    Args:
        model: The model. If its blocks are not found, every product counts as below them.
        inputs: Its inputs.
    """
    try:
        found: Any = blocks(model)
    except UserError:
        found = nn.ModuleList()
    head = model.get_output_embeddings()
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION_RULES)
    places = [0] * (len(found) + 3)  # the last is the head's
    now, before = 0, 0

    def entering(place: int) -> Callable[..., None]:
        def enter(*_: object) -> None:
            nonlocal now, before
            total = counter.get_total_flops()
            places[now] += total - before
            now, before = place, total

        return enter

    handles = [block.register_forward_pre_hook(entering(place)) for place, block in enumerate(found, start=1)]
    if len(found):
        handles.append(found[-1].register_forward_hook(entering(len(found) + 1)))
    if isinstance(head, nn.Module):
        handles.append(head.register_forward_pre_hook(entering(len(found) + 2)))
    try:
        with torch.random.fork_rng(), counter:  # not under no_grad, where the counter fails on DeBERTa
            model(**called_with(model, inputs))
        entering(0)()
    finally:
        for handle in handles:
            handle.remove()
    return RunFlops(places[0], tuple(places[1:-2]), places[-2])


class StepCost:
    """The operations of steps on batches like one example of them, in their matrix products.

    Attention, linear layers, the vocabulary and all gradients count. Nothing but matrix products does, nor does a
    teacher that is not a live model.

    Args:
        objective: The objective that the step computes.
        batch: A batch for the objective; its shape and padding stand for all.
        weights: The weights of the step's terms, if they are not the objective's own.
    """

    def __init__(
        self, objective: Objective, batch: Mapping[str, Tensor], weights: ObjectiveWeights | None = None
    ) -> None:
        self._objective = objective
        self._weights = weights or objective.weights
        inputs = model_inputs(batch)
        one = {name: value[:1] for name, value in inputs.items()}
        teacher = objective.teacher
        self._live_teacher = teacher if isinstance(teacher, InterchangeModel) else None
        self._teacher = None if self._live_teacher is None else _counted(self._live_teacher, one)
        student = objective.student
        assert isinstance(student, InterchangeModel)
        self._live_student = student
        self._student = _counted(student, one)
        self._examples = len(next(iter(inputs.values())))
        labels, real = gold_answers(batch, objective.task), real_tokens(batch)
        self._tokens = {
            "all": 0 if real is None else int(real.sum()),
            "labelled": int((labels != IGNORE_INDEX).sum()),
            "none": 0,
        }
        self._tokens["swapped"] = self._tokens["all"]  # at most

    def plain(self) -> Ledger:
        """Return the operations of a step without counterfactual runs."""
        objective, weights = self._objective, self._weights
        compares_logits = weights.compares("logits")
        tokens = objective.base_tokens if compares_logits else "labelled" if weights.compares("labels") else "none"
        teacher = self._run(self._teacher, None) if weights.needs_teacher else 0
        compares_hidden, aligned = weights.compares("hidden"), weights.compares("activations")
        backward = self._run(self._student, None, above=tokens != "none")
        if aligned and tokens == "none" and not compares_hidden:  # no gradient comes from further up
            live = self._live_student
            backward = max(self._source(self._student, live, name) for name in live.sites)
        projection = self._projection(objective.base_tokens, compares_hidden) + self._aligned_projection(aligned)
        return {
            "teacher, base": teacher,
            "student, base": self._run(self._student, None),
            "vocabulary, teacher": self._head(objective.teacher, tokens) if compares_logits else 0,
            "vocabulary, student": self._head(objective.student, tokens),
            "projection": projection,
            "backward, student": _GRADIENTS * backward,
            "backward, vocabulary": _GRADIENTS * self._head(objective.student, tokens),
            "backward, projection": _GRADIENTS * projection,
        }

    def counterfactual(self, variable: str, *, own_source: bool = False) -> Ledger:
        """Return the operations that one intervention adds: its runs, with their losses and gradients.

        If tokens count by the effect, the teacher's answers are made three times: for the loss, and to measure the
        shift with the swap and without.

        Args:
            variable: The variable that is swapped.
            own_source: Whether sources are another batch, which runs as far as the variable reads.
        """
        objective, weights = self._objective, self._weights
        swapped, strict = int(bool(weights.of_runs(counterfactual=True))), int(weights.strict > 0)
        compares_logits = weights.compares("logits", counterfactual=True)
        tokens = objective.counterfactual_tokens if compares_logits else "none"
        of_strict = objective.counterfactual_tokens if strict else "none"
        weighted = objective.counterfactual_weighting == "effect" and weights.causal_ce > 0
        cut, teacher = self._live_student.restart_blocks[variable], self._live_teacher
        source = self._source(self._student, self._live_student, variable) if own_source else 0
        compares_hidden = weights.compares("hidden", counterfactual=True)
        projection = self._projection(objective.counterfactual_tokens, compares_hidden)
        of_teacher = self._run(self._teacher, teacher.restart_blocks[variable] if teacher else None)
        learned = int(teacher is not None and any(site.subspace is not None for site in teacher.sites[variable]))
        whole = learned * int(weights.whole > 0)
        backward = swapped * self._run(self._student, cut, above=tokens != "none") + strict * self._run(
            self._student, cut
        )
        heads = self._head(objective.student, tokens) + self._head(objective.student, of_strict)
        return {
            "teacher, source": swapped * self._source(self._teacher, teacher, variable) if own_source else 0,
            "student, source": source,
            "teacher, counterfactual": (swapped + whole) * of_teacher,
            "backward, teacher": learned * of_teacher,  # to its activations alone
            "student, counterfactual": (swapped + strict) * self._run(self._student, cut),
            "vocabulary, teacher": self._head(objective.teacher, tokens) * (3 if weighted else 1)
            + self._head(objective.teacher, of_strict),
            "vocabulary, student": heads,
            "projection": projection,
            "backward, student": _GRADIENTS * (source + backward),
            "backward, vocabulary": _GRADIENTS * heads,
            "backward, projection": _GRADIENTS * projection,
        }

    def _run(self, run: RunFlops | None, cut: int | None, *, above: bool = True) -> int:
        """Operations of a run that restarts after block `cut`; none for a side that is not a live model."""
        if run is None:
            return 0
        again = run.blocks[0 if cut is None else cut + 1 :]
        return self._examples * (run.below + sum(again) + above * run.above)

    def _source(self, run: RunFlops | None, side: InterchangeModel | None, variable: str) -> int:
        if run is None or side is None:
            return 0
        last = side.last_read_blocks[variable]
        return self._examples * (run.below + sum(run.blocks[: None if last is None else last + 1]))

    def _head(self, side: Side, tokens: str) -> int:
        if side.head is None:
            return 0
        return 2 * self._tokens[tokens] * side.head.get_parameter("weight").numel()

    def _projection(self, tokens: str, compares_hidden: bool) -> int:
        """Operations that map the last hidden states."""
        projection = self._objective.projection
        return 0 if projection is None or not compares_hidden else self._mapped(projection, tokens)

    def _aligned_projection(self, aligned: bool) -> int:
        """Operations that map the activations of every variable, if they are compared."""
        objective = self._objective
        if objective.projection is None or not aligned:
            return 0
        student = self._live_student
        whole = [name for name in student.sites if student.last_site(name).ranges is None]
        return self._mapped(objective.projection, objective.aligned_tokens) * len(whole)

    def _mapped(self, projection: HiddenProjection, tokens: str) -> int:
        return 2 * self._tokens[tokens] * projection.linear.weight.numel()


def _counted(side: InterchangeModel, inputs: Mapping[str, Tensor]) -> RunFlops:
    side.measure(inputs)
    return count_flops(side.model, inputs)


def flops(ledger: Ledger) -> int:
    """Return all multiplications and additions of a ledger."""
    return sum(ledger.values())


@dataclass(frozen=True)
class ExpectedCost:
    """What a step of an objective costs, averaged over the variables drawn, before any is taken.

    Attributes:
        parts: Each part of the step, in order: its multiplications and additions in matrix products.
        flops: All of them.
        plain_flops: Those of the same step without counterfactual runs.
    """

    parts: dict[str, float]
    flops: float
    plain_flops: float


def expected_cost(
    objective: Objective,
    batch: Mapping[str, Tensor],
    alignment: Alignment | None,
    args: CausalDistillationConfig,
    mixture: Sequence[tuple[Batch, Sampler | None]] = (),
) -> ExpectedCost:
    """Return what a training step costs on average.

    Args:
        objective: The objective that the settings describe.
        batch: A batch; its shape and padding stand for all.
        alignment: The alignment, if there is one.
        args: The settings: how many counterfactual runs there are, and how they are drawn.
        mixture: A batch of each further data set, and what draws its interventions, if anything.
    """
    cost = StepCost(objective, batch)
    plain, weighted = [cost.plain()], list[tuple[float, Ledger]]()
    swapped = alignment if objective.weights.interchange else None
    steps = [] if swapped is None else [(cost, _own_source(swapped, args))]
    for further, drawn_by in mixture:
        sampler = None if swapped is None else drawn_by
        step = StepCost(objective, further, objective.weights if sampler else objective.weights.of_base_runs())
        plain.append(step.plain())
        steps += [(step, sampler.sources.kind != "in_batch")] if sampler else []
    if swapped is not None:
        drawn = torch.tensor(swapped.probabilities, dtype=torch.float64)
        if args.cost_aware_draw:
            drawn = cheapest_draw(drawn, cost, swapped, args)
        for step, own_source in steps:
            for variable, probability in zip(swapped.variables, drawn.tolist(), strict=True):
                ledger = step.counterfactual(variable.name, own_source=own_source)
                weighted.append((probability * args.interchanges, ledger))
    weighted = [*((1.0, ledger) for ledger in plain), *weighted]
    parts: dict[str, float] = {}
    for weight, ledger in weighted:
        for name, operations in ledger.items():
            parts[name] = parts.get(name, 0.0) + weight * operations
    return ExpectedCost(
        parts={name: operations for name, operations in parts.items() if operations},
        flops=sum(parts.values()),
        plain_flops=sum(map(flops, plain)),
    )


def _own_source(alignment: Alignment, args: CausalDistillationConfig) -> bool:
    """Whether sources are another batch than the bases, which is run besides."""
    kind = alignment.sources.kind
    return kind != "in_batch" and not (kind == "paired" and args.both_directions)


def cheapest_draw(declared: Tensor, cost: StepCost, alignment: Alignment, args: CausalDistillationConfig) -> Tensor:
    """Return the probabilities that estimate the declared mixture's loss with least variance for the computation.

    For equal variances, the variance of the weighted mean times the expected cost has a known minimum. It is least if
    each probability is in proportion to declared / sqrt(cost) (Cauchy-Schwarz; importance sampling with costs). A draw
    costs its counterfactual run and its share of the rest of the step, which runs whatever is drawn.

    Args:
        declared: (V,) the alignment's probabilities.
        cost: What the parts of a step cost.
        alignment: The alignment.
        args: The settings: how many counterfactual runs a step makes, and of which sources.
    """
    own_source = _own_source(alignment, args)
    share = flops(cost.plain()) / args.interchanges
    costs = [share + flops(cost.counterfactual(one.name, own_source=own_source)) for one in alignment.variables]
    drawn = declared / torch.tensor(costs, dtype=torch.float64).sqrt()
    return drawn / drawn.sum()


def fastest_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of one large matrix product on this device, with torch's current threads.

    A step's products are smaller, so none of its operations runs faster.
    """
    size = _SIDE_OF_A_LARGE_PRODUCT.get(device.type, 1024)
    operand = torch.randn(size, size, device=device, dtype=dtype)
    seconds: list[float] = []
    for _ in range(4):  # the first warms up
        started = time.perf_counter()
        (operand @ operand)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)
