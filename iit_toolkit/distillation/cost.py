"""What a step costs: its matrix products by part, counted before anything runs, and the time that they take here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from statistics import median

import torch
from torch import Tensor

from iit_toolkit.distillation.losses import IGNORED_LABEL, ObjectiveWeights
from iit_toolkit.distillation.objective import Objective, model_inputs, real_tokens, task_labels
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.products import Product, RunProducts, trace_products

Ledger = dict[str, list[Product]]
"""The products of a step by part, in the order in which they run."""

_REPLAYED = 2**26


class StepCost:
    """The matrix products of steps on batches like one example of them.

    Attention, linear layers, the vocabulary and all gradients are counted; what is not a matrix product is not.

    Args:
        objective: The objective that the step computes.
        batch: A batch as the objective takes; its shape and its padding stand for all.
    """

    def __init__(self, objective: Objective, batch: Mapping[str, Tensor]) -> None:
        self._objective = objective
        inputs = model_inputs(batch)
        one = {name: value[:1] for name, value in inputs.items()}
        self._teacher = trace_products(objective.teacher.model, one)
        self._student = trace_products(objective.student.model, one)
        self._examples = len(next(iter(inputs.values())))
        labels, real = task_labels(batch, objective.task), real_tokens(batch)
        self._tokens = {
            "all": 0 if real is None else int(real.sum()),
            "labelled": int((labels != IGNORED_LABEL).sum()),
            "none": 0,
        }
        self._tokens["swapped"] = self._tokens["all"]  # at most

    def ledger(
        self, variable: str | None, *, weights: ObjectiveWeights | None = None, own_source: bool = False
    ) -> Ledger:
        """Return a step's products.

        Args:
            variable: The variable that is swapped; `None` for a step without counterfactual runs.
            weights: Other weights than the objective's own.
            own_source: Whether sources are another batch, which is run as far as the variable reads.
        """
        weights = weights or self._objective.weights
        plain = weights.model_copy(update={name: 0.0 for name in type(weights).model_fields if "causal" in name})
        objective = self._objective
        compares_logits = bool(plain.ce or plain.logit_mse)
        tokens = objective.base_tokens if compares_logits else "labelled" if plain.task else "none"
        ledger: Ledger = {}
        if weights.needs_teacher:
            ledger["teacher, base"] = self._run(self._teacher, None)
        ledger["student, base"] = self._run(self._student, None)
        if compares_logits:
            ledger["vocabulary, teacher"] = self._head(objective.teacher, tokens)
        ledger["vocabulary, student"] = self._head(objective.student, tokens)
        ledger["backward, student"] = _backward(self._run(self._student, None, above=tokens != "none"))
        ledger["backward, vocabulary"] = _backward(self._head(objective.student, tokens))
        if variable is not None and weights.interchange:
            for part, products in self._counterfactual(variable, weights, own_source).items():
                ledger[part] = ledger.get(part, []) + products
        return {part: products for part, products in ledger.items() if products}

    def counterfactual_flops(self, variable: str, own_source: bool = False) -> int:
        """Return what one counterfactual run adds to a step, with its losses and gradients."""
        return flops(self._counterfactual(variable, self._objective.weights, own_source))

    def _counterfactual(self, variable: str, weights: ObjectiveWeights, own_source: bool) -> Ledger:
        objective = self._objective
        compares_logits = bool(weights.causal_ce or weights.causal_logit_mse)
        tokens = objective.counterfactual_tokens if compares_logits else "none"
        cut = objective.student.cuts[variable]
        ledger: Ledger = {
            "teacher, counterfactual": self._run(self._teacher, objective.teacher.cuts[variable]),
            "student, counterfactual": self._run(self._student, cut),
            "vocabulary, teacher": self._head(objective.teacher, tokens),
            "vocabulary, student": self._head(objective.student, tokens),
            "backward, student": _backward(self._run(self._student, cut, above=tokens != "none")),
            "backward, vocabulary": _backward(self._head(objective.student, tokens)),
        }
        if own_source:
            ledger["teacher, source"] = self._source(self._teacher, objective.teacher, variable)
            ledger["student, source"] = self._source(self._student, objective.student, variable)
            ledger["backward, student"] += _backward(ledger["student, source"])
        return ledger

    def _run(self, run: RunProducts, cut: int | None, *, above: bool = True) -> list[Product]:
        """Products of a run that restarts after block `cut`."""
        used = run.below + [one for block in run.blocks[0 if cut is None else cut + 1 :] for one in block]
        return [one.of_examples(self._examples) for one in (used + run.above if above else used)]

    def _source(self, run: RunProducts, side: InterchangeModel, variable: str) -> list[Product]:
        ends = [site.last for site in side.sites[variable]]
        last = None if None in ends else max(end for end in ends if end is not None)
        used = run.below + [one for block in run.blocks[: None if last is None else last + 1] for one in block]
        return [one.of_examples(self._examples) for one in used]

    def _head(self, side: InterchangeModel, tokens: str) -> list[Product]:
        rows = self._tokens[tokens]
        if side.head is None or not rows:
            return []
        words, width = side.head.get_parameter("weight").shape
        return [Product(rows, width, words)]


def flops(ledger: Ledger) -> int:
    """Return all multiplications and additions of a ledger."""
    return sum(one.flops for products in ledger.values() for one in products)


def mean_flops(ledgers: Iterable[tuple[float, Ledger]]) -> dict[str, float]:
    """Return the expected operations of each part, over ledgers with their probabilities."""
    total: dict[str, float] = {}
    for probability, ledger in ledgers:
        for part, products in ledger.items():
            total[part] = total.get(part, 0.0) + probability * sum(one.flops for one in products)
    return total


def counterfactual_costs(objective: Objective, batch: Mapping[str, Tensor], *, own_source: bool) -> Tensor:
    """Return what each variable's counterfactual run costs (V,), in matrix operations."""
    cost = StepCost(objective, batch)
    return torch.tensor(
        [cost.counterfactual_flops(name, own_source) for name in objective.student.sites], dtype=torch.float64
    )


