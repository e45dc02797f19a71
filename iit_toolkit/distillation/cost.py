"""What a step costs: its matrix products by part, counted before anything runs, and the time that they take here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.data.batch import IGNORE_INDEX, gold_answers, model_inputs, real_tokens
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.products import Product, RunProducts, trace_products
from iit_toolkit.interchange import InterchangeModel, Side

Ledger = dict[str, list[Product]]
"""The products of a step by part, in the order in which they run."""

_REPEATS = 3
_REPLAYED = 2**26


class StepCost:
    """The matrix products of steps on batches like one example of them.

    Attention, linear layers, the vocabulary and all gradients are counted; what is not a matrix product is not, nor is
    what a teacher computes that is no live model.

    Args:
        objective: The objective that the step computes.
        batch: A batch as the objective takes; its shape and its padding stand for all.
    """

    def __init__(self, objective: Objective, batch: Mapping[str, Tensor]) -> None:
        self._objective = objective
        inputs = model_inputs(batch)
        one = {name: value[:1] for name, value in inputs.items()}
        teacher = objective.teacher
        self._live_teacher = teacher if isinstance(teacher, InterchangeModel) else None
        self._teacher = None if self._live_teacher is None else _traced(self._live_teacher, one)
        self._student = _traced(objective.student, one)
        self._examples = len(next(iter(inputs.values())))
        labels, real = gold_answers(batch, objective.task), real_tokens(batch)
        self._tokens = {
            "all": 0 if real is None else int(real.sum()),
            "labelled": int((labels != IGNORE_INDEX).sum()),
            "none": 0,
        }
        self._tokens["swapped"] = self._tokens["all"]  # at most

    def plain(self) -> Ledger:
        """Return the products of a step without counterfactual runs."""
        objective, weights = self._objective, self._objective.weights
        compares_logits = weights.compares("logits")
        tokens = objective.base_tokens if compares_logits else "labelled" if weights.compares("labels") else "none"
        teacher = self._run(self._teacher, None) if weights.needs_teacher else []
        compares_hidden, aligned = weights.compares("hidden"), weights.compares("activations")
        backward = self._run(self._student, None, above=tokens != "none")
        if aligned and tokens == "none" and not compares_hidden:  # no gradient comes from further up
            backward = max(
                (self._source(self._student, objective.student, name) for name in objective.student.sites), key=len
            )
        projection = self._projection(objective.base_tokens, compares_hidden, aligned=aligned)
        return {
            "teacher, base": teacher,
            "student, base": self._run(self._student, None),
            "vocabulary, teacher": self._head(objective.teacher, tokens) if compares_logits else [],
            "vocabulary, student": self._head(objective.student, tokens),
            "projection": projection,
            "backward, student": _backward(backward),
            "backward, vocabulary": _backward(self._head(objective.student, tokens)),
            "backward, projection": _backward(projection),
        }

    def counterfactual(self, variable: str, *, own_source: bool = False) -> Ledger:
        """Return the products that one counterfactual run adds, with its losses and gradients.

        Args:
            variable: The variable that is swapped.
            own_source: Whether sources are another batch, which is run as far as the variable reads.
        """
        objective, weights = self._objective, self._objective.weights
        compares_logits = weights.compares("logits", counterfactual=True)
        tokens = objective.counterfactual_tokens if compares_logits else "none"
        cut, teacher = objective.student.cuts[variable], self._live_teacher
        source = self._source(self._student, objective.student, variable) if own_source else []
        compares_hidden = weights.compares("hidden", counterfactual=True)
        projection = self._projection(objective.counterfactual_tokens, compares_hidden)
        return {
            "teacher, source": self._source(self._teacher, self._live_teacher, variable) if own_source else [],
            "student, source": source,
            "teacher, counterfactual": self._run(self._teacher, teacher.cuts[variable] if teacher else None),
            "student, counterfactual": self._run(self._student, cut),
            "vocabulary, teacher": self._head(objective.teacher, tokens),
            "vocabulary, student": self._head(objective.student, tokens),
            "projection": projection,
            "backward, student": _backward(source + self._run(self._student, cut, above=tokens != "none")),
            "backward, vocabulary": _backward(self._head(objective.student, tokens)),
            "backward, projection": _backward(projection),
        }

    def _run(self, run: RunProducts | None, cut: int | None, *, above: bool = True) -> list[Product]:
        """Products of a run that restarts after block `cut`; none of a side that is no live model."""
        if run is None:
            return []
        used = run.below + [one for block in run.blocks[0 if cut is None else cut + 1 :] for one in block]
        return [one.of_examples(self._examples) for one in (used + run.above if above else used)]

    def _source(self, run: RunProducts | None, side: InterchangeModel | None, variable: str) -> list[Product]:
        if run is None or side is None:
            return []
        last = side.ends[variable]
        used = run.below + [one for block in run.blocks[: None if last is None else last + 1] for one in block]
        return [one.of_examples(self._examples) for one in used]

    def _head(self, side: Side, tokens: str) -> list[Product]:
        rows = self._tokens[tokens]
        if side.head is None or not rows:
            return []
        words, width = side.head.get_parameter("weight").shape
        return [Product(rows, width, words)]

    def _projection(self, tokens: str, compares_hidden: bool, *, aligned: bool = False) -> list[Product]:
        """Products that map the last hidden states and, if `aligned`, the activations of every variable."""
        objective = self._objective
        if objective.projection is None:
            return []
        whole = [name for name in objective.student.sites if objective.student.last_site(name).ranges is None]
        count = compares_hidden + aligned * len(whole)
        linear = objective.projection.linear
        return [Product(self._tokens[tokens], linear.in_features, linear.out_features)] * count


def _traced(side: InterchangeModel, inputs: Mapping[str, Tensor]) -> RunProducts:
    side.measure(inputs)
    return trace_products(side.model, inputs)


def flops(ledger: Ledger) -> int:
    """Return all multiplications and additions of a ledger."""
    return sum(one.flops for products in ledger.values() for one in products)


@dataclass(frozen=True)
class Part:
    """What one part of a step takes, on average over the variables that are drawn.

    Attributes:
        flops: Multiplications and additions in matrix products.
        elements: Numbers that these read and write.
    """

    flops: float
    elements: float


@dataclass(frozen=True)
class ExpectedCost:
    """What a step of an objective costs, before any was taken.

    Attributes:
        parts: Each part of the step, in order.
        flops: All multiplications and additions in matrix products.
        plain_flops: Those of the same step without counterfactual runs.
        floor_seconds: The time that the products alone take on this machine now.
    """

    parts: dict[str, Part]
    flops: float
    plain_flops: float
    floor_seconds: float


def expected_cost(
    objective: Objective, batch: Mapping[str, Tensor], alignment: Alignment | None, args: CausalDistillationConfig
) -> ExpectedCost:
    """Return what a training step costs on average.

    Args:
        objective: The objective that the settings describe.
        batch: A batch; its shape and its padding stand for all.
        alignment: The alignment, if there is one.
        args: The settings: how many counterfactual runs there are, how they are drawn, where and in which precision
            steps run.
    """
    cost = StepCost(objective, batch)
    weighted = [(1.0, cost.plain())]
    if alignment is not None and objective.weights.interchange:
        drawn = torch.tensor(alignment.probabilities, dtype=torch.float64)
        if args.cost_aware_draw:
            drawn = cheapest_draw(drawn, cost, alignment, args.interchanges)
        own_source = alignment.sources.kind != "in_batch"
        for variable, probability in zip(alignment.variables, drawn.tolist(), strict=True):
            ledger = cost.counterfactual(variable.name, own_source=own_source)
            weighted.append((probability * args.interchanges, ledger))
    parts: dict[str, Part] = {}
    for weight, ledger in weighted:
        for name, products in ledger.items():
            before = parts.get(name, Part(0.0, 0.0))
            parts[name] = Part(
                before.flops + weight * sum(one.flops for one in products),
                before.elements + weight * sum(one.elements for one in products),
            )
    return ExpectedCost(
        parts={name: part for name, part in parts.items() if part.flops},
        flops=sum(part.flops for part in parts.values()),
        plain_flops=flops(cost.plain()),
        floor_seconds=floor_seconds(weighted, args.device, torch.bfloat16 if args.bf16 else torch.float32),
    )


def cheapest_draw(declared: Tensor, cost: StepCost, alignment: Alignment, interchanges: int) -> Tensor:
    """Return the probabilities that estimate the declared mixture's loss with least variance for the computation.

    For equal variances, the variance of the weighted mean times the expected cost is least where each probability is
    in proportion to declared / sqrt(cost) (Cauchy-Schwarz; importance sampling with costs). The cost of a draw is that
    of its counterfactual run and its share of the rest of the step, which is made whatever is drawn.

    Args:
        declared: (V,) the alignment's probabilities.
        cost: What the parts of a step cost.
        alignment: The alignment.
        interchanges: How many counterfactual runs a step makes.
    """
    own_source = alignment.sources.kind != "in_batch"
    share = flops(cost.plain()) / interchanges
    costs = [share + flops(cost.counterfactual(one.name, own_source=own_source)) for one in alignment.variables]
    drawn = declared / torch.tensor(costs, dtype=torch.float64).sqrt()
    return drawn / drawn.sum()


def floor_seconds(
    weighted: Iterable[tuple[float, Ledger]],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the time that ledgers' products alone take on this device, with as many threads as torch uses now.

    Each distinct product is run by itself, a few times, and its median time counts. Very large ones are run on fewer
    rows and scaled.

    Args:
        weighted: Ledgers, each with how often it is run.
        device: Where they run.
        dtype: Their precision.
        clock: What measures, in seconds.
    """
    distinct: dict[Product, float] = {}
    for weight, ledger in weighted:
        for one in (one for products in ledger.values() for one in products):
            single = replace(one, count=1)
            distinct[single] = distinct.get(single, 0.0) + weight * one.count
    return sum(count * _seconds(one, device, dtype, clock) for one, count in distinct.items())


def _seconds(one: Product, device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Return the median time of one product; of one of many, where there are many at a time."""
    rows = min(one.rows, max(1, _REPLAYED // one.columns))
    many = 32 if one.batched else 1
    left = torch.randn(many, rows, one.inner, device=device, dtype=dtype)
    right = torch.randn(many, one.inner, one.columns, device=device, dtype=dtype)
    padded = torch.empty(many, rows, -(-one.columns // 16) * 16, device=device, dtype=dtype)  # aligned rows are faster
    result = padded[:, :, : one.columns]
    times: list[float] = []
    for _ in range(_REPEATS + 1):
        _wait(device)
        started = clock()
        if one.batched:
            torch.bmm(left, right)
        else:
            torch.mm(left[0], right[0], out=result[0])
        _wait(device)
        times.append(clock() - started)
    return median(times[1:]) / many * one.rows / rows


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _backward(products: list[Product]) -> list[Product]:
    return [gradient for one in products for gradient in one.backward()]
