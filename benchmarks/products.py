"""The matrix products of a step, one by one with their shapes: the floor is their time.

`iit_toolkit.distillation.cost` counts their operations for any objective; here are those of the two steps that
`benchmarks.step_cost` takes floors of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.data.batch import model_inputs, real_tokens
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.hooks import called_with

_aten = torch.ops.aten
_REPEATS = 3
_REPLAYED = 2**26


@dataclass(frozen=True)
class Product:
    """`count` matrix products of (rows, inner) by (inner, columns).

    Attributes:
        rows: Rows of the left matrix.
        inner: Columns of the left, rows of the right matrix.
        columns: Columns of the right matrix.
        count: How many there are.
        batched: Whether more examples mean more products, as in attention, and not more rows.
    """

    rows: int
    inner: int
    columns: int
    count: int = 1
    batched: bool = False

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns * self.count

    def of_examples(self, examples: int) -> Product:
        """Return the products of as many examples, if these are those of one."""
        if self.batched:
            return Product(self.rows, self.inner, self.columns, self.count * examples, True)
        return Product(self.rows * examples, self.inner, self.columns, self.count)

    def backward(self) -> list[Product]:
        """Return the two products that give the gradients of both operands."""
        return [
            Product(self.rows, self.columns, self.inner, self.count, self.batched),
            Product(self.inner, self.rows, self.columns, self.count, self.batched),
        ]


@dataclass(frozen=True)
class RunProducts:
    """The products of a forward run of one example, without the output embedding.

    Attributes:
        below: Those before the first block.
        blocks: Those of each block.
        above: Those after the last block.
    """

    below: list[Product]
    blocks: list[list[Product]]
    above: list[Product]


Ledger = dict[str, list[Product]]
"""The products of a step by part, in the order they run."""


def step_products(objective: Objective, batch: Mapping[str, Tensor], variable: str | None) -> list[Ledger]:
    """Return the products of a step that compares logits: without counterfactual runs, and those that one adds.

    Args:
        objective: The objective of the step, which compares the logits of all tokens and nothing else.
        batch: A batch.
        variable: What is swapped; None for a step without counterfactual runs.
    """
    inputs, real = model_inputs(batch), real_tokens(batch)
    assert real is not None
    teacher, student = objective.teacher, objective.student
    assert isinstance(teacher, InterchangeModel)
    traces = {
        side: trace_products(side.model, {name: value[:1] for name, value in inputs.items()})
        for side in (teacher, student)
    }

    def run(side: InterchangeModel, cut: int | None) -> list[Product]:
        trace = traces[side]
        again = [one for block in trace.blocks[0 if cut is None else cut + 1 :] for one in block]
        return [one.of_examples(len(real)) for one in trace.below + again + trace.above]

    def head(side: InterchangeModel) -> list[Product]:
        assert side.head is not None
        words, width = side.head.get_parameter("weight").shape
        return [Product(int(real.sum()), width, words)]

    def ledger(kind: str, cuts: Mapping[InterchangeModel, int | None]) -> Ledger:
        forward = {
            f"{name}, {kind}": run(side, cuts[side]) for name, side in (("teacher", teacher), ("student", student))
        }
        return {
            **forward,
            "vocabulary, teacher": head(teacher),
            "vocabulary, student": head(student),
            "backward, student": _backward(run(student, cuts[student])),
            "backward, vocabulary": _backward(head(student)),
        }

    plain = ledger("base", {teacher: None, student: None})
    if variable is None:
        return [plain]
    return [plain, ledger("counterfactual", {side: side.restart_blocks[variable] for side in (teacher, student)})]


def flops(ledgers: Iterable[Ledger]) -> int:
    """Return all multiplications and additions of ledgers."""
    return sum(one.flops for ledger in ledgers for products in ledger.values() for one in products)


def floor_seconds(ledgers: Iterable[Ledger], clock: Callable[[], float] = time.process_time) -> float:
    """Return the time that ledgers' products alone take on the CPU, with as many threads as torch uses now.

    Each distinct product is run by itself, a few times, and its median time counts. Very large ones are run on fewer
    rows and scaled.

    Args:
        ledgers: The products.
        clock: What measures, in seconds.
    """
    distinct: dict[Product, int] = {}
    for one in (one for ledger in ledgers for products in ledger.values() for one in products):
        single = replace(one, count=1)
        distinct[single] = distinct.get(single, 0) + one.count
    return sum(count * _seconds(one, clock) for one, count in distinct.items())


def _seconds(one: Product, clock: Callable[[], float]) -> float:
    """Return the median time of one product; of one of many, if there are many at a time."""
    rows = min(one.rows, max(1, _REPLAYED // one.columns))
    many = 32 if one.batched else 1
    left, right = torch.randn(many, rows, one.inner), torch.randn(many, one.inner, one.columns)
    padded = torch.empty(many, rows, -(-one.columns // 16) * 16)  # aligned rows are faster
    result = padded[:, :, : one.columns]
    times: list[float] = []
    for _ in range(_REPEATS + 1):
        started = clock()
        if one.batched:
            torch.bmm(left, right)
        else:
            torch.mm(left[0], right[0], out=result[0])
        times.append(clock() - started)
    return median(times[1:]) / many * one.rows / rows


def _backward(products: list[Product]) -> list[Product]:
    return [gradient for one in products for gradient in one.backward()]


@torch.no_grad()
def trace_products(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> RunProducts:
    """Run the model once on one example, and note every matrix product.

    The random generators stay as they were, even if the model is in training mode.

    Args:
        model: The model.
        inputs: Its inputs, for one example.
    """
    found: Any = blocks(model)
    head = model.get_output_embeddings()
    places: list[list[Product]] = [[] for _ in range(len(found) + 2)]
    mode = _Recorder(places)
    handles = [block.register_forward_pre_hook(mode.entering(place)) for place, block in enumerate(found, start=1)]
    handles.append(found[-1].register_forward_hook(mode.entering(len(found) + 1)))
    if isinstance(head, nn.Module):
        handles.append(head.register_forward_pre_hook(mode.entering(None)))
    try:
        with torch.random.fork_rng(), mode:
            model(**called_with(model, inputs))
    finally:
        for handle in handles:
            handle.remove()
    return RunProducts(places[0], places[1:-1], places[-1])


class _Recorder(TorchDispatchMode):
    """Notes the products of every operation, at the place in the model that is running."""

    def __init__(self, places: list[list[Product]]) -> None:
        super().__init__()
        self._places = places
        self._place: int | None = 0

    def entering(self, place: int | None) -> Callable[..., None]:
        """Return a hook that says where the run now is; `None` is a place whose products are not noted."""

        def enter(*_: object) -> None:
            self._place = place

        return enter

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._place is not None:
            self._places[self._place] += _products(func._overloadpacket, args)
        return func(*args, **(kwargs or {}))


def _products(operation: Any, args: tuple[Any, ...]) -> list[Product]:
    if operation is _aten.addmm:
        return [_product(args[1], args[2])]
    if operation in (_aten.mm, _aten.bmm):
        return [_product(args[0], args[1])]
    if "_scaled_dot_product" in str(operation):
        query, key, value = args[:3]
        count = prod(query.shape[:-2])
        scores = Product(query.shape[-2], query.shape[-1], key.shape[-2], count, True)
        return [scores, Product(query.shape[-2], key.shape[-2], value.shape[-1], count, True)]
    return []


def _product(left: Tensor, right: Tensor) -> Product:
    count = prod(left.shape[:-2])
    return Product(left.shape[-2], left.shape[-1], right.shape[-1], count, left.dim() > 2)