def cheapest_draw(declared: Tensor, costs: Tensor) -> Tensor:
    """Return the probabilities that estimate the declared mixture's loss with least variance for the computation.

    For equal variances, the variance of the weighted mean times the expected cost is least where each probability is
    in proportion to declared / sqrt(cost) (Cauchy-Schwarz; importance sampling with costs).

    Args:
        declared: (V,) the alignment's probabilities.
        costs: (V,) cost of each variable's counterfactual run.
    """
    drawn = declared / costs.sqrt()
    return drawn / drawn.sum()


def floor_seconds(ledger: Ledger, device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 3) -> float:
    """Return the time that a ledger's products alone take on this device, with as many threads as torch uses now.

    Each distinct product is run by itself, `repeats` times, and its median time counts. Very large ones are run on
    fewer rows and scaled.

    Args:
        ledger: The products.
        device: Where they run.
        dtype: Their precision.
        repeats: Runs of each.
    """
    distinct: dict[tuple[int, int, int, bool], int] = {}
    for products in ledger.values():
        for one in products:
            shape = (one.rows, one.inner, one.columns, one.batched)
            distinct[shape] = distinct.get(shape, 0) + one.count
    return sum(count * _seconds(*shape, count, device, dtype, repeats) for shape, count in distinct.items())


def _seconds(
    rows: int,
    inner: int,
    columns: int,
    batched: bool,
    count: int,
    device: torch.device,
    dtype: torch.dtype,
    repeats: int,
) -> float:
    """Return the median time of one product."""
    replayed = min(rows, max(1, _REPLAYED // columns))
    batch = min(count, 64) if batched else 1
    left = torch.randn(batch, replayed, inner, device=device, dtype=dtype)
    right = torch.randn(batch, inner, columns, device=device, dtype=dtype)
    padded = torch.empty(batch, replayed, -(-columns // 16) * 16, device=device, dtype=dtype)  # aligned rows are faster
    result = padded[:, :, :columns]
    times: list[float] = []
    for _ in range(repeats + 1):
        _wait(device)
        started = time.perf_counter()
        if batched:
            torch.bmm(left, right)
        else:
            torch.mm(left[0], right[0], out=result[0])
        _wait(device)
        times.append(time.perf_counter() - started)
    return median(times[1:]) / batch * rows / replayed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _backward(products: list[Product]) -> list[Product]:
    return [gradient for one in products for gradient in one.backward()]
